"""The seam to current prices: what risk and execution ask, and the shared book behind it."""

import time
from typing import Any

from app.execution.prices import BookPrice
from app.model.money import to_units
from app.runtime.log import get_logger
from app.shared_memory_utils.segment import SegmentError

log = get_logger()


class SharedBookPrices:
    """The shared price book, attached when it appears and attached anew when it is replaced.

    A book whose writer gave no sign of life for ``heartbeat_timeout_s`` counts as absent for
    :meth:`knows`; whether the name stands for another segment by now is looked at every
    ``retry_s``.
    """

    def __init__(self, name: str, heartbeat_timeout_s: float, retry_s: float = 0.5) -> None:
        self._name = name
        self._timeout_s = heartbeat_timeout_s
        self._retry_s = retry_s
        self._book: Any = None
        self._symbols: frozenset[str] = frozenset()
        self._next_look = 0.0
        self._alive = False

    def refresh(self) -> None:
        """Look after the attachment; to be called a few times a second."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + self._retry_s
        try:
            if self._book is not None:
                if self._book.is_current():
                    self._alive = self._book.heartbeat_age_s() < self._timeout_s
                    return
                self.close()
            self._attach()
        except (OSError, SegmentError):
            # Not there yet, half built, or of another build: the orders that need it say so.
            self.close()

    def _attach(self) -> None:
        # It needs the compiled kernel, which a server without a book does without.
        from app.shared_memory_utils.price_book import SharedPriceBook

        self._book = SharedPriceBook(name=self._name, create=False)
        self._symbols = frozenset(self._book.get_symbols())
        self._alive = self._book.heartbeat_age_s() < self._timeout_s

    def read(self, symbol: str) -> BookPrice | None:
        """The latest price, or None without a book or for a symbol that has none in it."""
        if self._book is None:
            self.refresh()
            if self._book is None:
                return None
        try:
            tick = self._book.read_tick(symbol)
        except KeyError:
            return None
        if tick is None:
            return None
        price, event_ns, recv_ns, seq = tick
        age_ns = max(time.monotonic_ns() - recv_ns, 0)
        feed_age_ns = int(self._book.heartbeat_age_s() * 1e9)
        return BookPrice(to_units(price), age_ns, seq, feed_age_ns, event_ns)

    def knows(self, symbol: str) -> bool | None:
        """Whether the symbol is in the book; None while there is no living book to ask."""
        if symbol not in self._symbols and self._alive:
            # Before it is said for good: is this still the book that the name stands for?
            self._next_look = 0.0
            self.refresh()
        return symbol in self._symbols if self._book is not None and self._alive else None

    def close(self) -> None:
        """Let go of the segment."""
        book, self._book = self._book, None
        self._alive = False
        if book is not None:
            book.close()
