"""Rows of whole files: leave out symbols, merge, sort by time."""

import numpy as np

from app.market_data.ragged import Ints, pick_rows
from app.market_data.tick_table import NO_VALUE, Rows, SymbolIndex, Values


def in_use(names: list[str], symbol_index: Ints) -> tuple[list[str], SymbolIndex]:
    """Leave out symbols that occur only in malformed rows."""
    used = np.bincount(symbol_index, minlength=len(names)) > 0
    new_index = np.cumsum(used) - 1
    kept = [name for name, use in zip(names, used, strict=True) if use]
    return kept, new_index[symbol_index].astype(np.int32)


def merged(parts: list[Rows]) -> Rows:
    """The rows of several files in time order; of the same time, those of the first file first.

    Takes the parts out of the list, so that none is held longer than necessary.
    """
    if len(parts) == 1:
        return parts[0]
    names: dict[str, int] = {}
    for part in parts:
        for name in part.symbols:
            names.setdefault(name, len(names))
    has_values = any(part.values is not None for part in parts)
    skipped = sum(part.skipped for part in parts)
    frames = bytearray()
    offsets, event_ns, symbol_index = [np.zeros(1, np.int64)], [], []
    values: list[Values] = []
    while parts:
        part = parts.pop(0)
        offsets.append(part.offsets[1:] + len(frames))
        frames += part.frames
        event_ns.append(part.event_ns)
        symbol_index.append(np.array([names[name] for name in part.symbols])[part.symbol_index])
        if has_values and part.values is None:
            values.append(np.full(len(part), NO_VALUE, np.int16))
        elif part.values is not None:
            values.append(part.values)
    return by_time(
        Rows(
            frames,
            np.concatenate(offsets),
            np.concatenate(event_ns),
            np.concatenate(symbol_index).astype(np.int32),
            np.concatenate(values) if has_values else None,
            list(names),
            skipped,
        )
    )


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
