"""The metrics segment as it is read: every block at one moment."""

import time
from collections import Counter
from datetime import UTC, datetime
from typing import Final, NamedTuple

import numpy as np

from app.runtime.metrics.histogram import HistogramSnapshot
from app.runtime.metrics.layout import (
    BLOCK_COUNT,
    BLOCK_HEAD,
    CLAIMS,
    COUNTERS_OFFSET,
    HEARTBEAT,
    PID,
    RESTARTS,
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
}
"""What each service's throughput counts; in the order in which the data flows."""


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
