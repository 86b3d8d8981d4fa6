"""The token of the stack's own processes: made by the order manager, kept in the run's folder.

Whoever can read the file is the stack: the strategy, the verdict and the command line on the same
host, or in a container with the same volume.  It needs no setting, and never leaves the folder.  It
outlives the order manager, so that its clients know the token before it is back after a crash.
"""

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from app.config.kinds import is_loopback
from app.config.settings import Settings
from app.runtime.lifecycle import FatalError

MODE: Final = 0o600
_TOKEN: Final = re.compile(rb"[0-9a-f]{64}\n")


def stack_token_path(settings: Settings, port: int | None = None) -> Path:
    """The file; several stacks may share a folder, so its name has the order port."""
    folder = settings.run_dir or settings.output_dir
    return Path(folder) / f"orders-{settings.order_port if port is None else port}.token"


def read_stack_token(settings: Settings) -> bytes:
    """The token, if this process may read it and the order manager is one of its own stack's."""
    if not settings.run_dir and not is_loopback(settings.order_manager_host):
        return b""  # The file is that of a stack on this host: nobody else must see its token.
    try:
        return _read(stack_token_path(settings), own=False)
    except OSError:
        return b""


def keep_stack_token(path: Path, known: bytes = b"") -> tuple[bytes, bool]:
    """The token in the file, which is made if it is not there; and whether it was made.

    A file that others may write or read, a link, or another user's file is replaced: whoever made
    it would have the rights of the stack.  ``known``: the token to write, by default a new one.

    Raises:
        FatalError: the file cannot be made.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with contextlib.suppress(OSError):
            if token := _read(path, own=True):
                return token, False
        path.parent.mkdir(parents=True, exist_ok=True)
        token = known or secrets.token_hex(32).encode()
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        try:
            os.write(descriptor, token + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(draft, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise FatalError(
            f"{path}: {error.strerror}; the stack's own processes need this token: make the "
            "folder (RUN_DIR, or OUTPUT_DIR if that is empty) writable"
        ) from error
    return token, True


def _read(path: Path, *, own: bool) -> bytes:
    """The token; empty if the file is not one that only its owner can read.

    Raises:
        OSError: the file cannot be opened.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
            return b""
        if own and found.st_uid != os.geteuid():
            return b""
        data = os.read(descriptor, 128)
    finally:
        os.close(descriptor)
    return data.strip() if _TOKEN.fullmatch(data) else b""
