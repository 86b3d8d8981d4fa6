"""The container that owns /dev/shm: it does nothing, but it holds a lock by which its death shows.

A process that joined the namespace of a container keeps that /dev/shm when the owner dies, and
meets a new, empty one when it starts again itself.  So the joiners wait for the owner's lock: the
kernel frees it on any death, and waiting costs nothing.  Standard library only: start it with
``python -I -S``.
"""

import fcntl
import os
import signal
import struct
import threading
import time
from collections.abc import Callable

LOCK_FILE = "/dev/shm/ipc_owner"

# A container cannot be started while the owner of its namespace is down, and the engine tries only
# once.  It restarts the owner after 0.1 s; this leaves it time for several attempts.
OWNER_RESTART_S = 3.0

# struct flock: l_type, l_whence, l_start, l_len, l_pid (0 for open-file-description locks)
_FLOCK = struct.Struct("hhqqi4x")


def hold() -> int:
    """Own the namespace until SIGTERM or SIGINT; 0."""
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    draft = f"{LOCK_FILE}.draft"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 1, 0))
    os.rename(draft, LOCK_FILE)  # it appears locked
    signal.sigwait(stop)
    return 0


def watch(on_death: Callable[[], None]) -> bool:
    """Call ``on_death`` from a thread once the owner has died and had time to come back.

    False, and nothing is watched, where nobody owns the namespace: on a host.
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


if __name__ == "__main__":
    raise SystemExit(hold())
