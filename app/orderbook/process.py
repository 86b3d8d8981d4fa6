"""The orderbook process: price feed in, price book and tick ring out.

It owns both segments.  Its loop is one call into the kernel, which receives, parses, writes and
publishes, and the handling of what the kernel stopped at.
"""

import time

from app.config import Settings
from app.kernel import _kernel
from app.model.money import MAX_PRICE
from app.model.wire.feed_protocol import parse_mark
from app.model.wire.frames import RemoteProtocolError
from app.runtime.lifecycle import POLL_S, Backoff, FatalError, Stop
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.net.feed_client import FeedClosed, FeedConnection, MalformedTicks
from app.runtime.process import run_process
from app.shared_memory_utils.metadata import SharedMemoryMetadata
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.tick_ring import TickRing

log = get_logger()

REASONS = {
    _kernel.BAD_TIMESTAMP: "timestamp that is not YYYY-MM-DD HH:MM:SS[.fffffffff]",
    _kernel.BAD_SYMBOL: "symbol that is not in the symbol list",
    _kernel.BAD_PRICE: f"price that is not a number from 1e-9 to {MAX_PRICE}",
}
EVICT_EVERY_S = 0.5


class Orderbook:
    """Writes what one feed connection brings into the shared segments."""

    def __init__(
        self, settings: Settings, metrics: ProcessMetrics, stop: Stop, feed: FeedConnection
    ) -> None:
        if feed.symbols is None:
            raise FatalError("the price feed sent no symbol list")
        self.settings, self.metrics, self.stop = settings, metrics, stop
        self.symbols, self.feed_id = feed.symbols, feed.feed_id
        self.metadata = SharedMemoryMetadata(settings.shm_metadata)
        same_run = self.metadata.read().get("feed_id") == feed.feed_id
        self.book = SharedPriceBook(feed.symbols, settings.shm_price_book)
        if self.book.warm and not same_run:
            self.book.unlink()
            self.book.close()
            self.book = SharedPriceBook(feed.symbols, settings.shm_price_book)
        self.ring = TickRing.open_writer(
            settings.shm_tick_ring,
            settings.ring_capacity_ticks,
            settings.ring_policy,
            fresh=not self.book.warm,
        )
        self.writer = _kernel.TickWriter(
            self.ring.buffer, self.book.buffer, _kernel.FieldParser(feed.symbols)
        )
        self.writer.heartbeat()
        self.metadata.write(
            {
                "layout_version": _kernel.LAYOUT_VERSION,
                "feed_id": feed.feed_id,
                "price_book": settings.shm_price_book,
                "tick_ring": settings.shm_tick_ring,
                "symbols": len(feed.symbols),
                "boot_id": f"{self.book.boot_id:016x}",
            }
        )
        self._update_buckets = metrics.histogram("book_update_ns").buckets
        self._wrong = MalformedTicks()
        self._plain = self._stale = False
        self._in_bad_run = False
        self._next_heartbeat_ns = 0
        self._next_evict_s = 0.0
        metrics.set("symbols", len(feed.symbols))
        log.info(
            "segments_ready",
            book=settings.shm_price_book,
            symbols=len(feed.symbols),
            ring_ticks=self.ring.capacity,
            policy=settings.ring_policy,
            warm=self.book.warm,
            next_seq=self.next_seq,
        )

    @property
    def next_seq(self) -> int:
        """The source sequence that is wanted next."""
        return self.ring.state.next_seq

    @property
    def finished(self) -> bool:
        """Whether the feed has said that the run is over, and all of it is here."""
        return self.ring.state.end_seq is not None

    def run(self, feed: FeedConnection) -> None:
        """Take ticks from ``feed`` until the run or the process ends.

        Raises:
            FeedClosed: the connection is gone; resume at :attr:`next_seq`.
            RemoteProtocolError: what came is no feed; likewise.
        """
        self._plain = not feed.sequenced
        if feed.fill:
            self._take(feed, time.monotonic_ns())
        while not self.stop and not self.finished:
            received = feed.receive_ticks(
                self.writer, self._next_heartbeat_ns, self._update_buckets
            )
            if received.byte_count:
                self.metrics.add("bytes_received", received.byte_count)
                if received.ticks:
                    self._in_bad_run = False
                    self.metrics.mark_event(received.first_ns)
                    self.metrics.mark_event(received.recv_ns)
                    self.metrics.add("batches", received.pieces)
                if received.stop == _kernel.NEED_MORE:
                    feed.consume(0)
                else:
                    self._take(feed, received.recv_ns, received.position, received.stop)
            now_ns = time.monotonic_ns()
            if now_ns >= self._next_heartbeat_ns:
                self.heartbeat(now_ns, current=self._plain)

    def heartbeat(self, now_ns: int | None = None, *, current: bool = False) -> None:
        """Signs of life: the process's for the metrics, the prices' for the readers.

        The segments' heartbeat says how long ago their prices were known to be ``current``: at the
        feed's last byte; also now, while it is we who wait for readers, after the end of the run,
        and with a plain feed, whose silence means nothing.
        """
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        self._next_heartbeat_ns = now_ns + int(POLL_S * 1e9)
        if current or self.finished:
            self.writer.heartbeat()
        state = self.ring.state
        self.metrics.set("ticks_received", state.published)
        self.metrics.set("queue_depth", self.writer.lag())
        self._show_staleness((now_ns - state.heartbeat_ns) / 1e9)
        self.metrics.heartbeat()

    def _show_staleness(self, age_s: float) -> None:
        """Tell the health check when nothing is known of the feed any more."""
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
        """Everything in the receive buffer, up to an unfinished tick.

        ``position`` and ``stop``: where parsing has come to, and what it stopped at there.
        """
        ticks, first = 0, stop is None
        while not self.finished:
            if stop is None:
                count, position, stop = self.writer.push(feed.buffer, position, feed.fill, recv_ns)
                ticks += count
                self._in_bad_run = self._in_bad_run and not count
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
            # What the kernel received has been counted with it, and may have waited since.
            if first:
                self.metrics.add("batches")
                _kernel.record_latency(self._update_buckets, done_ns - recv_ns)

    def _wait_for_readers(self) -> None:
        """Lossless: the slowest strategy has not moved on; let TCP hold the gateway meanwhile."""
        self.metrics.add("writer_waits")
        while not self.writer.wait_space(100_000_000) and not self.stop:
            now_s = time.monotonic()
            self.heartbeat(current=True)
            if now_s >= self._next_evict_s:
                self._next_evict_s = now_s + EVICT_EVERY_S
                for name in self.ring.evict_dead(self.settings.reader_grace_s):
                    log.warning("reader_evicted", reader=name, after_s=self.settings.reader_grace_s)

    def _take_mark(self, feed: FeedConnection, position: int) -> int:
        frame, behind = feed.take_frame(position)
        heartbeat, end = parse_mark(frame, "BEAT"), parse_mark(frame, "END")
        seq = heartbeat if end is None else end
        if seq is None:
            return self._refuse(feed, position, _kernel.BAD_TIMESTAMP)
        if seq != self.next_seq:
            self._discard(seq)
        if end is not None:
            self.writer.finish(end)
            log.info("feed_finished", ticks=end)
        return behind

    def _discard(self, seq: int) -> None:
        """Ticks were lost or came twice under way: what the segments hold is another run.

        Raises:
            FatalError: after the restart everyone begins at tick 0.
        """
        self.ring.unlink()
        self.book.unlink()
        raise FatalError(
            f"damaged feed: the gateway has sent {seq} ticks, {self.next_seq} have come; "
            "starting over from tick 0"
        )

    def _refuse(self, feed: FeedConnection, position: int, problem: int) -> int:
        """A malformed tick: never guessed at, never written; where to go on.

        A sequenced feed is asked again from this tick on (see :class:`MalformedTicks`); a plain one
        goes on at its next whole tick, which may begin with a field that is wrong as a price.
        """
        seq = self.next_seq
        field, behind = feed.take_frame(position)
        if not self._in_bad_run:
            shown = field[:40].decode("utf-8", "backslashreplace")
            log.warning("tick_refused", seq=seq, field=shown, reason=REASONS[problem])
        if feed.sequenced:
            if self._wrong.is_from_source(seq, field):
                self.metrics.add("ticks_malformed")
                self.writer.set_next_seq(seq + 1)
            raise RemoteProtocolError(f"malformed tick {seq}")
        if not self._in_bad_run:
            self.metrics.add("ticks_malformed")
        self._in_bad_run = True
        return position if problem == _kernel.BAD_PRICE else behind

    def close(self) -> None:
        """Release the segments; they stay for the readers and for a successor."""
        self.heartbeat()
        del self.writer
        self.ring.close()
        self.book.close()
        self.metadata.close()


