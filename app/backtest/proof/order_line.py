"""One order with its answer, as computed or as the order manager lists it, to be compared."""

from typing import Final, NamedTuple

import msgspec

from app.model.money import WHOLE, Scale
from app.model.orders import Order, tick_of_order_id
from app.model.trades_hash import trade_line
from app.model.wire.order_answers import listed_order

_NULL: Final = msgspec.Raw(b"null")


class Row(msgspec.Struct):
    """An order in a page of the order manager; decimal numbers stay as they are written."""

    order_no: int
    client: str
    id: int
    side: str
    symbol: str
    qty: msgspec.Raw
    price: msgspec.Raw
    status: str
    filled_qty: msgspec.Raw
    avg_price: msgspec.Raw
    type: str = ""
    tif: str = ""
    ts: msgspec.Raw = _NULL
    exec_ids: list[int] = []
    code: str = ""


class OrderLine(NamedTuple):
    """What an order asked for, and what became of it: everything but when and in which place.

    ``fills``: the number of executions.
    """

    id: int
    side: str
    symbol: str
    qty: str
    price: str
    type: str
    tif: str
    ts: str
    status: str
    filled_qty: str
    avg_price: str
    fills: int
    code: str

    @property
    def tick(self) -> int:
        """The tick on which it was sent."""
        return tick_of_order_id(self.id)

    @property
    def hashed(self) -> str:
        """Its line in the trades hash."""
        return trade_line(
            self.id, self.side, self.symbol, self.qty, self.price, self.status, self.filled_qty,
            self.avg_price, self.code,
        )  # fmt: skip

    def __str__(self) -> str:
        code = f" {self.code}" if self.code else ""
        return (
            f"{self.side} {self.qty} {self.symbol} @ {self.price} {self.status} "
            f"{self.filled_qty} @ {self.avg_price}{code}"
        )


_row: Final = msgspec.json.Decoder(Row)


def of_row(row: Row) -> OrderLine:
    """As the order manager lists it."""
    return OrderLine(
        row.id, row.side, row.symbol, _text(row.qty), _text(row.price), row.type, row.tif,
        _text(row.ts), row.status, _text(row.filled_qty), _text(row.avg_price),
        len(row.exec_ids), row.code,
    )  # fmt: skip


def of_order(order: Order, scale: Scale = WHOLE) -> OrderLine:
    """As computed; through the same text as the order manager's, so that it is the same form."""
    return of_row(_row.decode(listed_order(order, "", scale).encode()))


def _text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode()
