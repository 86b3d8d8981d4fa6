"""The outcome of a run, to compare two runs: orders, fills, positions, profit."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import apsw

from app.backtest.result import Result
from app.model.money import WHOLE, Scale, divide, money_text
from app.model.orders import SIDE_NAMES, STATUS_NAMES, TYPE_NAMES, tick_of_order_id
from app.model.position import Costs, Position
from app.order_manager.store.positions import read_positions
from app.order_manager.store.tools import reading


class OrderLine(NamedTuple):
    """One order as acknowledged, numbers in units; ``tick``: the one it was sent on."""

    client: str
    tick: int
    side: str
    symbol: str
    qty: int
    price: int | None
    type: str
    ts: str | None
    status: str
    filled_qty: int
    filled_notional: int
    code: int

    def text(self, scale: Scale) -> str:
        """For a message."""
        price = "market" if self.price is None else money_text(self.price)
        qty, filled = scale.qty_text(self.qty), scale.qty_text(self.filled_qty)
        return (
            f"{self.client}: tick {self.tick} {self.side} {qty} {self.symbol} @ {price} "
            f"{self.status} {filled}" + (f" code {self.code}" if self.code else "")
        )


class FillLine(NamedTuple):
    """One execution, and what it costs."""

    client: str
    tick: int
    qty: int
    price: int
    fee: int
    slippage: int
    impact: int
    borrow: int

    def text(self, scale: Scale) -> str:
        """For a message."""
        qty = scale.qty_text(self.qty)
        return f"{self.client}: fill of tick {self.tick}, {qty} @ {money_text(self.price)}"


class PositionLine(NamedTuple):
    """A client's position at the end.  ``mark`` is the price of the last fill."""

    client: str
    symbol: str
    qty: int
    cost: int
    realized: int
    mark: int
    costs: Costs
    since_ns: int | None
    """When a short began to cost, or was last charged; None if it costs nothing."""

    @property
    def profit(self) -> int:
        """Realized and unrealized."""
        return self.realized + self.qty * self.mark - self.cost

    def text(self, scale: Scale) -> str:
        """For a message."""
        average = divide(self.cost, self.qty) if self.qty else 0
        return (
            f"{self.client}: {self.symbol} {scale.qty_text(self.qty)} @ {money_text(average)}, "
            f"realised {scale.amount_text(self.realized)}, "
            f"profit {scale.amount_text(self.profit)}"
        )


Line = OrderLine | FillLine | PositionLine


class Outcome(NamedTuple):
    """Orders and fills in order of execution, positions sorted by client and symbol."""

    orders: list[OrderLine]
    fills: list[FillLine]
    positions: list[PositionLine]

    @property
    def profit(self) -> int:
        """Total over all clients and symbols, in units."""
        return sum(position.profit for position in self.positions)

    def __str__(self) -> str:
        return (
            f"{len(self.orders)} orders, {len(self.fills)} fills, {len(self.positions)} positions, "
            f"PnL {money_text(self.profit)}"
        )

    def up_to(self, tick: int) -> "Outcome":
        """The orders and fills of the ticks before ``tick``, for runs that do not end."""
        orders = [order for order in self.orders if order.tick < tick]
        return Outcome(orders, [fill for fill in self.fills if fill.tick < tick], [])


def of_backtest(result: Result) -> Outcome:
    """The outcome of a backtest; its client is called ``strategy``."""
    orders = [
        OrderLine(
            result.client,
            tick_of_order_id(order.id),
            SIDE_NAMES[order.side],
            order.symbol,
            order.qty,
            order.price,
            TYPE_NAMES[order.type],
            order.ts,
            STATUS_NAMES[order.status],
            order.filled_qty,
            order.filled_notional,
            order.code,
        )
        for order in result.orders
    ]
    fills = [
        FillLine(
            result.client, tick_of_order_id(order.id), order.filled_qty, order.exec_price,
            order.fee, order.slippage, order.impact, order.borrow,
        )
        for order in result.orders
        if order.exec_count
    ]  # fmt: skip
    positions = [position_line(result.client, symbol, p) for symbol, p in result.positions.items()]
    return Outcome(orders, fills, sorted(positions))


def of_store(path: Path) -> Outcome:
    """The outcome in the order store at ``path``, which may be in use: all runs, all clients.

    The fingerprint after the ``@`` of a client's name is dropped.

    Raises:
        StoreError: no such store, or it is damaged.
    """
    with reading(str(path)) as connection:
        return read_outcome(
            connection,
            {
                number: name.partition("@")[0]
                for number, name in connection.execute("SELECT client_no, name FROM clients")
            },
        )


def read_outcome(connection: apsw.Connection, names: dict[int, str]) -> Outcome:
    """The outcome of the clients whose numbers are in ``names``, under these names."""
    orders = [
        OrderLine(
            names[client_no], tick_of_order_id(order_id), SIDE_NAMES[side], symbol, qty, price,
            TYPE_NAMES[kind], ts, STATUS_NAMES[status], filled_qty, int(filled_notional), code,
        )
        for (
            client_no, order_id, side, symbol, qty, price, kind, ts, status, filled_qty,
            filled_notional, code,
        ) in connection.execute(
            "SELECT client_no, id, side, symbol, qty, price, type, ts, status, filled_qty, "
            "filled_notional, code FROM orders ORDER BY order_no"
        )
        if client_no in names
    ]  # fmt: skip
    fills = [
        FillLine(names[client_no], tick_of_order_id(order_id), qty, price, *map(int, costs))
        for client_no, order_id, qty, price, *costs in connection.execute(
            "SELECT o.client_no, o.id, f.qty, f.price, f.fee, f.slippage, f.impact, f.borrow "
            "FROM fills f JOIN orders o USING(order_no) ORDER BY f.fill_no"
        )
        if client_no in names
    ]
    positions = [
        position_line(names[client_no], symbol, p)
        for (client_no, symbol), p in read_positions(connection)[0].items()
        if client_no in names
    ]
    return Outcome(orders, fills, sorted(positions))


def position_line(client: str, symbol: str, p: Position) -> PositionLine:
    """A position as a line to compare."""
    return PositionLine(client, symbol, p.qty, p.cost, p.realized, p.mark, p.costs, p.since_ns)


def first_difference(one: Outcome, other: Outcome, scale: Scale = WHOLE) -> str | None:
    """The first difference between two runs as one line; None if they are equal.

    ``scale``: of both.  Clients run concurrently, so only the sequence of each client is compared.
    """
    pairs: list[tuple[str, Sequence[Line], Sequence[Line]]] = []
    for client in sorted({line.client for line in (*one.orders, *other.orders)}):
        pairs.append(("order", _of(client, one.orders), _of(client, other.orders)))
        pairs.append(("fill", _of(client, one.fills), _of(client, other.fills)))
    pairs.append(("position", one.positions, other.positions))
    for what, ours, theirs in pairs:
        for number, (a, b) in enumerate(zip_longest(ours, theirs), 1):
            if a != b:
                texts = ["nothing" if line is None else line.text(scale) for line in (a, b)]
                if texts[0] == texts[1]:
                    # The short form does not show the difference: all fields.
                    texts = [
                        f"{text} {tuple(line or ())}"
                        for text, line in zip(texts, (a, b), strict=True)
                    ]
                left, right = texts
                return f"{what} {number}: {left} | {right}"
    return None


def _of(client: str, lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if line.client == client]
