"""The stream's progress: when it starts, which ticks are due, when it ends.

No clock and no socket here: each call is told the time (CLOCK_MONOTONIC, ns).
"""

from collections.abc import Callable
from typing import Final

from app.config import Settings
from app.gateway.pacing import make_pace
from app.gateway.price_publisher import PricePublisher
from app.gateway.sentiment_publisher import SentimentPublisher
from app.market_data.feed import Feed
from app.model.orders import order_id_of_tick
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics

log = get_logger()

WAKE_NS_MIN: Final = 200_000
"""Above 5,000 ticks a second, ticks that are due within this time are sent together."""


class Playback:
    """Moves the publishers of both ports through the feed.

    ``arm(at_ns)`` asks for a call of :meth:`release_due` at that time.  ``on_finish`` is called
    once, when the last tick has been released.
    """

    def __init__(
        self,
        settings: Settings,
        feed: Feed,
        prices: PricePublisher,
        sentiments: SentimentPublisher,
        *,
        arm: Callable[[int], None],
        on_finish: Callable[[], None],
        metrics: ProcessMetrics | None = None,
    ) -> None:
        self._settings, self._total, self._metrics = settings, feed.total, metrics
        self._prices, self._sentiments = prices, sentiments
        self._arm, self._on_finish = arm, on_finish
        self._pace = make_pace(settings.pace, feed)
        self._armed_ns = 0
        self._traced = settings.log_level == "DEBUG"
        self._traced_seq = 0
        # The previous process died before its stream was finished.
        self._restarted = metrics is not None and metrics.restarts > 0
        self.started = self._finished = False

    @property
    def unpaced(self) -> bool:
        """Whether there is no schedule, so that each subscriber gets ticks as fast as it reads."""
        return self._pace is None

    @property
    def released(self) -> int:
        """The number of ticks released; the next tick has this sequence number."""
        return self._prices.released

    def start_when_ready(self, now_ns: int) -> None:
        """Start the stream unless it is running, or subscribers are missing."""
        if self.started or not self._is_ready():
            return
        self.started = True
        if self._metrics is not None:
            self._metrics.mark_event(now_ns)
        self._traced_seq = self._prices.released
        log.info("stream_started", seq=self._prices.released, pace=self._settings.pace)
        if self._pace is None:
            self._prices.start_unpaced()
        else:
            self._schedule(now_ns)
            self.release_due(now_ns)

    def _is_ready(self) -> bool:
        """Whether all expected subscribers are there, or the run began before we were restarted.

        A client that resumes beyond tick 0 shows that the run began.  After a restart no sentiment
        client is waited for: sentiment is sent so far ahead that such a client may have received
        everything it needs and may not reconnect.
        """
        if self._prices.released:
            return True
        prices = len(self._prices.subscribers) + self._prices.completed
        sentiments = len(self._sentiments.subscribers) + self._sentiments.completed
        return prices >= self._settings.price_subscribers and (
            self._restarted or sentiments >= self._settings.sentiment_subscribers
        )

    def _schedule(self, now_ns: int) -> None:
        """Start the schedule at the next tick; publish it, so that latency is measured from it."""
        assert self._pace is not None
        self._pace.begin(self._prices.released, now_ns)
        if self._metrics is not None:
            self._metrics.set("schedule_seq", self._prices.released)
            self._metrics.set("schedule_ns", now_ns)

    def release_due(self, now_ns: int) -> None:
        """Set the timer for the next tick, then send every tick that is due.

        Sending is the last step: on a shared core, work after it delays the processes that wait for
        the tick.
        """
        if self._pace is None or not self.started or self._finished:
            return
        due = min(self._pace.due(now_ns), self._total)
        if due < self._total:
            self._armed_ns = max(self._pace.due_ns(due), self._armed_ns + WAKE_NS_MIN)
            self._arm(self._armed_ns)
        if self._sentiments.subscribers:
            self._sentiments.advance(due)
        self._prices.release(due)
        if self._traced:
            self._trace(due)
        if due == self._total:
            self._finish()

    def follow_resume(self, released_before: int, now_ns: int) -> None:
        """Move the schedule to the tick of a client that resumed beyond all released ticks.

        That happens after a restart of the gateway.
        """
        if self._prices.released != released_before and self.started and self._pace is not None:
            self._schedule(now_ns)
            self.release_due(now_ns)
        self._sentiments.advance(self._prices.position)

    def follow_leader(self) -> None:
        """At full pace: move the sentiment to the position of the fastest price subscriber."""
        if not self.started:
            return
        position = self._prices.position
        if not self._settings.price_subscribers and not self._prices.subscribers:
            position = self._total
        self._sentiments.advance(position)
        if self._traced:
            self._trace(position)
        if self._prices.position == self._total and not self._finished:
            self._finish()

    def _trace(self, seq: int) -> None:
        """At DEBUG: the ticks released since the last call, up to ``seq``."""
        for released in range(self._traced_seq, seq):
            log.debug("tick_released", seq=released, id=order_id_of_tick(released))
        self._traced_seq = max(seq, self._traced_seq)

    def _finish(self) -> None:
        self._finished = True
        log.info("stream_finished", ticks=self._total)
        self._on_finish()
