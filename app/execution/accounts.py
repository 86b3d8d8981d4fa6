"""Who trades, with what, and under which restriction: the in-memory books of the order core."""

from collections import deque
from collections.abc import Callable
from typing import Final

from app.model.orders import BUY, Order
from app.model.position import Position
from app.model.token_bucket import TokenBucket

ACTIVE, REDUCE, HALTED, KILLED = range(4)
"""Trading modes: everything goes; only what shrinks a position; nothing; nothing, because the kill
switch was pulled.  A human's ``resume`` leads back to ACTIVE from each."""
MODE_NAMES: Final = ("active", "reduce", "halted", "killed")

STACK_NO: Final = 0
"""The client number of the whole stack, where a table holds both."""


class Account:
    """What limits are measured against: one client, or the whole stack.

    In the stack's scope a position is the plain sum over all clients: its ``cost`` is all cash paid
    less all cash received and its ``realized`` is zero, so that profit adds up over clients.
    """

    def __init__(self, client_no: int, name: str) -> None:
        self.client_no = client_no
        self.name = name
        self.mode = ACTIVE
        self.positions: dict[str, Position] = {}
        self.open_orders = 0
        self.id_high = -1
        """The largest id this client has used; a larger one needs no look into the store."""
        self.day = 0
        self.day_base = 0
        """Profit at the start of ``day``, what the daily loss counts from."""
        self.orders_bucket: TokenBucket | None = None
        self.repeats: dict[tuple[str, int, int], deque[int]] = {}

    @property
    def label(self) -> str:
        """For messages."""
        return f"client {self.name}" if self.client_no != STACK_NO else "the whole stack"

    def position(self, symbol: str) -> Position:
        """The position in ``symbol``, made when there is none yet."""
        position = self.positions.get(symbol)
        if position is None:
            position = self.positions[symbol] = Position()
        return position

    def rest(self, order: Order, sign: int) -> None:
        """Count an order's open quantity in (``sign`` 1) or out (-1)."""
        position = self.position(order.symbol)
        open_qty = sign * (order.qty - order.filled_qty)
        if order.side == BUY:
            position.open_buy += open_qty
        else:
            position.open_sell += open_qty
        self.open_orders += sign

    def profit(self, mark: Callable[[str, Position], int]) -> int:
        """Realised and unrealised profit over all symbols; ``mark`` gives a symbol's price."""
        return sum(
            position.realized + position.unrealized(mark(symbol, position))
            for symbol, position in self.positions.items()
        )
