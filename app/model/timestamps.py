"""Event times: text to int64 nanoseconds since the epoch (UTC) and back, one or many at a time.

The *wire form* is ``YYYY-MM-DD[ T]HH:MM:SS[.f{1,9}][Z]``; such text travels as it is.  Everything
else that a data file may hold (a date, an offset, an epoch number) is rewritten to
``YYYY-MM-DD HH:MM:SS[.f]`` with 0, 3, 6 or 9 digits, the fewest that are exact.
"""

import re
from datetime import UTC, date, datetime
from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from app.market_data.ragged import Bytes, Ints, Mask

NANOS: Final = 1_000_000_000
DAY_S: Final = 86_400
YEAR_MIN: Final = 1678
YEAR_MAX: Final = 2261
"""Whole years that int64 nanoseconds can hold."""
TEXT_BYTES_MAX: Final = 29
"""Longest text that :func:`format_timestamp` makes."""

_EPOCH_DAYS: Final = date(1970, 1, 1).toordinal()
MIN_EVENT_NS: Final = (date(YEAR_MIN, 1, 1).toordinal() - _EPOCH_DAYS) * DAY_S * NANOS
MAX_EVENT_NS: Final = (date(YEAR_MAX + 1, 1, 1).toordinal() - _EPOCH_DAYS) * DAY_S * NANOS - 1

_CALENDAR: Final = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)"
    rb"(?:([ T])(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?)?"
    rb" ?(Z|[+-]\d\d:?\d\d)?"
)
_EPOCH: Final = re.compile(rb"(-?)(\d{1,20})(?:\.(\d{1,9})0*)?")

# Magnitude tells the unit of an epoch number: seconds reach 1e11 in the year 5138, and
# milliseconds below 1e11 are before March 1973.
_EPOCH_UNITS: Final = ((10**11, NANOS), (10**14, 1_000_000), (10**17, 1_000))


def parse_timestamp(text: bytes) -> tuple[int, bytes]:
    """Event time in ns, and the text that goes over the wire.

    Raises:
        ValueError: with the reason why this is no timestamp.
    """
    found = _CALENDAR.fullmatch(text)
    if found:
        ns = _calendar_ns(found)
        as_is = found[4] is not None and found[9] in (None, b"Z") and b" Z" not in text
        return ns, text if as_is else format_timestamp(ns)
    found = _EPOCH.fullmatch(text)
    if not found:
        raise ValueError("not a timestamp")
    if len(text) == 8 and _is_compact_date(text):
        raise ValueError("ambiguous: write the date as YYYY-MM-DD")
    ns = _epoch_ns(found)
    return ns, format_timestamp(ns)


def _calendar_ns(found: re.Match[bytes]) -> int:
    year, month, day = (int(part) for part in found.group(1, 2, 3))
    hour, minute, second = (int(part or 0) for part in found.group(5, 6, 7))
    try:
        moment = datetime(year, month, day, hour, minute, second)
    except ValueError as error:
        raise ValueError(f"not a timestamp: {error}") from None
    seconds = (moment.toordinal() - _EPOCH_DAYS) * DAY_S + hour * 3600 + minute * 60 + second
    zone = found[9]
    if zone and zone != b"Z":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        if hours > 18 or minutes > 59:
            raise ValueError(f"no such offset from UTC: {zone.decode()}")
        shift = hours * 3600 + minutes * 60
        seconds += shift if zone[:1] == b"-" else -shift
    return _in_range(seconds * NANOS + int((found[8] or b"").ljust(9, b"0")))


def _epoch_ns(found: re.Match[bytes]) -> int:
    whole = int(found[2])
    unit = next((unit for limit, unit in _EPOCH_UNITS if whole < limit), 1)
    fraction = (found[3] or b"").ljust(9, b"0")
    if int(fraction) * unit % NANOS:
        raise ValueError("finer than a nanosecond")
    ns = whole * unit + int(fraction) * unit // NANOS
    return _in_range(-ns if found[1] else ns)


def _is_compact_date(text: bytes) -> bool:
    """Whether YYYYMMDD: as epoch seconds it would be a day of 1970, silently."""
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:])).year >= 1900
    except ValueError:
        return False


def _in_range(ns: int) -> int:
    if not MIN_EVENT_NS <= ns <= MAX_EVENT_NS:
        raise ValueError(f"outside the years {YEAR_MIN} to {YEAR_MAX}")
    return ns


def format_timestamp(ns: int) -> bytes:
    """``YYYY-MM-DD HH:MM:SS[.f]`` with the fewest of 0, 3, 6, 9 digits that are exact."""
    seconds, fraction = divmod(ns, NANOS)
    days, second = divmod(seconds, DAY_S)
    day = date.fromordinal(days + _EPOCH_DAYS).isoformat()
    text = f"{day} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    if fraction:
        digits = f"{fraction:09}"
        width = 3 if digits.endswith("000000") else 6 if digits.endswith("000") else 9
        text += f".{digits[:width]}"
    return text.encode()


