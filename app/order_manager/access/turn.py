"""How long a batch of the order port takes: orders first, and each client gets its turn."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.model.requests import Limits, Orders, Positions, Status
from app.order_manager.session import Session

QUERIES: Final = frozenset({Limits, Orders, Positions, Status})
"""Requests that change nothing and may take longer than an order."""
QUERY_NS_MAX: Final = 1_000_000
"""After this time the other queries of a batch wait; one of any length is always answered."""
TAKEN_BYTES_MAX: Final = 256 * 1024
"""Of one session's frames in a batch: usual orders are far below."""
QUANTUM_MIN: Final = 64
"""Requests of one session in a row, so that its answers go out in one system call.  The other
sessions wait half a millisecond for them."""
FAIR_FRAMES: Final = 16
"""Requests of one session in a batch while others are active: about 0.2 ms, as long as a commit."""
CROWD: Final = 8
"""So many sessions that wait get larger shares: otherwise the system calls take the time."""
SHARED_NS: Final = 1_000_000_000
"""For so long after a change from one session to another, more than one counts as active."""


class Turn:
    """How long one batch may take: bounded by time, and queries give way to orders.

    A batch of orders takes about two milliseconds.  Frames that take longer, because they are long
    or ask for much, must not make the orders of other clients wait.
    """

    def __init__(self, batch_ns_max: int) -> None:
        self.batch_ns_max = batch_ns_max
        self._begin_ns = 0
        self._query_ns = 0
        self._latest: Session | None = None
        self._switched_ns = -SHARED_NS
        """When another session than before had its turn (CLOCK_MONOTONIC)."""

    def begin(self) -> None:
        """A new batch."""
        self._begin_ns = time.monotonic_ns()
        self._query_ns = 0

    @property
    def shared(self) -> bool:
        """Whether more than one session was active lately."""
        return self._begin_ns - self._switched_ns < SHARED_NS

    def is_over(self) -> bool:
        """Whether the sessions that are left have to wait for the next batch."""
        return time.monotonic_ns() - self._begin_ns > self.batch_ns_max

    def take(self, session: Session, left: int, others: int) -> list[bytes]:
        """The next frames of a session, fewer if they are long.

        ``left``: requests that the batch still takes; ``others``: sessions that wait, too.
        """
        frames = session.frames
        if session is not self._latest:
            if self._latest is not None:
                self._switched_ns = self._begin_ns
            self._latest = session
        count = len(frames)
        if count > 1:
            few = self.shared and others < CROWD
            fair = FAIR_FRAMES if few else max(left // (others + 1), QUANTUM_MIN)
            count = 1 if session.postponed else min(count, fair)
        session.postponed = False
        if session.held_bytes <= TAKEN_BYTES_MAX:
            if count == len(frames):
                taken = list(frames)
                frames.clear()
                session.held_bytes = len(session.rest)
                return taken
            taken = [frames.popleft() for _ in range(count)]
            session.held_bytes -= sum(map(len, taken)) + count
            return taken
        taken = []
        size = 0
        while len(taken) < count and size < TAKEN_BYTES_MAX:
            frame = frames.popleft()
            size += len(frame) + 1
            taken.append(frame)
        session.held_bytes -= size
        return taken

    def query_waits(self) -> bool:
        """Whether a query has to wait for the next batch; it is the first there."""
        return self._query_ns >= (1 if self.shared else QUERY_NS_MAX)

    def postpone(self, session: Session, frames: list[bytes]) -> None:
        """Put frames back for the next batch, the first of which is a query that waits."""
        session.postponed = True
        session.frames.extendleft(reversed(frames))
        session.held_bytes += sum(map(len, frames)) + len(frames)

    @contextmanager
    def query(self) -> Iterator[None]:
        """Measure a query."""
        begin_ns = time.monotonic_ns()
        yield
        self._query_ns += time.monotonic_ns() - begin_ns
