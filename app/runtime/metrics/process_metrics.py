"""Counters, states and latency histograms that every process keeps in shared memory.

Each process owns one block and writes it with plain stores; anyone may read at any time, and a
process that dies leaves its figures behind.  The names and the bytes stand in
:mod:`app.runtime.metrics.layout`.
"""

import contextlib
import os
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from app.runtime.metrics.histogram import Histogram, HistogramSnapshot
from app.runtime.metrics.layout import (
    BLOCK_COUNT,
    BLOCK_HEAD,
    BUCKET_SLOTS,
    CLAIM_LOCK_BYTE,
    CLAIMS,
    COUNTER_SLOTS,
    COUNTERS_OFFSET,
    HEARTBEAT,
    HISTOGRAMS_OFFSET,
    INSTANCE_SLICE,
    PID,
    RESTARTS,
    SEGMENT_BYTES,
    SERVICE_SLICE,
    STARTED,
    STATE,
    STATES,
    WORD,
    MetricsError,
    block_offset,
    check_header,
    counter_names,
    header_image,
    histogram_names,
    text_of,
)
from app.segment import Segment, SegmentMissing, create_or_attach

STAGE_COUNTER: Final = {
    "gateway": "ticks_sent",
    "orderbook": "ticks_received",
    "strategy": "ticks_consumed",
    "order_manager": "orders_received",
}
"""What each service's throughput counts; in the order in which the data flows."""

CLAIM_TIMEOUT_S = 5.0