def parse_timestamps(data: Bytes, starts: Ints, lengths: Ints) -> tuple[Ints, Mask]:
    """Event times of many texts in wire form, and which of them were.

    ``starts`` and ``lengths`` have the shape ``(n,)``; ``data`` must go on for 30 bytes behind the
    last start.  Where the mask is False the time is 0 and :func:`parse_timestamp` has the last
    word.
    """
    event_ns = np.zeros(len(starts), np.int64)
    good = np.zeros(len(starts), np.bool_)
    zulu = data[starts + np.maximum(lengths, 1) - 1] == ord("Z")
    widths = lengths - zulu
    for width in np.flatnonzero(np.bincount(widths.clip(0, 30), minlength=31)):
        if width == 19 or 21 <= width <= 29:
            rows = np.flatnonzero(widths == width)
            event_ns[rows], good[rows] = _parse_of_width(data, starts[rows], int(width))
    return event_ns, good


_SEPARATORS: Final = {4: ord("-"), 7: ord("-"), 13: ord(":"), 16: ord(":"), 19: ord(".")}


def _parse_of_width(data: Bytes, starts: Ints, width: int) -> tuple[Ints, Mask]:
    columns = np.ascontiguousarray(sliding_window_view(data, width)[starts].T)
    digits = columns - np.uint8(48)
    good = (columns[10] == ord(" ")) | (columns[10] == ord("T"))
    for position in range(width):
        separator = _SEPARATORS.get(position)
        if separator is not None:
            good &= columns[position] == separator
        elif position != 10:
            good &= digits[position] <= 9

    def number(first: int, count: int) -> npt.NDArray[np.int32]:
        value: npt.NDArray[np.int32] = digits[first].astype(np.int32)
        for position in range(first + 1, first + count):
            value = value * 10 + digits[position]
        return value

    year, month, day = number(0, 4), number(5, 2), number(8, 2)
    hour, minute, second = number(11, 2), number(14, 2), number(17, 2)
    good &= (year >= YEAR_MIN) & (year <= YEAR_MAX) & (month >= 1) & (month <= 12)
    good &= (day >= 1) & (hour <= 23) & (minute <= 59) & (second <= 59)
    months = np.where(good, (year - 1970) * 12 + month - 1, 0)
    first_day, days_in_month = _month_starts(months)
    good &= day <= days_in_month
    event_ns = (first_day + day - 1) * DAY_S + (hour * 3600 + minute * 60 + second)
    event_ns *= NANOS
    if width > 20:
        event_ns += number(20, width - 20).astype(np.int64) * 10 ** (29 - width)
    return np.where(good, event_ns, 0), good


def _month_starts(months: npt.NDArray[np.int32]) -> tuple[Ints, Ints]:
    """First day since the epoch, and number of days, of months counted from January 1970."""
    first = int(months.min())
    table = np.arange(first, int(months.max()) + 2).astype("M8[M]").astype("M8[D]")
    days = table.astype(np.int64)
    at = months - first
    return days[at], np.diff(days)[at]


def format_timestamps(event_ns: Ints) -> tuple[Bytes, Ints]:
    """Texts as :func:`format_timestamp` makes them: a matrix ``(n, 29)`` and the lengths ``(n,)``.

    What stands in a row behind its length is undefined.
    """
    seconds, fraction = np.divmod(event_ns, NANOS)
    days, second = np.divmod(seconds, DAY_S)
    out = np.empty((len(event_ns), TEXT_BYTES_MAX), np.uint8)
    first = int(days.min()) if len(days) else 0
    span = int(days.max()) - first + 1 if len(days) else 0
    if span <= len(days) + 1:
        names = np.arange(first, first + span).astype("M8[D]").astype("S10")
        out[:, :10] = names.view(np.uint8).reshape(-1, 10)[days - first]
    else:
        out[:, :10] = days.astype("M8[D]").astype("S10").view(np.uint8).reshape(-1, 10)
    out[:, 10] = ord(" ")
    out[:, [13, 16]] = ord(":")
    small = second.astype(np.int32)
    for position, part in ((11, small // 3600), (14, small // 60 % 60), (17, small % 60)):
        out[:, position] = part // 10 + 48
        out[:, position + 1] = part % 10 + 48
    lengths = np.full(len(event_ns), 19, np.int64)
    if fraction.any():
        out[:, 19] = ord(".")
        rest = fraction.astype(np.int32)
        for position in range(28, 19, -1):
            rest, digit = np.divmod(rest, 10)
            out[:, position] = digit + 48
        lengths[fraction != 0] = 23
        lengths[fraction % 1_000_000 != 0] = 26
        lengths[fraction % 1_000 != 0] = 29
    return out, lengths


class TimestampText:
    """int64 ns as ``YYYY-MM-DD HH:MM:SS[.fffffffff]``; remembers the minute, feeds repeat it."""

    def __init__(self) -> None:
        self._minute, self._text = -1, ""

    def __call__(self, event_ns: int) -> str:
        second, fraction = divmod(event_ns, 10**9)
        minute, second = divmod(second, 60)
        if minute != self._minute:
            moment = datetime.fromtimestamp(minute * 60, UTC)
            self._minute, self._text = minute, moment.strftime("%Y-%m-%d %H:%M:")
        text = f"{self._text}{second:02d}"
        return f"{text}.{fraction:09d}" if fraction else text
