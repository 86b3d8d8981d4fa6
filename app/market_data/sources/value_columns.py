"""The value column of a data file: prices and sentiments, one text or a whole column at a time.

The column functions find the texts that are already in wire form.  The others go through
:func:`normalize_price` or :func:`normalize_sentiment`, which rewrite them or raise.
"""

import re
from decimal import Decimal
from typing import Final

import numpy as np

from app.market_data.ragged import Bytes, Ints, Mask
from app.market_data.tick_table import SENTIMENT_MAX
from app.model.money import DECIMALS_MAX, MAX_PRICE

PRICE_TEXT_BYTES_MAX: Final = 20
"""Ten digits, the point, nine digits."""

_NUMBER: Final = re.compile(rb"([+-]?)(?:\d{1,40}\.?\d{0,40}|\.\d{1,40})(?:[eE][+-]?\d{1,3})?")
_CURRENCIES: Final = "$€£".encode()
_GROUPED: Final = re.compile(
    rb"(?:\$|\xe2\x82\xac|\xc2\xa3)?(?:\d{1,3}(?:,\d{3}){1,4}\.\d{1,9}|(?<=[^\d])\d{1,12}(?:\.\d{1,9})?)"
)
"""Thousands with commas and a point after them, or a currency before the digits."""
_COMMA: Final = re.compile(rb"\d{1,3}(?:\.\d{3})*,\d{1,9}|\d{1,12},\d{1,9}")
_COMMA_MEND: Final = ": set DECIMAL_COMMA=true if the comma is the decimal point"
_THOUSANDS: Final = re.compile(rb"[^\d.,]*\d{1,3}(?:\.\d{3})+(?:,\d*)?(?:[eE][+-]?\d+)?")
_POINTED: Final = b" (a point)"
_POINT_MEND: Final = ": set DECIMAL_COMMA=false if the point is the decimal point"
_NOT_FINITE: Final = re.compile(rb"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_SENTIMENT: Final = re.compile(rb"\+?(\d{1,9})(?:\.0{1,9})?")
_SMALLEST: Final = Decimal(10) ** -DECIMALS_MAX
_POINT: Final = ord(".") - 48 + 256


def price_columns(data: Bytes, starts: Ints, lengths: Ints) -> Mask:
    """Which fields are prices in wire form: digits, at most nine on each side of a point.

    Shapes ``(n,)``; ``data`` must extend at least 20 bytes past the last start.
    """
    count = len(starts)
    good = (lengths >= 1) & (lengths < PRICE_TEXT_BYTES_MAX)
    width = int(lengths.clip(0, PRICE_TEXT_BYTES_MAX).max()) if count else 0
    point = np.full(count, -1, np.int8)
    points = np.zeros(count, np.uint8)
    above_zero = np.zeros(count, np.bool_)
    for position in range(width):
        inside = lengths > position
        digit = data[starts + position] - np.uint8(48)
        is_point = inside & (digit == np.uint8(_POINT))
        above_zero |= inside & (digit > 0) & (digit <= 9)
        good &= ~inside | (digit <= 9) | is_point
        points += is_point
        point[is_point] = position
    whole = np.where(point < 0, lengths, point)
    decimals = lengths - point - 1
    good &= (points == 0) | ((points == 1) & (decimals >= 1) & (decimals <= DECIMALS_MAX))
    return good & above_zero & (whole >= 1) & (whole <= 9)


def price_units(data: Bytes, starts: Ints, lengths: Ints) -> tuple[Ints, Mask]:
    """Prices in units of 1e-9, and which fields are in wire form; shapes and extent as above."""
    good = price_columns(data, starts, lengths)
    units = np.zeros(len(starts), np.int64)
    decimals = np.full(len(starts), -1, np.int64)
    for position in range(int(lengths[good].max(initial=0))):
        inside = good & (lengths > position)
        digit = data[starts + position] - np.uint8(48)
        is_point = inside & (digit == np.uint8(_POINT))
        decimals += inside & (decimals >= 0)
        decimals[is_point] = 0
        units = np.where(inside & ~is_point, units * 10 + digit, units)
    units *= 10 ** (DECIMALS_MAX - decimals.clip(0))
    return units, good


def normalize_price(text: bytes) -> bytes:
    """The price in wire form: unchanged, or rewritten as plain decimal digits.

    A price with more than nine decimals is rounded to nine, half to even.

    Raises:
        ValueError: why this is not a price.
    """
    if not text:
        raise ValueError("missing")
    if text.endswith(_POINTED):
        raise ValueError(f"not a number with a decimal comma{_POINT_MEND}")
    if not _NUMBER.fullmatch(text):
        if _NOT_FINITE.fullmatch(text):
            raise ValueError("not finite")
        if not _GROUPED.fullmatch(text):
            raise ValueError(f"not a number{_COMMA_MEND if _COMMA.fullmatch(text) else ''}")
        text = text.lstrip(_CURRENCIES).replace(b",", b"")
    value = Decimal(text.decode())
    if value <= 0:
        raise ValueError("not positive")
    if value > MAX_PRICE:
        raise ValueError(f"above {MAX_PRICE}")
    if value < _SMALLEST:
        raise ValueError(f"below {_SMALLEST:f}, the smallest price")
    whole, point, decimals = text.partition(b".")
    in_wire_form = whole.isdigit() and (not point or decimals.isdigit())
    if in_wire_form and len(whole) <= 10 and len(decimals) <= DECIMALS_MAX:
        return text
    if -value.normalize().as_tuple().exponent > DECIMALS_MAX:  # type: ignore[operator]
        value = value.quantize(_SMALLEST)
    plain = f"{value.normalize():f}"
    return plain.encode()


def with_point(text: bytes) -> bytes:
    """A number with a decimal comma, and perhaps points between thousands, with a decimal point.

    A text with another point is marked: :func:`normalize_price` refuses it.
    """
    text = text.strip()
    if b"." in text and not _THOUSANDS.fullmatch(text):
        return text + _POINTED
    return text.replace(b".", b"").replace(b",", b".")


def sentiment_columns(data: Bytes, starts: Ints, lengths: Ints) -> tuple[Mask, Ints]:
    """Which fields are integers from 0 to 100, and their values; shapes ``(n,)``."""
    good = (lengths >= 1) & (lengths <= 3)
    value = np.zeros(len(starts), np.int64)
    for position in range(3):
        inside = lengths > position
        digit = data[starts + position] - np.uint8(48)
        good &= ~inside | (digit <= 9)
        value = np.where(inside, value * 10 + digit, value)
    return good & (value <= SENTIMENT_MAX), value


def normalize_sentiment(text: bytes) -> bytes:
    """The sentiment in wire form.

    Raises:
        ValueError: why this is not a sentiment.
    """
    if not text:
        raise ValueError("missing")
    found = _SENTIMENT.fullmatch(text)
    if not found or int(found[1]) > SENTIMENT_MAX:
        raise ValueError(f"not an integer from 0 to {SENTIMENT_MAX}")
    return b"%d" % int(found[1])
