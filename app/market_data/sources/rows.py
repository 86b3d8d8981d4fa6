"""Rows of whole files: merge, sort by time.

Rows that do not fit into memory are sorted run by run, each run in memory; then the runs are
merged, and all are read from first to last.  Meanwhile they are twice on the disk.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from app.market_data.ragged import Bytes, Ints, pick_rows
from app.market_data.rows_writer import RowsWriter
from app.market_data.storage.pieces import Work, pieces, silent
from app.market_data.storage.place import Storage
from app.market_data.tick_table import Rows

RUN_ROWS: Final = 1 << 20
"""Rows sorted in memory: about 200 MB with the temporaries."""
_EMPTY: Final = np.empty(0, np.int64)


def joined(parts: Iterable[Rows], storage: Storage) -> Rows:
    """The rows of several files, one file after the other, to be sorted.

    The parts are taken one by one, so that none is held longer than necessary.
    """
    names: dict[str, int] = {}
    writer = RowsWriter(storage)
    skipped = 0
    for part in parts:
        for name in part.symbols:
            names.setdefault(name, len(names))
        writer.add_rows(part, np.array([names[name] for name in part.symbols], np.int32))
        skipped += part.skipped
        del part
    rows = writer.finish(list(names), skipped)
    rows.in_order = False
    return rows


def by_time(rows: Rows, storage: Storage, work: Work = silent) -> Rows:
    """The rows in time order; rows with the same time keep their order.

    Rows that are not in order are gone afterwards.  ``work`` is called with the rows done in two
    passes, and with all of both.
    """
    if rows.in_order or _in_order(rows.event_ns):
        return rows
    symbols, skipped, total = rows.symbols, rows.skipped, 2 * len(rows)
    runs = _sorted_runs(rows, storage, work)
    _let_go(rows)
    if len(runs) <= RUN_ROWS:
        runs.symbols, runs.skipped = symbols, skipped
        return runs
    writer = RowsWriter(storage)
    for piece in _merged_runs(runs):
        writer.add_rows(piece)
        work(len(runs) + writer.rows, total)
    return writer.finish(symbols, skipped)


def _in_order(event_ns: Ints) -> bool:
    return all(
        bool((event_ns[first + 1 : end + 1] >= event_ns[first : min(end, len(event_ns) - 1)]).all())
        for first, end in pieces(len(event_ns))
    )


def _sorted_runs(rows: Rows, storage: Storage, work: Work) -> Rows:
    """The rows, each run of them in order."""
    writer = RowsWriter(storage)
    for first in range(0, len(rows), RUN_ROWS):
        run = _part(rows, first, min(first + RUN_ROWS, len(rows)))
        writer.add_rows(_picked(run, np.argsort(run.event_ns, kind="stable")))
        work(writer.rows, 2 * len(rows))
    return writer.finish([], 0)


def _let_go(rows: Rows) -> None:
    rows.frames, rows.offsets, rows.values = b"", np.zeros(1, np.int64), None
    rows.event_ns, rows.symbol_index = _EMPTY, np.empty(0, np.int32)


def _merged_runs(runs: Rows) -> Iterator[Rows]:
    """The rows in order, at most about RUN_ROWS at a time."""
    event_ns = runs.event_ns
    begins = list(range(0, len(runs), RUN_ROWS))
    ends = [*begins[1:], len(runs)]
    while True:
        left = [at for at, begin in enumerate(begins) if begin < ends[at]]
        if not left:
            return
        step = max(1, RUN_ROWS // len(left))
        # In no run are as many as ``step`` rows earlier than this.
        limit = min(int(event_ns[min(begins[at] + step, ends[at]) - 1]) for at in left)
        earlier, same = [], []
        for at in left:
            # Bytes of rows far ahead are not looked at.
            low, high = begins[at], min(begins[at] + step, ends[at])
            stop = low + int(np.searchsorted(event_ns[low:high], limit))
            earlier.append((low, stop))
            begins[at] = low + int(np.searchsorted(event_ns[low : ends[at]], limit, "right"))
            same.append((stop, begins[at]))
        found = _joined([_part(runs, *each) for each in earlier])
        if len(found):
            yield _picked(found, np.argsort(found.event_ns, kind="stable"))
        # Any number of rows may have one time; they are in order.
        yield from (_part(runs, *each) for each in same if each[0] < each[1])


def _part(rows: Rows, first: int, end: int) -> Rows:
    start, stop = int(rows.offsets[first]), int(rows.offsets[end])
    return Rows(
        rows.frames[start:stop],
        rows.offsets[first : end + 1] - start,
        rows.event_ns[first:end],
        rows.symbol_index[first:end],
        None if rows.values is None else rows.values[first:end],
        [],
    )


def _joined(parts: list[Rows]) -> Rows:
    offsets, size = [np.zeros(1, np.int64)], 0
    for part in parts:
        offsets.append(part.offsets[1:] + size)
        size += len(part.frames)
    values = [part.values for part in parts if part.values is not None]
    return Rows(
        b"".join(part.frames for part in parts),
        np.concatenate(offsets),
        np.concatenate([part.event_ns for part in parts]),
        np.concatenate([part.symbol_index for part in parts]),
        np.concatenate(values) if values else None,
        [],
    )


def _picked(rows: Rows, order: Ints) -> Rows:
    frames: Bytes
    frames, offsets = pick_rows(rows.frames, rows.offsets, order)
    return Rows(
        frames.data,
        offsets,
        rows.event_ns[order],
        rows.symbol_index[order],
        None if rows.values is None else rows.values[order],
        [],
    )
