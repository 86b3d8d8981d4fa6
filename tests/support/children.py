"""Other processes in tests: a piece of Python, told and asked line by line."""

import contextlib
import os
import secrets
import select
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.paths import ROOT

DEADLINE_S = 20.0
SHM = Path("/dev/shm")


def eventually(holds: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for ``holds`` to become true; fails with ``what`` after the deadline."""
    until = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < until, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.002)


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
        """Give it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    def ask(self, line: str = "") -> str:
        """Give it a line and return its next one."""
        self.tell(line)
        return self.line()

    def line(self, deadline_s: float = DEADLINE_S) -> str:
        """Its next line; fails when it ends or says nothing."""
        assert self.process.stdout is not None
        until = time.monotonic() + deadline_s
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self.process.stdout], [], [], until - time.monotonic())
            assert ready, f"the child said nothing for {deadline_s:g} s"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"the child ended with {self.process.wait(5)}"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(10)

    def close(self) -> None:
        """As :meth:`kill`, and close the pipes."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def open_files() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def damage(name: str, offset: int, form: str, value: int) -> None:
    """Overwrite a number in a segment."""
    with open(SHM / name, "r+b") as file:
        file.seek(offset)
        file.write(struct.pack(form, value))


def segment_name() -> Iterator[str]:
    """A name of this test's own; afterwards, whatever begins with it is removed."""
    unique = f"test_{os.getpid()}_{secrets.token_hex(4)}"
    yield unique
    for path in SHM.glob(f"{unique}*"):
        path.unlink(missing_ok=True)


Spawn = Callable[..., Child]


def spawner() -> Iterator[Spawn]:
    """Starts children that do not outlive the test."""
    children: list[Child] = []

    def start(code: str, *arguments: object) -> Child:
        children.append(Child(code, *arguments))
        return children[-1]

    yield start
    for child in children:
        child.close()
