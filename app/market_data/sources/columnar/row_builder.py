"""Turns columns of numbers into frames: the last step of every source that reads no text."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from app.market_data.ragged import Ints
from app.market_data.rows_writer import RowsWriter
from app.market_data.sources.columnar.frames import Names, price_frames, whole_frames
from app.market_data.sources.errors import MalformedRows
from app.market_data.sources.row_checks import RowChecks
from app.market_data.sources.symbol_table import SymbolTable
from app.market_data.tick_table import Columns, Rows, Values

BadRow = tuple[int, str, bytes, str]
"""Number of the row, column, value, reason."""

_ENCODE_ROWS: Final = 16384
"""Rows encoded at a time, to bound the temporaries."""


@dataclass(slots=True)
class DecodedRows:
    """Checked rows, shapes ``(n,)``, and the rows between them that are malformed.

    ``number``: of the row in its file, from 1.  ``value``: money units of the price, or the
    sentiment.  ``sentiment``: None if the file has no such column beside the price.  ``quarter``:
    of the four ticks of a bar, at which quarter of the bar that begins at ``event_ns``.
    """

    number: Ints
    event_ns: Ints
    symbol: Ints
    value: Ints
    sentiment: Values | None = None
    quarter: Ints | None = None
    bad: list[BadRow] = field(default_factory=list)


class RowBuilder:
    """Collects decoded rows of one file; :meth:`build` makes the rows, or says what is wrong."""

    def __init__(self, path: Path, columns: Columns, prices: bool = True) -> None:
        self.symbols = SymbolTable()
        self._prices = prices
        self._malformed = MalformedRows(path, "malformed", "SKIP_BAD_ROWS=true skips such rows")
        self._checks = RowChecks(path, columns, self._malformed)
        self._writer = RowsWriter(columns.storage)
        self._names = Names([""])
        self._named = 0

    def add(self, rows: DecodedRows) -> None:
        """Add the next rows of the file; their symbols are in :attr:`symbols`."""
        for bad in rows.bad:
            self._malformed.add_field(*bad)
        if not len(rows.event_ns):
            return
        self._checks.take_order(rows.number, rows.event_ns)
        if rows.quarter is not None:
            quarter_ns = self._checks.bar_quarter_ns(rows.event_ns)
            rows.event_ns = rows.event_ns + quarter_ns * rows.quarter
        if self._named < len(self.symbols):
            self._names, self._named = Names(self.symbols.names), len(self.symbols)
        encode = price_frames if self._prices else whole_frames
        for first in range(0, len(rows.event_ns), _ENCODE_ROWS):
            part = slice(first, first + _ENCODE_ROWS)
            columns = (rows.event_ns[part], rows.symbol[part], rows.value[part])
            frames, lengths = encode(*columns, self._names)
            self._writer.add_frames(frames, np.cumsum(lengths, dtype=np.int64))
        self._writer.add(rows.event_ns, rows.symbol, rows.sentiment)

    @property
    def has_rows(self) -> bool:
        """Whether there is any row so far, good or malformed."""
        return self._writer.rows > 0 or self._malformed.count > 0

    def build(self, *, as_added: bool = False) -> Rows:
        """All rows.

        ``as_added``: the symbols in use keep the order of :attr:`symbols`, else they are in order
        of first appearance.

        Raises:
            DataError: with the rows that are malformed or out of order, or that there are none.
        """
        self._checks.finish(self._writer.rows, "no rows")
        used = self._writer.order
        symbols = self._writer.keep_symbols(self.symbols.names, sorted(used) if as_added else used)
        return self._checks.mark_order(self._writer.finish(symbols, self._malformed.count))
