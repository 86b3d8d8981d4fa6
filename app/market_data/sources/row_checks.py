"""What every source checks of a file's rows: their order, and whether there are good ones."""

from pathlib import Path

import numpy as np

from app.market_data.ragged import Ints
from app.market_data.sources.errors import DataError, MalformedRows
from app.market_data.tick_table import Columns, Rows
from app.model.timestamps import MIN_EVENT_NS, format_timestamp


class RowChecks:
    """Of one file, as its rows are read; :meth:`finish` refuses the file if something is wrong."""

    def __init__(self, path: Path, columns: Columns, malformed: MalformedRows) -> None:
        self._path, self._columns, self._malformed = path, columns, malformed
        self._unordered = MalformedRows(path, "out of time order", "SORT_ROWS=true sorts them")
        self._latest_ns = MIN_EVENT_NS
        self._quarter_ns: int | None = None

    def take_order(self, lines: Ints, row_ns: Ints) -> None:
        """The times of the next rows, at least one, and the lines or numbers of these rows."""
        before = np.concatenate(([self._latest_ns], row_ns[:-1]))
        self._latest_ns = int(row_ns[-1])
        if self._columns.sort_rows:
            return
        for row in np.flatnonzero(row_ns < before):
            this, last = (format_timestamp(int(ns)).decode() for ns in (row_ns[row], before[row]))
            self._unordered.add(int(lines[row]), f"{this} comes after {last}")

    def bar_quarter_ns(self, bar_ns: Ints) -> int:
        """A quarter of a bar: of the shortest time between two bars in the file's first batch."""
        if self._quarter_ns is None:
            steps = np.diff(np.unique(bar_ns))
            self._quarter_ns = int(steps.min()) // 4 if len(steps) else 0
        return self._quarter_ns

    def finish(self, good_rows: int, none: str) -> None:
        """All rows have been read; ``none``: what to say if there is no good one.

        Raises:
            DataError: with the rows that are malformed or out of order, or that there are none.
        """
        if not self._columns.skip_bad_rows:
            self._malformed.reject(good_rows > 0)
        self._unordered.reject(True)
        if not good_rows:
            count = self._malformed.count
            skipped = f" ({count} malformed rows skipped)" if count else ""
            raise DataError(f"{self._path}: {none}{skipped}")

    def mark_order(self, rows: Rows) -> Rows:
        """The same rows; the loader sorts those that may be out of order, as ticks of bars are."""
        rows.in_order = not self._columns.sort_rows and self._quarter_ns is None
        return rows
