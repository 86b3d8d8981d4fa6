"""Read the metrics segment: a snapshot of every block, or one counter again and again."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

import numpy as np

from app.runtime.metrics.histogram import HistogramSnapshot
from app.runtime.metrics.layout import (
    BLOCK_COUNT,
    BLOCK_HEAD,
    CLAIMS,
    COUNTER_SLOTS,
    COUNTERS_OFFSET,
    HEARTBEAT,
    INSTANCE,
    PID,
    RESTARTS,
    SERVICE,
    STARTED,
    STATE,
    STATES,
    WORD,
    MetricsError,
    block_offset,
    check_header,
    counter_names,
    histogram_names,
    histogram_words,
    text_of,
)
from app.shared_memory_utils.segment import Segment, SegmentMissing

STAGE_COUNTER: Final = {
    "gateway": "ticks_sent",
    "orderbook": "ticks_received",
    "strategy": "ticks_consumed",
    "order_manager": "orders_received",
    "dashboard": "snapshots",
}
"""The counter of each service's throughput, in the order of the data flow."""

ONLOOKERS: Final = frozenset({"dashboard"})
"""Services that show a run and are no part of it: whether they run or fail changes no verdict."""


class ProcessSnapshot(NamedTuple):
    """One block at the time it was read.

    ``heartbeat_age_s``: age of the last heartbeat; ``alive``: the owner still holds the block's
    lock; ``started``: UTC time at which the process started; ``pid``: in the owner's own namespace.
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
        """The name of the counter of this stage's throughput."""
        return STAGE_COUNTER[self.service]

    @property
    def events(self) -> int:
        """Ticks or orders that this stage has processed."""
        return self.counters[self.stage_counter]

    @property
    def active_s(self) -> float:
        """Seconds from the first event to the latest."""
        return (self.counters["last_event_ns"] - self.counters["first_event_ns"]) / 1e9

    @property
    def events_per_s(self) -> float | None:
        """Mean throughput between the first and the latest event; None until they differ."""
        return self.events / self.active_s if self.active_s > 0 else None


def read_metrics(segment_name: str) -> list[ProcessSnapshot]:
    """Every claimed block in the order of the data flow, then by instance.

    Raises:
        MetricsError: the segment does not exist, or belongs to another build.
        SegmentError: it cannot be attached.
    """
    try:
        segment = Segment.attach(segment_name, writable=False)
    except SegmentMissing:
        raise MetricsError(
            f"metrics segment {segment_name} does not exist: nothing runs here"
        ) from None
    try:
        return blocks_of(segment)
    finally:
        segment.close()


def blocks_of(segment: Segment) -> list[ProcessSnapshot]:
    """The same of a segment that is attached, or was before its name was removed.

    Raises:
        MetricsError: it belongs to another build.
    """
    check_header(segment.name, segment.buf)
    found = [_read_block(segment, block) for block in range(BLOCK_COUNT)]
    order = list(STAGE_COUNTER)
    return sorted(
        (snapshot for snapshot in found if snapshot),
        key=lambda snapshot: (order.index(snapshot.service), snapshot.instance),
    )


class LiveCounters:
    """The counters of one service, read where they are while its process writes them."""

    def __init__(self, segment_name: str, service: str) -> None:
        """Find the block of ``service``, the first if it has several.

        Raises:
            MetricsError: there is none, or the segment belongs to another build.
            SegmentError: the segment cannot be attached.
        """
        self._segment = Segment.attach(segment_name, writable=False)
        try:
            check_header(segment_name, self._segment.buf)
            start = next(start for start in _starts(self._segment, service))
        except StopIteration:
            self._segment.close()
            raise MetricsError(f"metrics segment {segment_name}: no {service} yet") from None
        except BaseException:
            self._segment.close()
            raise
        first = start + COUNTERS_OFFSET
        self.words = self._segment.buf[first : first + COUNTER_SLOTS * WORD].cast("Q")
        """By the index of :meth:`index`."""
        self._names = counter_names(service)

    def index(self, name: str) -> int:
        """The place of a counter."""
        return self._names.index(name)

    def close(self) -> None:
        """Detach."""
        self.words.release()
        self._segment.close()


def _starts(segment: Segment, service: str) -> Iterator[int]:
    """Where the blocks of a service begin."""
    for block in range(BLOCK_COUNT):
        head = BLOCK_HEAD.unpack_from(segment.buf, block_offset(block))
        if head[CLAIMS] and head[CLAIMS] % 2 == 0 and text_of(head[SERVICE]) == service:
            yield block_offset(block)


def unique_labels(snapshots: list[ProcessSnapshot]) -> list[str]:
    """One label each, numbered if several processes have the same name."""
    labels = [snapshot.label for snapshot in snapshots]
    seen: Counter[str] = Counter()
    result = []
    for label in labels:
        seen[label] += 1
        result.append(f"{label}#{seen[label]}" if labels.count(label) > 1 else label)
    return result


def _read_block(segment: Segment, block: int) -> ProcessSnapshot | None:
    """One block; None if it was never claimed or is being claimed."""
    start = block_offset(block)
    for _ in range(3):
        head = BLOCK_HEAD.unpack_from(segment.buf, start)
        claims = head[CLAIMS]
        if claims == 0 or claims % 2:
            return None
        service, instance = text_of(head[SERVICE]), text_of(head[INSTANCE])
        counters_at = start + COUNTERS_OFFSET
        names = counter_names(service)
        values = segment.buf[counters_at : counters_at + len(names) * WORD].cast("Q").tolist()
        histograms = {
            name: HistogramSnapshot(
                np.frombuffer(histogram_words(segment.buf, start, slot), dtype=np.uint64).copy()
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
