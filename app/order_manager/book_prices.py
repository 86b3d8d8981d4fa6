"""Current prices for risk and execution, read from the shared price book."""

import time

from app.execution.prices import BookPrice
from app.model.money import to_units
from app.runtime.log import get_logger
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.segment import SegmentError

log = get_logger()


class SharedBookPrices:
    """The shared price book: attached when it appears, attached again when it is replaced.

    A symbol that is in the book is known.  Whether one is missing can only be told of a book with a
    heartbeat within ``heartbeat_timeout_s``: another book may be about to replace one without.
    Every ``retry_s`` :meth:`refresh` checks whether the name refers to another segment.
    """

    def __init__(self, name: str, heartbeat_timeout_s: float, retry_s: float = 0.5) -> None:
        self._name = name
        self._timeout_s = heartbeat_timeout_s
        self._retry_s = retry_s
        self._book: SharedPriceBook | None = None
        self._symbols: frozenset[str] = frozenset()
        self._next_check = 0.0
        self._alive = False
        self._was_alive: bool | None = None
        """What the log last said about the book."""
        self._proof = ""

    def refresh(self) -> None:
        """Attach or attach again if necessary, and log a change; for a few calls a second."""
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + self._retry_s
        self._find()
        if self._alive != self._was_alive:
            if self._alive:
                log.info("book_found", book=self._name)
            elif self._was_alive:
                log.warning("book_lost", book=self._name, reason=self._why_not_alive())
            self._was_alive = self._alive

    def _why_not_alive(self) -> str:
        if self._book is None:
            return "the segment is gone; orders that need a price or a known symbol are refused"
        return f"no heartbeat for {self._timeout_s:g} s; orders of symbols not in it are refused"

    def _find(self) -> None:
        try:
            if self._book is not None:
                if self._book.is_current():
                    self._alive = self._book.heartbeat_age_s() < self._timeout_s
                    return
                self.close()
            self._attach()
        except (OSError, SegmentError):
            # Missing, incomplete or of another build: orders that need a price are rejected.
            self.close()

    def _attach(self) -> None:
        self._book = SharedPriceBook(name=self._name, create=False)
        self._symbols = frozenset(self._book.get_symbols())
        self._proof = self._book.proof
        self._alive = self._book.heartbeat_age_s() < self._timeout_s

    def read(self, symbol: str) -> BookPrice | None:
        """The latest price; None without a book, or without a price of the symbol in it."""
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
        """Whether the symbol is in the book; None if not, and no book with a heartbeat says so."""
        if symbol in self._symbols:
            return True
        if self._alive:
            # The reject is final: first check that this book has not been replaced.
            self._next_check = 0.0
            self.refresh()
        return symbol in self._symbols or (False if self._alive else None)

    def at_tick(self, proof: str | None) -> bool | None:
        """Whether the order comes from a strategy that reads this book; None: it reads another."""
        if proof is None:
            return False
        if proof != self._proof:
            # The strategy may have seen the new book first.
            self._next_check = 0.0
            self.refresh()
        return True if proof == self._proof else None

    def close(self) -> None:
        """Detach from the segment."""
        book, self._book = self._book, None
        self._proof = ""
        self._alive = False
        self._symbols = frozenset()
        if book is not None:
            book.close()
