"""What the answer to an order means to its strategy."""

from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from app.model.money import WHOLE, Scale, decimal_to_units
from app.model.wire.answers import Answer

NEVER_ANSWERED_OTHERWISE: Final = {
    "DUPLICATE_ID": "another order was sent under this id before: by a strategy or a feed that is "
    "not repeatable, or by somebody else with the stack's token (ORDER_TOKEN_FILE with roles keeps "
    "others from this name); start a new run with another RUN_ID",
    "NOT_ALLOWED": "give the strategy and the order manager the same RUN_DIR, or OUTPUT_DIR, which "
    "has the stack's token, or an ORDER_TOKEN_FILE with a token for this name",
}
"""Refusals of a strategy's order that a restart would meet again, and the mend."""


ZERO: Final = Decimal()


class Outcome(NamedTuple):
    """How an order was answered.

    ``price``: the mean, in units of 1e-9; None: as ordered.  ``fee`` and ``borrow`` (what a short
    has cost until then): amounts, in their units.
    """

    filled_qty: int
    price: int | None
    code: str = ""
    msg: str = ""
    fee: int = 0
    borrow: int = 0


def outcome_of(answer: Answer, qty: int, scale: Scale = WHOLE) -> Outcome:
    """What the order manager's answer to an order for ``qty`` says."""
    price, fee, borrow = None, 0, 0
    if (order := answer.order) is not None:
        found = _number(order.avg_price)
        price = None if found is None else decimal_to_units(found)
        fee, borrow = (scale.amount_units(_number(m) or ZERO) for m in (order.fee, order.borrow))
    return Outcome(answer.filled_of(qty), price, answer.code, answer.msg, fee, borrow)


def _number(raw: msgspec.Raw) -> Decimal | None:
    """A number as the answer has it, exact."""
    text = bytes(raw)
    return None if text == b"null" else Decimal(text.decode())
