"""The prices that each connection of a strategy has sent for its ticks.

They belong to the connection, not to the client: a strategy that connects again sends all of them
again, and what is left of its old connection must not see them.
"""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from app.execution.order_core import NO_MARKS
from app.model.money import to_units
from app.model.requests import Marks

Peer = TypeVar("Peer")


class PeerMarks(Generic[Peer]):
    """Peer -> symbol -> price in 1e-9 units."""

    def __init__(self) -> None:
        self._marks: dict[Peer, dict[str, int]] = {}

    def update(self, peer: Peer, request: Marks) -> None:
        """Take new prices; they hold for the orders that this peer sends after them."""
        own = self._marks.setdefault(peer, {})
        own.update((symbol, to_units(price)) for symbol, price in request.marks.items())

    def of(self, peer: Peer) -> Mapping[str, int]:
        """The prices for the next order of this peer."""
        return self._marks.get(peer, NO_MARKS)

    def forget(self, disconnected: Callable[[Peer], bool]) -> None:
        """Forget the prices of peers that have disconnected."""
        for peer in [peer for peer in self._marks if disconnected(peer)]:
            del self._marks[peer]
