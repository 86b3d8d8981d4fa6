"""The receive loop: feed in, price book and tick ring out.

One call into the kernel receives, parses, writes and publishes.  This module handles whatever makes
the kernel return: marks, malformed ticks and a full ring.
"""

import time
from typing import Final

from app.config.settings import Settings
from app.kernel import _kernel
from app.model.money import MAX_PRICE
from app.model.orders import order_id_of_tick
from app.model.wire.feed_protocol import parse_mark
from app.model.wire.frames import RemoteProtocolError
from app.orderbook.segments import Segments
from app.runtime.lifecycle import POLL_S, Stop
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.net.feed_client import FeedConnection, MalformedTicks

log = get_logger()

REASONS: Final = {
    _kernel.BAD_TIMESTAMP: "timestamp that is not YYYY-MM-DD HH:MM:SS[.fffffffff]",
    _kernel.BAD_SYMBOL: "symbol that is not in the symbol list",
    _kernel.BAD_PRICE: f"price that is not a number from 1e-9 to {MAX_PRICE}",
}
EVICT_EVERY_S: Final = 0.5
SPACE_TIMEOUT_NS: Final = 100_000_000


class FeedWriter:
    """Writes the ticks of one feed connection after another into the segments."""

    def __init__(
        self, settings: Settings, metrics: ProcessMetrics, stop: Stop, segments: Segments
    ) -> None:
        self.settings, self.metrics, self.stop = settings, metrics, stop
        self.segments = segments
        self.ring, self.writer = segments.ring, segments.writer
        self._update_buckets = metrics.histogram("book_update_ns").buckets
        self._malformed = MalformedTicks()
        self._feed_is_plain = self._stale = False
        # Plain feed: the last frame was refused, and no tick has come since.
        self._skipping = False
        self._next_heartbeat_ns = 0
        self._next_evict_s = 0.0
        self._traced = settings.log_level == "DEBUG"
        self._traced_seq = self.next_seq
        metrics.set("symbols", len(segments.symbols))

    @property
    def next_seq(self) -> int:
        """The sequence number of the tick that the feed has to send next."""
        return self.ring.state.next_seq

    @property
    def finished(self) -> bool:
        """Whether the feed has ended the run, and every tick of it is written."""
        return self.ring.state.end_seq is not None

    def run(self, feed: FeedConnection) -> None:
        """Write the ticks of ``feed`` until the run ends or the process is stopped.

        Raises:
            FeedClosed: the connection is lost; resume at :attr:`next_seq`.
            RemoteProtocolError: the feed is malformed; resume at :attr:`next_seq`.
            FatalError: ring or book are damaged or gone.
        """
        try:
            self._run(feed)
        except _kernel.Damaged as error:
            raise self.segments.start_over(f"damaged: {error}") from None

    def _run(self, feed: FeedConnection) -> None:
        self._feed_is_plain = not feed.sequenced
        if feed.fill:
            self._take(feed, time.monotonic_ns())
        while not self.stop and not self.finished:
            received = feed.receive_ticks(
                self.writer, self._next_heartbeat_ns, self._update_buckets
            )
            if received.byte_count:
                self.metrics.add("bytes_received", received.byte_count)
                if received.ticks:
                    self._skipping = False
                    self.metrics.mark_event(received.first_ns)
                    self.metrics.mark_event(received.recv_ns)
                    self.metrics.add("batches", received.pieces)
                if received.stop == _kernel.NEED_MORE:
                    feed.consume(0)
                else:
                    self._take(feed, received.recv_ns, received.position, received.stop)
            if self._traced:
                self._trace()
            now_ns = time.monotonic_ns()
            if now_ns >= self._next_heartbeat_ns:
                self.heartbeat(now_ns, current=self._feed_is_plain)

    def _trace(self) -> None:
        """At DEBUG: the ticks published since the last call."""
        seq = self.next_seq
        for published in range(self._traced_seq, seq):
            log.debug("tick_published", seq=published, id=order_id_of_tick(published))
        self._traced_seq = seq

    def heartbeat(self, now_ns: int | None = None, *, current: bool = False) -> None:
        """Two heartbeats: this process's in the metrics, the prices' in the segments.

        The segments' heartbeat is the last time at which their prices were known to be
        ``current``.  Every byte of the feed renews it.  It is renewed here while we wait for
        readers, after the end of the run, and for a plain feed, whose silence means nothing.

        Raises:
            FatalError: a segment was removed or damaged (:meth:`Segments.check`).
        """
        self.metrics.heartbeat()
        if self.stop:
            return  # perhaps of a run that is over: its segments are gone
        self.segments.check()
        self._publish(time.monotonic_ns() if now_ns is None else now_ns, current=current)

    def _publish(self, now_ns: int, *, current: bool = False) -> None:
        self._next_heartbeat_ns = now_ns + int(POLL_S * 1e9)
        if current or self.finished:
            self.writer.heartbeat()
        state = self.ring.state
        self.metrics.set("ticks_received", state.published)
        self.metrics.set("queue_depth", self.writer.lag())
        self._show_staleness((now_ns - state.heartbeat_ns) / 1e9)
        self.metrics.heartbeat()

    def _show_staleness(self, age_s: float) -> None:
        """Tell the health check when the prices may be out of date."""
        stale = age_s > self.settings.heartbeat_timeout_s
        if stale != self._stale:
            self._stale = stale
            self.metrics.set_state("stale" if stale else "ready")
            if stale:
                log.warning("feed_stale", age_s=round(age_s, 3), seq=self.next_seq)
            else:
                log.info("feed_fresh", seq=self.next_seq)

    def _take(
        self, feed: FeedConnection, recv_ns: int, position: int = 0, stop: int | None = None
    ) -> None:
        """Write everything in the receive buffer, up to an unfinished tick.

        ``position`` and ``stop``: how far the kernel has parsed, and why it stopped there.
        """
        ticks, first = 0, stop is None
        while not self.finished:
            if stop is None:
                count, position, stop = self.writer.push(feed.buffer, position, feed.fill, recv_ns)
                ticks += count
                self._skipping = self._skipping and not count
            if stop == _kernel.NEED_MORE:
                break
            if stop == _kernel.FULL:
                self._wait_for_readers()
                if self.stop:
                    break
            elif stop == _kernel.MARK:
                position = self._take_mark(feed, position)
            else:
                position = self._refuse(feed, position, stop)
            stop = None
        feed.consume(position)
        if ticks:
            done_ns = time.monotonic_ns()
            self.metrics.mark_event(done_ns)
            # The kernel counts the ticks that it received itself; these were in the buffer before.
            if first:
                self.metrics.add("batches")
                _kernel.record_latency(self._update_buckets, done_ns - recv_ns)

    def _wait_for_readers(self) -> None:
        """The lossless ring is full: wait for its slowest reader; TCP holds back the gateway."""
        self.metrics.add("writer_waits")
        while not self.writer.wait_space(SPACE_TIMEOUT_NS) and not self.stop:
            now_s = time.monotonic()
            self.heartbeat(current=True)
            if now_s >= self._next_evict_s:
                self._next_evict_s = now_s + EVICT_EVERY_S
                for name in self.ring.evict_dead(self.settings.reader_grace_s):
                    log.warning("reader_evicted", reader=name, after_s=self.settings.reader_grace_s)

    def _take_mark(self, feed: FeedConnection, position: int) -> int:
        """Check a heartbeat or the end against the ticks written; returns where to continue.

        Raises:
            FatalError: ticks were lost or duplicated on the way, so the segments do not match the
                feed; after a restart everything begins at tick 0.
        """
        frame, after = feed.take_frame(position)
        heartbeat, end = parse_mark(frame, "BEAT"), parse_mark(frame, "END")
        seq = heartbeat if end is None else end
        if seq is None:
            return self._refuse(feed, position, _kernel.BAD_TIMESTAMP)
        if seq != self.next_seq:
            self.metrics.add("gaps")
            raise self.segments.start_over(
                f"damaged feed: the gateway has sent {seq} ticks, {self.next_seq} have arrived"
            )
        if end is not None:
            self.writer.finish(end)
            log.info("feed_finished", ticks=end)
        return after

    def _refuse(self, feed: FeedConnection, position: int, problem: int) -> int:
        """Refuse a malformed tick, which is never written; returns where to continue.

        A sequenced feed is asked again from this tick on (see :class:`MalformedTicks`).  A plain
        feed continues at its next whole tick, which may begin with the field refused as a price.

        Raises:
            RemoteProtocolError: the feed is sequenced.
        """
        seq = self.next_seq
        field, after = feed.take_frame(position)
        if not self._skipping:
            shown = field[:40].decode("utf-8", "backslashreplace")
            log.warning("tick_refused", seq=seq, field=shown, reason=REASONS[problem])
        if feed.sequenced:
            if self._malformed.is_from_source(seq, field):
                self.metrics.add("ticks_malformed")
                self.writer.set_next_seq(seq + 1)
            raise RemoteProtocolError(f"malformed tick {seq}")
        if not self._skipping:
            self.metrics.add("ticks_malformed")
        self._skipping = True
        return position if problem == _kernel.BAD_PRICE else after

    def close(self) -> None:
        """Close the segments; they stay for the readers and for a successor."""
        self._publish(time.monotonic_ns())
        del self.writer
        self.segments.close()
