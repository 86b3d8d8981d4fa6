"""The trace of orders in shared memory: rings of records and of the times of batches."""

import struct
import time
from collections.abc import Container, Sequence
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, Final, NamedTuple

from app.kernel.plain.memory import (
    SEAL_FACTOR_1,
    SEAL_FACTOR_2,
    WORD,
    Bytes,
    Memory,
    Turns,
)
from app.kernel.plain.orders import Intent

TRACE_STAGES: Final = 10
TRACE_CLIENT_BYTES: Final = 64
TRACE_HEAD_BYTES: Final = 64
TRACE_RECORD_BYTES: Final = 192
TRACE_BATCH_BYTES: Final = 32
TRACE_SENT, TRACE_HANDLED, TRACE_ACKED = 1, 2, 3
TRACE_OK, TRACE_DUPLICATE = 1, 2

# Indexes of an order's times.
(DUE, TICK_SENT, TICK_RECEIVED, PUBLISHED, DECIDED, ORDER_SENT, ORDER_RECEIVED, COMMITTED, ACK_SENT,
 ACK_RECEIVED) = range(TRACE_STAGES)  # fmt: skip

_HEAD_WORDS, _RECORD_WORDS, _BATCH_WORDS = 8, TRACE_RECORD_BYTES // 8, TRACE_BATCH_BYTES // 8
_BODY: Final = struct.Struct("<qII10q16x64s")
_BATCHES_NEAR: Final = 8
_BATCH_STEPS_MAX: Final = 8192
"""Of a search: as many batches may be on their way at once."""

_ACKED_HEAD: Final = b'{"ok":true,"order":{"id":'
_ORDER_MEMBER: Final = b'"order":{"id":'
_CLIENT_MEMBER: Final = b',"client":"'
_DUPLICATE_TAIL: Final = b',"duplicate":true}*'
_ANSWER_BYTES_MIN: Final = 64
_ID_LIMIT: Final = 1 << 58


class BatchTimes:
    """When batches of ticks were handed on, by one process; the latest of them."""

    def __init__(self, memory: Bytes) -> None:
        self._memory = Memory(memory, writable=True)
        self._capacity = (self._memory.size - TRACE_HEAD_BYTES) // TRACE_BATCH_BYTES
        if self._capacity < 2:
            raise ValueError(f"times of batches: {self._memory.size} bytes")

    def _at(self, number: int) -> int:
        return _HEAD_WORDS + number % self._capacity * _BATCH_WORDS

    def note(self, first_seq: int, end_seq: int, at_ns: int, done_ns: int = 0) -> None:
        """Note the batch of the ticks below ``end_seq``; ``at_ns`` never falls."""
        words, signed = self._memory.words, self._memory.signed
        count = words[0]
        at = self._at(count)
        words[at], words[at + 1] = first_seq, end_seq
        signed[at + 2], signed[at + 3] = at_ns, done_ns
        words[0] = count + 1

    def find(self, seq: int, limit_ns: int) -> tuple[int, int] | None:
        """``(at_ns, done_ns)`` of the latest batch up to ``limit_ns`` that has the tick; or None.

        The oldest entry may be in work, so it is left out; a writer that laps the search makes the
        result void.
        """
        words, signed = self._memory.words, self._memory.signed
        count = words[0]
        oldest = count - self._capacity + 1 if count >= self._capacity else 0
        end = self._end_of(oldest, count, limit_ns)
        for number in range(end - 1, max(oldest, end - _BATCH_STEPS_MAX) - 1, -1):
            at = self._at(number)
            if words[at] <= seq < words[at + 1]:
                found = signed[at + 2], signed[at + 3]
                return found if words[0] < number + self._capacity else None
        return None

    def _end_of(self, low: int, high: int, limit_ns: int) -> int:
        """One past the last batch that is not later."""
        signed = self._memory.signed
        # Mostly it is one of the latest.
        for _ in range(_BATCHES_NEAR):
            if high <= low or signed[self._at(high - 1) + 2] <= limit_ns:
                return high
            high -= 1
        while low < high:
            middle = (low + high) // 2
            if signed[self._at(middle) + 2] <= limit_ns:
                low = middle + 1
            else:
                high = middle
        return low


