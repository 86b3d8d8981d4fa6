"""The rows that the order core produces in one batch, and the interface to stored orders."""

from typing import Protocol

import msgspec

from app.execution.accounts import Account
from app.model.orders import Order
from app.model.position import Position


class PendingRows:
    """The rows of one transaction, in the order they were made, and the changed positions."""

    __slots__ = ("clients", "controls", "days", "fills", "orders", "positions", "states")

    def __init__(self) -> None:
        self.clients: list[tuple[int, str]] = []
        self.orders: list[Order] = []
        """Orders in the state in which they are acknowledged; none of them changes any more."""
        self.fills: list[tuple[int | str | None, ...]] = []
        """Executions that are in no order's row, as rows of the store's table ``executions``."""
        self.positions: dict[tuple[int, str], Position] = {}
        """Positions that the batch has changed.  They are not part of its transaction."""
        self.states: dict[int, tuple[Order, int, str | None]] = {}
        """Order number -> the order, the time of its last change, the reason."""
        self.controls: list[tuple[int, int, str, int]] = []
        self.days: dict[int, Account] = {}

    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not (self.orders or self.fills or self.states or self.controls or self.days)

    def clear(self) -> None:
        """Forget the rows: they are written.  Changed positions stay until the batch ends."""
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
        """Forget everything: nothing of the batch was stored."""
        self.clear()
        self.positions.clear()


class Recovered(msgspec.Struct):
    """The state that a store holds when a process starts."""

    clients: dict[int, tuple[str, int]] = {}
    """Client number -> name, largest order id used."""
    positions: dict[tuple[int, str], Position] = {}
    open_orders: list[Order] = []
    modes: dict[int, int] = {}
    mode_changes: dict[int, tuple[str, int]] = {}
    """Client number -> reason and time of the latest change of its mode."""
    days: dict[int, tuple[int, int]] = {}
    """Client number -> day, profit at its start."""
    last_order_no: int = 0
    last_fill_no: int = 0
    last_client_no: int = 0
    last_at_ns: int = 0


class OrderLookup(Protocol):
    """Finds orders that the core no longer holds."""

    def find(self, client_no: int, order_id: int) -> Order | None:
        """The order in the state in which it was acknowledged, or None."""

    def current(self, order: Order) -> Order:
        """The same order in its current state."""
