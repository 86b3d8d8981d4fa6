"""The seam to current prices: what risk and execution ask."""

from typing import NamedTuple, Protocol


class BookPrice(NamedTuple):
    """A symbol's latest price in 1e-9 units, how old it is, and the tick it came with.

    ``feed_age_ns``: since when nothing is known of the feed, None where that is not known; while it
    is small, an old price is merely one of a symbol that does not move.
    """

    price: int
    age_ns: int
    seq: int
    feed_age_ns: int | None = None
    event_ns: int = 0


class PriceSource(Protocol):
    """Where current prices come from."""

    def read(self, symbol: str) -> BookPrice | None:
        """The latest price, or None without a book or for a symbol that is not in it."""

    def knows(self, symbol: str) -> bool | None:
        """Whether the symbol is in the book; None while there is no living book to ask."""


class NoPrices:
    """No book at all."""

    def read(self, symbol: str) -> BookPrice | None:
        """Always None."""
        return None

    def knows(self, symbol: str) -> bool | None:
        """Always None."""
        return None
