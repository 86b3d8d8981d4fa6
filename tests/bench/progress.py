"""How far the benchmark is: a bar on a terminal, one plain line per step elsewhere."""

import sys
import time
from types import TracebackType
from typing import Protocol, Self


class Progress(Protocol):
    """What the harness tells as it goes."""

    def start(self, steps: int) -> None:
        """There will be so many steps."""

    def running(self, label: str) -> None:
        """A step has begun."""

    def step(self, line: str) -> None:
        """A step has ended."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """End the display."""


class PlainProgress:
    """One line per step on standard output."""

    def __init__(self) -> None:
        self._steps, self._done, self._began = 0, 0, time.monotonic()

    def start(self, steps: int) -> None:
        """Remember how many there will be."""
        self._steps = steps

    def running(self, label: str) -> None:
        """Nothing: the line comes when there is something to say."""

    def step(self, line: str) -> None:
        """Print the line with its number and the time since the start."""
        self._done += 1
        spent_s = time.monotonic() - self._began
        print(f"[{self._done:>3}/{self._steps} {spent_s:>4.0f} s] {line}", flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        pass


class BarProgress:
    """A rich progress bar; finished steps scroll above it."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
        )
        self._task = self._bar.add_task("starting")

    def start(self, steps: int) -> None:
        """Set the bar's length."""
        self._bar.update(self._task, total=steps)

    def running(self, label: str) -> None:
        """Show what runs."""
        self._bar.update(self._task, description=label)

    def step(self, line: str) -> None:
        """Let the finished step scroll up and move the bar."""
        self._bar.console.print(line, markup=False, highlight=False)
        self._bar.advance(self._task)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._bar.stop()


def choose_progress() -> Progress:
    """A bar where a person watches and rich is installed, lines otherwise."""
    if sys.stdout.isatty():
        try:
            return BarProgress()
        except ImportError:
            pass
    return PlainProgress()
