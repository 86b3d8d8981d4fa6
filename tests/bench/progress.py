"""Progress of the benchmark: a bar on a terminal, elsewhere one line per step."""

import sys
import time
from typing import Self


class Progress:
    """The calls that the harness makes; here, one line per step on standard output."""

    def __init__(self) -> None:
        self._steps, self._done, self._began = 0, 0, time.monotonic()

    def start(self, steps: int) -> None:
        """Set the number of steps."""
        self._steps = steps

    def running(self, label: str) -> None:
        """A step has started: print nothing before its result."""

    def step(self, line: str) -> None:
        """A step has ended: print its number, the time since the start, and its result."""
        self._done += 1
        spent_s = time.monotonic() - self._began
        print(f"[{self._done:>3}/{self._steps} {spent_s:>4.0f} s] {line}", flush=True)

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

    def start(self, steps: int) -> None:
        """Set the length of the bar."""
        self._bar.update(self._task, total=steps)

    def running(self, label: str) -> None:
        """Show the current step."""
        self._bar.update(self._task, description=label)

    def step(self, line: str) -> None:
        """Print the finished step above the bar and advance the bar."""
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