class _Answer(NamedTuple):
    """What the trace takes from an order's answer."""

    order_id: int
    client: bytes
    flags: int


class OrderTrace:
    """A ring of what happened to orders, one record for each step; any process may write.

    Beside a process with the compiled kernel, a record may be lost: see :class:`Turns`.
    """

    def __init__(self, memory: Bytes) -> None:
        self._memory = Memory(memory, writable=True)
        self._capacity = (self._memory.size - TRACE_HEAD_BYTES) // TRACE_RECORD_BYTES
        if self._capacity < 1:
            raise ValueError(f"trace of orders: {self._memory.size} bytes")
        self._turns = Turns(memory)

    def _claim(self, count: int) -> int:
        """The first position of ``count`` slots that now belong to the caller."""
        with self._turns.turn():
            position = self._memory.words[0]
            self._memory.words[0] = position + count & WORD
        return position

    def _put(
        self,
        position: int,
        kind: int,
        flags: int,
        order_id: int,
        client: bytes,
        stages: Sequence[int],
    ) -> None:
        """Withdraw the stamp, write the record, store the stamp."""
        body = _BODY.pack(order_id, kind, flags, *stages, client)
        stamp = position + 1
        at = _HEAD_WORDS + position % self._capacity * _RECORD_WORDS
        words = self._memory.words
        words[at] = 0
        words[at + 1] = _seal_of(body, stamp)
        self._memory.bytes[8 * (at + 2) : 8 * (at + _RECORD_WORDS)] = body
        words[at] = stamp

    def append(
        self, kind: int, flags: int, order_id: int, client: bytes, stages: Sequence[int]
    ) -> None:
        """Write one record; ``stages``: all times, in ns, 0 for what is not known."""
        _check_client(client)
        times = [stages[i] for i in range(TRACE_STAGES)]
        self._put(self._claim(1), kind, flags, order_id, client, times)

    def sent(
        self,
        client: bytes,
        orders: Sequence[tuple[Any, ...]],
        intents: Sequence[Intent],
        first: int,
        decided_ns: int,
        sent_ns: int,
        gateway: BatchTimes | None,
        orderbook: BatchTimes | None,
    ) -> None:
        """The orders from ``first`` on were sent; ``orders``: tuples that begin with the id.

        ``gateway``, ``orderbook``: when the ticks were sent and published; None: not known.
        """
        if first >= len(orders):
            return
        if len(intents) != len(orders):
            raise ValueError(f"{len(intents)} intents for {len(orders)} orders")
        _check_client(client)
        position = self._claim(len(orders) - first)
        for i in range(first, len(orders)):
            stages = [0] * TRACE_STAGES
            stages[DECIDED], stages[ORDER_SENT] = decided_ns, sent_ns
            if orderbook is not None:
                _add_ticks_way(stages, intents[i], sent_ns // 1000, gateway, orderbook)
            self._put(position, TRACE_SENT, 0, orders[i][0], client, stages)
            position += 1

    def acked(
        self,
        client: bytes,
        orders: Sequence[tuple[Any, ...]],
        answers: Sequence[Any],
        due_ns: Sequence[int],
        sent_ns: Sequence[int],
        acked_ns: int,
    ) -> None:
        """The answers have come; ``due_ns``: of each tick, 0 if it has no time.

        ``sent_ns``: when each order was sent, the last time.
        """
        count = len(orders)
        if not len(answers) == len(due_ns) == len(sent_ns) == count:
            raise ValueError(f"{len(answers)} answers for {count} orders, or as many times")
        if not count:
            return
        _check_client(client)
        position = self._claim(count)
        for i, answer in enumerate(answers):
            flags = TRACE_OK * bool(answer.ok) | TRACE_DUPLICATE * bool(answer.duplicate)
            stages = [0] * TRACE_STAGES
            stages[DUE], stages[ORDER_SENT] = due_ns[i], sent_ns[i]
            stages[ACK_RECEIVED] = acked_ns
            self._put(position + i, TRACE_ACKED, flags, orders[i][0], client, stages)

    def handled(
        self,
        answers: Sequence[tuple[Any, bytes]],
        only: Container[int] | None,
        committed_ns: int,
        sent_ns: int,
        repeats: "OrderTrace",
    ) -> None:
        """The order manager sends ``answers`` now: of each, its session and its frame.

        ``only``: ids of the orders among them, None: all.  A repeated answer goes into ``repeats``.
        """
        for session, frame in answers:
            answer = _read_answer(frame)
            if answer is None or (only is not None and answer.order_id not in only):
                continue
            stages = [0] * TRACE_STAGES
            stages[ORDER_RECEIVED], stages[COMMITTED] = session.last_ns, committed_ns
            stages[ACK_SENT] = sent_ns
            ring = repeats if answer.flags & TRACE_DUPLICATE else self
            ring.append(TRACE_HANDLED, answer.flags, answer.order_id, answer.client, stages)


class AnswerNotes:
    """What the order manager notes between commit and ACK, with one call."""

    def __init__(self, orders: OrderTrace, repeats: OrderTrace) -> None:
        self._orders, self._repeats = orders, repeats

    def note(self, answers: list[tuple[Any, bytes]], counts: Any, events: list[Any]) -> None:
        """``answers`` are sent now.  ``counts``: of the batch; ``events``: its events for the log.

        A batch without a commit has orders that were committed before.
        """
        sent_ns = time.monotonic_ns()
        only = None
        if counts.orders_acked + counts.orders_duplicate != len(answers):
            # Others look alike: the answer to a cancel has the order, too.
            only = {event[1].id for event in events if isinstance(event, tuple)}
        committed_ns = counts.committed_ns or sent_ns
        self._orders.handled(answers, only, committed_ns, sent_ns, self._repeats)


def _seal_of(body: bytes, stamp: int) -> int:
    """The hash of a record behind its seal, at its place in the ring's life."""
    seal = stamp * SEAL_FACTOR_1 & WORD
    for (word,) in struct.iter_unpack("<Q", body):
        seal = (seal ^ word) * SEAL_FACTOR_2 & WORD
        seal ^= seal >> 32
    return seal


def _check_client(client: bytes) -> None:
    if len(client) > TRACE_CLIENT_BYTES:
        raise ValueError(f"client of {len(client)} bytes")


def _add_ticks_way(
    stages: list[int],
    intent: Intent,
    now_us: int,
    gateway: BatchTimes | None,
    orderbook: BatchTimes,
) -> None:
    """Where the tick of an order was before its order was sent."""
    # The record of the tick has microseconds, and wraps every hour.
    received_ns = (now_us - (now_us - intent.recv_us) % 2**32) * 1000
    published = orderbook.find(intent.seq, received_ns + 999)
    if published is not None and published[0] >= received_ns:
        received_ns, stages[PUBLISHED] = published
    stages[TICK_RECEIVED] = received_ns
    sent = gateway.find(intent.seq, received_ns) if gateway is not None else None
    if sent is not None:
        stages[TICK_SENT] = sent[0]


def _read_answer(frame: bytes) -> _Answer | None:
    """Id, client and flags of an answer to an order; None if it is another."""
    if len(frame) < _ANSWER_BYTES_MIN:
        return None
    flags = 0
    if frame.startswith(_ACKED_HEAD):
        flags, at = TRACE_OK, len(_ACKED_HEAD)
    else:
        # Inside a JSON string, each quote has a backslash before it.
        at = frame.find(_ORDER_MEMBER)
        if at < 0:
            return None
        at += len(_ORDER_MEMBER)
    number = 0
    while frame[at : at + 1].isdigit() and number < _ID_LIMIT:
        number = number * 10 + frame[at] - 48
        at += 1
    if not frame.startswith(_CLIENT_MEMBER, at):
        return None
    begin = at + len(_CLIENT_MEMBER)
    end = frame.find(b'"', begin)
    client = frame[begin : end if end >= 0 else len(frame)]
    if b"\\" in client:
        client = scanstring(frame[begin:].decode(), 0)[0].encode()
        _check_client(client)
    elif len(client) > TRACE_CLIENT_BYTES:
        return None
    if frame.endswith(_DUPLICATE_TAIL):
        flags |= TRACE_DUPLICATE
    return _Answer(number, client, flags)
