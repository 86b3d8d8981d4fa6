"""The messages of the bus, except ticks: JSON objects, one each.

Times are nanoseconds since the epoch, UTC.  Quantities are integers of 10^-``qty_decimals`` units.
Prices are integers of 1e-9 units, amounts and costs of 10^-(9 + ``qty_decimals``); both are decimal
text, because they may be beyond what a JSON reader holds exactly.
"""

from typing import Annotated, Any, Final, Literal

import msgspec

from app.model.orders import SIDE_NAMES, STATUS_NAMES, TIF_NAMES, TYPE_NAMES

ACK: Final = "ack"
CHANGE: Final = "change"
HEARTBEAT_S: Final = 1.0
"""Between two heartbeats of a publisher."""
Mode = Literal["reduce", "halt", "resume"]


class OrderMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of ``orders``: an order as it was acknowledged (``ack``), or as it was changed later.

    Known by (shard, run, ``order_no``), a change by (shard, run, ``change_no``).
    """

    run: str
    order_no: int
    client: str
    id: int
    at_ns: int
    side: str
    symbol: str
    qty: int
    price: str | None
    type: str
    tif: str
    status: str
    filled_qty: int
    filled_notional: str
    code: int
    qty_decimals: int
    event: Literal["ack", "change"]
    change_no: int | None = None
    reason: str | None = None


class FillMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Of ``fills``: one execution, known by (shard, run, ``fill_no``)."""

    run: str
    fill_no: int
    order_no: int
    client: str
    id: int
    at_ns: int
    symbol: str
    side: str
    qty: int
    price: str
    fee: str
    slippage: str
    impact: str
    borrow: str
    qty_decimals: int


class ControlMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of ``control``: what the shard is asked for; an ``id`` that is repeated does nothing."""

    id: str
    mode: Mode
    reason: str = ""
    by: str = ""
    at_ns: int = 0
    version: int = 0


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """Of ``beats``: a shard's publisher lives.

    ``lag_rows``: rows of the order store that the stream lacks; ``lag_s``: the age of the oldest
    order among them, by the clock of the shard.
    """

    lag_rows: Annotated[int, msgspec.Meta(ge=0)] = 0
    lag_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0


_CONTROL: Final = msgspec.json.Decoder(ControlMessage)
TEXT_MAX: Final = 200


def order_message(
    run: str, client: str, qty_decimals: int, row: tuple[Any, ...], change: tuple[Any, ...] = ()
) -> OrderMessage:
    """From the first columns of ``orders``, and of a later change (``order_changes``).

    ``row``: order number, id, time, side, symbol, quantity, price, type, time in force, status,
    filled quantity, filled notional, code.  ``change``: number, status, filled quantity, filled
    notional, time, reason.
    """
    no, order_id, at_ns, side, symbol, qty, price, kind, tif, status, filled, notional, code = row
    change_no, reason = None, None
    if change:
        change_no, status, filled, notional, at_ns, reason = change
    return OrderMessage(
        run=run,
        order_no=no,
        client=client,
        id=order_id,
        at_ns=at_ns,
        side=SIDE_NAMES[side],
        symbol=symbol,
        qty=qty,
        price=None if price is None else str(price),
        type=TYPE_NAMES[kind],
        tif=TIF_NAMES[tif],
        status=STATUS_NAMES[status],
        filled_qty=filled,
        filled_notional=str(notional),
        code=code,
        qty_decimals=qty_decimals,
        event="change" if change else "ack",
        change_no=change_no,
        reason=reason,
    )


def decode_control(data: bytes) -> ControlMessage:
    """A control.

    Raises:
        ValueError: it is none; one line says why.
    """
    try:
        found = _CONTROL.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"no control: {error}") from None
    for name in ("id", "reason", "by"):
        text = getattr(found, name)
        if len(text) > TEXT_MAX or not (text.isprintable() and (text or name != "id")):
            raise ValueError(f"no control: {name} must be printable text of at most {TEXT_MAX}")
    return found
