"""Progress of loading a data file; a stop of the process interrupts the loading."""

from collections.abc import Callable
from typing import Final

from app.market_data.sources.source import ReadProgress
from app.runtime.progress import Progress

SILENT_S: Final = 1.0
LOG_EVERY_S: Final = 2.0


class LoadInterrupted(Exception):
    """The process was asked to stop while it loaded."""


class LoadProgress(Progress):
    """Call it with the bytes read and the bytes of the file.

    Raises:
        LoadInterrupted: from the call, once ``stop()`` is true.
    """

    def __init__(self, stop: Callable[[], bool] = lambda: False) -> None:
        super().__init__("loading", silent_s=SILENT_S, transient=True, log_every_s=LOG_EVERY_S)
        self._stop = stop

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show the progress, or raise if the process was asked to stop."""
        if self._stop():
            raise LoadInterrupted
        super().__call__(done, total)


def share(progress: ReadProgress | None, first: int, end: int) -> ReadProgress:
    """Shows a part of the work: from ``first`` to ``end`` percent of all of it."""
    if progress and (first, end) == (0, 100):
        return progress

    def show(done: int, total: int) -> None:
        if progress:
            progress(first * total + (end - first) * done, 100 * max(total, 1))

    return show
