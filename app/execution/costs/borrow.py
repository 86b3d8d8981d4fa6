"""What it costs to be short."""

from collections.abc import Callable
from typing import Final

from app.model.money import to_units
from app.model.orders import Order
from app.model.position import Position
from app.model.timestamps import ts_event_ns


class Borrow:
    """The rate for borrowed shares, and the time that it counts.

    A short costs ``bps_year`` basis points a year (of 365 days) of the amount its shares were sold
    for, for the time between two executions.  An execution charges what has accrued until then
    (:meth:`Position.accrued`, which rounds), whatever it does to the position.

    A strategy's time is that of its orders' ticks, so a replay costs the same at any pace, and the
    same after a crash.  Anybody else's time is that of the order manager when the order arrives.
    """

    def __init__(
        self, bps_year: float = 0.0, is_strategys: Callable[[str], bool] = lambda _name: False
    ) -> None:
        """``is_strategys``: whether a client's orders have the times of ticks."""
        self.rate = to_units(bps_year)
        self._is_strategys = is_strategys

    def time_of(
        self, order: Order, client: str, now_ns: int, book_ns: int | None = None
    ) -> int | None:
        """When an execution of the order counts; None if shorts are free.

        ``book_ns``: the time of the tick that a resting order was executed at.
        """
        if not self.rate:
            return None
        if not self._is_strategys(client):
            return now_ns
        if book_ns is None and order.ts is not None:
            book_ns = ts_event_ns(order.ts)
        return now_ns if book_ns is None else book_ns

    def accrued(self, client: str, position: Position, mark_ns: int | None, now_ns: int) -> int:
        """What a position has cost since its last execution, up to its mark; not charged yet.

        ``mark_ns``: the time of the tick that it is marked at; None if there is none.
        """
        if not self.rate or position.qty >= 0:
            return 0
        if not self._is_strategys(client):
            return position.accrued(self.rate, now_ns)
        return 0 if mark_ns is None else position.accrued(self.rate, mark_ns)


FREE: Final = Borrow()
