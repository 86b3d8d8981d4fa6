"""A price source whose book the test sets."""

from app.execution.prices import BookPrice
from app.model.money import UNITS

PROOF = "00000000000b00c1"
"""Of an order that comes from a strategy."""


class Prices:
    """Prices by symbol; without ``attached`` no symbol is known."""

    def __init__(self, **prices: float) -> None:
        self.book = {name: BookPrice(round(p * UNITS), 0, 1) for name, p in prices.items()}
        self.attached = True

    def read(self, symbol: str) -> BookPrice | None:
        return self.book.get(symbol)

    def knows(self, symbol: str) -> bool | None:
        return symbol in self.book if self.attached else None

    def at_tick(self, proof: str | None) -> bool | None:
        return False if proof is None else True if proof == PROOF else None
