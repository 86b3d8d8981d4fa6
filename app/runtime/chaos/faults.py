"""The faults: what a process does to itself.

It needs neither the engine nor another process, so the same works on a host and in a container that
has nothing but the process and its keeper.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

CUT_POLL_S: Final = 0.02
FREEZER: Final = Path(__file__).with_name("freezer.py")
"""Started by its path: the process may have another working folder."""


def kill() -> None:
    """End without a chance to say anything."""
    os.kill(os.getpid(), signal.SIGKILL)


def freeze(seconds: float) -> None:
    """Stop all threads of this process, and continue them after ``seconds``.

    A child does both; it ends when this process does.
    """
    subprocess.run(
        [sys.executable, "-S", "-E", str(FREEZER), str(os.getpid()), str(seconds)],
        stdin=subprocess.DEVNULL,
        check=True,
    )


def cut(seconds: float) -> int:
    """Break every TCP connection, and those that come within ``seconds``; returns how many."""
    until_s = time.monotonic() + seconds
    count = break_connections()
    while (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(CUT_POLL_S, left_s))
        count += break_connections()
    return count


def break_connections() -> int:
    """Shut down every TCP connection of this process; returns how many were open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                count += _break(int(name))
    return count


def _break(descriptor: int) -> bool:
    # A copy: the owner may close its own at any time, and another socket may get the number.
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        if connection.type != socket.SOCK_STREAM:
            return False
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        connection.shutdown(socket.SHUT_RDWR)  # fails if it is not connected
        return True
