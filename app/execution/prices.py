"""The interface to current prices, for risk checks and paper execution."""

from typing import NamedTuple, Protocol


class BookPrice(NamedTuple):
    """A symbol's latest price in 1e-9 units, its age, and the sequence and time of its tick.

    ``feed_age_ns`` is the time since anything arrived from the feed, None if unknown; while it is
    small, an old price only means that the symbol has not traded.
    """

    price: int
    age_ns: int
    seq: int
    feed_age_ns: int | None = None
    event_ns: int = 0


class PriceSource(Protocol):
    """Where current prices come from."""

    def read(self, symbol: str) -> BookPrice | None:
        """The latest price, or None if there is no book or the symbol is not in it."""

    def knows(self, symbol: str) -> bool | None:
        """Whether the symbol is in the book; None if no book can tell."""

    def at_tick(self, proof: str | None) -> bool | None:
        """Whether an order with this proof has the price and time of a tick; None: wrong proof."""


class NoPrices:
    """No book at all."""

    def read(self, symbol: str) -> BookPrice | None:
        """Always None."""
        return None

    def knows(self, symbol: str) -> bool | None:
        """Always True: there is no book that could lack the symbol."""
        return True

    def at_tick(self, proof: str | None) -> bool | None:
        """Always True: without a book, the order's own price is the only one."""
        return True
