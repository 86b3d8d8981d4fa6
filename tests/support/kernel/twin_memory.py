"""The twin of price book and ring; see :mod:`tests.support.kernel.twin`.

It works on the same bytes and takes its offsets from the diagram in ``app/kernel/layout.h``, so it
also tests the diagram.  For one process only: it has no fences and never sleeps.
"""

import struct
import time
from typing import Any

from tests.support.kernel.twin_parse import FULL, FieldParser, Stop, payload

BOOK_HEADER_BYTES, BOOK_SLOT_BYTES = 4096, 128
RING_HEADER_BYTES, RECORD_BYTES = 8192, 32
MAX_READERS, READER_NAME_BYTES = 63, 40
NO_END = 2**64 - 1
LOSSLESS = 1
BURST_TICKS = 2048
RECORD = struct.Struct("<qdQHHI")
WORD, STAMP_LOW = 2**64 - 1, 2**48 - 1


class Damaged(Exception):
    """See the kernel."""


def seal_of(event_ns: int, price: float, seq: int, rest: int) -> int:
    """16 bits that change with every single bit of the arguments."""
    (price_bits,) = struct.unpack("<Q", struct.pack("<d", price))
    first = ((event_ns & WORD) ^ seq) * 0x9E3779B97F4A7C15
    second = (price_bits ^ 0x5BD1E9955BD1E995 ^ rest & WORD) * 0xD6E8FEB86659FD93
    return (first + second & WORD) >> 48


def _get(buffer: Any, form: str, offset: int) -> Any:
    return struct.unpack_from("<" + form, buffer, offset)[0]


def _put(buffer: Any, form: str, offset: int, value: Any) -> None:
    struct.pack_into("<" + form, buffer, offset, value)


def book_image(symbols: list[str]) -> bytearray:
    """A new book's bytes."""
    image = bytearray(BOOK_HEADER_BYTES + len(symbols) * BOOK_SLOT_BYTES)
    struct.pack_into("<8sIIIIQ", image, 0, b"PRICBOOK", 3, BOOK_SLOT_BYTES, len(symbols), 0, 7)
    for i, symbol in enumerate(symbols):
        struct.pack_into(
            "32s", image, BOOK_HEADER_BYTES + i * BOOK_SLOT_BYTES + 64, symbol.encode()
        )
    return image


def ring_image(capacity: int) -> bytearray:
    """A new lossless ring's bytes."""
    image = bytearray(RING_HEADER_BYTES + capacity * RECORD_BYTES)
    struct.pack_into("<8sIIQQI", image, 0, b"TICKRING", 3, RECORD_BYTES, capacity, 7, LOSSLESS)
    struct.pack_into("<Q", image, RingView.END_SEQ, NO_END)
    return image


