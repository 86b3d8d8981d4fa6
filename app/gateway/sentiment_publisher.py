"""The sentiment port's subscribers.

A plain client gets each sentiment just before the first tick that may see it.  A client that
resumes is sent ahead of the prices, with marks ``SEQ|n*``: every sentiment for the ticks below n is
out.
"""

from typing import Final

from app.gateway.sessions import STREAM, Connections, Subscriber
from app.market_data.feed import Feed
from app.model.wire.feed_protocol import encode_mark
from app.model.wire.frames import RemoteProtocolError

BLOCK_TICKS: Final = 4096
"""There is a mark at every multiple of it."""
AHEAD_TICKS: Final = 64 * BLOCK_TICKS
"""How far sentiment may be ahead of the prices: more than one client's turn of ticks."""
TURN_BYTES: Final = 1 << 18


class SentimentPublisher:
    """Sends what is due below ``position``, or some way ahead of it."""

    name = "sentiment"

    def __init__(self, feed: Feed, connections: Connections) -> None:
        self._feed, self._connections = feed, connections
        self.subscribers: set[Subscriber] = set()
        # Those who got everything and left.
        self.completed = 0
        self.position = 0
        self._ahead = self._ahead_of(0)
        self._caught_up: set[Subscriber] = set()

    def _ahead_of(self, position: int) -> int:
        ahead = (position + AHEAD_TICKS) // BLOCK_TICKS * BLOCK_TICKS
        return min(ahead, self._feed.total)

    def _limit(self, client: Subscriber) -> int:
        return self._ahead if client.resuming else self.position

    def join(self, client: Subscriber) -> None:
        """Subscribe a plain client: the last sentiment of each symbol, then as they fall due."""
        if self.position:
            client.queue(self._feed.sentiment_snapshot(self.position))
        self._subscribe(client, self.position)

    def resume(self, client: Subscriber, seq: int) -> None:
        """Subscribe a client that says where it stands, or move a plain one there.

        Raises:
            RemoteProtocolError: the run has no such tick.
        """
        if seq > self._feed.total:
            raise RemoteProtocolError(f"RESUME|{seq}: the run has {self._feed.total} ticks")
        client.resuming = True
        # After our restart the client may be further than the prices.
        self._ahead = max(self._ahead, self._ahead_of(seq))
        client.queue(encode_mark("SEQ", seq) + self._feed.sentiment_snapshot(seq))
        self._subscribe(client, seq)

    def _subscribe(self, client: Subscriber, seq: int) -> None:
        self.subscribers.add(client)
        self._caught_up.discard(client)
        client.stage, client.next_seq = STREAM, seq
        self.pump(client)

    def advance(self, position: int) -> None:
        """The prices have come to tick ``position``."""
        if position <= self.position:
            return
        self.position = position
        self._ahead = max(self._ahead, self._ahead_of(position))
        for client in tuple(self._caught_up):
            if client.next_seq < self._limit(client):
                self._caught_up.discard(client)
                self.pump(client)

    def pump(self, client: Subscriber) -> None:
        """Send on to a client that is behind: a fair share, or until its socket is full."""
        budget = TURN_BYTES
        while self._connections.flush(client):
            if client.stage != STREAM:
                return
            if client.next_seq == self._feed.total:
                self._finish(client)
                return
            if client.next_seq >= self._limit(client):
                self._caught_up.add(client)
                self._connections.watch(client, writable=False)
                return
            if budget <= 0:
                self._connections.watch(client, writable=True)
                return
            budget -= self._fill(client)

    def _fill(self, client: Subscriber) -> int:
        """Queue the sentiments up to the next mark; their size in bytes."""
        stop = min(self._limit(client), (client.next_seq // BLOCK_TICKS + 1) * BLOCK_TICKS)
        data = self._feed.sentiments(client.next_seq, stop)
        if client.resuming:
            data += encode_mark("SEQ", stop)
        client.next_seq = stop
        client.queue(data)
        # Ticks without any sentiment cost time, too.
        return len(data) + 64

    def _finish(self, client: Subscriber) -> None:
        if client.resuming:
            client.queue(encode_mark("END", self._feed.total))
        self._connections.finish(client)

    def heartbeat(self, client: Subscriber) -> None:
        """Show the client that we live; nothing while it cannot keep up."""
        if not client.pending:
            client.queue(encode_mark("BEAT", client.next_seq))
            if not self._connections.flush(client):
                self._caught_up.discard(client)

    def forget(self, client: Subscriber) -> None:
        """The client is gone."""
        self.subscribers.discard(client)
        self.completed += client.finished
        self._caught_up.discard(client)

    def lag_bytes(self, client: Subscriber) -> int:
        """About how many bytes of sentiment the client has still to be sent."""
        due = self._feed.sentiment_count(self._limit(client))
        behind = due - self._feed.sentiment_count(client.next_seq)
        return len(client.pending) + int(max(behind, 0) * self._feed.frame_bytes_mean)


assert AHEAD_TICKS % BLOCK_TICKS == 0
