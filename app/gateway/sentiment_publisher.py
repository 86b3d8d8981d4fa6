"""The sentiment port's subscribers.

A plain client gets each sentiment just before the first tick that may see it.  A client that
resumes gets it ahead of the prices, with marks: ``SEQ|n*`` says that every sentiment for the ticks
below n has been sent, so what follows is not for them.
"""

from collections import Counter
from typing import Final

from app.config.kinds import is_loopback
from app.gateway.sessions import STREAM, Sessions, Subscriber
from app.market_data.feed import Feed
from app.model.wire.feed_protocol import encode_mark
from app.model.wire.frames import RemoteProtocolError

BLOCK_TICKS: Final = 4096
"""A mark is sent at every multiple of this."""
AHEAD_TICKS: Final = 64 * BLOCK_TICKS
"""How far sentiment may be ahead of the prices: more ticks than one send to a price subscriber."""
assert AHEAD_TICKS % BLOCK_TICKS == 0
SEND_BYTES_MAX: Final = 1 << 18
"""Limit of what is sent to one subscriber before the others get their turn."""
PIECE_BYTES: Final = 1 << 16
"""Blocks are sent together up to about this size."""
PIECES_KEPT: Final = 8
"""More than one turn of a subscriber takes."""
assert PIECES_KEPT > SEND_BYTES_MAX // PIECE_BYTES


