"""Says how far a long load has come: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from app.runtime.log import get_logger

SILENT_S: Final = 1.0
LINE_EVERY_S: Final = 2.0

log = get_logger()


class LoadInterrupted(Exception):
    """The process was asked to stop while it loaded."""


class LoadProgress(AbstractContextManager["LoadProgress"]):
    """Called with the bytes read and the bytes there are.

    Raises:
        LoadInterrupted: from the call, once ``stop()`` is true.
    """

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop
        self._next_s = time.monotonic() + SILENT_S
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        """Note the progress."""
        if self._stop():
            raise LoadInterrupted
        if self._bar is not None:
            self._bar.update(self._task, completed=done_bytes, total=total_bytes)
        elif time.monotonic() >= self._next_s and not self._open_bar():
            self._next_s = time.monotonic() + LINE_EVERY_S
            log.info("loading", percent=100 * done_bytes // max(total_bytes, 1))

    def _open_bar(self) -> bool:
        if not sys.stderr.isatty():
            return False
        try:
            from rich.console import Console
            from rich.progress import Progress
        except ImportError:
            return False
        self._bar = Progress(console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("loading")
        self._bar.start()
        return True

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
