"""The seam to a venue."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from app.model.orders import Order
from app.model.reject_codes import RejectCode


class Execution(msgspec.Struct, frozen=True, gc=False):
    """A quantity at a price, in 1e-9 money units."""

    qty: int
    price: int


class Report(msgspec.Struct, frozen=True, gc=False):
    """A venue's answer to a new order: what executed at once, and what becomes of the rest."""

    executions: tuple[Execution, ...] = ()
    rests: bool = False
    reject: tuple[RejectCode, str] | None = None


class Venue(Protocol):
    """Where orders go once they passed the checks."""

    def submit(self, order: Order) -> Report:
        """Take a new order.  Without ``rests`` an open remainder is canceled."""

    def cancel(self, order: Order) -> None:
        """Take a resting order back."""

    def poll(self) -> Iterable[tuple[Order, Execution]]:
        """Executions of resting orders since the last call."""

    def committed(self) -> None:
        """What was submitted, canceled and polled since the last call is durable now."""

    def restore(self, orders: Sequence[Order]) -> None:
        """Replace all resting orders: on start, and after a turn that could not be kept."""
