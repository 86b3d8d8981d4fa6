"""Keeps a client's orders in sequence while replaying: later orders wait for one held back.

A client has several orders in flight.  When one is answered with a retryable code, the orders after
it must not overtake it: a client that repeats each order held back gets its orders executed in its
own sequence, whichever were held back and however often.  Only while replaying (TRADING_MODE):
in live trading a client may decide not to repeat an order.
"""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from app.model.orders import OrderRequest
from app.model.reject_codes import RejectCode
from app.model.requests import Reject

Peer = TypeVar("Peer")


HELD_MAX: Final = 100_000
"""Pairs of a connection and a client name; no stack has as many.  More are not kept in sequence."""


class HeldOrders(Generic[Peer]):
    """The lowest id that has to be repeated, for each peer and client."""

    def __init__(self, replaying: bool) -> None:
        self._replaying = replaying
        self._ids: dict[tuple[Peer, str], int] = {}

    def __bool__(self) -> bool:
        """Whether any order has to be repeated."""
        return bool(self._ids)

    def hold(self, peer: Peer, request: OrderRequest) -> None:
        """The order was answered with a retryable code."""
        if request.id is not None and self._replaying:
            key = (peer, request.client)
            if key not in self._ids and len(self._ids) >= HELD_MAX:
                return
            self._ids[key] = min(self._ids.get(key, request.id), request.id)

    def check(self, peer: Peer, request: OrderRequest) -> Reject | None:
        """Why the order has to wait, or None if it may execute now."""
        if request.id is None:
            return None
        held_id = self._ids.get((peer, request.client))
        if held_id is None:
            return None
        if request.id <= held_id:
            del self._ids[peer, request.client]
            return None
        msg = f"order {held_id} was held back and comes first; send it again"
        details = {"id": request.id, "client": request.client}
        return Reject(RejectCode.BEHIND_HELD, msg, details, retryable=True)

    def forget(self, disconnected: Callable[[Peer], bool]) -> None:
        """Forget the held orders of peers that have disconnected."""
        for key in [key for key in self._ids if disconnected(key[0])]:
            del self._ids[key]
