"""Progress of a long task: a bar on a terminal, log lines or nothing elsewhere."""

import sys
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Self

from app.runtime.log import get_logger

if TYPE_CHECKING:
    import rich.progress

log = get_logger()


class Progress(AbstractContextManager["Progress"]):
    """Call it with the work done so far, in the unit of ``total``.

    Args:
        task: label of the bar and name of the log event.
        total: the whole work; a call may give a new one.
        silent_s: a task that ends within this time shows nothing.
        transient: the bar disappears at the end.
        log_every_s: seconds between two log lines where standard error is not a terminal; None logs
            nothing.
    """

    def __init__(
        self,
        task: str,
        total: int = 0,
        *,
        silent_s: float = 0.0,
        transient: bool = False,
        log_every_s: float | None = None,
    ) -> None:
        self._task, self._total = task, total
        self._silent_s, self._transient, self._log_every_s = silent_s, transient, log_every_s
        self._next_s = time.monotonic() + silent_s
        self._terminal = sys.stderr.isatty()
        self._bar: rich.progress.Progress | None = None
        self._row: rich.progress.TaskID | None = None

    def __enter__(self) -> Self:
        if self._terminal and not self._silent_s:
            self._open_bar()
        return self

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show that ``done`` of ``total`` is done."""
        if total is not None:
            self._total = total
        if self._bar is None and time.monotonic() >= self._next_s:
            if self._terminal:
                self._open_bar()
            elif self._log_every_s is not None:
                self._next_s = time.monotonic() + self._log_every_s
                log.info(self._task, percent=100 * done // max(self._total, 1))
        if self._bar is not None and self._row is not None:
            self._bar.update(self._row, completed=done, total=self._total)

    def _open_bar(self) -> None:
        # Imported here: rich takes 5 MB, and a process in a container shows no bar.
        from rich.console import Console
        from rich.progress import Progress as Bar

        self._bar = Bar(console=Console(stderr=True), transient=self._transient)
        self._row = self._bar.add_task(self._task, total=self._total)
        self._bar.start()

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
