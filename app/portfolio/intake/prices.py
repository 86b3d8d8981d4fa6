"""Prices of the market: the last message of each shard's ticks, asked for once a second.

A look at the last message, not a second feed: it values what is held between two fills, and costs
the same whatever the feed's rate.  A symbol that is not in that message keeps its price.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Final

from app.model.money import MAX_PRICE, UNITS, decimal_to_units

FIELDS: Final = 3
"""Of a tick: timestamp, symbol, price."""
KIND, TICKS, PRICE_BYTES = "Kind", "ticks", "Price-Bytes"
"""Headers of a shard's ticks (app/market_data/live/bus/batch.py): what a message is, and how much
of its body is prices; sentiments follow."""


def has_ticks(headers: Mapping[str, str] | None) -> bool:
    """Whether a message has prices; one that begins or ends a run, or moves a symbol, has none."""
    return (headers or {}).get(KIND) == TICKS


def last_prices(
    headers: Mapping[str, str] | None, body: bytes, wanted: set[bytes]
) -> dict[str, int]:
    """The last price of each wanted symbol in a message, in units of 1e-9.

    The body begins with frames ``timestamp*symbol*price*``.  What is no price is left out.
    """
    length = (headers or {}).get(PRICE_BYTES, "")
    if not has_ticks(headers) or not re.fullmatch("[0-9]{1,9}", length):
        return {}
    found: dict[bytes, bytes] = {}
    for symbol, price in _pairs(body[: int(length)]):
        if symbol in wanted:
            found[symbol] = price
    prices = {symbol.decode(): _units(price) for symbol, price in found.items()}
    return {symbol: units for symbol, units in prices.items() if units}


def _pairs(frames: bytes) -> Iterator[tuple[bytes, bytes]]:
    fields = frames.split(b"*")
    whole = len(fields) // FIELDS * FIELDS
    return zip(fields[1:whole:FIELDS], fields[2:whole:FIELDS], strict=True)


def _units(text: bytes) -> int:
    """0 if it is no price."""
    try:
        price = Decimal(text.decode("ascii"))
    except (InvalidOperation, UnicodeDecodeError):
        return 0
    if not price.is_finite() or not 0 < price <= MAX_PRICE:
        return 0
    units = decimal_to_units(price)
    assert units <= MAX_PRICE * UNITS
    return units
