"""Counts of one batch of the order manager, for the metrics."""

from collections.abc import Iterable
from typing import Final

from app.order_manager.session import Session
from app.order_manager.sessions import Sessions
from app.runtime.metrics.process_metrics import ProcessMetrics

RARE: Final = ("orders_rejected", "orders_duplicate", "frames_bad", "requests_refused")
"""Of most batches these are 0."""
NAMES: Final = ("orders_received", "orders_acked", "fills", "commits", *RARE)
"""Counters of the metrics that count a batch's events."""


class Counts:
    """Events since :meth:`clear`, one attribute for each of :data:`NAMES`.

    ``commit_ns`` is the duration of the commit, ``committed_ns`` its end (CLOCK_MONOTONIC).
    Attributes, because a dictionary of names takes
    three times as long, and every order is counted.
    """

    __slots__ = (*NAMES, "commit_ns", "committed_ns")

    orders_received: int
    orders_acked: int
    orders_rejected: int
    orders_duplicate: int
    fills: int
    frames_bad: int
    requests_refused: int
    commits: int
    commit_ns: int
    committed_ns: int

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Set all counts to zero."""
        self.orders_received = self.orders_acked = self.orders_rejected = 0
        self.orders_duplicate = self.fills = self.frames_bad = 0
        self.requests_refused = self.commits = self.commit_ns = self.committed_ns = 0

    @property
    def positive(self) -> int:
        """Orders answered with an ACK; a batch with other answers has commands or rejects."""
        return self.orders_acked + self.orders_duplicate

    def publish(
        self, metrics: ProcessMetrics, received: Iterable[tuple[int, int]], sent_ns: int
    ) -> None:
        """Add the counts to the counters in shared memory.

        ``received``: when requests arrived, and how many of the answers are to these; ``sent_ns``:
        when the call that sent the answers returned (CLOCK_MONOTONIC).
        """
        add = metrics.add
        if self.orders_received:
            add("orders_received", self.orders_received)
            metrics.mark_event(sent_ns)
            record = metrics.histogram("order_ack_ns").record
            for at_ns, count in received:
                record(sent_ns - at_ns, count)
        if self.orders_acked:
            add("orders_acked", self.orders_acked)
        if self.fills:
            add("fills", self.fills)
        if self.commits:
            add("commits", self.commits)
            metrics.histogram("commit_ns").record(self.commit_ns)
        for name in RARE:
            if count := getattr(self, name):
                add(name, count)


def publish_now(
    metrics: ProcessMetrics, sessions: Sessions, waiting: Iterable[Session], mode: int
) -> None:
    """What is so at the moment: connections, frames that wait, the stack's trading mode."""
    metrics.set("connections", len(sessions))
    metrics.set("queue_depth", sum(len(session.frames) for session in waiting))
    metrics.set("trading_mode", mode)
    metrics.add("connections_dropped", sessions.dropped)
    sessions.dropped = 0
