"""Parses the timestamp column of a data file, many rows at a time."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from app.market_data.ragged import Bytes, Ints, Mask
from app.model.timestamps import DAY_S, MAX_EVENT_NS, NS_PER_S, YEAR_MAX, YEAR_MIN

TEXT_BYTES_MAX: Final = 30
DIGITS_MAX: Final = 19
"""Nanoseconds since 1970 have that many digits until the year 2286."""


@dataclass(frozen=True, slots=True)
class Places:
    """A form whose digits are always in the same places.

    ``places``: part (``year`` to ``second``) -> where its four or two digits begin.  ``literals``:
    place -> the bytes that may be there.  After ``width`` bytes the text ends, or ``point`` and one
    to nine digits of a second follow.
    """

    places: dict[str, int]
    literals: dict[int, bytes]
    width: int
    point: bytes | None

    def fits(self, width: int) -> bool:
        """Whether a text of that many bytes may have this form."""
        return width == self.width or (self.point is not None and 2 <= width - self.width <= 10)


WIRE_PLACES: Final = Places(
    {"year": 0, "month": 5, "day": 8, "hour": 11, "minute": 14, "second": 17},
    {4: b"-", 7: b"-", 10: b" T", 13: b":", 16: b":"},
    19,
    b".",
)


def parse_timestamps(data: Bytes, starts: Ints, lengths: Ints) -> tuple[Ints, Mask]:
    """Event times of many texts, and which of the texts are in wire form.

    ``starts`` and ``lengths`` have the shape ``(n,)``; ``data`` must extend at least 30 bytes past
    the last start.  Where the mask is False the time is 0; pass that text to
    :func:`parse_timestamp`.
    """
    zulu = data[starts + np.maximum(lengths, 1) - 1] == ord("Z")
    return parse_places(data, starts, lengths - zulu, WIRE_PLACES)


def parse_dates(data: Bytes, starts: Ints, lengths: Ints) -> tuple[Ints, Mask]:
    """As :func:`parse_timestamps`, for ``YYYY-MM-DD``."""
    return parse_places(data, starts, lengths, _DATE_PLACES)


_DATE_PLACES: Final = Places({"year": 0, "month": 5, "day": 8}, {4: b"-", 7: b"-"}, 10, None)
_ZONE_BYTES: Final = 6


def parse_zoned(data: Bytes, starts: Ints, lengths: Ints) -> tuple[Ints, Mask]:
    """As :func:`parse_timestamps`, for texts that end in an offset from UTC such as ``-04:00``."""
    event_ns, good = np.zeros(len(starts), np.int64), np.zeros(len(starts), np.bool_)
    rows = np.flatnonzero((lengths > _ZONE_BYTES) & (lengths < TEXT_BYTES_MAX + _ZONE_BYTES))
    if not len(rows):
        return event_ns, good
    ends = starts[rows] + lengths[rows]
    zone = sliding_window_view(data, _ZONE_BYTES)[ends - _ZONE_BYTES]
    digits = (zone[:, [1, 2, 4, 5]] - np.uint8(48)).astype(np.int64)
    hours, minutes = digits[:, 0] * 10 + digits[:, 1], digits[:, 2] * 10 + digits[:, 3]
    is_zone = (digits <= 9).all(axis=1) & (hours <= 18) & (minutes <= 59)
    is_zone &= ((zone[:, 0] == ord("+")) | (zone[:, 0] == ord("-"))) & (zone[:, 3] == ord(":"))
    local_ns, is_time = parse_places(data, starts[rows], lengths[rows] - _ZONE_BYTES, WIRE_PLACES)
    shift_ns = np.where(zone[:, 0] == ord("-"), 1, -1) * (hours * 3600 + minutes * 60) * NS_PER_S
    # Times near the limits of an int64 are left to parse_timestamp(), which knows these limits.
    inside = np.abs(local_ns) < MAX_EVENT_NS - DAY_S * NS_PER_S
    good[rows] = is_zone & is_time & inside
    event_ns[rows] = np.where(good[rows], local_ns + shift_ns, 0)
    return event_ns, good


def parse_places(data: Bytes, starts: Ints, lengths: Ints, places: Places) -> tuple[Ints, Mask]:
    """As :func:`parse_timestamps`, for another form; a form without a date gives times of day."""
    event_ns = np.zeros(len(starts), np.int64)
    good = np.zeros(len(starts), np.bool_)
    top = TEXT_BYTES_MAX
    for width in np.flatnonzero(np.bincount(lengths.clip(0, top), minlength=top + 1)):
        if width < top and places.fits(int(width)):
            rows = np.flatnonzero(lengths == width)
            event_ns[rows], good[rows] = _parse_of_width(data, starts[rows], int(width), places)
    return event_ns, good


def _parse_of_width(data: Bytes, starts: Ints, width: int, form: Places) -> tuple[Ints, Mask]:
    columns = np.ascontiguousarray(sliding_window_view(data, width)[starts].T)
    digits = columns - np.uint8(48)
    good = np.ones(len(starts), np.bool_)
    for position in range(width):
        allowed = form.literals.get(position)
        if position == form.width:
            allowed = form.point
        if allowed is None:
            good &= digits[position] <= 9
        elif len(allowed) == 1:
            good &= columns[position] == allowed[0]
        else:
            good &= (columns[position] == allowed[0]) | (columns[position] == allowed[1])

    def number(first: int, count: int) -> npt.NDArray[np.int32]:
        value: npt.NDArray[np.int32] = digits[first].astype(np.int32)
        for position in range(first + 1, first + count):
            value = value * 10 + digits[position]
        return value

    places = form.places
    event_ns: Ints = np.zeros(len(starts), np.int64)
    if "day" in places:
        year, month = number(places["year"], 4), number(places["month"], 2)
        day = number(places["day"], 2)
        good &= (year >= YEAR_MIN) & (year <= YEAR_MAX) & (month >= 1) & (month <= 12) & (day >= 1)
        months = np.where(good, (year - 1970) * 12 + month - 1, 0)
        first_day, days_in_month = _month_starts(months)
        good &= day <= days_in_month
        event_ns = (first_day + day - 1) * DAY_S
    for name, limit, seconds in (("hour", 23, 3600), ("minute", 59, 60), ("second", 59, 1)):
        if name in places:
            part = number(places[name], 2)
            good &= part <= limit
            event_ns += part * seconds
    event_ns *= NS_PER_S
    if width > form.width:
        decimals = width - form.width - 1
        event_ns += number(form.width + 1, decimals).astype(np.int64) * 10 ** (9 - decimals)
    return np.where(good, event_ns, 0), good


def _month_starts(months: npt.NDArray[np.int32]) -> tuple[Ints, Ints]:
    """First day since the epoch, and number of days, of months counted from January 1970."""
    first = int(months.min())
    table = np.arange(first, int(months.max()) + 2).astype("M8[M]").astype("M8[D]")
    days = table.astype(np.int64)
    at = months - first
    return days[at], np.diff(days)[at]


def digits_columns(data: Bytes, starts: Ints, lengths: Ints) -> tuple[Ints, Mask]:
    """Texts of up to 19 digits as numbers, and which of the texts are such; shapes ``(n,)``.

    A number that an int64 cannot hold is not among them.
    """
    numbers = np.zeros(len(starts), np.uint64)
    good = (lengths >= 1) & (lengths <= DIGITS_MAX)
    for position in range(int(lengths.clip(0, DIGITS_MAX).max(initial=0))):
        inside = lengths > position
        digit = data[starts + position] - np.uint8(48)
        good &= ~inside | (digit <= 9)
        numbers = np.where(inside, numbers * np.uint64(10) + digit, numbers)
    good &= numbers <= np.uint64(np.iinfo(np.int64).max)
    return np.where(good, numbers, 0).astype(np.int64), good
