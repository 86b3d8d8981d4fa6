"""Rows of whole files: leave out symbols, sort by time."""

import numpy as np

from app.market_data.ragged import Ints, pick_rows
from app.market_data.tick_table import Rows, SymbolIndex


def in_use(names: list[str], symbol_index: Ints) -> tuple[list[str], SymbolIndex]:
    """Leave out symbols that occur only in malformed rows."""
    used = np.bincount(symbol_index, minlength=len(names)) > 0
    new_index = np.cumsum(used) - 1
    kept = [name for name, use in zip(names, used, strict=True) if use]
    return kept, new_index[symbol_index].astype(np.int32)


def by_time(rows: Rows) -> Rows:
    """The rows in time order; rows with the same time keep their file order."""
    if (rows.event_ns[1:] >= rows.event_ns[:-1]).all():
        return rows
    order = np.argsort(rows.event_ns, kind="stable")
    frames, offsets = pick_rows(rows.frames, rows.offsets, order)
    return Rows(
        bytearray(frames.data),
        offsets,
        rows.event_ns[order],
        rows.symbol_index[order],
        None if rows.values is None else rows.values[order],
        rows.symbols,
        rows.skipped,
    )
