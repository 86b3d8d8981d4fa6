"""The writers of the trace: what each process notes about ticks and orders.

Nobody trades differently because of the trace: a segment that cannot be used is one warning, and
the process goes on without.  With ``TRACE_ORDERS=0`` there is no segment.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Self

from app.config.settings import Settings
from app.kernel._kernel import AnswerNotes, BatchTimes, Intent, OrderTrace
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.trace.layout import HEADER_BYTES, check_header, header_image, layout_for
from app.shared_memory_utils.segment import Segment, SegmentError, create_or_attach

log = get_logger()


class TraceSegment:
    """The mapped segment with its rings; get one with :meth:`open`."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        layout = check_header(segment.name, segment.buf)
        self.orders = OrderTrace(layout.ring(segment.buf, repeats=False))
        self.repeats = OrderTrace(layout.ring(segment.buf, repeats=True))
        self.gateway = BatchTimes(layout.times(segment.buf, of_orderbook=False))
        self.orderbook = BatchTimes(layout.times(segment.buf, of_orderbook=True))

    @classmethod
    def open(cls, settings: Settings, metrics: ProcessMetrics) -> Self | None:
        """Create or attach it; None if it is switched off or cannot be used, which is logged.

        The size of a segment that exists stays as it is.  With the heartbeats of ``metrics`` it is
        checked whether it was removed.
        """
        if not settings.trace_orders:
            return None
        layout = layout_for(settings.trace_orders, settings.ring_capacity_ticks)
        segment: Segment | None = None
        try:
            segment, _ = create_or_attach(settings.shm_trace, header_image(layout), layout.nbytes)
            trace = cls(segment)
        except SegmentError as error:
            if segment is not None:
                segment.close()
            log.warning("trace_unavailable", error=str(error))
            return None
        metrics.also_check.append(trace.check)
        return trace

    def check(self) -> None:
        """Where the segment was removed, continue in one of that name."""
        if self._segment.is_current():
            return
        header, size = bytes(self._segment.buf[:HEADER_BYTES]), self._segment.size
        with contextlib.suppress(SegmentError):
            found, _ = create_or_attach(self._segment.name, header, size)
            if found.size == size and bytes(found.buf[:HEADER_BYTES]) == header:
                self._segment.move_to(found)
            else:
                found.close()

    def close(self) -> None:
        """Unmap; the segment stays."""
        del self.orders, self.repeats, self.gateway, self.orderbook
        self._segment.close()


class StrategyTrace:
    """What a strategy notes about its orders, a group at a time.

    :meth:`begin` before the orders are sent, :meth:`sent` for each attempt, :meth:`acked` at the
    end; they do nothing without a trace.  ``client``: the name on the orders.
    """

    def __init__(self, trace: TraceSegment | None, client: str) -> None:
        self._trace, self._client = trace, client.encode()
        self._intents: Sequence[Intent] = ()
        self._orders: Sequence[tuple[Any, ...]] = ()
        self._decided_ns = 0
        self._sent_ns: list[int] = []
        """Of each order, the last time that it was sent."""
        self._live = True

    def begin(
        self,
        intents: Sequence[Intent],
        orders: Sequence[tuple[Any, ...]],
        decided_ns: int,
        *,
        live: bool,
    ) -> None:
        """The next group; ``live``: its ticks come from the ring, not from a recovery."""
        self._intents, self._orders = intents, orders
        self._decided_ns, self._live = decided_ns, live

    def sent(self, first: int, sent_ns: int) -> None:
        """The orders from number ``first`` on are in the socket."""
        trace, live = self._trace, self._live
        if trace is None:
            return
        self._sent_ns[first:] = [sent_ns] * (len(self._orders) - first)
        (trace.orders if live else trace.repeats).sent(
            self._client,
            self._orders,
            self._intents,
            first,
            self._decided_ns,
            sent_ns,
            trace.gateway if live else None,
            trace.orderbook if live else None,
        )

    def acked(self, answers: Sequence[Any], due_ns: Sequence[int], acked_ns: int) -> None:
        """The group is answered; ``due_ns``: of each tick, 0 if it has no time."""
        if self._trace is not None:
            ring = self._trace.orders if self._live else self._trace.repeats
            ring.acked(self._client, self._orders, answers, due_ns, self._sent_ns, acked_ns)


NoteAnswers = Callable[[list[tuple[Any, bytes]], Any, list[Any]], None]
"""Called with the answers of a batch, its counts, and its events for the log; see the kernel."""


def no_note(_answers: list[tuple[Any, bytes]], _counts: Any, _events: list[Any]) -> None:
    """Without a trace."""


def answer_notes(trace: TraceSegment | None) -> NoteAnswers:
    """What the order manager calls after the commit, just before it sends the answers.

    Called later, it would leave an acknowledged order without its stages whenever the order manager
    is killed in between.  So every ACK waits for it, and it does no more than it must.
    """
    return no_note if trace is None else AnswerNotes(trace.orders, trace.repeats).note
