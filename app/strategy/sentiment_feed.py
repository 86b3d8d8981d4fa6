"""The strategy's connection to the sentiment port.

In a replay, price and sentiment are joined by event order, not by arrival: the gateway sends
sentiment ahead of the prices, with marks ``SEQ|n*`` that mean "complete for every tick before n".
So the feed is read only when the last mark is not past the current tick; meanwhile TCP holds the
gateway back.  A sentiment behind ``SEQ|n*`` is not for a tick before n, even one of the same time.
"""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from app.config.settings import Settings
from app.kernel import _kernel
from app.model.tick import TICK_DTYPE
from app.model.wire.feed_protocol import parse_mark
from app.model.wire.frames import RemoteProtocolError
from app.runtime.lifecycle import Backoff, FatalError, Stop
from app.runtime.log import get_logger
from app.runtime.net.feed_client import FeedClosed, FeedConnection
from app.runtime.net.feed_dialer import FeedDialer

log = get_logger()

COMPLETE = (1 << 63) - 1
"""``complete_before`` after END: no more sentiment will arrive."""


class SentimentFeed:
    """Sentiment events in event order, and up to which tick they are complete.

    ``complete_before``: every event for ticks with a lower sequence has been received.
    """

    def __init__(
        self,
        settings: Settings,
        symbols: list[str],
        stop: Stop,
        heartbeat: Callable[[], None],
        count_received: Callable[[int], None] = lambda _event_count: None,
        *,
        sequenced: bool = False,
        proof: str = "",
    ) -> None:
        """``sequenced``: the gateway is known to send marks, so a silent one is not plain.

        ``proof``: as for :class:`FeedDialer`.
        """
        self._proof = proof
        self._stop, self._heartbeat = stop, heartbeat
        self._dialer = FeedDialer(settings)
        self._count_received = count_received
        self._parser = _kernel.FieldParser(symbols)
        self._store: npt.NDArray[np.void] = np.zeros(16384, TICK_DTYPE)
        self._latest = np.full(len(symbols), -1, np.int16)
        self._next_event = self._event_count = self._marked_count = 0
        self.complete_before = 0
        self.by_arrival = settings.sentiment_join == "arrival"
        self._must_be_sequenced = sequenced and not self.by_arrival
        self._feed: FeedConnection | None = None
        self._waiting_since_s: float | None = None
        self._backoff = Backoff(settings.reconnect_delay_ms, settings.reconnect_delay_ms_max)

    def connect(self) -> None:
        """Connect, retrying until the gateway answers; returns early on a stop."""
        while self._feed is None and not self._stop:
            try:
                self._feed = self._dialer.sentiment(
                    self.complete_before, self._proof, must_be_sequenced=self._must_be_sequenced
                )
            except (FeedClosed, RemoteProtocolError) as error:
                log.warning("sentiment_unreachable", error=str(error))
                self._backoff.sleep(self._stop, self._heartbeat)
                continue
            if not self._feed.sequenced and not self.by_arrival:
                log.warning("sentiment_by_arrival", reason="the gateway sends no sequence marks")
                self.by_arrival = True
            # The gateway sends everything after the last mark again.
            self._event_count = self._marked_count
            self._backoff.reset()
            log.info("sentiment_connected", complete_before=self.complete_before)

    @property
    def waiting_s(self) -> float:
        """How long :meth:`reach` has been waiting; 0 if it is not."""
        return 0.0 if self._waiting_since_s is None else time.monotonic() - self._waiting_since_s

    def reach(self, seq: int) -> None:
        """Read until sentiment is complete for tick ``seq``; returns early on a stop."""
        if self.complete_before <= seq:
            self._waiting_since_s = time.monotonic()
            self._read_until(seq)
            self._waiting_since_s = None

    def _read_until(self, seq: int) -> None:
        while self.complete_before <= seq and not self._stop:
            self.connect()
            if self._feed is None:
                return
            try:
                self._parse(self._feed)  # what arrived with the hello
                if self.complete_before <= seq and not self._feed.receive():
                    self._heartbeat()
            except (FeedClosed, RemoteProtocolError) as error:
                log.warning("sentiment_lost", error=str(error))
                self.close()
                self._backoff.sleep(self._stop, self._heartbeat)

    def take_arrived(self) -> None:
        """Join by arrival: apply everything received so far."""
        if self.complete_before < COMPLETE:
            self.connect()
            if self._feed is None:
                return
            try:
                self._parse(self._feed)
                while self._feed.receive_now():
                    self._parse(self._feed)
            except (FeedClosed, RemoteProtocolError) as error:
                log.warning("sentiment_lost", error=str(error))
                self.close()
        for event in self._store[self._next_event : self._event_count]:
            self._latest[event["symbol"]] = int(event["price"])
        self._next_event = self._event_count = self._marked_count = 0

    def join(self, ticks: npt.NDArray[np.void], out: npt.NDArray[np.int16]) -> None:
        """Write to ``out`` each tick's sentiment: its symbol's latest that it may see."""
        if self.by_arrival:
            out[: len(ticks)] = self._latest[ticks["symbol"]]
            return
        self._next_event = _kernel.join_sentiment(
            ticks, self._store[: self._event_count], self._next_event, self._latest, out
        )

    def _parse(self, feed: FeedConnection) -> None:
        position = 0
        while True:
            self._make_room()
            count, position, stop, self.complete_before, marked = _kernel.parse_sentiments(
                self._parser,
                feed.buffer,
                position,
                feed.fill,
                self._store[self._event_count :],
                self.complete_before,
            )
            if marked >= 0:
                self._marked_count = self._event_count + marked
            self._event_count += count
            self._count_received(count)
            if stop == _kernel.NEED_MORE:
                break
            if stop == _kernel.MARK:
                frame, position = feed.take_frame(position)
                self._take_mark(frame)
            elif stop != _kernel.FULL:
                field, _ = feed.take_frame(position)
                raise RemoteProtocolError(f"malformed sentiment field {field[:40]!r}")
        feed.consume(position)

    def _take_mark(self, frame: bytes) -> None:
        """A frame that is not a sentiment and not a well-formed ``SEQ|n*``."""
        if parse_mark(frame, "END") is not None:
            self.complete_before = COMPLETE
            self._marked_count = self._event_count
        elif parse_mark(frame, "BEAT") is None:
            raise RemoteProtocolError(f"unknown frame {frame[:40]!r}")

    def _make_room(self) -> None:
        """Drop applied events; grow if most of the store is not applied yet."""
        if self._event_count < len(self._store):
            return
        if self._next_event < len(self._store) // 2:
            if len(self._store) >= 1 << 24:
                raise FatalError("over 16 million sentiment events before a mark from the gateway")
            self._store = np.concatenate([self._store, np.zeros_like(self._store)])
            return
        left = self._event_count - self._next_event
        self._store[:left] = self._store[self._next_event : self._event_count].copy()
        self._event_count, self._marked_count = left, max(0, self._marked_count - self._next_event)
        self._next_event = 0

    def close(self) -> None:
        """Close the connection; :meth:`reach` opens a new one."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None
