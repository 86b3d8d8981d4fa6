"""Read the trace: the records of an order, put together into its attempts.

Readers take no lock and disturb nobody.  A record that is being written, or that two writers have
written at once, is left out: its seal does not fit.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from app.model.orders import tick_of_order_id
from app.runtime.trace.layout import (
    ACKED,
    DUPLICATE,
    HANDLED,
    OK,
    RECORD_DTYPE,
    RING_HEAD_BYTES,
    SENT,
    STAGE_NAMES,
    Layout,
    TraceError,
    check_header,
)
from app.shared_memory_utils.segment import Segment, SegmentMissing

READS_MAX: Final = 5
"""Of a ring in which records are being written."""
SEAL_FACTOR_1: Final = np.uint64(0x9E3779B97F4A7C15)
SEAL_FACTOR_2: Final = np.uint64(0xD6E8FEB86659FD93)

DUE, TICK_SENT = STAGE_NAMES.index("due"), STAGE_NAMES.index("tick_sent")
ORDER_SENT, ORDER_RECEIVED = STAGE_NAMES.index("order_sent"), STAGE_NAMES.index("order_received")
ACK_SENT, ACK_RECEIVED = STAGE_NAMES.index("ack_sent"), STAGE_NAMES.index("ack_received")

BY_STRATEGY: Final = frozenset({"decided", "order_sent", "ack_received"})

Records = npt.NDArray[np.void]


class Step(NamedTuple):
    """One record of an order; ``again``: from the ring of repeats."""

    kind: int
    flags: int
    stages: tuple[int, ...]
    again: bool = False


class Attempt(msgspec.Struct, omit_defaults=True):
    """One time that an order was sent.

    ``stage_ns``: CLOCK_MONOTONIC of what is known, in the order of
    :data:`app.runtime.trace.layout.STAGES`.  ``ok``: the answer, None if none has come.
    ``repeated``: the order manager had decided on it before, and answered from its store.
    ``recovery``: sent again by a restarted strategy that went through the run from its start.
    """

    stage_ns: dict[str, int]
    ok: bool | None = None
    repeated: bool = False
    recovery: bool = False

    def between_ns(self, first: str, second: str) -> int | None:
        """The time from one stage to another; None unless both are known."""
        if first in self.stage_ns and second in self.stage_ns:
            return self.stage_ns[second] - self.stage_ns[first]
        return None


class OrderTimes(msgspec.Struct):
    """What is known of one order: its attempts, first to last."""

    client: str
    id: int
    attempts: list[Attempt]

    @property
    def tick(self) -> int | None:
        """The tick of a strategy's order; None for an order of anybody else."""
        known = {name for attempt in self.attempts for name in attempt.stage_ns}
        return tick_of_order_id(self.id) if known & BY_STRATEGY else None

    @property
    def begin_ns(self) -> int:
        """The earliest time that is known."""
        return min(at for attempt in self.attempts for at in attempt.stage_ns.values())


def trace_of(segment_name: str, order_id: int, client: str | None = None) -> list[OrderTimes]:
    """The orders of this id, one for each client that used it; empty if the ring has none.

    ``client``: only of this one; a strategy's name also stands for its name with ``@`` and hash.

    Raises:
        TraceError: there is no segment, or it is of another build.
        SegmentError: it cannot be attached.
    """
    records = [(found[found["id"] == order_id], again) for found, again in _read(segment_name)]
    return [
        order
        for order in _assemble_all(records)
        if client is None or client in (order.client, order.client.partition("@")[0])
    ]


def read_orders(segment_name: str, newest: int | None = None) -> list[OrderTimes]:
    """All orders in the segment, or the ``newest``, the latest last.

    Raises:
        TraceError, SegmentError: as :func:`trace_of`.
    """
    orders = sorted(_assemble_all(_read(segment_name)), key=lambda order: order.begin_ns)
    return orders if newest is None else orders[len(orders) - min(newest, len(orders)) :]


def _read(segment_name: str) -> list[tuple[Records, bool]]:
    """The whole records of both rings, and whether it is that of repeats."""
    try:
        segment = Segment.attach(segment_name, writable=False)
    except SegmentMissing:
        raise TraceError(
            f"trace segment {segment_name} does not exist: nothing runs here, or with "
            "TRACE_ORDERS=0"
        ) from None
    try:
        layout = check_header(segment_name, segment.buf)
        return [(_whole(segment, layout, repeats=again), again) for again in (False, True)]
    finally:
        segment.close()


def _whole(segment: Segment, layout: Layout, *, repeats: bool) -> Records:
    ring = layout.ring(segment.buf, repeats=repeats)
    try:
        for _ in range(READS_MAX):
            records, torn = whole_records(bytes(ring[RING_HEAD_BYTES:]))
            if not torn:
                break
        return records
    finally:
        ring.release()


