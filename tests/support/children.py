"""Child processes in tests: Python code that reads lines and answers with lines."""

import contextlib
import ctypes
import os
import secrets
import select
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tests.support.paths import ROOT

DEADLINE_S = 20.0
SHM = Path("/dev/shm")


T = TypeVar("T")
PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl
"""Looked up here: between fork and exec nothing may wait for a lock."""


def die_with_parent() -> None:
    """For ``preexec_fn``: the kernel kills the process when the starting thread ends (Linux).

    So a process that is to outlive a thread is started from the main one.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def eventually(
    get: Callable[[], T],
    what: str,
    deadline_s: float = DEADLINE_S,
    *,
    poll_s: float = 0.002,
    ignore: tuple[type[Exception], ...] = (),
) -> T:
    """Poll until ``get`` returns a true value, and return it.

    Fails after the deadline with ``what`` and the last value, or the last of the ``ignore`` errors.
    """
    until = time.monotonic() + deadline_s
    while True:
        last: object
        try:
            value = last = get()
            if value:
                return value
        except ignore as error:
            last = error
        assert time.monotonic() < until, f"not within {deadline_s:g} s: {what}; last: {last!r}"
        time.sleep(poll_s)


class Child:
    """A Python process that runs ``code`` with ``arguments`` in ``sys.argv[1:]``."""

    def __init__(self, code: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._rest = b""

    def tell(self, line: str = "") -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    def ask(self, line: str = "") -> str:
        """Send it a line and return its next one."""
        self.tell(line)
        return self.line()

    def line(self, deadline_s: float = DEADLINE_S) -> str:
        """Its next line; fails if it exits or prints nothing."""
        assert self.process.stdout is not None
        until = time.monotonic() + deadline_s
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self.process.stdout], [], [], until - time.monotonic())
            assert ready, f"no line from the child within {deadline_s:g} s"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"the child exited with code {self.process.wait(5)}"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def kill(self) -> None:
        """SIGKILL, and wait for it to exit."""
        self.process.kill()
        self.process.wait(10)

    def close(self) -> None:
        """:meth:`kill`, and close the pipes."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def open_files() -> int:
    """Number of open file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def damage(name: str, offset: int, form: str, value: int) -> None:
    """Overwrite a number in a segment, packed as ``form``."""
    with open(SHM / name, "r+b") as file:
        file.seek(offset)
        file.write(struct.pack(form, value))


def segment_name() -> Iterator[str]:
    """A unique segment name; every segment with this prefix is removed afterwards."""
    unique = f"test_{os.getpid()}_{secrets.token_hex(4)}"
    yield unique
    for path in SHM.glob(f"{unique}*"):
        path.unlink(missing_ok=True)


Spawn = Callable[..., Child]


def spawner() -> Iterator[Spawn]:
    """Starts children and kills them at the end of the test."""
    children: list[Child] = []

    def start(code: str, *arguments: object) -> Child:
        children.append(Child(code, *arguments))
        return children[-1]

    yield start
    for child in children:
        child.close()
