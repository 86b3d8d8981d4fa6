"""Symbols of instruments, which a record names by an id."""

import contextlib
from typing import Final

import numpy as np

from app.market_data.ragged import Ints
from app.market_data.sources.dbn.metadata import Interval, Metadata
from app.market_data.sources.dbn.records import HEADER, Run
from app.market_data.sources.symbol_table import UNKNOWN, SymbolTable
from app.model.timestamps import MAX_EVENT_NS, MIN_EVENT_NS

_UNNAMED: Final = "has no symbol in this file: set DATA_SYMBOL, if all rows have the same"
_STYPE_BYTES: Final = 1


class Instruments:
    """From instrument and time to a symbol's index in ``table``.

    ``constant``: the symbol of every row, or empty.
    """

    def __init__(self, metadata: Metadata, table: SymbolTable, constant: str) -> None:
        self._metadata, self._table = metadata, table
        self._constant = constant.encode()
        self._intervals = metadata.instruments

    def learn(self, run: Run) -> None:
        """Take the symbols of mapping records, as live sessions have them."""
        size = self._metadata.symbol_bytes
        # Type (not in version 1) and symbol that was asked for, then those that it stands for.
        stype = _STYPE_BYTES if self._metadata.version > 1 else 0
        first = HEADER.itemsize + stype + size + stype
        ids = run.view(HEADER)["instrument_id"].tolist()
        for instrument, record in zip(ids, run.data, strict=True):
            symbol = record[first : first + size].tobytes().partition(b"\0")[0]
            if symbol:
                self._intervals[instrument] = [Interval(MIN_EVENT_NS, MAX_EVENT_NS + 1, symbol)]

    def indices(self, ids: Ints, event_ns: Ints) -> tuple[Ints, dict[int, tuple[bytes, str]]]:
        """Index of each row's symbol, and the rows without one: their value and the reason."""
        if self._constant:
            return np.full(len(ids), self._table.add(self._constant), np.int64), {}
        bad: dict[int, tuple[bytes, str]] = {}
        found, first, which = np.unique(ids, return_index=True, return_inverse=True)
        always = np.full(len(found), UNKNOWN, np.int64)
        span = (int(event_ns.min()), int(event_ns.max())) if len(ids) else (0, 0)
        # In order of first appearance, as in a text file.
        for at in np.argsort(first).tolist():
            always[at] = self._always(int(found[at]), *span)
        index: Ints = always[which]
        for row in np.flatnonzero(index == UNKNOWN).tolist():
            symbol = self._symbol(int(ids[row]), int(event_ns[row]))
            if symbol is None:
                bad[row] = (b"%d" % ids[row], _UNNAMED)
                continue
            try:
                index[row] = self._table.add(symbol)
            except ValueError as error:
                bad[row] = (symbol, str(error))
        return index, bad

    def _symbol(self, instrument: int, event_ns: int) -> bytes | None:
        """The symbol at that time."""
        for interval in self._intervals.get(instrument, ()):
            if interval.start_ns <= event_ns < interval.end_ns:
                return interval.symbol
        return None

    def _always(self, instrument: int, first_ns: int, last_ns: int) -> int:
        """The index of an instrument's symbol, if it has the same one all that time."""
        for interval in self._intervals.get(instrument, ()):
            if last_ns < interval.start_ns or interval.end_ns <= first_ns:
                continue
            if interval.start_ns <= first_ns and last_ns < interval.end_ns:
                with contextlib.suppress(ValueError):
                    return self._table.add(interval.symbol)
            break
        return UNKNOWN
