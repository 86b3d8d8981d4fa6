"""The tick ring: its state, its reader slots, and the writer that fills ring and book."""

import errno
import os
import time
from typing import Any, Final

import numpy.typing as npt

from app.kernel.plain.book import BookView
from app.kernel.plain.histogram import record_latency
from app.kernel.plain.memory import (
    MAX_READERS,
    NO_END,
    READER_NAME_BYTES,
    RECORD_BYTES,
    RING_HEADER_BYTES,
    WORD,
    Bytes,
    Damaged,
    Futex,
    Memory,
    seal_of,
)
from app.kernel.plain.parse import (
    FULL,
    GOES_ON,
    NEED_MORE,
    PARSE_SLACK_BYTES,
    FieldParser,
    payload,
)
from app.kernel.plain.trace import BatchTimes

LOSSLESS: Final = 1
BURST_TICKS: Final = 8192
DAMAGED: Final = 7
"""Instead of a reason to stop: the header holds what this writer has not written."""

# Indexes of 64-bit words.
CAPACITY, PUBLISHED, CLAIMED, NEXT_SEQ, END_SEQ, HEARTBEAT, SKIPPED = 2, 8, 9, 10, 11, 12, 13
_POLICY = 8  # of 32 bits
_DATA_FUTEX, _SPACE_FUTEX = 128, 192  # offsets
_READERS, _READER_BYTES, _NAME = 256, 64, 24
_RECORD_WORDS = RECORD_BYTES // 8
FIRST_RECORD: Final = RING_HEADER_BYTES // 8


