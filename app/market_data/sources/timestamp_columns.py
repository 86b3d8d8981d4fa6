"""Parses the timestamp column of a data file, many rows at a time."""

from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from app.market_data.ragged import Bytes, Ints, Mask
from app.model.timestamps import DAY_S, NS_PER_S, YEAR_MAX, YEAR_MIN


def parse_timestamps(data: Bytes, starts: Ints, lengths: Ints) -> tuple[Ints, Mask]:
    """Event times of many texts, and which of the texts are in wire form.

    ``starts`` and ``lengths`` have the shape ``(n,)``; ``data`` must extend at least 30 bytes past
    the last start.  Where the mask is False the time is 0; pass that text to
    :func:`parse_timestamp`.
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
    event_ns *= NS_PER_S
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
