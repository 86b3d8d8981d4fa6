"""What the order core writes down in one turn, and the seam to where it is kept."""

from typing import Protocol

import msgspec

from app.execution.accounts import Account
from app.model.orders import Order
from app.model.position import Position


class PendingRows:
    """The rows of one transaction, in the order in which they came about, and changed positions."""

    __slots__ = ("clients", "controls", "days", "fills", "orders", "positions", "states")

    def __init__(self) -> None:
        self.clients: list[tuple[int, str]] = []
        self.orders: list[tuple[object, ...]] = []
        """Orders as they stand when they are acknowledged, never changed afterwards."""
        self.fills: list[tuple[int, int, int, int, int]] = []
        """Executions that the order's own row does not carry: number, order, time, qty, price."""
        self.positions: dict[tuple[int, str], Position] = {}
        """Those that the turn has changed.  They are no row of its transaction."""
        self.states: dict[int, tuple[Order, int, str | None]] = {}
        """Order number -> the order, when it last changed, why."""
        self.controls: list[tuple[int, int, str, int]] = []
        self.days: dict[int, Account] = {}

    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not (self.orders or self.fills or self.states or self.controls or self.days)

    def clear(self) -> None:
        """Forget the rows: they are written.  Changed positions stay until the turn is over."""
        for rows in (
            self.clients,
            self.orders,
            self.fills,
            self.states,
            self.controls,
            self.days,
        ):
            if rows:
                rows.clear()

    def discard(self) -> None:
        """Forget everything: nothing of the turn was kept."""
        self.clear()
        self.positions.clear()


class Recovered(msgspec.Struct):
    """What a store knows when a process starts."""

    clients: dict[int, tuple[str, int]] = {}
    """Client number -> name, largest id used."""
    positions: dict[tuple[int, str], Position] = {}
    open_orders: list[Order] = []
    modes: dict[int, int] = {}
    days: dict[int, tuple[int, int]] = {}
    """Client number -> day, profit when it began."""
    last_order_no: int = 0
    last_fill_no: int = 0
    last_client_no: int = 0
    last_at_ns: int = 0


class OrderLookup(Protocol):
    """How the core asks for orders it no longer holds."""

    def find(self, client_no: int, order_id: int) -> Order | None:
        """The order as it was acknowledged, or None."""

    def current(self, order: Order) -> Order:
        """The same order as it stands now."""
