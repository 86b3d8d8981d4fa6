"""Event times of a typed column, in nanoseconds (UTC)."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.market_data.ragged import Ints, Mask, join_fields
from app.market_data.sources.columnar.arrow_memory import PADDING, ArrowColumn, Texts
from app.market_data.sources.columnar.price_values import FLOATS, INTEGERS, TEXTS, BadValues
from app.market_data.sources.timestamp_texts import TimestampReader
from app.model.timestamps import (
    DAY_S,
    MAX_EVENT_NS,
    MIN_EVENT_NS,
    NS_PER_S,
    YEAR_MAX,
    YEAR_MIN,
)

_STAMP_NS: Final = {"tss": NS_PER_S, "tsm": 1_000_000, "tsu": 1_000, "tsn": 1}
_DATE_NS: Final = {"tdD": (np.int32, DAY_S * NS_PER_S), "tdm": (np.int64, 1_000_000)}
_TIME_OF_DAY_NS: Final = {
    "tts": (np.int32, NS_PER_S),
    "ttm": (np.int32, 1_000_000),
    "ttu": (np.int64, 1_000),
    "ttn": (np.int64, 1),
}
_OUTSIDE: Final = f"outside the years {YEAR_MIN} to {YEAR_MAX}"


def event_times(column: ArrowColumn, kind: str, reader: TimestampReader) -> tuple[Ints, BadValues]:
    """Event times, shape ``(n,)``, and the rows without one.

    A timestamp is the moment that it is, whatever its time zone is; without a zone it is UTC.
    Numbers and texts are what ``reader`` makes of them.  ``kind``: the column's type, for errors.

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
        numbers = column.numbers(INTEGERS[column.format])
        return _of_texts(_integer_texts(numbers), valid, reader, bad), bad
    if column.format in FLOATS:
        return _of_floats(column.numbers(FLOATS[column.format]), valid, reader, bad), bad
    if column.format in TEXTS:
        return _of_texts(column.texts(TEXTS[column.format]), valid, reader, bad), bad
    raise ValueError(f"is of type {kind}, not a time")


def event_times_of_two(
    date: ArrowColumn, kind: str, time: ArrowColumn, time_kind: str, reader: TimestampReader
) -> tuple[Ints, BadValues]:
    """As :func:`event_times`, of a date and a time of day: both of such a type, or both texts.

    Whole numbers count as texts; a text of both, with a blank between them, is what ``reader``
    takes.
    """
    if time.format in _TIME_OF_DAY_NS:
        event_ns, bad = event_times(date, kind, reader)
        dtype, unit = _TIME_OF_DAY_NS[time.format]
        missing = np.flatnonzero(~time.valid())
        event_ns = event_ns + np.where(time.valid(), time.numbers(dtype), 0).astype(np.int64) * unit
        return event_ns, dict.fromkeys(missing.tolist(), (b"", "missing")) | bad
    valid = date.valid() & time.valid()
    parts = [_texts_of(date, kind), _texts_of(time, time_kind)]
    starts = np.column_stack((parts[0].starts, parts[1].starts + len(parts[0].data)))
    lengths = np.column_stack([part.lengths for part in parts]) * valid[:, None]
    both = np.concatenate([part.data for part in parts])
    data, ends = join_fields(both, starts, lengths, ord(" "))
    begins = np.concatenate((np.zeros(1, np.int64), ends[:-1]))[: len(ends)]
    padded = np.append(data, np.zeros(PADDING, np.uint8))
    bad = dict.fromkeys(np.flatnonzero(~valid).tolist(), (b"", "missing"))
    return _of_texts(Texts(padded, begins, ends - begins - 1), valid, reader, bad), bad


def _texts_of(column: ArrowColumn, kind: str) -> Texts:
    if column.format in TEXTS:
        return column.texts(TEXTS[column.format])
    if column.format in INTEGERS:
        return _integer_texts(column.numbers(INTEGERS[column.format]))
    raise ValueError(f"is of type {kind}, not a date and a time as texts, or of types for both")


def _scaled(numbers: Ints, valid: Mask, unit: int, bad: BadValues) -> Ints:
    good = (numbers >= MIN_EVENT_NS // unit + 1) & (numbers <= MAX_EVENT_NS // unit)
    for row in np.flatnonzero(valid & ~good).tolist():
        bad[row] = (b"%d" % numbers[row], _OUTSIDE)
    event_ns: Ints = np.where(good, numbers, 0) * unit
    return event_ns


def _integer_texts(numbers: npt.NDArray[Any]) -> Texts:
    """Numbers as a text file has them: the reader knows which of them are times."""
    texts = numbers.astype(np.bytes_)
    data = np.append(texts.view(np.uint8), np.zeros(PADDING, np.uint8))
    starts = np.arange(len(texts), dtype=np.int64) * texts.itemsize
    return Texts(data, starts, np.char.str_len(texts).astype(np.int64))


def _of_floats(
    numbers: npt.NDArray[Any], valid: Mask, reader: TimestampReader, bad: BadValues
) -> Ints:
    """Whole numbers, or with decimals, as pandas and time.time() write seconds."""
    with np.errstate(invalid="ignore"):
        whole = (numbers == np.rint(numbers)) & (np.abs(numbers) < 2.0**63)
    texts = _integer_texts(np.where(whole, numbers, 0).astype(np.int64))
    event_ns = _of_texts(texts, valid & whole, reader, bad)
    for row in np.flatnonzero(valid & ~whole).tolist():
        _one(event_ns, row, str(numbers[row]).encode(), reader, bad)
    return event_ns


def _of_texts(texts: Texts, valid: Mask, reader: TimestampReader, bad: BadValues) -> Ints:
    event_ns, as_is, known = reader.columns(texts.data, texts.starts, texts.lengths)
    for row in np.flatnonzero(valid & ~as_is & ~known).tolist():
        _one(event_ns, row, texts.text(row).strip(), reader, bad)
    return event_ns


def _one(event_ns: Ints, row: int, text: bytes, reader: TimestampReader, bad: BadValues) -> None:
    try:
        event_ns[row] = reader.one(text)[0]
    except ValueError as error:
        bad[row] = (text, str(error))
