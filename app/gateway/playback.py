"""The stream's progress: when it starts, which ticks are due, when it stands still or ends.

No clock and no socket here: each call is told the time (CLOCK_MONOTONIC, ns).
"""

from collections.abc import Callable
from typing import Final

from app.config.settings import Settings
from app.gateway.mirror import publish, restored
from app.gateway.pacing import Pace, make_pace
from app.gateway.price_publisher import PricePublisher
from app.gateway.sentiment_publisher import SentimentPublisher
from app.gateway.transport import Mode, Transport
from app.market_data.feed import Feed
from app.model.orders import order_id_of_tick
from app.runtime.control.pace import LIVE
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics

log = get_logger()

WAKE_NS_MIN: Final = 200_000
"""Above 5,000 ticks a second, ticks that are due within this time are sent together."""


class Playback:
    """Moves the publishers of both ports through the feed.

    ``arm(at_ns)`` asks for a call of :meth:`release_due` at that time.  ``on_change`` is called
    when the market has been told something, has arrived where it hurried to, or has ended.
    """

    def __init__(
        self,
        settings: Settings,
        feed: Feed,
        prices: PricePublisher,
        sentiments: SentimentPublisher,
        *,
        arm: Callable[[int], None],
        on_change: Callable[[], None],
        metrics: ProcessMetrics | None = None,
    ) -> None:
        self._settings, self._feed, self._metrics = settings, feed, metrics
        self._prices, self._sentiments = prices, sentiments
        self._arm, self._on_change = arm, on_change
        self._pace: Pace | None = None
        """The schedule that runs; None while the market stands still, or hurries."""
        self.unpaced = False
        """Whether each subscriber gets ticks as fast as it reads: call :meth:`follow_leader`."""
        self._armed_ns = self._unpaced_until = 0
        self._traced = settings.log_level == "DEBUG"
        self._traced_seq = 0
        # The previous process died before its stream was finished.
        self._restarted = metrics is not None and metrics.restarts > 0
        pace = LIVE if settings.is_live else settings.pace
        self.transport = Transport(pace, paused=settings.start_paused)
        self.started = self.finished = False
        if metrics is not None:
            self._restore(metrics)
        self._publish(0, 0)

    def _restore(self, metrics: ProcessMetrics) -> None:
        """The state of the process that died; where the market stood still, also its place.

        The place of a jump may be beyond the end: data and settings may be others now.
        """
        found = restored(metrics, self.transport)
        until = None if found.until is None else min(found.until, self._feed.available)
        self.transport = found._replace(until=until)
        if self._restarted and self.transport.mode is Mode.PAUSED:
            self._prices.release(min(metrics.get("ticks_sent"), self._feed.available))
            self._sentiments.advance(self._prices.released)

    @property
    def _total(self) -> int:
        """Of a live feed it is known when the feed has ended."""
        return self._feed.total

    @property
    def position(self) -> int:
        """How many ticks of the run the clients were sent, or at least the fastest of them."""
        return self._prices.position

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
        log.info("stream_started", seq=self._prices.released, pace=self.transport.pace)
        self._move(now_ns)

    def end_feed(self, now_ns: int) -> None:
        """A live feed has ended; who has all ticks is told so."""
        if self.unpaced:
            self.follow_leader(now_ns)
        else:
            self.release_due(now_ns)

    def tell(self, transport: Transport, now_ns: int) -> None:
        """Do what a command has decided."""
        self.transport = transport
        if self.started and not self.finished:
            self._move(now_ns)
            if self.unpaced:
                self.follow_leader(now_ns)  # it may have arrived
        else:
            self._publish(0, 0)
        self._on_change()

    def begin_again(self, transport: Transport, now_ns: int) -> None:
        """A new run, from tick 0; the clients of the old one are gone."""
        self.transport = transport
        self._prices.begin_again()
        self._sentiments.begin_again()
        self._pace = None
        self._armed_ns = self._unpaced_until = self._traced_seq = 0
        self._restarted = self.started = self.finished = self.unpaced = False
        self._publish(0, 0)
        self.start_when_ready(now_ns)
        self._on_change()

    def _publish(self, seq: int, due_ns: int) -> None:
        """The state, and when a tick is due: latency is measured from it."""
        if self._metrics is not None:
            publish(self._metrics, self.transport, seq, due_ns, self._unpaced_until)

    def _move(self, now_ns: int) -> None:
        """Begin what the state says."""
        self._stop_hurry()
        self._pace = None
        mode = self.transport.mode
        pace = make_pace(self.transport.pace, self._feed) if mode is Mode.PLAY else None
        if pace is not None:
            self._pace = pace
            self._schedule(now_ns)
            self.release_due(now_ns)
            return
        self._publish(0, 0)
        if mode is not Mode.PAUSED:
            self.unpaced = True
            self._prices.hurry(self._end_of_hurry)

    def _stop_hurry(self, skip: bool = False) -> None:
        if self.unpaced:
            self._prices.stop_hurry(skip)
            self.unpaced, self._unpaced_until = False, self._prices.released

    @property
    def _end_of_hurry(self) -> int:
        return self._total if self.transport.until is None else self.transport.until

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
        """Start the schedule at the next tick."""
        assert self._pace is not None
        self._armed_ns = 0
        self._pace.begin(self._prices.released, now_ns)
        due_ns = 0 if self.transport.pace == LIVE else now_ns
        self._publish(self._prices.released, due_ns)

    def release_due(self, now_ns: int) -> None:
        """Set the timer for the next tick, then send every tick that is due.

        Sending is the last step: on a shared core, work after it delays the processes that wait for
        the tick.
        """
        if self._pace is None or not self.started or self.finished:
            return
        due = min(self._pace.due(now_ns), self._total)
        if due < self._total and self.transport.pace != LIVE:
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

    def follow_leader(self, now_ns: int) -> None:
        """In a hurry: move the sentiment to the fastest price subscriber; see if it has arrived."""
        if not self.started or self.finished:
            return
        end, position = self._end_of_hurry, self._prices.position
        alone = not self._prices.leads and (
            not self._settings.price_subscribers or bool(self._prices.subscribers)
        )
        if alone:
            position = end
        self._sentiments.advance(position)
        if self._traced:
            self._trace(position)
        if self.transport.until is not None and position >= end:
            self.transport = self.transport.arrived()
            self._stop_hurry(skip=alone)
            if self._prices.position < self._total:
                self._move(now_ns)
                self._on_change()
        if self._prices.position == self._total:
            self._finish()

    def _trace(self, seq: int) -> None:
        """At DEBUG: the ticks released since the last call, up to ``seq``."""
        for released in range(self._traced_seq, seq):
            log.debug("tick_released", seq=released, id=order_id_of_tick(released))
        self._traced_seq = max(seq, self._traced_seq)

    def _finish(self) -> None:
        self.finished = True
        self.unpaced, self._pace = False, None
        self._sentiments.advance(self._total)
        self._prices.end()
        self._sentiments.end()
        log.info("stream_finished", ticks=self._total)
        self._publish(0, 0)
        self._on_change()
