"""How far a sweep is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from typing import Final

from app.runtime.progress import Progress

LINE_EVERY_S: Final = 5.0


class CellProgress(Progress):
    """Call it with the cells done so far; ``first`` were done before."""

    def __init__(self, first: int, total: int) -> None:
        super().__init__("cells", total)
        self._first = first
        self._started_s = time.monotonic()
        self._line_s = self._started_s + LINE_EVERY_S

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show it."""
        super().__call__(done, total)
        now_s = time.monotonic()
        if self._terminal or now_s < self._line_s or done == self._first:
            return
        self._line_s = now_s + LINE_EVERY_S
        rate = (done - self._first) / (now_s - self._started_s)
        left_s = (self._total - done) / rate
        print(
            f"sweep: {done:,} of {self._total:,} cells, {rate:,.1f} a second, {left_s:,.0f} s left",
            file=sys.stderr,
            flush=True,
        )
