"""Where the sockets are: ``RUN_DIR/chaos/SERVICE.sock``, without RUN_DIR in OUTPUT_DIR."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from app.config.settings import Settings

SERVICES: Final = ("gateway", "orderbook", "strategy", "order_manager")
SUFFIX: Final = ".sock"
NAME: Final = re.compile(r"[a-z][a-z_]{0,30}(-[1-9][0-9]{0,3})?")
"""Of a process: ``strategy``, ``strategy-2``."""


def is_process(name: str) -> bool:
    """Whether a stack may have a process of this name; only strategies are numbered."""
    service, _, number = name.partition("-")
    known = service == "strategy" if number else service in SERVICES
    return known and NAME.fullmatch(name) is not None


def folder_of(settings: Settings) -> Path:
    """The folder of the sockets; all containers have it, in the volume ``run``."""
    return Path(settings.run_dir or settings.output_dir) / "chaos"


@contextmanager
def reached(folder: Path) -> Iterator[str]:
    """A short path to a folder: that of a socket has at most 107 bytes.

    Raises:
        OSError: no such folder.
    """
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
