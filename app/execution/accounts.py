"""The accounts of the order core, one per client and one for the whole stack."""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Final

from app.execution.venue import Execution
from app.model.orders import BUY, Order
from app.model.position import Position
from app.model.token_bucket import TokenBucket
from app.model.words import one_word

ACTIVE, REDUCE, HALTED, KILLED = range(4)
"""Trading modes: all orders pass; only orders that reduce a position; no order; no order, because
the kill switch was pulled.  A ``resume`` request returns to ACTIVE from any of them."""
MODE_NAMES: Final = ("active", "reduce", "halted", "killed")

Sums = Mapping[str, tuple[int, int, int]]
"""Symbol -> the units and the cash paid that executions add up to, and the price of the last."""

STACK_CLIENT_NO: Final = 0
"""The client number of the whole stack, in tables that hold clients and the stack."""


class Account:
    """What one client, or the whole stack, holds and has used of its limits.

    A position of the stack is the plain sum over all clients: its ``cost`` is all cash paid minus
    all cash received and its ``realized`` is zero, so that profit adds up over clients.  It has no
    sums of costs.
    """

    def __init__(self, client_no: int, name: str) -> None:
        self.client_no = client_no
        self.name = name
        self.mode = ACTIVE
        self.positions: defaultdict[str, Position] = defaultdict(Position)
        """By symbol."""
        self.open_orders = 0
        self.id_high = -1
        """The largest order id this client has used; a larger one needs no lookup in the store."""
        self.day = 0
        self.day_base = 0
        """Profit at the start of ``day``; the daily loss counts from it."""
        self.orders_bucket: TokenBucket | None = None
        self.repeats: dict[tuple[str, int, int], deque[int]] = {}
        """Symbol, side and quantity -> times of the latest executions."""

    @property
    def label(self) -> str:
        """For messages."""
        if self.client_no == STACK_CLIENT_NO:
            return "the whole stack"
        return f"client {one_word(self.name)}"

    def add_open(self, order: Order) -> None:
        """Add an open order and its open quantity."""
        position = self.positions[order.symbol]
        if order.side == BUY:
            position.open_buy += order.qty - order.filled_qty
        else:
            position.open_sell += order.qty - order.filled_qty
        self.open_orders += 1

    def remove_open(self, order: Order) -> None:
        """Undo :meth:`add_open`; the filled quantity must not have changed since."""
        position = self.positions[order.symbol]
        if order.side == BUY:
            position.open_buy -= order.qty - order.filled_qty
        else:
            position.open_sell -= order.qty - order.filled_qty
        self.open_orders -= 1

    def profit(self, mark: Callable[[str, Position], int]) -> int:
        """Realized and unrealized profit over all symbols; ``mark`` gives a symbol's price."""
        return sum(
            position.realized + position.unrealized(mark(symbol, position))
            for symbol, position in self.positions.items()
        )


class Accounts:
    """The accounts of all clients and of the whole stack; each change is applied to both."""

    def __init__(self, stack: Account, borrow_rate: int = 0) -> None:
        """``borrow_rate``: as in :meth:`Position.accrued`."""
        self.stack = stack
        self._rate = borrow_rate
        self.clients: dict[str, Account] = {}
        """By name."""
        self.by_number: dict[int, Account] = {}

    def clear(self) -> None:
        """Forget all clients and all that the stack holds, except its mode and day."""
        stack = self.stack
        stack.positions.clear()
        stack.open_orders = 0
        stack.orders_bucket = None
        stack.repeats.clear()
        self.clients.clear()
        self.by_number.clear()

    def add(self, client: Account) -> None:
        """Add a client's account."""
        self.clients[client.name] = self.by_number[client.client_no] = client

    def restore_position(self, client_no: int, symbol: str, position: Position) -> None:
        """Restore a client's stored position, and add it to the stack's."""
        self.by_number[client_no].positions[symbol] = position
        total = self.stack.positions[symbol]
        total.qty += position.qty
        total.cost += position.cost - position.realized
        if position.fill_no > total.fill_no:
            total.fill_no, total.mark = position.fill_no, position.mark

    def add_open(self, order: Order) -> None:
        """Add an open order to its client's account and the stack's."""
        self.by_number[order.client_no].add_open(order)
        self.stack.add_open(order)

    def remove_open(self, order: Order) -> None:
        """Remove an open order; call this before its filled quantity changes."""
        self.by_number[order.client_no].remove_open(order)
        self.stack.remove_open(order)

    def add_executed(self, client: Account, sums: Sums, id_high: int) -> None:
        """Add to the stack what a client's positions have already."""
        for symbol, (qty, paid, price) in sums.items():
            total = self.stack.positions[symbol]
            total.qty += qty
            total.cost += paid
            total.mark = price
        client.id_high = max(client.id_high, id_high)

    def execute(
        self,
        client: Account,
        order: Order,
        execution: Execution,
        fill_no: int,
        event_ns: int | None,
    ) -> tuple[Position, int]:
        """Account for an execution; returns the client's position, and the borrow it charges.

        ``event_ns``: its time for the borrow, None if shorts are free.
        """
        symbol, side = order.symbol, order.side
        position, total = client.positions[symbol], self.stack.positions[symbol]
        borrow = 0 if event_ns is None else position.accrued(self._rate, event_ns)
        qty, price = execution.qty, execution.price
        fee, slippage, impact = execution.fee, execution.slippage, execution.impact
        if fee or slippage or impact or borrow:
            position.charge(fee, slippage, impact, borrow)
            total.cost += fee + borrow
        paid = position.apply(side, qty, price, event_ns)
        position.fill_no = fill_no
        total.qty = total.qty + qty if side > 0 else total.qty - qty
        total.cost = total.cost + paid
        total.mark = price
        return position, borrow