class ProcessMetrics:
    """This process's block: the only writer of its counters.  Get one with :meth:`open`.

    Threads of one process must not write the same counter: ``add`` reads, adds and stores.
    """

    def __init__(self, segment: Segment, block: int, service: str, instance: str) -> None:
        self.service = service
        self.instance = instance
        self._segment = segment
        start = block_offset(block)
        self._index = {name: index for index, name in enumerate(counter_names(service))}
        counters = start + COUNTERS_OFFSET
        self._head = segment.buf[start : start + 8 * WORD].cast("Q")
        # Half the price of the same store through a numpy array: 80 against 160 ns.
        self._words = segment.buf[counters : counters + COUNTER_SLOTS * WORD].cast("Q")
        self._histograms = {
            name: Histogram(_histogram_words(segment, start, slot))
            for slot, name in enumerate(histogram_names(service))
        }
        self._closed = False

    @classmethod
    def open(cls, segment_name: str, service: str, instance: str = "") -> Self:
        """Create or attach the segment and claim a block in it.

        A block of the same service and instance whose owner has died is taken over and its counters
        go on, with ``restarts`` one higher.  Beside a living owner of that name, or for a new name,
        a fresh block is taken; if there is none, the one whose owner has been dead the longest.

        Raises:
            KeyError: no such service.
            MetricsError: another build's segment, or every block has a living owner.
            SegmentError: the segment cannot be created or attached.
        """
        counter_names(service)
        if len(instance.encode()) > 96:
            raise ValueError(f"instance name of over 96 bytes: {instance[:40]}...")
        segment, _ = create_or_attach(segment_name, header_image(), SEGMENT_BYTES)
        try:
            check_header(segment_name, segment.buf)
            block = _claim(segment, service, instance)
        except BaseException:
            segment.close()
            raise
        return cls(segment, block, service, instance)

    @property
    def counters(self) -> npt.NDArray[np.uint64]:
        """All counter slots, uint64 ``[64]``, writable, no copy; see :meth:`counter`."""
        return np.frombuffer(self._words, dtype=np.uint64)

    @property
    def restarts(self) -> int:
        """How often a process took this block over from a dead one."""
        return self._head[RESTARTS]

    def counter(self, name: str) -> int:
        """The slot of a counter, for :attr:`counters`.

        Raises:
            KeyError: this service has no such counter.
        """
        try:
            return self._index[name]
        except KeyError:
            raise KeyError(f"{self.service} has no counter {name!r}") from None

    def add(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        self._words[self._index[name]] += amount

    def set(self, name: str, value: int) -> None:
        """Set a counter or gauge; ``value`` must not be negative."""
        self._words[self._index[name]] = value

    def get(self, name: str) -> int:
        """The counter's value."""
        return self._words[self.counter(name)]

    def mark_event(self, now_ns: int) -> None:
        """Note that work was done at ``now_ns`` (CLOCK_MONOTONIC): the base of throughput."""
        first = self._index["first_event_ns"]
        if not self._words[first]:
            self._words[first] = now_ns
        self._words[first + 1] = now_ns

    def histogram(self, name: str) -> Histogram:
        """The histogram of that name.

        Raises:
            KeyError: this service has no such histogram.
        """
        try:
            return self._histograms[name]
        except KeyError:
            raise KeyError(f"{self.service} has no histogram {name!r}") from None

    def beat(self) -> None:
        """Say that this process is alive: call at least every half second."""
        self._head[HEARTBEAT] = time.monotonic_ns()

    def set_state(self, state: str) -> None:
        """Publish one of starting, ready, draining, done, failed; beats, too.

        Raises:
            ValueError: no such state.
        """
        if state not in STATES[1:]:
            raise ValueError(f"no state {state!r}; there are {', '.join(STATES[1:])}")
        self._head[STATE] = STATES.index(state)
        self.beat()

    def close(self) -> None:
        """Give the block up; what was counted stays for the readers."""
        if self._closed:
            return
        self._closed = True
        histograms = [histogram.release for histogram in self._histograms.values()]
        for release in (self._head.release, self._words.release, *histograms):
            # A numpy array that stands on the view keeps it, and that is its holder's business.
            with contextlib.suppress(BufferError):
                release()
        self._segment.close()


class ProcessSnapshot(NamedTuple):
    """One block as it was read.

    ``heartbeat_age_s`` is the age of the last sign of life, ``alive`` whether the owner still holds
    its lock, ``started`` the UTC time its process began, ``pid`` in the owner's own namespace.
    """

    service: str
    instance: str
    pid: int
    state: str
    alive: bool
    heartbeat_age_s: float
    started: datetime
    restarts: int
    counters: dict[str, int]
    histograms: dict[str, HistogramSnapshot]

    @property
    def label(self) -> str:
        """``service`` or ``service/instance``."""
        return f"{self.service}/{self.instance}" if self.instance else self.service

    @property
    def stage_counter(self) -> str:
        """The counter that stands for this stage's throughput."""
        return STAGE_COUNTER[self.service]

    @property
    def events(self) -> int:
        """What this stage has worked through: ticks, or orders."""
        return self.counters[self.stage_counter]

    @property
    def active_s(self) -> float:
        """From the first event to the latest."""
        return (self.counters["last_event_ns"] - self.counters["first_event_ns"]) / 1e9

    @property
    def events_per_s(self) -> float | None:
        """Mean throughput while events came, None before there are two moments to divide by."""
        return self.events / self.active_s if self.active_s > 0 else None


def read_metrics(segment_name: str) -> list[ProcessSnapshot]:
    """Every claimed block, in the order of the data: gateway, orderbook, strategies, order manager.

    Raises:
        MetricsError: there is no such segment, or it is another build's.
        SegmentError: it cannot be attached.
    """
    try:
        segment = Segment.attach(segment_name)
    except SegmentMissing:
        raise MetricsError(
            f"metrics segment {segment_name} does not exist: nothing runs here"
        ) from None
    try:
        check_header(segment_name, segment.buf)
        found = [_read_block(segment, block) for block in range(BLOCK_COUNT)]
    finally:
        segment.close()
    order = list(STAGE_COUNTER)
    return sorted(
        (snapshot for snapshot in found if snapshot),
        key=lambda snapshot: (order.index(snapshot.service), snapshot.instance),
    )


def unique_labels(snapshots: list[ProcessSnapshot]) -> list[str]:
    """One label each, numbered where several processes bear the same name."""
    labels = [snapshot.label for snapshot in snapshots]
    seen: Counter[str] = Counter()
    result = []
    for label in labels:
        seen[label] += 1
        result.append(f"{label}#{seen[label]}" if labels.count(label) > 1 else label)
    return result


def _histogram_words(segment: Segment, block_start: int, slot: int) -> memoryview:
    start = block_start + HISTOGRAMS_OFFSET + slot * BUCKET_SLOTS * WORD
    return segment.buf[start : start + BUCKET_SLOTS * WORD].cast("Q")


def _claim(segment: Segment, service: str, instance: str) -> int:
    """Lock and prepare a block; one claimant at a time."""
    deadline = time.monotonic() + CLAIM_TIMEOUT_S
    while not segment.try_lock(CLAIM_LOCK_BYTE):
        if time.monotonic() > deadline:
            raise MetricsError(
                f"metrics segment {segment.name}: another process has been claiming a block for "
                f"{CLAIM_TIMEOUT_S:g} s; is it stopped?"
            )
        time.sleep(0.001)
    try:
        heads = [
            BLOCK_HEAD.unpack_from(segment.buf, block_offset(block)) for block in range(BLOCK_COUNT)
        ]
        name = (service, instance)
        own, free, dead = [], [], []
        for block, head in enumerate(heads):
            if head[CLAIMS] == 0 or head[CLAIMS] % 2:
                free.append(block)
            elif (text_of(head[6]), text_of(head[7])) == name:
                own.append(block)
            else:
                dead.append(block)
        dead.sort(key=lambda block: heads[block][HEARTBEAT])
        for block in [*own, *free, *dead]:
            if segment.try_lock(block_offset(block)):
                _prepare(segment, block, service, instance, resume=block in own)
                return block
    finally:
        segment.unlock(CLAIM_LOCK_BYTE)
    raise MetricsError(
        f"metrics segment {segment.name}: all {BLOCK_COUNT} blocks have a living owner"
    )


def _prepare(segment: Segment, block: int, service: str, instance: str, *, resume: bool) -> None:
    """Write the head of a block whose lock we hold.

    ``claims`` is odd meanwhile.  Python has no store barriers, so on a weakly ordered machine a
    reader may for an instant see a new name over old counters; nothing but a display depends on it.
    """
    start = block_offset(block)
    bytes_of_block = segment.buf[start : start + HISTOGRAMS_OFFSET]
    head = segment.buf[start : start + 8 * WORD].cast("Q")
    head[CLAIMS] |= 1
    if not resume:
        end = block_offset(block + 1)
        segment.buf[start + WORD : end] = bytes(end - start - WORD)
        bytes_of_block[SERVICE_SLICE] = service.encode().ljust(32, b"\0")
        bytes_of_block[INSTANCE_SLICE] = instance.encode().ljust(96, b"\0")
    else:
        head[RESTARTS] += 1
    head[PID] = os.getpid()
    head[STARTED] = time.time_ns()
    head[HEARTBEAT] = time.monotonic_ns()
    head[STATE] = STATES.index("starting")
    head[CLAIMS] += 1
    head.release()
    bytes_of_block.release()


def _read_block(segment: Segment, block: int) -> ProcessSnapshot | None:
    """One block, or None if nobody ever claimed it or a claim is under way."""
    start = block_offset(block)
    for _ in range(3):
        head = BLOCK_HEAD.unpack_from(segment.buf, start)
        claims = head[CLAIMS]
        if claims == 0 or claims % 2:
            return None
        service, instance = text_of(head[6]), text_of(head[7])
        counters_at = start + COUNTERS_OFFSET
        names = counter_names(service)
        values = segment.buf[counters_at : counters_at + len(names) * WORD].cast("Q").tolist()
        histograms = {
            name: HistogramSnapshot(
                np.frombuffer(_histogram_words(segment, start, slot), dtype=np.uint64).copy()
            )
            for slot, name in enumerate(histogram_names(service))
        }
        if BLOCK_HEAD.unpack_from(segment.buf, start)[CLAIMS] == claims:
            return ProcessSnapshot(
                service=service,
                instance=instance,
                pid=head[PID],
                state=STATES[head[STATE]],
                alive=segment.is_locked(start),
                heartbeat_age_s=max(time.monotonic_ns() - head[HEARTBEAT], 0) / 1e9,
                started=datetime.fromtimestamp(head[STARTED] / 1e9, UTC),
                restarts=head[RESTARTS],
                counters=dict(zip(names, values, strict=True)),
                histograms=histograms,
            )
    return None
