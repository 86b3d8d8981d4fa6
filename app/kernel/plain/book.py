"""The price book: slots whose spare cell is written, then made the live one by their stamp."""

import time
from typing import Final

from app.kernel.plain.memory import (
    BOOK_HEADER_BYTES,
    BOOK_SLOT_BYTES,
    STAMP_LOW,
    WORD,
    Bytes,
    Damaged,
    Memory,
    seal_of,
)

MAX_PRICE: Final = 9e9
_HEARTBEAT, _GAPS = 8, 9
_FIRST_SLOT, _SLOT_WORDS = BOOK_HEADER_BYTES // 8, BOOK_SLOT_BYTES // 8
_CELLS, _CELL_WORDS = 2, 3
_UNUSABLE: Final = "price book: the seal of slot {} does not fit"


class BookView:
    """One price book segment, for its writer and its readers."""

    def __init__(self, segment: Bytes) -> None:
        self.memory = Memory(segment)
        size = self.memory.size
        self.count = self.memory.halves[4] if size >= BOOK_HEADER_BYTES else 0
        if size < BOOK_HEADER_BYTES + self.count * BOOK_SLOT_BYTES:
            raise ValueError(f"price book: {size} bytes, too small for {self.count} symbols")

    def _require_writable(self) -> None:
        if self.memory.readonly:
            raise TypeError("price book: mapped for reading")

    def _slot(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return _FIRST_SLOT + index * _SLOT_WORDS

    def put(
        self,
        index: int,
        price: float,
        event_ns: int = 0,
        recv_ns: int = 0,
        seq: int | None = None,
    ) -> None:
        """Write one price; ``seq`` None: the slot's next.  An older or equal ``seq`` is ignored."""
        self._require_writable()
        slot = self._slot(index)
        if not 0.0 < price <= MAX_PRICE:
            raise ValueError(f"price {price!r}: must be finite, above 0, at most {MAX_PRICE:.0f}")
        number = (self.memory.words[slot] & STAMP_LOW) >> 1 if seq is None else seq
        if number < 0:
            raise OverflowError("can't convert negative value to uint64_t")
        self.store(index, price, event_ns, recv_ns, number)

    def store(self, index: int, price: float, event_ns: int, recv_ns: int, seq: int) -> None:
        """As :meth:`put`, of a valid tick."""
        words = self.memory.words
        slot = _FIRST_SLOT + index * _SLOT_WORDS
        stamp = words[slot] & STAMP_LOW
        following = (seq + 1) << 1 & WORD
        if following <= stamp & ~1:
            return  # a resumed feed repeats ticks that the book already has
        spare = ~stamp & 1
        cell = slot + _CELLS + _CELL_WORDS * spare
        self.memory.signed[cell] = event_ns
        self.memory.doubles[cell + 1] = price
        self.memory.signed[cell + 2] = recv_ns
        seal = seal_of(event_ns, words[cell + 1], seq, recv_ns)
        words[slot] = following | spare | seal << 48
        self.memory.doubles[slot + 1] = price

    def _read(self, index: int) -> tuple[float, int, int, int] | None:
        """The live cell.  A retry happens only when the writer has written meanwhile."""
        words, signed = self.memory.words, self.memory.signed
        slot = self._slot(index)
        while True:
            stamp = words[slot]
            if not stamp:
                return None
            cell = slot + _CELLS + _CELL_WORDS * (stamp & 1)
            event_ns, bits, recv_ns = signed[cell], words[cell + 1], signed[cell + 2]
            price = self.memory.doubles[cell + 1]
            if words[slot] != stamp:
                continue
            seq = ((stamp & STAMP_LOW) >> 1) - 1
            if seal_of(event_ns, bits, seq & WORD, recv_ns) != stamp >> 48:
                raise Damaged(_UNUSABLE.format(index))
            return None if seq < 0 else (price, event_ns, recv_ns, seq)

    def get(self, index: int) -> tuple[float, int, int, int] | None:
        """``(price, event_ns, recv_ns, seq)``, all of one tick; None if never written.

        Raises:
            Damaged: the slot does not hold what the writer wrote.
        """
        return self._read(index)

    def check(self, first: int, end: int) -> None:
        """Check the seals of the slots ``first`` to ``end - 1``.

        Raises:
            Damaged: as :meth:`get`.
        """
        for index in range(first, min(end, self.count)):
            self._read(index)

    def heartbeat(self) -> None:
        """Publish the writer's heartbeat."""
        self._require_writable()
        self.set_heartbeat(time.monotonic_ns())

    def set_heartbeat(self, now_ns: int) -> None:
        """Publish this heartbeat."""
        self.memory.signed[_HEARTBEAT] = now_ns

    def count_gap(self) -> None:
        """Count one interruption of the feed."""
        self._require_writable()
        self.memory.words[_GAPS] = (self.memory.words[_GAPS] + 1) & WORD

    def repair(self) -> None:
        """Copy the live cells' prices to the plain ones: a writer may have died between them."""
        self._require_writable()
        for index in range(self.count):
            try:
                tick = self._read(index)
            except Damaged:
                continue
            if tick is not None:
                self.memory.doubles[self._slot(index) + 1] = tick[0]

    @property
    def heartbeat_ns(self) -> int:
        """CLOCK_MONOTONIC of the writer's last heartbeat."""
        return self.memory.signed[_HEARTBEAT]

    @property
    def gaps(self) -> int:
        """Interruptions of the feed, counted by the writer."""
        return self.memory.words[_GAPS]

    @property
    def boot_id(self) -> int:
        """Random number of this segment; a new segment of the same name has another."""
        return self.memory.words[3]
