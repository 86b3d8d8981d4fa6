"""The order manager's answers as a strategy reads them."""

from collections.abc import Callable

import msgspec

from app.model.money import Scale
from app.model.wire.frames import RemoteProtocolError

_NULL = msgspec.Raw(b"null")


class AnsweredOrder(msgspec.Struct):
    """The order inside an answer; only what the strategy uses is decoded."""

    id: int | None = None
    side: str = ""
    symbol: str = ""
    qty: int = 0
    price: msgspec.Raw = _NULL
    status: str = ""
    filled_qty: int | None = None
    avg_price: msgspec.Raw = _NULL
    fee: msgspec.Raw = _NULL
    borrow: msgspec.Raw = _NULL


class Answer(msgspec.Struct):
    """The order manager's answer."""

    ok: bool
    msg: str = ""
    code: str = ""
    duplicate: bool = False
    retryable: bool = False
    id: int | None = None
    order: AnsweredOrder | None = None

    def filled_of(self, qty: int) -> int:
        """How much of ``qty`` was executed; all of it if the order was accepted without a word."""
        if not self.ok:
            return 0
        filled = None if self.order is None else self.order.filled_qty
        return qty if filled is None else filled

    @property
    def order_id(self) -> int | None:
        """The id of the order that this answers; None if the order manager could not read it."""
        return self.id if self.order is None else self.order.id


class _FractionalOrder(AnsweredOrder):
    """The same with quantities as they are written."""

    qty: msgspec.Raw = _NULL  # type: ignore[assignment]
    filled_qty: msgspec.Raw = _NULL  # type: ignore[assignment]


class _FractionalAnswer(Answer):
    order: _FractionalOrder | None = None


def answer_decoder(scale: Scale) -> Callable[[bytes], Answer]:
    """Decodes answers; their quantities are then in units.

    The decoder raises :class:`RemoteProtocolError` for a quantity with more decimals.
    """
    if not scale.decimals:
        return msgspec.json.Decoder(Answer).decode
    fractional = msgspec.json.Decoder(_FractionalAnswer).decode

    def units(sent: object) -> int | None:
        text = bytes(sent).decode()  # type: ignore[call-overload]
        found = scale.qty_units(text)
        if found is None and text != "null":
            raise RemoteProtocolError(
                f"quantity {text[:40]} of over {scale.decimals} decimals: is QTY_DECIMALS the same?"
            )
        return found

    def decode(frame: bytes) -> Answer:
        answer = fractional(frame)
        if (order := answer.order) is not None:
            filled = units(order.filled_qty)
            AnsweredOrder.__setattr__(order, "qty", units(order.qty) or 0)
            AnsweredOrder.__setattr__(order, "filled_qty", filled)
        return answer

    return decode


def fraction_problem(error: Exception) -> str:
    """Why an answer could not be decoded, if it is for a fraction where quantities are whole."""
    if not (isinstance(error, msgspec.ValidationError) and "qty`" in str(error)):
        return ""
    return (
        "the order manager's quantities have decimals, and QTY_DECIMALS=0 in the strategy; start "
        "both again with the same value"
    )