class RingView:
    """One tick ring segment: its state and its reader slots; base of writer and reader."""

    def __init__(self, segment: Bytes) -> None:
        memory = Memory(segment, writable=True)
        capacity = room = 0
        if memory.size >= RING_HEADER_BYTES:
            capacity = memory.words[CAPACITY]
            room = (memory.size - RING_HEADER_BYTES) // RECORD_BYTES
        if capacity < 2 or capacity & (capacity - 1) or capacity > room:
            raise ValueError(f"tick ring: {memory.size} bytes, capacity {capacity}")
        self.memory, self.words, self.capacity, self.mask = (
            memory, memory.words, capacity, capacity - 1,
        )  # fmt: skip
        self.data, self.space = Futex(memory, _DATA_FUTEX), Futex(memory, _SPACE_FUTEX)

    @property
    def state(self) -> tuple[int, int, int | None, int]:
        """``(published, next_seq, end_seq or None, heartbeat_ns)``."""
        words, end = self.words, self.words[END_SEQ]
        return (
            words[PUBLISHED],
            words[NEXT_SEQ],
            None if end == NO_END else end,
            self.memory.signed[HEARTBEAT],
        )

    @property
    def policy(self) -> int:
        """READER_LOSSLESS (1) or READER_LATEST (2)."""
        return self.memory.halves[_POLICY]

    @staticmethod
    def slot(slot: int) -> int:
        """Offset of a reader slot."""
        if not 0 <= slot < MAX_READERS:
            raise IndexError(slot)
        return _READERS + slot * _READER_BYTES

    def reader(self, slot: int) -> tuple[int, int, int, str]:
        """``(state, cursor, lost, name)`` of a reader slot."""
        at = self.slot(slot)
        name = bytes(self.memory.bytes[at + _NAME : at + _NAME + READER_NAME_BYTES])
        return (
            self.memory.halves[at // 4],
            self.words[at // 8 + 1],
            self.words[at // 8 + 2],
            name.rstrip(b"\0").decode(errors="replace"),
        )

    def set_reader(
        self, slot: int, state: int, cursor: int | None = None, name: str | None = None
    ) -> None:
        """Register (state 1 or 2) or free (0) a reader slot, whose lock must be held.

        A ``name`` makes it a new reader's slot and resets its count of lost ticks.
        """
        at = self.slot(slot)
        if cursor is not None:
            self.words[at // 8 + 1] = cursor
        if name is not None:
            raw = name.encode()
            if not 0 < len(raw) <= READER_NAME_BYTES:
                raise ValueError(f"reader name {name!r}: 1 to {READER_NAME_BYTES} bytes")
            padded = raw.ljust(READER_NAME_BYTES, b"\0")
            self.memory.bytes[at + _NAME : at + _NAME + READER_NAME_BYTES] = padded
            self.words[at // 8 + 2] = 0
        self.memory.halves[at // 4] = state
        self.space.wake()

    def record_at(self, position: int) -> int:
        """Index of a record's first word."""
        return FIRST_RECORD + (position & self.mask) * _RECORD_WORDS

    def is_sealed(self, position: int) -> bool:
        """Whether the seal of a record fits."""
        event_ns, price, seq, rest = self.words[
            self.record_at(position) : self.record_at(position) + _RECORD_WORDS
        ].tolist()
        return seal_of(event_ns, price, seq, rest >> 16) == rest & 0xFFFF


class TickWriter(RingView):
    """Parses the feed straight into the book and the ring; one per stack."""

    def __init__(self, ring: Bytes, book: Bytes, parser: FieldParser) -> None:
        super().__init__(ring)
        self._book, self._parser, self._limit = BookView(book), parser, 0
        if self._book.memory.readonly:
            raise BufferError("Object is not writable.")
        self._times: BatchTimes | None = None
        if parser.symbol_count != self._book.count:
            raise ValueError("parser and book have different symbols")
        self._take_over()

    def note_times(self, times: BatchTimes) -> None:
        """From now on, note in ``times`` when each burst of ticks was received and published."""
        self._times = times

    def _take_over(self) -> None:
        """Continue after the last tick in the ring; check that the header fits to it."""
        words = self.words
        seq, skipped = words[NEXT_SEQ], words[SKIPPED]
        published, claimed, end_seq = words[PUBLISHED], words[CLAIMED], words[END_SEQ]
        expected = published + skipped & WORD
        # A writer killed after publishing ticks may not have stored next_seq: take it from the last
        # tick.  (That record is intact: a burst overwrites at most the oldest quarter of the ring.)
        if published:
            last_seq = words[self.record_at(published - 1) + 2]
            seq = max(seq, last_seq + 1 & WORD)
            if not self.is_sealed(published - 1) or last_seq < published - 1:
                raise Damaged(f"tick ring: record {published - 1} does not fit to the header")
        if (
            not published <= seq <= expected
            or not published <= claimed <= published + self.capacity
            or end_seq not in (NO_END, seq)
        ):
            raise Damaged(
                f"tick ring: published {published}, skipped {skipped}, claimed {claimed}, next_seq "
                f"{words[NEXT_SEQ]} and end_seq {end_seq} do not fit"
            )
        # What this writer has written to the header; other words there are damage.
        self._published, self._claimed, self._next_seq = published, claimed, seq
        self._end_seq, self._skipped = end_seq, seq - published
        words[SKIPPED] = self._skipped
        words[NEXT_SEQ] = seq

    def _is_intact(self) -> bool:
        """Whether the header holds what this writer has written."""
        words = self.words
        return (
            words[PUBLISHED] == self._published
            and words[CLAIMED] == self._claimed
            and words[NEXT_SEQ] == self._next_seq
            and words[END_SEQ] == self._end_seq
            and words[SKIPPED] == self._skipped
        )

    def check(self) -> None:
        """Check that the ring's header holds what this writer has written.

        Raises:
            Damaged: it does not.
        """
        if not self._is_intact():
            words = self.words
            raise Damaged(
                f"tick ring: published {words[PUBLISHED]}, claimed {words[CLAIMED]}, next_seq "
                f"{words[NEXT_SEQ]}, end_seq {words[END_SEQ]} and skipped {words[SKIPPED]}; the "
                f"writer wrote {self._published}, {self._claimed}, {self._next_seq}, "
                f"{self._end_seq} and {self._skipped}"
            )

    def _writable_to(self) -> int:
        """The first position that must not be written: one capacity past the slowest reader.

        While at most half the ring is filled, a new reader may start at tick 0 (TickRing.register),
        so tick 0 is not overwritten either.
        """
        published = self.words[PUBLISHED]
        if published <= self.capacity // 2:
            return self.capacity
        return published - self.lag() + self.capacity

    def _push_span(self, data: bytes, at: int, recv_ns: int) -> tuple[int, int]:
        """Parse, write book and ring, publish, wake; return where and why it stopped."""
        words = self.words
        position, seq, stop = words[PUBLISHED], words[NEXT_SEQ], GOES_ON
        burst = max(1, min(BURST_TICKS, self.capacity // 4))
        if not self._is_intact():
            return at, DAMAGED
        while stop == GOES_ON:
            if position >= self._limit:
                self._limit = self._writable_to()
                if position >= self._limit:
                    stop = FULL
                    break
            # Publish after each burst, so that readers start while we are still parsing.
            goal = min(self._limit, position + burst)
            if goal > self._claimed:  # a writer that died may have claimed more
                self._claimed = goal
                words[CLAIMED] = goal
            ticks, at, stop = self._parser.read_ticks(data, at, goal - position)
            self._write(position, seq, ticks, recv_ns)
            position, seq = position + len(ticks), seq + len(ticks)
            if self._times is not None and ticks:
                # Before anybody sees the ticks: whoever decides on them finds the time.
                self._times.note(self._next_seq, seq, recv_ns, time.monotonic_ns())
            self._published, self._next_seq = position, seq
            words[PUBLISHED] = position
            words[NEXT_SEQ] = seq
            self.data.wake()
        self.memory.signed[HEARTBEAT] = recv_ns
        self._book.set_heartbeat(recv_ns)
        return at, stop

    def _write(
        self, position: int, seq: int, ticks: list[tuple[int, int, float]], recv_ns: int
    ) -> None:
        """Write ticks into the ring, and each into the book."""
        words, signed, doubles = self.words, self.memory.signed, self.memory.doubles
        recv_us = recv_ns // 1000 & 0xFFFFFFFF
        store = self._book.store
        for event_ns, symbol, price in ticks:
            at = self.record_at(position)
            rest = recv_us << 16 | symbol
            signed[at] = event_ns
            doubles[at + 1] = price
            words[at + 2] = seq
            words[at + 3] = rest << 16 | seal_of(event_ns, words[at + 1], seq, rest)
            store(symbol, price, event_ns, recv_ns, seq)
            position += 1
            seq += 1

    def push(self, buffer: Bytes, start: int, end: int, recv_ns: int) -> tuple[int, int, int]:
        """Parse, write book and ring, publish, wake; ``(ticks, position, stop)`` as parse_ticks.

        FULL: a lossless reader has not read enough; call wait_space, then push the rest.

        Raises:
            Damaged: as :meth:`check`; nothing was written.
        """
        data, first = payload(buffer, start, end), self.words[PUBLISHED]
        at, stop = self._push_span(data, 0, recv_ns)
        if stop == DAMAGED:
            self.check()
        return self.words[PUBLISHED] - first, start + at, stop

    def receive(
        self,
        descriptor: int,
        buffer: Bytes,
        fill: int,
        piece_bytes: int,
        until_ns: int,
        buckets: npt.NDArray[Any],
    ) -> tuple[int, int, int, int, int, int, int, int]:
        """Receive from a socket and push, until ``until_ns`` or until the parser needs the caller.

        ``buffer[:fill]`` is an unfinished tick.  Each receive waits for the socket's timeout; the
        call ends when nothing arrives.  Returns ``(received, ticks, position, fill, stop, first_ns,
        recv_ns, pieces)``: bytes received (0: closed by the peer; negative: -errno); ticks written;
        where parsing stopped (0 at NEED_MORE), the bytes in the buffer, and why; CLOCK_MONOTONIC of
        the first receive that brought ticks and of the last that brought bytes; number of receives
        that brought ticks.  Their times from receipt to publication go into ``buckets``.

        Raises:
            Damaged: as :meth:`check`.
        """
        view, first = memoryview(buffer), self.words[PUBLISHED]
        room, received, at = len(view) - PARSE_SLACK_BYTES, 0, 0
        first_ns = recv_ns = pieces = 0
        stop = NEED_MORE
        if fill < 0 or fill + piece_bytes > room or piece_bytes < 1:
            raise ValueError(f"{fill} bytes and a piece of {piece_bytes} in a buffer for {room}")
        while stop == NEED_MORE and fill + piece_bytes <= room:
            got = _receive(descriptor, view[fill : fill + piece_bytes])
            if got <= 0:
                received = received or got
                break
            recv_ns = time.monotonic_ns()
            received += got
            fill += got
            before = self.words[PUBLISHED]
            at, stop = self._push_span(bytes(view[:fill]), 0, recv_ns)
            now_ns = time.monotonic_ns()
            if self.words[PUBLISHED] != before:
                pieces += 1
                first_ns = first_ns or recv_ns
                record_latency(buckets, now_ns - recv_ns)
            if stop == NEED_MORE:
                rest = bytes(view[at:fill])
                view[: len(rest)] = rest
                fill, at = len(rest), 0
            if now_ns >= until_ns:
                break
        if stop == DAMAGED:
            self.check()
        ticks = self.words[PUBLISHED] - first
        return received, ticks, at, fill, stop, first_ns, recv_ns, pieces

    def lag(self) -> int:
        """Ticks that the slowest lossless reader has not taken yet."""
        published = self.words[PUBLISHED]
        last = _READERS + MAX_READERS * _READER_BYTES
        states = self.memory.halves[_READERS // 4 : last // 4 : _READER_BYTES // 4].tolist()
        cursors = self.words[_READERS // 8 + 1 : last // 8 : _READER_BYTES // 8].tolist()
        return max(
            (published - cursor for state, cursor in zip(states, cursors, strict=True)
             if state == LOSSLESS and cursor < published),
            default=0,
        )  # fmt: skip

    def set_next_seq(self, seq: int) -> None:
        """The next tick is ``seq``, not below the present one: ticks before it were refused."""
        if seq < self._next_seq:
            raise ValueError(f"next_seq {seq}: below {self._next_seq}")
        self._next_seq, self._skipped = seq, seq - self._published
        self.words[SKIPPED] = self._skipped
        self.words[NEXT_SEQ] = seq

    def finish(self, seq: int) -> None:
        """The run is over after ``seq`` ticks."""
        self._end_seq = seq
        self.words[END_SEQ] = seq
        self.data.wake()

    def heartbeat(self) -> None:
        """Publish the writer's heartbeat."""
        self.memory.signed[HEARTBEAT] = time.monotonic_ns()
        self._book.heartbeat()

    def wait_space(self, timeout_ns: int) -> bool:
        """Sleep until the slowest lossless reader has advanced; return whether there is space."""
        seen = self.space.announce()
        if self._writable_to() <= self.words[PUBLISHED]:
            self.space.wait(seen, timeout_ns)
        self._limit = self._writable_to()
        return self._limit > self.words[PUBLISHED]


def _receive(descriptor: int, piece: memoryview) -> int:
    """Bytes received into ``piece``; 0: closed by the peer; negative: -errno."""
    try:
        return os.readv(descriptor, [piece])
    except OSError as error:
        return -(error.errno or errno.EIO)