def whole_records(memory: bytes) -> tuple[Records, int]:
    """The records that fit to their seals and places, in no order, and how many do not."""
    records = np.frombuffer(memory, RECORD_DTYPE)
    words = np.frombuffer(memory, np.uint64).reshape(len(records), -1)
    stamps = words[:, 0]
    with np.errstate(over="ignore"):
        seals = stamps * SEAL_FACTOR_1
        for column in range(2, words.shape[1]):
            seals = (seals ^ words[:, column]) * SEAL_FACTOR_2
            seals ^= seals >> np.uint64(32)
        places = (stamps - np.uint64(1)) % np.uint64(len(records))
    written = stamps != 0
    fits = written & (seals == words[:, 1]) & (places == np.arange(len(records), dtype=np.uint64))
    return records[fits], int(np.count_nonzero(written & ~fits))


def _assemble_all(found: Iterable[tuple[Records, bool]]) -> list[OrderTimes]:
    steps: dict[tuple[bytes, int], list[Step]] = defaultdict(list)
    for records, again in found:
        for client, order_id, kind, flags, stages in zip(
            records["client"].tolist(),
            records["id"].tolist(),
            records["kind"].tolist(),
            records["flags"].tolist(),
            records["stage_ns"].tolist(),
            strict=True,
        ):
            steps[client, order_id].append(Step(kind, flags, tuple(stages), again))
    return [
        OrderTimes(client.decode("utf-8", "replace"), order_id, attempts)
        for (client, order_id), of_order in steps.items()
        if (attempts := assemble(of_order))
    ]


class _Open(msgspec.Struct):
    """An attempt under construction."""

    stages: list[int]
    ok: bool | None = None
    repeated: bool = False
    recovery: bool = False

    def take(self, step: Step) -> None:
        """Add what ``step`` knows and this attempt does not."""
        self.stages = [old or new for old, new in zip(self.stages, step.stages, strict=True)]

    @property
    def begin_ns(self) -> int:
        """When it was sent, or received if only that is known."""
        return self.stages[ORDER_SENT] or self.stages[ORDER_RECEIVED]


def assemble(steps: Iterable[Step]) -> list[Attempt]:
    """The attempts of one order from its records, in any order.

    A record may be missing: its writer was killed, or the ring has come round.  What the order
    manager says belongs to the last attempt sent before it.
    """
    kinds: dict[int, list[Step]] = defaultdict(list)
    for step in steps:
        kinds[step.kind].append(step)
    attempts = [
        _Open(list(step.stages), recovery=step.again)
        for step in sorted(kinds[SENT], key=lambda step: step.stages[ORDER_SENT])
    ]
    for step in sorted(kinds[ACKED], key=lambda step: step.stages[ORDER_SENT]):
        sent_ns = step.stages[ORDER_SENT]
        attempt = next((each for each in attempts if each.stages[ORDER_SENT] == sent_ns), None)
        if attempt is None:
            attempt = _Open(list(step.stages), recovery=step.again)
            attempts.append(attempt)
        attempt.take(step)
        attempt.ok = bool(step.flags & OK)
        attempt.repeated = bool(step.flags & DUPLICATE)
    for step in sorted(kinds[HANDLED], key=lambda step: step.stages[ORDER_RECEIVED]):
        attempt = _unhandled(attempts, step.stages[ORDER_RECEIVED])
        if attempt is None or step.stages[ACK_SENT] > (attempt.stages[ACK_RECEIVED] or 1 << 62):
            attempt = _Open(list(step.stages))
            attempts.append(attempt)
        attempt.take(step)
        attempt.repeated = bool(step.flags & DUPLICATE)
    _share_due(attempts)
    attempts.sort(key=lambda attempt: attempt.begin_ns)
    return [_closed(attempt) for attempt in attempts]


def _unhandled(attempts: list[_Open], until_ns: int) -> _Open | None:
    """The last attempt sent until then, unless it was received before."""
    before = [each for each in attempts if 0 < each.stages[ORDER_SENT] <= until_ns]
    if not before:
        return None
    last = max(before, key=lambda each: each.stages[ORDER_SENT])
    return None if last.stages[ORDER_RECEIVED] else last


def _share_due(attempts: list[_Open]) -> None:
    """The due time comes with the answer, but an attempt without one has the same tick."""
    due = next((each.stages[DUE] for each in attempts if each.stages[DUE]), 0)
    for attempt in attempts:
        if not attempt.stages[DUE] and 0 < due <= attempt.stages[TICK_SENT]:
            attempt.stages[DUE] = due


def _closed(attempt: _Open) -> Attempt:
    known = {n: at for n, at in zip(STAGE_NAMES, attempt.stages, strict=True) if at}
    return Attempt(known, attempt.ok, attempt.repeated, attempt.recovery)
