"""Collects the rows of a file while it is read, in memory or in files as their size asks for."""

import numpy as np
import numpy.typing as npt

from app.market_data.ragged import Ints, Mask
from app.market_data.storage.columns import Column, Table
from app.market_data.storage.pieces import pieces
from app.market_data.storage.place import Storage
from app.market_data.tick_table import NO_VALUE, Rows, Values

Frames = bytes | bytearray | memoryview


class RowsWriter:
    """Takes rows in order; :meth:`finish` gives all of them.

    ``seen``: which symbols occur, by index; ``order``: their indices in order of appearance.
    """

    def __init__(self, storage: Storage) -> None:
        self._table = Table(storage)
        self._frames = self._table.column(np.uint8)
        self._offsets = self._table.column(np.int64)
        self._event_ns = self._table.column(np.int64)
        self._symbol_index = self._table.column(np.int32)
        self._values: Column | None = None
        self._offsets.append(np.zeros(1, np.int64))
        self.seen: Mask = np.zeros(64, np.bool_)
        self.order: list[int] = []
        self.rows = 0

    def add_frames(self, frames: Frames | npt.NDArray[np.uint8], ends: Ints) -> None:
        """Frames of further rows, of which row ``i`` ends at ``ends[i]``; then :meth:`add`."""
        self._offsets.append(ends + self._frames.size_bytes)
        self._frames.append(np.frombuffer(frames, np.uint8))

    def add(
        self, event_ns: Ints, symbol_index: npt.NDArray[np.integer], values: Values | None = None
    ) -> None:
        """The columns of these rows."""
        if values is not None:
            if self._values is None:
                self._values = self._table.column(np.int16)
            self._fill_values(self.rows)
            self._values.append(values)
        self._event_ns.append(event_ns)
        self._symbol_index.append(symbol_index)
        self.rows += len(event_ns)
        self._note_symbols(symbol_index)

    def _fill_values(self, rows: int) -> None:
        """Earlier rows have none."""
        assert self._values is not None
        for first, end in pieces(rows, self._values.size_bytes // 2):
            self._values.append(np.full(end - first, NO_VALUE, np.int16))

    def _note_symbols(self, symbol_index: npt.NDArray[np.integer]) -> None:
        if not len(symbol_index):
            return
        highest = int(symbol_index.max())
        if highest >= len(self.seen):
            self.seen = np.append(self.seen, np.zeros(highest + 1, np.bool_))
        new = ~self.seen[symbol_index]
        if new.any():
            found, at = np.unique(symbol_index[new], return_index=True)
            self.order += found[np.argsort(at)].tolist()
            self.seen[found] = True

    def add_rows(self, rows: Rows, new_index: npt.NDArray[np.integer] | None = None) -> None:
        """All rows of a table; ``new_index``: here, of each of its symbols."""
        for first, end in pieces(len(rows)):
            start, stop = int(rows.offsets[first]), int(rows.offsets[end])
            self.add_frames(rows.frames[start:stop], rows.offsets[first + 1 : end + 1] - start)
            symbols = rows.symbol_index[first:end]
            self.add(
                rows.event_ns[first:end],
                symbols if new_index is None else new_index[symbols],
                None if rows.values is None else rows.values[first:end],
            )

    def keep_symbols(self, names: list[str], kept: list[int]) -> list[str]:
        """Renumber the symbols: ``kept`` are the old numbers in the new order.  Returns names."""
        if kept != list(range(len(names))):
            new_index = np.zeros(max(len(names), len(self.seen)), np.int32)
            new_index[kept] = np.arange(len(kept))
            self._symbol_index.rewrite(lambda symbols: new_index[symbols])
        return [names[index] for index in kept]

    def finish(self, symbols: list[str], skipped: int) -> Rows:
        """All rows, in the order in which they came."""
        if self._values is not None:
            self._fill_values(self.rows)
        frames: Frames = self._frames.array().data
        return Rows(
            frames,
            self._offsets.array(),
            self._event_ns.array(),
            self._symbol_index.array(),
            None if self._values is None else self._values.array(),
            symbols,
            skipped,
        )