class SentimentPublisher:
    """Sends the sentiment due before tick ``position``, and to clients that resumed, more ahead."""

    name = "sentiment"
    has_symbols = False

    def __init__(self, feed: Feed, sessions: Sessions) -> None:
        self._feed, self._sessions = feed, sessions
        self.subscribers: set[Subscriber] = set()
        self.begin_again()

    def begin_again(self) -> None:
        """From tick 0; nobody subscribes yet, or any more."""
        # Subscribers that have left with the whole stream, or will come again for the rest.
        self.completed = 0
        self._away: Counter[str] = Counter()
        """Of those, by host, the strategies that will come again."""
        self.position = 0
        self._ahead = self._ahead_of(0)
        self._caught_up: set[Subscriber] = set()
        # The latest pieces: made once, since most subscribers are at about the same place.
        self._pieces: dict[tuple[int, int, bool], tuple[bytes, int, int]] = {}

    def _ahead_of(self, position: int) -> int:
        ahead = (position + AHEAD_TICKS) // BLOCK_TICKS * BLOCK_TICKS
        return min(ahead, self._feed.available)

    def _limit(self, subscriber: Subscriber) -> int:
        return self._ahead if subscriber.resuming else self.position

    def subscribe(self, subscriber: Subscriber) -> None:
        """Start a plain client: the last sentiment of each symbol, then each when it is due."""
        if self.position:
            subscriber.queue(self._feed.sentiment_snapshot(self.position))
        self._subscribe(subscriber, self.position)

    def resume(self, subscriber: Subscriber, seq: int) -> None:
        """Continue at tick ``seq`` of the run; also for a client already in the plain stream."""
        subscriber.resuming = True
        # After a restart of the gateway a client of this stack may be ahead of the prices.
        if subscriber.proven:
            self._ahead = max(self._ahead, self._ahead_of(seq))
            if self._away[subscriber.host]:
                self._away[subscriber.host] -= 1
                self.completed -= 1
        elif seq > self._ahead:
            raise RemoteProtocolError(f"RESUME|{seq}: the stream is at {self._ahead}")
        subscriber.queue(encode_mark("SEQ", seq) + self._feed.sentiment_snapshot(seq))
        self._subscribe(subscriber, seq)

    def _subscribe(self, subscriber: Subscriber, seq: int) -> None:
        self.subscribers.add(subscriber)
        self._caught_up.discard(subscriber)
        subscriber.stage, subscriber.next_seq = STREAM, seq
        self.pump(subscriber)

    def advance(self, position: int) -> None:
        """The prices have reached tick ``position``."""
        if position <= self.position:
            return
        self.position = position
        self._ahead = max(self._ahead, self._ahead_of(position))
        for subscriber in tuple(self._caught_up):
            if subscriber.next_seq < self._limit(subscriber):
                self._caught_up.discard(subscriber)
                self.pump(subscriber)

    def end(self) -> None:
        """How many ticks there are is known now; who has all of it is told so."""
        for subscriber in tuple(self._caught_up):
            self._caught_up.discard(subscriber)
            self.pump(subscriber)

    def pump(self, subscriber: Subscriber) -> None:
        """Send to a lagging subscriber: about SEND_BYTES_MAX, or until its socket is full."""
        budget = SEND_BYTES_MAX
        while self._sessions.flush(subscriber):
            if subscriber.stage != STREAM:
                return
            if subscriber.next_seq == self._feed.total:
                self._finish(subscriber)
                return
            if subscriber.next_seq >= self._limit(subscriber):
                self._caught_up.add(subscriber)
                self._sessions.watch(subscriber, writable=False)
                return
            if budget <= 0:
                self._sessions.watch(subscriber, writable=True)
                return
            budget -= self._fill(subscriber)

    def _fill(self, subscriber: Subscriber) -> int:
        """Queue the next piece of the stream; returns its size in bytes."""
        key = subscriber.next_seq, self._limit(subscriber), subscriber.resuming
        if key not in self._pieces:
            if len(self._pieces) == PIECES_KEPT:
                del self._pieces[next(iter(self._pieces))]
            self._pieces[key] = self._make_piece(*key)
        data, subscriber.next_seq, size = self._pieces[key]
        subscriber.queue(data)
        return size

    def _make_piece(self, first: int, limit: int, resuming: bool) -> tuple[bytes, int, int]:
        """Blocks from ``first`` on: their bytes, the tick that follows, and what they count for."""
        blocks: list[bytes] = []
        size, seq = 0, first
        while seq < limit and size < PIECE_BYTES:
            stop = min(limit, (seq // BLOCK_TICKS + 1) * BLOCK_TICKS)
            if resuming:
                blocks.append(self._feed.marked_sentiments(seq, stop) + encode_mark("SEQ", stop))
            else:
                blocks.append(self._feed.sentiments(seq, stop))
            # Charge something for ticks without sentiment: looking at them takes time, too.
            size += len(blocks[-1]) + 64
            seq = stop
        return b"".join(blocks), seq, size

    def _finish(self, subscriber: Subscriber) -> None:
        if subscriber.resuming:
            subscriber.queue(encode_mark("END", self._feed.total))
        self._sessions.finish(subscriber)

    def heartbeat(self, subscriber: Subscriber) -> None:
        """Send the number of the next tick in the stream, unless frames are pending."""
        if not subscriber.pending:
            subscriber.queue(encode_mark("BEAT", subscriber.next_seq))
            if not self._sessions.flush(subscriber):
                self._caught_up.discard(subscriber)

    def forget(self, subscriber: Subscriber) -> None:
        """Remove a subscriber whose connection is closed.

        The run does not wait for a strategy whose link broke: it comes again only when the prices
        reach what it lacks.  If its host, a container, comes before, it is the same strategy, and
        counts once.  On this host it may be another, and the first would be waited for for ever.
        """
        if subscriber in self.subscribers:
            returns = subscriber.resuming and subscriber.proven
            self.completed += subscriber.finished or returns
            if returns and not subscriber.finished and not is_loopback(subscriber.host):
                self._away[subscriber.host] += 1
            self.subscribers.remove(subscriber)
        self._caught_up.discard(subscriber)

    def lag_bytes(self, subscriber: Subscriber) -> int:
        """Estimate of the bytes of sentiment not yet sent to the subscriber."""
        due = self._feed.sentiment_count(self._limit(subscriber))
        unsent = due - self._feed.sentiment_count(subscriber.next_seq)
        return len(subscriber.pending) + int(max(unsent, 0) * self._feed.frame_bytes_mean)
