"""The proof: a second, undisturbed computation of the same run, in a child process.

``python -m app proof`` prints a JSON line a second.  It begins with the first page, so that a stack
that nobody looks at does not compute twice, and runs at the lowest priority that still proceeds.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec

NICE: Final = 10
RETRY_S: Final = 5.0
RETRY_S_MAX: Final = 60.0
EXIT_EQUAL, EXIT_DIFFERENT, EXIT_CANNOT_TELL = 0, 1, 3
"""Exit codes of the child; the first two at the end of a run (app/backtest/proof/command.py)."""
LINE_BYTES_MAX: Final = 64 * 1024
STOP_S: Final = 1.0
PR_SET_PDEATHSIG: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _in_child() -> None:
    os.nice(NICE)
    # Where memory is short, the kernel is to kill this one, not the page.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Proof:
    """Runs the child, and keeps its last line.

    ``run_id``: tells the name of the run, because a proof that has ended begins anew with the next.
    """

    def __init__(self, run_id: Callable[[], str], command: list[str] | None = None) -> None:
        self._run_id = run_id
        self._command = command or [sys.executable, "-m", "app", "proof"]
        self._task: asyncio.Task[None] | None = None
        self.line: dict[str, Any] | None = None
        """The last line; None before the first."""
        self.problem = "it begins with the first page"
        """Why there is no line, or no newer one; empty if there is."""

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._task is None:
            self.problem = "the second computation is starting"
            self._task = asyncio.create_task(self._keep_running())

    async def _keep_running(self) -> None:
        delay_s = RETRY_S
        while True:
            began = self._run_id()
            try:
                code = await self._run_once()
            except OSError as error:
                code, self.problem = EXIT_CANNOT_TELL, f"python -m app proof: {error}"
            if self._is_verdict(code):
                self.problem = ""
                while self._run_id() == began:  # the run is over, and its proof stays
                    await asyncio.sleep(RETRY_S)
                delay_s = 0.0
            self.line = None
            await asyncio.sleep(delay_s)
            delay_s = min(max(2 * delay_s, RETRY_S), RETRY_S_MAX)

    def _is_verdict(self, code: int) -> bool:
        """Whether the last line says what the code does; Python's own code of a crash is 1, too."""
        if self.line is None:
            return False
        return code == (EXIT_DIFFERENT if self.line.get("difference") else EXIT_EQUAL)

    async def _run_once(self) -> int:
        child = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
            preexec_fn=_in_child,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "LOG_FORMAT": "text"},
        )
        assert child.stdout is not None
        assert child.stderr is not None
        errors = asyncio.create_task(_last_line(child.stderr))
        try:
            while line := await child.stdout.readline():
                with contextlib.suppress(msgspec.MsgspecError):
                    self.line = msgspec.json.decode(line, type=dict[str, Any])
                    self.problem = ""
            code = await child.wait()
            said = await errors
            self.problem = said or _why_ended(code)
            return code
        except ValueError:
            self.problem = f"python -m app proof printed a line of over {LINE_BYTES_MAX} bytes"
            return EXIT_CANNOT_TELL
        finally:
            errors.cancel()
            if child.returncode is None:
                child.kill()
                await child.wait()

    async def stop(self) -> None:
        """End the child."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, asyncio.TimeoutError):
                await asyncio.wait_for(self._task, STOP_S)


def _why_ended(code: int) -> str:
    text = f"python -m app proof ended with code {code}"
    if code == -signal.SIGKILL:
        text += "; if memory is short: in containers, raise DASHBOARD_MEMORY"
    return text


async def _last_line(stream: asyncio.StreamReader) -> str:
    """The last line that is not empty; reads to the end, so that the child never waits."""
    last = ""
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            continue
        if not line:
            return last
        last = line.decode("utf-8", "replace").strip()[:500] or last
