"""The price port's subscribers: each a cursor into the shared feed, none with a copy of it."""

from app.gateway.sessions import GONE, SEND_BYTES, STREAM, Connections, Subscriber
from app.market_data.feed import Feed
from app.market_data.feed_segment import Block
from app.model.wire.feed_protocol import encode_mark
from app.model.wire.frames import RemoteProtocolError


class PricePublisher:
    """Sends ticks below ``released`` to every subscriber.

    A subscriber is either *even* (it has everything released; a release goes straight out) or
    *behind* (its socket is full, or it reads history; it goes on when it can be written to).
    """

    name = "prices"

    def __init__(self, feed: Feed, connections: Connections) -> None:
        self._feed, self._connections = feed, connections
        self.subscribers: set[Subscriber] = set()
        # Those who got everything and left.
        self.completed = 0
        self.released = 0
        # Even clients share one cursor.
        self._caught_up: list[Subscriber] = []
        self._tail_block, self._tail = self._place(0)
        # At full pace everything is released, and the position is that of the fastest client.
        self._full_pace = False
        self._leader_block, self._leader = self._tail_block, self._tail

    def _place(self, seq: int) -> tuple[Block, int]:
        """The block and byte where tick ``seq`` begins; behind the last tick its block's end."""
        block = self._feed.block_at(min(seq, self._feed.total - 1))
        return block, block.offsets[seq - block.first]

    @property
    def position(self) -> int:
        """The number of ticks that the stream has come to."""
        if self._full_pace:
            return self._leader_block.seq_at(self._leader)
        return self.released

    def join(self, client: Subscriber) -> None:
        """Subscribe a plain client: the last price of each symbol, then from the position on."""
        seq = self.position
        self._subscribe(client)
        if seq:
            client.queue(self._feed.snapshot(seq))
        client.block, client.position = self._place(seq)
        self.pump(client)

    def resume(self, client: Subscriber, seq: int) -> None:
        """Subscribe a client that says where it stands, or move a plain one there.

        Raises:
            RemoteProtocolError: the run has no such tick.
        """
        if seq > self._feed.total:
            raise RemoteProtocolError(f"RESUME|{seq}: the run has {self._feed.total} ticks")
        if client in self._caught_up:
            self._caught_up.remove(client)
            client.block, client.position = self._tail_block, self._tail
        if client.block is not None:
            client.queue(_rest_of_frame(client.block, client.position))
        client.queue(encode_mark("SEQ", seq))
        client.resuming = True
        self._subscribe(client)
        client.block, client.position = self._place(seq)
        self.release(seq)
        self.pump(client)

    def _subscribe(self, client: Subscriber) -> None:
        self.subscribers.add(client)
        client.stage = STREAM

    def start_full_pace(self) -> None:
        """Release everything: from now on each client goes as fast as it reads."""
        self._leader_block, self._leader = self._place(self.released)
        self._full_pace = True
        self.release(self._feed.total)

    def release(self, seq: int) -> None:
        """Release the ticks below ``seq`` (never fewer than before)."""
        if seq <= self.released:
            return
        self.released = seq
        if self._full_pace:
            for client in self._take_caught_up():
                client.block, client.position = self._tail_block, self._tail
                self.pump(client)
            return
        block, start = self._tail_block, self._tail
        while self._caught_up:
            stop = block.offsets[min(seq, block.end) - block.first]
            if stop > start:
                self._send_caught_up(block, start, stop)
                start = stop
            if seq <= block.end:
                break
            block, start = self._feed.block_at(block.end), 0
        self._tail_block, self._tail = block, start
        if seq == self._feed.total:
            for client in self._take_caught_up():
                self._finish(client)

    def _send_caught_up(self, block: Block, start: int, stop: int) -> None:
        chunk, size = block.data[start:stop], stop - start
        send = self._connections.send
        # A copy: who turns out to be gone leaves the list while we go through it.
        for client in tuple(self._caught_up):
            sent = send(client, chunk)
            if sent != size and client.stage != GONE:
                self._caught_up.remove(client)
                client.block, client.position = block, start + sent
                self._connections.watch(client, writable=True)

    def _take_caught_up(self) -> list[Subscriber]:
        clients, self._caught_up = self._caught_up, []
        return clients

    def pump(self, client: Subscriber) -> None:
        """Send on to a client that is behind: a fair share, or until its socket is full."""
        if not self._connections.flush(client) or client.block is None:
            return
        budget = SEND_BYTES
        while budget > 0:
            block = client.block
            limit = block.offsets[min(self.released, block.end) - block.first]
            if client.position == limit:
                if self.released <= block.end:
                    self._mark_caught_up(client)
                    return
                client.block, client.position = self._feed.block_at(block.end), 0
                continue
            size = min(limit - client.position, budget)
            sent = self._connections.send(
                client, block.data[client.position : client.position + size]
            )
            if client.stage == GONE:
                return
            client.position += sent
            budget -= sent
            if self._full_pace:
                self._note_leader(client, block)
            if sent < size:
                break
        self._connections.watch(client, writable=True)

    def _note_leader(self, client: Subscriber, block: Block) -> None:
        if (block.first, client.position) > (self._leader_block.first, self._leader):
            self._leader_block, self._leader = block, client.position

    def _mark_caught_up(self, client: Subscriber) -> None:
        assert client.block is not None
        if self.released == self._feed.total:
            self._finish(client)
            return
        self._tail_block, self._tail = client.block, client.position
        self._caught_up.append(client)
        self._connections.watch(client, writable=False)

    def _finish(self, client: Subscriber) -> None:
        client.block = None
        if client.resuming:
            client.queue(encode_mark("END", self._feed.total))
        self._connections.finish(client)

    def heartbeat(self, client: Subscriber) -> None:
        """Say how many ticks the client has been sent; nothing while it cannot keep up."""
        if client.pending or client.block is None:
            return
        caught_up = client in self._caught_up
        rest, seq = b"", self.released
        if not caught_up:
            rest = _rest_of_frame(client.block, client.position)
            seq = client.block.seq_at(client.position) + bool(rest)
            client.position += len(rest)
        client.queue(rest + encode_mark("BEAT", seq))
        if not self._connections.flush(client) and client in self._caught_up:
            self._caught_up.remove(client)
            client.block, client.position = self._tail_block, self._tail

    def forget(self, client: Subscriber) -> None:
        """The client is gone."""
        self.subscribers.discard(client)
        self.completed += client.finished
        if client in self._caught_up:
            self._caught_up.remove(client)

    def lag_bytes(self, client: Subscriber) -> int:
        """About how many bytes of ticks the client has still to be sent."""
        if client.block is None or client in self._caught_up:
            return len(client.pending)
        behind = self.position - client.block.seq_at(client.position)
        return len(client.pending) + int(behind * self._feed.frame_bytes_mean)


def _rest_of_frame(block: Block, position: int) -> bytes:
    """What is left of the frame that the byte at ``position`` is in the middle of."""
    seq = block.seq_at(position) - block.first
    if block.offsets[seq] == position:
        return b""
    return bytes(block.data[position : block.offsets[seq + 1]])