def _connect(settings: Settings, orderbook: Orderbook | None) -> FeedConnection:
    return FeedConnection(
        settings.gateway_host,
        settings.price_port,
        orderbook.next_seq if orderbook else 0,
        has_symbols=True,
        must_be_sequenced=bool(orderbook and orderbook.feed_id),
        silent_s_max=settings.heartbeat_timeout_s,
    )


def _body(settings: Settings, metrics: ProcessMetrics, stop: Stop) -> int:
    backoff = Backoff(settings.reconnect_delay_ms, settings.reconnect_delay_ms_max)
    orderbook: Orderbook | None = None
    connections = 0

    def heartbeat() -> None:
        orderbook.heartbeat() if orderbook else metrics.heartbeat()

    try:
        while not stop and not (orderbook and orderbook.finished):
            feed = None
            try:
                # A fresh process learns the symbols first, then where its segments stand.
                feed = _connect(settings, orderbook)
                if orderbook is None:
                    orderbook = Orderbook(settings, metrics, stop, feed)
                    metrics.set_state("ready")
                    if orderbook.next_seq:
                        feed.close()
                        feed = _connect(settings, orderbook)
                _same_run(orderbook, feed)
                connections += 1
                if connections > 1:
                    metrics.add("reconnects")
                log.info("feed_connected", seq=orderbook.next_seq, sequenced=feed.sequenced)
                backoff.reset()
                orderbook.run(feed)
            except (FeedClosed, RemoteProtocolError) as error:
                log.warning("feed_lost", error=str(error))
                if orderbook:
                    orderbook.book.count_gap()
                backoff.sleep(stop, heartbeat)
            finally:
                if feed is not None:
                    feed.close()
        while not stop:
            # The run is over; the segments stay readable until somebody stops us.
            heartbeat()
            time.sleep(POLL_S)
    finally:
        if orderbook:
            orderbook.close()
    return 0


def _same_run(orderbook: Orderbook, feed: FeedConnection) -> None:
    """Refuse to mix two runs in one book: a restart of this process starts it afresh."""
    if feed.symbols != orderbook.symbols or feed.feed_id != orderbook.feed_id:
        raise FatalError(
            f"the gateway now serves another run ({feed.feed_id or 'unnamed'}, "
            f"{len(feed.symbols or [])} symbols) than this book holds "
            f"({orderbook.feed_id or 'unnamed'}, {len(orderbook.symbols)} symbols); restarting"
        )


def main() -> int:
    """Run the orderbook; exit code 0 after a stop, 1 on a fault, 2 on wrong settings."""
    return run_process("orderbook", _body)