class BookView:
    """A price book's bytes."""

    def __init__(self, segment: Any) -> None:
        if len(segment) < BOOK_HEADER_BYTES:
            raise ValueError("short")
        self.bytes, self.count = segment, _get(segment, "I", 16)
        if len(segment) < BOOK_HEADER_BYTES + self.count * BOOK_SLOT_BYTES:
            raise ValueError("short")

    def _slot(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return BOOK_HEADER_BYTES + index * BOOK_SLOT_BYTES

    def put(
        self, index: int, price: float, event_ns: int = 0, recv_ns: int = 0, seq: int | None = None
    ) -> None:
        """Write the spare cell, then make it the live one with the stamp."""
        slot = self._slot(index)
        if not 0 < price <= 9e9:
            raise ValueError(price)
        stamp = _get(self.bytes, "Q", slot) & STAMP_LOW
        number = (stamp >> 1 if seq is None else seq) + 1
        if number <= stamp >> 1:
            return
        spare = 1 - (stamp & 1)
        struct.pack_into("<qdq", self.bytes, slot + 16 + 24 * spare, event_ns, price, recv_ns)
        low = number << 1 | spare
        _put(self.bytes, "Q", slot, seal_of(event_ns, price, number - 1, recv_ns) << 48 | low)
        _put(self.bytes, "d", slot + 8, price)

    def get(self, index: int) -> tuple[float, int, int, int] | None:
        """The live cell."""
        slot = self._slot(index)
        stamp = _get(self.bytes, "Q", slot)
        if not stamp:
            return None
        event_ns, price, recv_ns = struct.unpack_from(
            "<qdq", self.bytes, slot + 16 + 24 * (stamp & 1)
        )
        seq = ((stamp & STAMP_LOW) >> 1) - 1
        if seal_of(event_ns, price, seq & WORD, recv_ns) != stamp >> 48:
            raise Damaged(index)
        return price, event_ns, recv_ns, seq

    def check(self, first: int, end: int) -> None:
        """See the kernel."""
        for index in range(first, min(end, self.count)):
            self.get(index)

    def repair(self) -> None:
        """Copy the live cells' prices to the plain ones."""
        for index in range(self.count):
            tick = self.get(index)
            if tick:
                _put(self.bytes, "d", self._slot(index) + 8, tick[0])


class RingView:
    """A ring's bytes."""

    PUBLISHED, CLAIMED, NEXT_SEQ, END_SEQ, HEARTBEAT, SKIPPED = 64, 72, 80, 88, 96, 104

    def __init__(self, segment: Any) -> None:
        self.bytes = segment
        self.capacity = _get(segment, "Q", 16) if len(segment) >= RING_HEADER_BYTES else 0
        if (
            self.capacity.bit_count() != 1
            or self.capacity < 2
            or len(segment) < RING_HEADER_BYTES + self.capacity * RECORD_BYTES
        ):
            raise ValueError("no ring")

    def word(self, offset: int) -> int:
        """One of the header's 64-bit words."""
        return int(_get(self.bytes, "Q", offset))

    def set_word(self, offset: int, value: int) -> None:
        """Set one of the header's 64-bit words."""
        _put(self.bytes, "Q", offset, value)

    @property
    def state(self) -> tuple[int, int, int | None, int]:
        """See the kernel."""
        end = self.word(self.END_SEQ)
        return (
            self.word(self.PUBLISHED),
            self.word(self.NEXT_SEQ),
            None if end == NO_END else end,
            self.word(self.HEARTBEAT),
        )

    @staticmethod
    def _slot(slot: int) -> int:
        if not 0 <= slot < MAX_READERS:
            raise IndexError(slot)
        return 256 + 64 * slot

    def reader(self, slot: int) -> tuple[int, int, int, str]:
        """State, cursor, lost, name."""
        at = self._slot(slot)
        name = bytes(self.bytes[at + 24 : at + 24 + READER_NAME_BYTES]).rstrip(b"\0").decode()
        return _get(self.bytes, "I", at), self.word(at + 8), self.word(at + 16), name

    def set_reader(
        self, slot: int, state: int, cursor: int | None = None, name: str | None = None
    ) -> None:
        """Register or free a slot."""
        at = self._slot(slot)
        if cursor is not None:
            self.set_word(at + 8, cursor)
        if name is not None:
            raw = name.encode()
            if not 0 < len(raw) <= READER_NAME_BYTES:
                raise ValueError(name)
            self.bytes[at + 24 : at + 24 + READER_NAME_BYTES] = raw.ljust(READER_NAME_BYTES, b"\0")
            self.set_word(at + 16, 0)
        _put(self.bytes, "I", at, state)

    def record(self, position: int) -> tuple[int, float, int, int, int]:
        """Event time, price, sequence, symbol, receipt."""
        event_ns, price, seq, _, symbol, recv_us = self._raw(position)
        return event_ns, price, seq, symbol, recv_us

    def is_sealed(self, position: int) -> bool:
        """Whether the seal fits to the record."""
        event_ns, price, seq, seal, symbol, recv_us = self._raw(position)
        return seal == seal_of(event_ns, price, seq, recv_us << 16 | symbol)

    def _raw(self, position: int) -> tuple[int, float, int, int, int, int]:
        return RECORD.unpack_from(self.bytes, self._record_at(position))

    def _record_at(self, position: int) -> int:
        return RING_HEADER_BYTES + position % self.capacity * RECORD_BYTES


class TickWriter(RingView):
    """Parser, book and ring together."""

    def __init__(self, ring: Any, book: Any, parser: FieldParser) -> None:
        super().__init__(ring)
        self.book, self.parser, self.limit = BookView(book), parser, 0
        self.times: Any = None
        if parser.symbol_count != self.book.count:
            raise ValueError("symbols")
        published, seq = self.word(self.PUBLISHED), self.word(self.NEXT_SEQ)
        if published:
            last_seq = self.record(published - 1)[2]
            if not self.is_sealed(published - 1) or last_seq < published - 1:
                raise Damaged("last record")
            seq = max(seq, last_seq + 1)
        ahead = self.word(self.CLAIMED) - published
        fits = published <= seq <= published + self.word(self.SKIPPED)
        if not fits or not 0 <= ahead <= self.capacity:
            raise Damaged("header")
        if self.word(self.END_SEQ) not in (NO_END, seq):
            raise Damaged("end")
        self.set_word(self.SKIPPED, seq - published)
        self.set_word(self.NEXT_SEQ, seq)
        self.mine = self._header()

    def _header(self) -> list[int]:
        offsets = (self.PUBLISHED, self.CLAIMED, self.NEXT_SEQ, self.END_SEQ, self.SKIPPED)
        return [self.word(offset) for offset in offsets]

    def check(self) -> None:
        """See the kernel."""
        if self._header() != self.mine:
            raise Damaged("header")

    def note_times(self, times: Any) -> None:
        """See the kernel."""
        self.times = times

    def lag(self) -> int:
        """Ticks that the slowest lossless reader has not taken."""
        published = self.word(self.PUBLISHED)
        readers = [self.reader(slot) for slot in range(MAX_READERS)]
        return max(
            (published - cursor for state, cursor, _, _ in readers if state == LOSSLESS), default=0
        )

    def _writable_to(self) -> int:
        published = self.word(self.PUBLISHED)
        if published <= self.capacity // 2:
            return self.capacity
        return published - max(self.lag(), 0) + self.capacity

    def push(self, buffer: Any, start: int, end: int, recv_ns: int) -> tuple[int, int, Stop]:
        """See the kernel."""
        data = payload(buffer, start, end)
        self.check()
        first = position = self.word(self.PUBLISHED)
        seq, stop = self.word(self.NEXT_SEQ), -1
        burst = max(1, min(BURST_TICKS, self.capacity // 4))
        while stop < 0:
            if position >= self.limit:
                self.limit = self._writable_to()
                if position >= self.limit:
                    stop = FULL
                    break
            goal = min(self.limit, position + burst)
            self.set_word(self.CLAIMED, max(goal, self.word(self.CLAIMED)))
            while position < goal:
                tick, start, stop = self.parser.read_tick(data, start, False)
                if tick is None:
                    break
                event_ns, symbol, price = tick
                recv_us = recv_ns // 1000 & 0xFFFFFFFF
                seal = seal_of(event_ns, price, seq, recv_us << 16 | symbol)
                at = self._record_at(position)
                RECORD.pack_into(self.bytes, at, event_ns, price, seq, seal, symbol, recv_us)
                self.book.put(symbol, price, event_ns, recv_ns, seq)
                position, seq = position + 1, seq + 1
            if self.times is not None and seq != self.word(self.NEXT_SEQ):
                now_ns = time.monotonic_ns()
                self.times.note(self.word(self.NEXT_SEQ), seq, recv_ns, now_ns)
            self.set_word(self.PUBLISHED, position)
            self.set_word(self.NEXT_SEQ, seq)
            self.mine = self._header()
        _put(self.bytes, "q", self.HEARTBEAT, recv_ns)
        _put(self.book.bytes, "q", 64, recv_ns)
        return position - first, start, stop

    def set_next_seq(self, seq: int) -> None:
        """See the kernel."""
        if seq < self.word(self.NEXT_SEQ):
            raise ValueError(seq)
        self.set_word(self.SKIPPED, seq - self.word(self.PUBLISHED))
        self.set_word(self.NEXT_SEQ, seq)
        self.mine = self._header()

    def finish(self, seq: int) -> None:
        """See the kernel."""
        self.set_word(self.END_SEQ, seq)
        self.mine = self._header()

    def wait_space(self, timeout_ns: int) -> bool:
        """Never sleeps."""
        self.limit = self._writable_to()
        return self.limit > self.word(self.PUBLISHED)


class TickReader(RingView):
    """A registered reader."""

    def __init__(self, ring: Any, slot: int) -> None:
        super().__init__(ring)
        self.at = self._slot(slot)
        self.position, self.lost = self.word(self.at + 8), self.word(self.at + 16)
        self.gap, self.copied, self.last_seq = 0, (0, 0), 0

    def _follow(self, position: int, last_gap: int) -> int:
        gap = self.record(position)[2] - position
        if not self.is_sealed(position) or not last_gap <= gap <= self.word(self.SKIPPED):
            raise Damaged(position)
        return gap

    def available(self) -> int:
        """Unread ticks."""
        return self.word(self.PUBLISHED) - self.position

    def wait(self, timeout_ns: int) -> int:
        """Never sleeps."""
        self.set_word(self.at + 8, self.position)
        return self.available()

    def next_seq(self) -> int:
        """See the kernel."""
        published = self.word(self.PUBLISHED)
        if not published:
            return 0
        if self.position == published:
            return self.record(published - 1)[2] + 1
        self._skip()
        return self.record(self.position)[2]

    def copy(self, out: Any) -> int:
        """See the kernel."""
        self._skip()
        to_wrap = self.capacity - self.position % self.capacity
        count = max(0, min(self.available(), to_wrap, len(out)))
        gap = self.gap
        for i in range(count):
            gap = self._follow(self.position + i, gap)
            out[i] = self._raw(self.position + i)
            self.last_seq = int(out[i]["seq"])
        self.copied = (self.position + count, gap)
        return count

    def _skip(self) -> None:
        claimed = self.word(self.CLAIMED)
        if claimed > self.position + self.capacity:
            half = self.word(self.PUBLISHED) - self.capacity // 2
            oldest = max(claimed - self.capacity, half)
            self.lost += oldest - self.position
            self.position = oldest
            self.set_word(self.at + 16, self.lost)
            self.set_word(self.at + 8, oldest)

    def advance(self, count: int) -> None:
        """See the kernel."""
        self.position += count
        if self.position >= self.copied[0]:
            self.gap = self.copied[1]
        self.set_word(self.at + 8, self.position)
