"""The twin of the trace's rings; see :mod:`tests.support.kernel.twin`.

It works on the same bytes and takes its offsets from the diagram in ``app/kernel/trace.h``.
"""

import json
import struct
from collections.abc import Container, Sequence
from typing import Any

WORD = 2**64 - 1
RECORD_BYTES, BATCH_BYTES, HEAD_BYTES, CLIENT_BYTES = 192, 32, 64, 64
SENT, HANDLED, ACKED = 1, 2, 3
OK, DUPLICATE = 1, 2
STEPS_MAX = 8192


def seal_of(body: bytes, stamp: int) -> int:
    """The hash of a record behind its seal, at its place in the ring's life."""
    seal = stamp * 0x9E3779B97F4A7C15 & WORD
    for (word,) in struct.iter_unpack("<Q", body):
        seal = (seal ^ word) * 0xD6E8FEB86659FD93 & WORD
        seal ^= seal >> 32
    return seal


class BatchTimes:
    """See the kernel."""

    def __init__(self, memory: Any) -> None:
        self._memory = memory
        self._capacity = (len(memory) - HEAD_BYTES) // BATCH_BYTES
        if self._capacity < 2:
            raise ValueError("times of batches")

    def _batch(self, number: int) -> tuple[int, int, int, int]:
        offset = HEAD_BYTES + number % self._capacity * BATCH_BYTES
        first, end, at_ns, done_ns = struct.unpack_from("<QQqq", self._memory, offset)
        return first, end, at_ns, done_ns

    def note(self, first_seq: int, end_seq: int, at_ns: int, done_ns: int = 0) -> None:
        """See the kernel."""
        (count,) = struct.unpack_from("<Q", self._memory, 0)
        offset = HEAD_BYTES + count % self._capacity * BATCH_BYTES
        struct.pack_into("<QQqq", self._memory, offset, first_seq, end_seq, at_ns, done_ns)
        struct.pack_into("<Q", self._memory, 0, count + 1)

    def find(self, seq: int, limit_ns: int) -> tuple[int, int] | None:
        """See the kernel."""
        (count,) = struct.unpack_from("<Q", self._memory, 0)
        oldest = count - self._capacity + 1 if count >= self._capacity else 0
        kept = [self._batch(number) for number in range(oldest, count)]
        early = [batch for batch in kept if batch[2] <= limit_ns][-STEPS_MAX:]
        for first, end, at_ns, done_ns in reversed(early):
            if first <= seq < end:
                return at_ns, done_ns
        return None


class OrderTrace:
    """See the kernel."""

    def __init__(self, memory: Any) -> None:
        self._memory = memory
        self._capacity = (len(memory) - HEAD_BYTES) // RECORD_BYTES
        if not self._capacity:
            raise ValueError("trace of orders")

    def append(
        self, kind: int, flags: int, order_id: int, client: bytes, stages: Sequence[int]
    ) -> None:
        """See the kernel."""
        if len(client) > CLIENT_BYTES:
            raise ValueError("client")
        (position,) = struct.unpack_from("<Q", self._memory, 0)
        struct.pack_into("<Q", self._memory, 0, position + 1)
        body = struct.pack("<qII10q16x64s", order_id, kind, flags, *stages, client)
        offset = HEAD_BYTES + position % self._capacity * RECORD_BYTES
        head = struct.pack("<QQ", position + 1, seal_of(body, position + 1))
        self._memory[offset : offset + RECORD_BYTES] = head + body

    def sent(
        self,
        client: bytes,
        orders: Sequence[Any],
        intents: Sequence[Any],
        first: int,
        decided_ns: int,
        sent_ns: int,
        gateway: BatchTimes | None,
        orderbook: BatchTimes | None,
    ) -> None:
        """See the kernel."""
        if first < len(orders) and len(intents) != len(orders):
            raise ValueError("intents")
        for order, intent in list(zip(orders, intents, strict=False))[first:]:
            stages = [0] * 10
            stages[4:6] = decided_ns, sent_ns
            if orderbook is not None:
                age_us = (sent_ns // 1000 - intent.recv_us) % 2**32
                received_ns = (sent_ns // 1000 - age_us) * 1000
                published = orderbook.find(intent.seq, received_ns + 999)
                if published and published[0] >= received_ns:
                    received_ns, stages[3] = published
                stages[2] = received_ns
                sent = gateway.find(intent.seq, received_ns) if gateway else None
                if sent:
                    stages[1] = sent[0]
            self.append(SENT, 0, order[0], client, stages)

    def acked(
        self,
        client: bytes,
        orders: Sequence[Any],
        answers: Sequence[Any],
        due_ns: Sequence[int],
        sent_ns: Sequence[int],
        acked_ns: int,
    ) -> None:
        """See the kernel."""
        if not len(orders) == len(answers) == len(due_ns) == len(sent_ns):
            raise ValueError("answers")
        for order, answer, due, sent in zip(orders, answers, due_ns, sent_ns, strict=True):
            flags = OK * answer.ok + DUPLICATE * answer.duplicate
            stages = [due, 0, 0, 0, 0, sent, 0, 0, 0, acked_ns]
            self.append(ACKED, flags, order[0], client, stages)

    def handled(
        self,
        answers: Sequence[tuple[Any, bytes]],
        only: Container[int] | None,
        committed_ns: int,
        sent_ns: int,
        repeats: "OrderTrace",
    ) -> None:
        """See the kernel."""
        for session, frame in answers:
            answer = json.loads(frame[:-1])
            order = answer.get("order")
            if order is None or (only is not None and order["id"] not in only):
                continue
            duplicate = bool(answer.get("duplicate"))
            ring = repeats if duplicate else self
            flags = OK * answer["ok"] + DUPLICATE * duplicate
            stages = [0, 0, 0, 0, 0, 0, session.last_ns, committed_ns, sent_ns, 0]
            ring.append(HANDLED, flags, order["id"], order["client"].encode(), stages)
