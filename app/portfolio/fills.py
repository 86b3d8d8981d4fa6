"""A fill as it comes from the bus, in the units that all shards share.

A shard counts quantities in units of 10^-QTY_DECIMALS, and each shard may have its own.  Here all
quantities are counted in units of 1e-9 and all amounts in units of 1e-18; both conversions are
exact, because no shard has more than nine decimals.
"""

import re
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from app.model.money import MAX_PRICE, QTY_DECIMALS_MAX, UNITS, Scale
from app.model.orders import INT64_MAX, SIDES
from app.model.symbols import symbol_problem

ALL: Final = Scale(QTY_DECIMALS_MAX)
"""How quantities and amounts are counted here."""
RUN_MAX: Final = 128
MARKS: Final = re.compile(r"([0-9A-Za-z._-]{1,64})(?::[0-9]{1,19}){3}")
"""The header of that name (app/bus/outbox/rows.py); it begins with the id of the order store."""
BYTES_MAX: Final = 16 * 1024
"""Of a message; the shard's own have less than 1 KB."""

Units = int | Annotated[str, Meta(pattern=r"^-?[0-9]{1,60}$")]
"""A number that may pass 2^53, so it is text on the bus."""


class FillError(Exception):
    """A message is no fill; the text names the member, its value and what it must be."""


class FillMessage(msgspec.Struct):
    """The members of a message on ``fills.<shard>`` that are read; others are ignored."""

    run: Annotated[str, Meta(min_length=1, max_length=RUN_MAX)]
    fill_no: Annotated[int, Meta(ge=1, le=INT64_MAX)]
    at_ns: Units
    symbol: str
    side: Literal["BUY", "SELL"]
    qty: Units
    price: Units
    qty_decimals: Annotated[int, Meta(ge=0, le=QTY_DECIMALS_MAX)]
    fee: Units = 0
    slippage: Units = 0
    impact: Units = 0
    borrow: Units = 0


class Fill(NamedTuple):
    """One execution.

    ``qty``: units of 1e-9; ``price``: units of 1e-9; costs: units of 1e-18; ``at_ns``: when the
    shard executed it, since 1970, UTC; ``store``: the id of the order store that has it, empty if
    its message does not say.
    """

    run: str
    no: int
    at_ns: int
    symbol: str
    side: int
    qty: int
    price: int
    fee: int
    slippage: int
    impact: int
    borrow: int
    store: str = ""


_DECODER: Final = msgspec.json.Decoder(FillMessage)


def decode_fill(data: bytes, marks: str = "") -> Fill:
    """The fill of a message; ``marks``: its header ``Marks``, empty if it has none.

    Raises:
        FillError: it is none.
    """
    store = MARKS.fullmatch(marks)
    if marks and not store:
        raise FillError(f"header Marks={marks[:80]!r}: must be STORE:ORDERS:FILLS:CHANGES")
    if len(data) > BYTES_MAX:
        raise FillError(f"{len(data)} bytes: a fill has at most {BYTES_MAX}")
    try:
        found = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FillError(f"no fill: {error}") from None
    to_all = 10 ** (QTY_DECIMALS_MAX - found.qty_decimals)
    at_ns, qty, price = int(found.at_ns), int(found.qty), int(found.price)
    if not 0 < at_ns <= INT64_MAX:
        raise FillError(f"at_ns={at_ns}: must be nanoseconds since 1970")
    if not 0 < qty <= INT64_MAX:
        raise FillError(f"qty={qty}: must be above 0 and fit 64 bits")
    if not 0 < price <= MAX_PRICE * UNITS:
        raise FillError(f"price={price}: must be above 0 and at most {MAX_PRICE} in units of 1e-9")
    if problem := symbol_problem(found.symbol.encode("utf-8", "replace")):
        raise FillError(f"symbol={found.symbol[:40]!r}: {problem}")
    return Fill(
        found.run,
        found.fill_no,
        at_ns,
        found.symbol,
        SIDES[found.side],
        qty * to_all,
        price,
        int(found.fee) * to_all,
        int(found.slippage) * to_all,
        int(found.impact) * to_all,
        int(found.borrow) * to_all,
        store[1] if store else "",
    )
