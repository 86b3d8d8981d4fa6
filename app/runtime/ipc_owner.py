"""The process of the container that owns /dev/shm: it holds a lock, so that its death is noticed.

The other containers join its IPC namespace.  When the owner dies, a process that has joined keeps
the old /dev/shm until it restarts, and then sees a new, empty one.  So every such process waits in
a thread for the owner's lock, which the kernel frees however the owner dies, and then restarts.
Waiting costs no CPU.

The lock file contains the name of the owner's container.  It stays the same over restarts and is
new after ``docker compose down``, so it identifies a deployment (app/runtime/run_id.py).

Standard library only: it is started with ``python -I -S``.
"""

import fcntl
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

LOCK_FILE = "/dev/shm/ipc_owner"

# The engine cannot start a container while the owner of its namespace is down, and tries only once.
# It restarts the owner after 0.1 s; this leaves time for several attempts.
OWNER_RESTART_S = 3.0

# struct flock: l_type, l_whence, l_start, l_len, l_pid (0 for open-file-description locks)
_FLOCK = struct.Struct("hhqqi4x")


def hold() -> int:
    """Hold the lock until SIGTERM or SIGINT; return 0."""
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    draft = f"{LOCK_FILE}.draft"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 1, 0))
    os.ftruncate(descriptor, 0)
    os.write(descriptor, socket.gethostname().encode())
    os.rename(draft, LOCK_FILE)  # locked before it becomes visible
    signal.sigwait(stop)
    return 0


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


def watch(on_death: Callable[[], None]) -> bool:
    """Call ``on_death`` from a thread after the owner has died and had time to restart.

    Returns False and watches nothing if there is no owner, that is, outside containers.
    """
    try:
        descriptor = os.open(LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False

    def wait() -> None:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, _FLOCK.pack(fcntl.F_RDLCK, 0, 0, 1, 0))
        time.sleep(OWNER_RESTART_S)
        on_death()

    threading.Thread(target=wait, name="ipc-owner", daemon=True).start()
    return True


def main() -> int:
    """Hold the lock; with LOG_FORMAT=json an error is one JSON object instead of a traceback."""
    try:
        return hold()
    except OSError as error:
        if os.environ.get("LOG_FORMAT", "").strip() != "json":
            raise
        _print_json(f"{LOCK_FILE}: {error.strerror or error}")
        return 1


def _print_json(error: str) -> None:
    # Imported here: this process lives as long as the stack and needs them for one line at most.
    import json
    from datetime import UTC, datetime

    now = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    head = {"ts": f"{now}Z", "level": "error", "service": "shm", "event": "fatal"}
    print(json.dumps(head | {"error": error}), file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
