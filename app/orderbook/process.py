"""The orderbook process: connects to the price feed, and reconnects until the run is over."""

import time

from app.config.settings import Settings
from app.model.wire.frames import RemoteProtocolError
from app.orderbook.feed_writer import FeedWriter
from app.orderbook.segments import Segments
from app.runtime.lifecycle import POLL_S, Backoff, Stop
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.net.feed_client import FeedClosed, FeedConnection
from app.runtime.net.feed_dialer import FeedDialer
from app.runtime.process import run_process
from app.runtime.trace.writer import TraceSegment

log = get_logger()

SAME_LOST_S = 10.0
"""Between two lines about the same reason."""


def _connect(dialer: FeedDialer, writer: FeedWriter | None, proof: str) -> FeedConnection:
    known = bool(writer and writer.segments.feed_id)
    return dialer.prices(writer.next_seq if writer else 0, proof, must_be_sequenced=known)


class LostFeed:
    """Logs why there is no feed: while a gateway loads a large file, not for every attempt."""

    def __init__(self) -> None:
        self._reason, self._attempts, self._next_s = "", 0, 0.0

    def log(self, reason: str) -> None:
        """An attempt has failed, or a connection has broken."""
        now_s = time.monotonic()
        self._attempts += 1
        again = reason == self._reason
        if again and now_s < self._next_s:
            return
        log.warning("feed_lost", error=reason, **({"attempts": self._attempts} if again else {}))
        self._reason, self._next_s = reason, now_s + SAME_LOST_S


def _body(settings: Settings, metrics: ProcessMetrics, stop: Stop) -> int:
    backoff = Backoff(settings.reconnect_delay_ms, settings.reconnect_delay_ms_max)
    dialer = FeedDialer(settings)
    writer: FeedWriter | None = None
    connections = 0
    lost = LostFeed()

    def heartbeat() -> None:
        writer.heartbeat() if writer else metrics.heartbeat()

    trace = TraceSegment.open(settings, metrics)
    try:
        while not stop and not (writer and writer.finished):
            feed = None
            try:
                feed = _connect(dialer, writer, metrics.stack_proof)
                if writer is None:
                    # The segments need the symbols, and they say where to resume.
                    writer = FeedWriter(
                        settings, metrics, stop, Segments(settings, feed, metrics.run)
                    )
                    if trace is not None:
                        writer.writer.note_times(trace.orderbook)
                    metrics.set_state("ready")
                    if writer.next_seq:
                        feed.close()
                        feed = _connect(dialer, writer, metrics.stack_proof)
                writer.segments.check_same_run(feed)
                connections += 1
                if connections > 1:
                    metrics.add("reconnects")
                log.info("feed_connected", seq=writer.next_seq, sequenced=feed.sequenced)
                backoff.reset()
                lost = LostFeed()
                writer.run(feed)
            except (FeedClosed, RemoteProtocolError) as error:
                lost.log(str(error))
                if writer:
                    writer.segments.book.count_gap()
                backoff.sleep(stop, heartbeat)
            finally:
                if feed is not None:
                    feed.close()
        while not stop:
            # The run is over; the segments stay readable until this process is stopped.
            heartbeat()
            time.sleep(POLL_S)
    finally:
        if writer:
            writer.close()
    return 0


def main() -> int:
    """Run the orderbook; exit code 0 after a stop, 1 on a fault, 2 on invalid settings."""
    return run_process("orderbook", _body)
