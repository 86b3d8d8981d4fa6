"""Progress of the benchmark: a bar on a terminal, elsewhere one line per step."""

import sys
import time
from typing import Self


class Progress:
    """The calls that the harness makes; here, one line per step on standard output.

    The time left is what is expected of the remaining steps, scaled by how the steps so far kept to
    what was expected of them.
    """

    def __init__(self) -> None:
        self._steps, self._done, self._began = 0, 0, time.monotonic()
        self._expected_s, self._done_s = 0.0, 0.0

    def start(self, steps: int, expected_s: float) -> None:
        """Set the number of steps, and how long they are expected to take."""
        self._steps, self._expected_s = steps, expected_s

    def running(self, label: str) -> None:
        """A step has started: print nothing before its result."""

    def step(self, line: str, expected_s: float) -> None:
        """A step has ended that was expected to take so long: print its result."""
        self._count(expected_s)
        spent_s = time.monotonic() - self._began
        head = f"[{self._done:>3}/{self._steps} {spent_s:>4.0f} s, {self.left_s():.0f} s left]"
        print(f"{head} {line}", flush=True)

    def left_s(self) -> float:
        """About how long the remaining steps take."""
        left_s = max(0.0, self._expected_s - self._done_s)
        spent_s = time.monotonic() - self._began
        return left_s * spent_s / self._done_s if self._done_s else left_s

    def _count(self, expected_s: float) -> None:
        self._done += 1
        self._done_s += expected_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class BarProgress(Progress):
    """A rich progress bar; finished steps scroll above it."""

    def __init__(self) -> None:
        super().__init__()
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
        )
        self._task = self._bar.add_task("starting")

    def start(self, steps: int, expected_s: float) -> None:
        """Set the length of the bar."""
        super().start(steps, expected_s)
        self._bar.update(self._task, total=steps)

    def running(self, label: str) -> None:
        """Show the current step, and about how long all take from now on."""
        self._bar.update(self._task, description=f"{self.left_s():.0f} s left; {label}")

    def step(self, line: str, expected_s: float) -> None:
        """Print the finished step above the bar and advance the bar."""
        self._count(expected_s)
        self._bar.console.print(line, markup=False, highlight=False)
        self._bar.advance(self._task)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def choose_progress() -> Progress:
    """A bar on a terminal if rich is installed, else lines."""
    if sys.stdout.isatty():
        try:
            return BarProgress()
        except ImportError:
            pass
    return Progress()
