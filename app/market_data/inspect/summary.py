"""What is in the rows of a file: symbols, span, gaps, repeated rows; a piece of it at a time."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from app.market_data.ragged import Ints
from app.market_data.sentiment import repeats_time
from app.market_data.storage.pieces import pieces
from app.market_data.tick_table import Rows
from app.model.symbols import is_option
from app.model.timestamps import NS_PER_S, format_timestamp

GAPS_SHOWN: Final = 3
SYMBOLS_SHOWN: Final = 10
MOVE_BITS: Final = 16
"""Looked at in a pass; they divide 64."""
GAP_STEPS: Final = 20
"""A gap is longer than that many usual steps."""


class Gap(NamedTuple):
    """Two rows that follow each other after a long time."""

    before_ns: int
    after_ns: int


class Summary(NamedTuple):
    """Facts about rows.

    ``usual_step_ns``: the median time between two times.  ``gaps``: the longest, longest first;
    ``gap_count``: of all that are longer than :data:`GAP_STEPS` usual steps.  ``same_time``: rows
    with the time of an earlier row of their symbol; ``duplicates``: those that also have its price.
    """

    rows: int
    symbols: list[tuple[str, int]]
    first_ns: int
    last_ns: int
    usual_step_ns: int
    gap_count: int
    gaps: list[Gap]
    same_time: int
    duplicates: int


def summarize(rows: Rows) -> Summary:
    """The facts about some rows, at least one."""
    counts = np.zeros(len(rows.symbols), np.int64)
    moves = 0
    for first, end in pieces(len(rows)):
        counts += np.bincount(rows.symbol_index[first:end], minlength=len(counts))
        moves += int(np.count_nonzero(_steps(rows, first, end)))
    usual = (_move(rows, (moves - 1) // 2) + _move(rows, moves // 2)) // 2 if moves else 0
    gap_count, gaps = _gaps(rows, GAP_STEPS * usual) if usual else (0, [])
    same_time, duplicates = _repeats(rows)
    return Summary(
        len(rows),
        sorted(zip(rows.symbols, counts.tolist(), strict=True), key=lambda item: -item[1]),
        int(rows.event_ns[0]),
        int(rows.event_ns[-1]),
        usual,
        gap_count,
        gaps,
        same_time,
        duplicates,
    )


def _steps(rows: Rows, first: int, end: int) -> Ints:
    """Times since the row before, of the rows ``first`` to ``end - 1``; the first row has none."""
    return np.diff(rows.event_ns[max(first - 1, 0) : end])


def _move(rows: Rows, rank: int) -> int:
    """The step of that rank among those that are not 0, from the smallest.

    Each pass looks at some more bits of it, so that no step is kept.
    """
    found, shift = 0, 64
    while shift:
        known, shift = shift, shift - MOVE_BITS
        counts = np.zeros(1 << MOVE_BITS, np.int64)
        for first, end in pieces(len(rows)):
            steps = _steps(rows, first, end).astype(np.uint64)
            steps = steps[steps > 0]
            if known < 64:
                steps = steps[steps >> np.uint64(known) == found]
            bits = (steps >> np.uint64(shift)) & np.uint64((1 << MOVE_BITS) - 1)
            counts += np.bincount(bits.astype(np.int64), minlength=len(counts))
        ends = np.cumsum(counts)
        at = int(np.searchsorted(ends, rank, "right"))
        rank -= int(ends[at - 1]) if at else 0
        found = found << MOVE_BITS | at
    return found


def _gaps(rows: Rows, longer_than_ns: int) -> tuple[int, list[Gap]]:
    """How many steps are so long, and the longest, longest first; of equal ones the first."""
    count = 0
    longest: list[tuple[int, int]] = []
    for first, end in pieces(len(rows)):
        steps = _steps(rows, first, end)
        long = np.flatnonzero(steps > longer_than_ns)
        count += len(long)
        best = long[np.argsort(-steps[long], kind="stable")][:GAPS_SHOWN]
        longest += [(int(steps[at]), max(first - 1, 0) + int(at)) for at in best]
        longest = sorted(longest, key=lambda each: -each[0])[:GAPS_SHOWN]
    times = rows.event_ns
    return count, [Gap(int(times[at]), int(times[at + 1])) for _, at in longest]


def _repeats(rows: Rows) -> tuple[int, int]:
    """Rows with the time of an earlier one of their symbol, and those that equal it otherwise."""
    seen: set[bytes] = set()
    now_ns, repeats, duplicates, end = None, 0, 0, 0
    # Such a row has a row of its symbol and time before it: look from the first of them.
    for at in _repeating_rows(rows):
        repeats += 1
        if rows.event_ns[at] != now_ns:
            now_ns = rows.event_ns[at]
            first = int(np.searchsorted(rows.event_ns, now_ns))
            seen = {_key(rows, row) for row in range(first, at)}
            end = at
        seen.update(_key(rows, row) for row in range(end, at))
        duplicates += _key(rows, at) in seen
        end = at
    return repeats, duplicates


def _repeating_rows(rows: Rows) -> Iterator[int]:
    first = 0
    for repeats in repeats_time(rows):
        yield from (np.flatnonzero(repeats) + first).tolist()
        first += len(repeats)


def _key(rows: Rows, row: int) -> bytes:
    """Symbol and price; two texts of one time are taken for one."""
    return rows.frame(row).split(b"*", 1)[1]


def lines(found: Summary) -> list[tuple[str, str]]:
    """The facts as labels and texts."""
    shown = ", ".join(f"{name} ({count:,})" for name, count in found.symbols[:SYMBOLS_SHOWN])
    more = len(found.symbols) - SYMBOLS_SHOWN
    first, last = (format_timestamp(ns).decode() for ns in (found.first_ns, found.last_ns))
    result = [
        ("ticks", f"{found.rows:,}"),
        ("symbols", f"{len(found.symbols):,}: {shown}" + (f" and {more} more" if more > 0 else "")),
        ("span", f"{first} to {last} UTC"),
        ("usual step", duration(found.usual_step_ns)),
        ("gaps", f"{found.gap_count:,} longer than {GAP_STEPS} usual steps"),
    ]
    options = [name for name, _ in found.symbols if is_option(name)]
    if options:
        plain = f"{len(options):,}, without the blanks that OSI puts inside: {options[0]}"
        result.insert(2, ("options", plain))
    for gap in found.gaps:
        before, after = (format_timestamp(ns).decode() for ns in gap)
        result.append(("", f"{duration(gap.after_ns - gap.before_ns)} from {before} to {after}"))
    result.append(("same time", f"{found.same_time:,} rows, {found.duplicates:,} with their price"))
    return result


def duration(ns: int) -> str:
    """``2.5 days``, ``90 s``, ``250 ms``."""
    for unit, size in (("days", 86_400 * NS_PER_S), ("h", 3600 * NS_PER_S), ("min", 60 * NS_PER_S)):
        if ns >= 2 * size:
            return f"{ns / size:.4g} {unit}"
    for unit, size in (("s", NS_PER_S), ("ms", 10**6), ("us", 10**3)):
        if ns >= size:
            return f"{ns / size:.4g} {unit}"
    return f"{ns} ns"
