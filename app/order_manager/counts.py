"""Counts of one batch of the order manager, for the metrics."""

import time
from collections import Counter
from collections.abc import Iterable

from app.order_manager.session import Session
from app.order_manager.sessions import Sessions
from app.runtime.metrics.process_metrics import ProcessMetrics


class Counts(Counter[str]):
    """Counter of the metrics -> events since :meth:`clear`.

    ``commit_ns`` is the duration of the commit, ``committed_ns`` its end (CLOCK_MONOTONIC).
    """

    def __init__(self) -> None:
        super().__init__()
        self.commit_ns = self.committed_ns = 0

    def clear(self) -> None:
        """Set all counts to zero."""
        super().clear()
        self.commit_ns = self.committed_ns = 0

    @property
    def positive(self) -> int:
        """Orders answered with an ACK; a batch with other answers has commands or rejects."""
        return self.get("orders_acked", 0) + self.get("orders_duplicate", 0)

    def publish(self, metrics: ProcessMetrics, received_ns: Iterable[int]) -> None:
        """Add the counts to the counters in shared memory.

        ``received_ns``: for each answer, when its request arrived (CLOCK_MONOTONIC).
        """
        now_ns = time.monotonic_ns()
        for name, count in self.items():
            metrics.add(name, count)
        if self["orders_received"]:
            metrics.mark_event(now_ns)
            record = metrics.histogram("order_ack_ns").record
            for at_ns in received_ns:
                record(now_ns - at_ns)
        if self["commits"]:
            metrics.histogram("commit_ns").record(self.commit_ns)


def publish_now(
    metrics: ProcessMetrics, sessions: Sessions, waiting: Iterable[Session], mode: int
) -> None:
    """What is so at the moment: connections, frames that wait, the stack's trading mode."""
    metrics.set("connections", len(sessions))
    metrics.set("queue_depth", sum(len(session.frames) for session in waiting))
    metrics.set("trading_mode", mode)
    metrics.add("connections_dropped", sessions.dropped)
    sessions.dropped = 0
