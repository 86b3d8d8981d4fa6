"""What is in the rows of a file: symbols, span, gaps, repeated rows."""

from typing import Final, NamedTuple

import numpy as np

from app.market_data.sentiment import repeats_time
from app.market_data.tick_table import Rows
from app.model.symbols import is_option
from app.model.timestamps import NS_PER_S, format_timestamp

GAPS_SHOWN: Final = 3
SYMBOLS_SHOWN: Final = 10
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
    counts = np.bincount(rows.symbol_index, minlength=len(rows.symbols)).tolist()
    times = rows.event_ns
    steps = np.diff(times)
    moves = steps[steps > 0]
    usual = int(np.median(moves)) if len(moves) else 0
    long = np.flatnonzero(steps > GAP_STEPS * usual) if usual else np.empty(0, np.int64)
    longest = long[np.argsort(-steps[long], kind="stable")][:GAPS_SHOWN]
    repeats = np.flatnonzero(repeats_time(rows))
    return Summary(
        len(rows),
        sorted(zip(rows.symbols, counts, strict=True), key=lambda item: -item[1]),
        int(times[0]),
        int(times[-1]),
        usual,
        len(long),
        [Gap(int(times[at]), int(times[at + 1])) for at in longest],
        len(repeats),
        _duplicates(rows, repeats),
    )


def _duplicates(rows: Rows, repeats: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
    """How many rows equal an earlier one of the same time."""
    seen: set[bytes] = set()
    now_ns, found = None, 0
    # A row of ``repeats`` has a row of its symbol and time before it: look from the first of them.
    for at in repeats.tolist():
        if rows.event_ns[at] != now_ns:
            now_ns = rows.event_ns[at]
            first = int(np.searchsorted(rows.event_ns, now_ns))
            seen = {_key(rows, row) for row in range(first, at)}
            end = at
        seen.update(_key(rows, row) for row in range(end, at))
        found += _key(rows, at) in seen
        end = at
    return found


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
