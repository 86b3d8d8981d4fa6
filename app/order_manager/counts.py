"""What a batch of the order manager did, for the metrics."""

import time
from collections.abc import Iterable

from app.runtime.metrics.process_metrics import ProcessMetrics


class Counts:
    """Events since :meth:`clear`; ``commit_ns`` is the duration of the commit."""

    __slots__ = (
        "acked", "bad", "commit_ns", "commits", "duplicate", "fills", "received", "rejected",
    )  # fmt: skip

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Set all counts to zero."""
        self.received = self.acked = self.rejected = self.duplicate = 0
        self.fills = self.bad = self.commits = self.commit_ns = 0

    def publish(self, metrics: ProcessMetrics, received_ns: Iterable[int]) -> None:
        """Add the counts to the counters in shared memory.

        ``received_ns``: for each answer, when its request arrived (CLOCK_MONOTONIC).
        """
        now_ns = time.monotonic_ns()
        if self.received:
            metrics.add("orders_received", self.received)
            metrics.add("orders_acked", self.acked)
            metrics.add("fills", self.fills)
            metrics.mark_event(now_ns)
            record = metrics.histogram("order_ack_ns").record
            for at_ns in received_ns:
                record(now_ns - at_ns)
        if self.rejected:
            metrics.add("orders_rejected", self.rejected)
        if self.duplicate:
            metrics.add("orders_duplicate", self.duplicate)
        if self.bad:
            metrics.add("frames_bad", self.bad)
        if self.commits:
            metrics.add("commits", self.commits)
            metrics.histogram("commit_ns").record(self.commit_ns)
