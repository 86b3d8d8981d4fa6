"""Answers of the order port as frames; the same answer is always the same bytes.

A ``*`` inside a string is sent as ``\\u002a``, so the delimiter never occurs in a payload.
Orders are formatted by hand: money is a JSON number with its exact decimals, which a float would
not keep.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from json.encoder import encode_basestring
from typing import Any, Final

import msgspec

from app.kernel._kernel import AckWriter
from app.model.money import WHOLE, Scale, money_text
from app.model.orders import SIDE_NAMES, STATUS_NAMES, TIF_NAMES, TYPE_NAMES, Order
from app.model.reject_codes import RejectCode
from app.model.requests import Reject
from app.model.wire.frames import json_frame


@lru_cache(maxsize=16384)
def json_text(text: str) -> str:
    """A JSON string with the delimiter escaped."""
    return encode_basestring(text).replace("*", "\\u002a")


def json_price(units: int) -> msgspec.Raw:
    """A price as a JSON number, exact to the last unit."""
    return msgspec.Raw(money_text(units).encode())


class Numbers:
    """Quantities and amounts as JSON numbers, exact to the last unit."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale

    def qty(self, units: int) -> int | msgspec.Raw:
        """A quantity."""
        return msgspec.Raw(self._scale.qty_text(units).encode()) if self._scale.decimals else units

    def amount(self, units: int) -> msgspec.Raw:
        """A quantity times a price."""
        return msgspec.Raw(self._scale.amount_text(units).encode())


def order_member(order: Order, client: str, scale: Scale = WHOLE) -> str:
    """The ``order`` member of an answer."""
    qty: int | str = order.qty
    filled: int | str = order.filled_qty
    if scale.decimals:
        qty, filled = scale.qty_text(order.qty), scale.qty_text(order.filled_qty)
    price = "null" if order.price is None else money_text(order.price)
    avg = order.avg_price
    avg_text = "null" if avg is None else price if avg == order.price else money_text(avg)
    tail = ""
    if order.type:
        tail = f',"type":"{TYPE_NAMES[order.type]}","tif":"{TIF_NAMES[order.tif]}"'
    if order.ts is not None:
        tail += f',"ts":{order.ts}'
    if order.exec_count == 1:
        tail += f',"exec_ids":[{order.exec_first}]'
    elif order.exec_count:
        first = order.exec_first
        tail += f',"exec_ids":{list(range(first, first + order.exec_count))}'
    if order.fee:
        tail += f',"fee":{scale.amount_text(order.fee)}'
    if order.borrow:
        tail += f',"borrow":{scale.amount_text(order.borrow)}'
    return (
        f'{{"id":{order.id},"client":{json_text(client)},"side":"{SIDE_NAMES[order.side]}",'
        f'"symbol":{json_text(order.symbol)},"qty":{qty},"price":{price},'
        f'"status":"{STATUS_NAMES[order.status]}","filled_qty":{filled},'
        f'"avg_price":{avg_text},'
        f'"order_no":{order.order_no}{tail}}}'
    )


def listed_order(order: Order, client: str, scale: Scale = WHOLE) -> str:
    """An order in a list of orders: also when it arrived, and why it was refused."""
    tail = f',"at_ns":{order.at_ns}'
    if order.code:
        code = RejectCode(order.code).name
        tail += f',"code":"{code}","msg":{json_text(order.msg or "")}'
    return f"{order_member(order, client, scale)[:-1]}{tail}}}"


def encode_any_ack(
    order: Order, client: str, duplicate: bool = False, scale: Scale = WHOLE
) -> bytes:
    """The answer to an accepted or denied order: the same bytes each time it is sent.

    :func:`encode_ack` gives the same, and calls this for all but accepted orders of usual size.
    """
    mark = ',"duplicate":true' if duplicate else ""
    if order.code:
        code = RejectCode(order.code).name
        return (
            f'{{"ok":false,"msg":{json_text(order.msg or "")},"code":"{code}",'
            f'"retryable":false,"id":{order.id},"client":{json_text(client)},'
            f'"order":{order_member(order, client, scale)}{mark}}}*'
        ).encode()
    return f'{{"ok":true,"order":{order_member(order, client, scale)}{mark}}}*'.encode()


encode_ack: Final = AckWriter(encode_any_ack, STATUS_NAMES, TYPE_NAMES, TIF_NAMES).write
"""The answer to an order; see :func:`encode_any_ack`."""


def ack_encoder(scale: Scale) -> Callable[..., bytes]:
    """:func:`encode_ack` for orders whose quantities are so counted."""
    return partial(encode_any_ack, scale=scale) if scale.decimals else encode_ack


def encode_reject(reject: Reject) -> bytes:
    """The answer to a request of which nothing was recorded."""
    return encode_object(
        {
            "ok": False,
            "msg": reject.msg,
            "code": reject.code.name,
            "retryable": reject.retryable,
            **reject.details,
        }
    )


def encode_object(answer: dict[str, Any]) -> bytes:
    """Any answer as a frame."""
    return json_frame(msgspec.json.encode(answer))
