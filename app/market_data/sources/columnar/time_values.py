"""Event times of a typed column, in nanoseconds (UTC)."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.market_data.ragged import Ints, Mask
from app.market_data.sources.columnar.arrow_memory import ArrowColumn
from app.market_data.sources.columnar.price_values import FLOATS, INTEGERS, TEXTS, BadValues
from app.market_data.sources.timestamp_columns import parse_timestamps
from app.model.timestamps import (
    DAY_S,
    MAX_EVENT_NS,
    MIN_EVENT_NS,
    NS_PER_S,
    YEAR_MAX,
    YEAR_MIN,
    parse_timestamp,
)

UNITS_NS: Final = {"s": NS_PER_S, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Values of TIMESTAMP_FORMAT for numbers -> nanoseconds."""

_STAMP_NS: Final = {"tss": NS_PER_S, "tsm": 1_000_000, "tsu": 1_000, "tsn": 1}
_DATE_NS: Final = {"tdD": (np.int32, DAY_S * NS_PER_S), "tdm": (np.int64, 1_000_000)}
_LIKELY_NS: Final = tuple(parse_timestamp(day)[0] for day in (b"1973-03-04", b"2100-01-01"))
_OUTSIDE: Final = f"outside the years {YEAR_MIN} to {YEAR_MAX}"
_UNLIKELY: Final = (
    "as a number since 1970 it is no time from 1973 to 2099: set TIMESTAMP_FORMAT to its unit "
    "(s, ms, us or ns)"
)


def event_times(column: ArrowColumn, kind: str, form: str) -> tuple[Ints, BadValues]:
    """Event times, shape ``(n,)``, and the rows without one.

    A timestamp is the moment that it is, whatever its time zone is; without a zone it is UTC.
    ``kind``: the column's type, for the error.  ``form``: ``TIMESTAMP_FORMAT``.

    Raises:
        ValueError: a column of this type has no times.
    """
    valid = column.valid()
    bad: BadValues = dict.fromkeys(np.flatnonzero(~valid).tolist(), (b"", "missing"))
    unit = _STAMP_NS.get(column.format[:3])
    if unit and column.format[3:4] == ":":
        return _scaled(column.numbers(np.int64), valid, unit, bad), bad
    if column.format in _DATE_NS:
        dtype, unit = _DATE_NS[column.format]
        return _scaled(column.numbers(dtype).astype(np.int64), valid, unit, bad), bad
    if column.format in INTEGERS:
        return _of_integers(column.numbers(INTEGERS[column.format]), valid, form, bad), bad
    if column.format in FLOATS:
        return _of_floats(column.numbers(FLOATS[column.format]), valid, form, bad), bad
    if column.format in TEXTS:
        return _of_texts(column, valid, bad), bad
    raise ValueError(f"is of type {kind}, not a time")


def _scaled(numbers: Ints, valid: Mask, unit: int, bad: BadValues) -> Ints:
    good = (numbers >= MIN_EVENT_NS // unit + 1) & (numbers <= MAX_EVENT_NS // unit)
    for row in np.flatnonzero(valid & ~good).tolist():
        bad[row] = (b"%d" % numbers[row], _OUTSIDE)
    event_ns: Ints = np.where(good, numbers, 0) * unit
    return event_ns


def _of_integers(numbers: npt.NDArray[Any], valid: Mask, form: str, bad: BadValues) -> Ints:
    """Numbers since 1970 in the unit that ``form`` names, or else that their size tells."""
    small = (numbers >= 0) & (numbers <= np.iinfo(np.int64).max)
    counts = np.where(small, numbers, 0).astype(np.int64)
    if form in UNITS_NS:
        unit = np.full(len(counts), UNITS_NS[form], np.int64)
        good = small & (counts <= MAX_EVENT_NS // UNITS_NS[form])
    else:
        limits = [counts < 10**digits for digits in (11, 14, 17)]
        unit = np.select(limits, [NS_PER_S, 1_000_000, 1_000], 1)
        good = small & (counts >= _LIKELY_NS[0] // unit) & (counts < _LIKELY_NS[1] // unit)
    reason = _OUTSIDE if form in UNITS_NS else _UNLIKELY
    for row in np.flatnonzero(valid & ~good).tolist():
        bad[row] = (b"%d" % numbers[row], reason)
    event_ns: Ints = np.where(good, counts, 0) * unit
    return event_ns


def _of_floats(numbers: npt.NDArray[Any], valid: Mask, form: str, bad: BadValues) -> Ints:
    """Whole numbers in any unit, or seconds with decimals, as pandas and time.time() write them."""
    with np.errstate(invalid="ignore"):
        whole = (numbers == np.rint(numbers)) & (np.abs(numbers) < 2.0**63)
    event_ns = _of_integers(np.where(whole, numbers, 0).astype(np.int64), valid & whole, form, bad)
    for row in np.flatnonzero(valid & ~whole).tolist():
        text = str(numbers[row]).encode()
        try:
            if form not in ("", "s"):
                raise ValueError("not a whole number")
            event_ns[row] = parse_timestamp(text)[0]
            if not _LIKELY_NS[0] <= event_ns[row] < _LIKELY_NS[1]:
                raise ValueError(_UNLIKELY)
        except ValueError as error:
            bad[row] = (text, str(error))
    return event_ns


def _of_texts(column: ArrowColumn, valid: Mask, bad: BadValues) -> Ints:
    texts = column.texts(TEXTS[column.format])
    event_ns, good = parse_timestamps(texts.data, texts.starts, texts.lengths)
    for row in np.flatnonzero(valid & ~good).tolist():
        text = texts.text(row).strip()
        try:
            event_ns[row] = parse_timestamp(text)[0] if text else _missing()
        except ValueError as error:
            bad[row] = (text, str(error))
    return event_ns


def _missing() -> int:
    raise ValueError("missing")
