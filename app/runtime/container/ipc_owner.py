"""The process of the container that owns /dev/shm: it holds a lock, so that its death is noticed.

The other containers join its IPC namespace.  When that container dies, a process that has joined
keeps the old /dev/shm until its own container starts again, and then sees a new, empty one.  So
every such process waits in a thread for the owner's lock, which the kernel frees however the owner
dies.  Waiting costs no CPU.  An owner that was killed alone comes back in the same namespace, takes
the lock of the same file, and nobody restarts.

The lock file contains the name of the owner's container.  It stays the same over restarts and is
new after ``docker compose down``, so it identifies a deployment (app/runtime/run/run_id.py).
A second locked file, in the volume that all containers mount, shows a new owner to the processes
that are left in an old namespace (app/runtime/container/keeper.py).

Standard library only: it is started with ``python -S``.
"""

import contextlib
import fcntl
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

from app.runtime.container.plain_log import print_line

LOCK_FILE = "/dev/shm/ipc_owner"
OWNER_NAME = "ipc_owner"
"""Of the second lock file, in RUN_DIR."""

OWNER_RETURN_S = 1.0
"""An owner that was killed alone is back after 0.2 s; its container takes longer."""

POLL_S = 0.02

# struct flock: l_type, l_whence, l_start, l_len, l_pid (0 for open-file-description locks)
_FLOCK = struct.Struct("hhqqi4x")


def hold() -> int:
    """Hold the locks until SIGTERM or SIGINT; return 0."""
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    if deployment() == socket.gethostname():  # this container's, of a process that was killed
        _lock(os.open(LOCK_FILE, os.O_RDWR | os.O_CLOEXEC))
    else:
        draft = f"{LOCK_FILE}.draft"
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        _lock(descriptor)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, socket.gethostname().encode())
        os.rename(draft, LOCK_FILE)  # locked before it becomes visible
    if path := _file_in_run_dir():
        # Without it (a volume without room), the others wait a fixed time for a new owner.
        with contextlib.suppress(OSError):
            _lock(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660))
    signal.sigwait(stop)
    return 0


def _lock(descriptor: int) -> None:
    """Waits: the processes that notice a death hold the lock for an instant."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 1, 0))


def _file_in_run_dir() -> str:
    run_dir = os.environ.get("RUN_DIR", "")
    return os.path.join(run_dir, OWNER_NAME) if run_dir else ""


def deployment() -> str:
    """The name of the owner's container; empty outside containers."""
    try:
        with open(LOCK_FILE, encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def epoch() -> str:
    """The life of the owner: its container and when it took the lock; empty outside containers."""
    try:
        return f"{deployment()}@{os.stat(LOCK_FILE).st_mtime_ns}"
    except FileNotFoundError:
        return ""


def is_here() -> bool:
    """Whether the owner of this /dev/shm lives."""
    return _is_locked(LOCK_FILE)


def shows_elsewhere() -> bool:
    """Whether a new owner of another /dev/shm can show itself here."""
    return os.path.exists(_file_in_run_dir())


def is_elsewhere() -> bool:
    """Whether an owner lives, but of another /dev/shm than this one."""
    path = _file_in_run_dir()
    return bool(path) and _is_locked(path) and not is_here()


def _is_locked(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return holds_lock(descriptor)
    finally:
        os.close(descriptor)


def holds_lock(descriptor: int) -> bool:
    """Whether a living process has locked this file for itself."""
    asked = _FLOCK.pack(fcntl.F_RDLCK, 0, 0, 1, 0)
    answer = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))
    return bool(answer[0] != fcntl.F_UNLCK)


def watch(on_death: Callable[[], None]) -> bool:
    """Call ``on_death`` from a thread when the owner has died and does not come back.

    Returns False and watches nothing if there is no owner, that is, outside containers.
    """
    try:
        descriptor = os.open(LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False

    def wait() -> None:
        while True:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, _FLOCK.pack(fcntl.F_RDLCK, 0, 0, 1, 0))
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, 0, 0, 1, 0))
            if not _comes_back():
                return on_death()

    threading.Thread(target=wait, name="ipc-owner", daemon=True).start()
    return True


def _comes_back() -> bool:
    deadline = time.monotonic() + OWNER_RETURN_S
    while not is_here():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def main() -> int:
    """Hold the locks; with LOG_FORMAT=json an error is one JSON object instead of a traceback."""
    try:
        return hold()
    except OSError as error:
        if os.environ.get("LOG_FORMAT", "").strip() != "json":
            raise
        print_line("shm", "error", "fatal", error=f"{LOCK_FILE}: {error.strerror or error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
