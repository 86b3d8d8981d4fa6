"""The price port's subscribers: each is a cursor into the shared feed, so no tick is copied."""

import select
import time
from bisect import bisect_right
from typing import Final

from app.gateway.sessions import GONE, STREAM, Sessions, Subscriber
from app.kernel._kernel import BatchTimes
from app.market_data.feed import Feed
from app.market_data.feed_segment import Block
from app.market_data.storage.resident import RESIDENT
from app.model.wire.feed_protocol import encode_mark

SEND_BYTES_MAX: Final = 1 << 20
"""Limit of what is sent to one subscriber before the others get their turn."""


class PricePublisher:
    """Sends the ticks below ``released`` to every subscriber.

    A subscriber is either *caught up* (it has every released tick; the next release is sent to it
    at once) or *lagging* (its socket is full, or it reads history; it continues whenever its socket
    is writable).

    Processes of this stack come first: a release is sent to them before it is sent to others, and
    those that lag get a turn before each turn of another.  So the stack waits for one send at most,
    however many others read, and they have at least every second turn.
    """

    name = "prices"
    has_symbols = True

    def __init__(self, feed: Feed, sessions: Sessions) -> None:
        self._feed, self._sessions = feed, sessions
        self.times: BatchTimes | None = None
        """Where to note when ticks are sent, for the trace of orders."""
        self.subscribers: set[Subscriber] = set()
        self.begin_again()

    def begin_again(self) -> None:
        """From tick 0; nobody subscribes yet, or any more."""
        # Subscribers that were sent the whole stream and have left.
        self.completed = 0
        self.released = 0
        # The subscribers that are caught up share one cursor, the tail.
        self._caught_up: list[Subscriber] = []
        # Those that asked for a later tick than is released; it is their ``next_seq``.
        self._parked: set[Subscriber] = set()
        self._tail_block, self._tail = self._locate(0)
        # In a hurry everything up to its end is released; the position is that of the leader, the
        # fastest subscriber.  If there are processes of this stack, it is one of these.
        self._unpaced = False
        self._stack: set[Subscriber] = set()
        self._leader_block, self._leader = self._tail_block, self._tail

    def _locate(self, seq: int) -> tuple[Block, int]:
        """Block and byte position where tick ``seq`` begins; ``total``: the end of the last."""
        block = self._feed.block_at(min(seq, self._feed.total - 1))
        return block, block.offsets[seq - block.first]

    @property
    def position(self) -> int:
        """How far the stream has got, in ticks."""
        if self._unpaced:
            return self._leader_block.seq_at(self._leader)
        return self.released

    def subscribe(self, subscriber: Subscriber) -> None:
        """Start a plain client: the last price of each symbol, then the stream from here on."""
        seq = self.position
        self._subscribe(subscriber)
        if seq:
            subscriber.queue(self._feed.snapshot(seq))
        subscriber.block, subscriber.position = self._locate(seq)
        self._pump(subscriber)

    def resume(self, subscriber: Subscriber, seq: int) -> None:
        """Continue at tick ``seq`` of the run; also for a client already in the plain stream.

        A client of this stack that is ahead of the stream, after a restart of the gateway, moves
        the stream to its tick.  Any other waits until the stream gets there.
        """
        if subscriber in self._caught_up:
            self._caught_up.remove(subscriber)
            subscriber.block, subscriber.position = self._tail_block, self._tail
        if subscriber.block is not None:
            subscriber.queue(_rest_of_frame(subscriber.block, subscriber.position))
        subscriber.queue(encode_mark("SEQ", seq))
        subscriber.resuming = True
        self._subscribe(subscriber)
        if seq > self.released and not subscriber.proven:
            subscriber.block, subscriber.next_seq = None, seq
            self._parked.add(subscriber)
        else:
            subscriber.block, subscriber.position = self._locate(seq)
            self.release(seq)
            if self._unpaced:
                # It has what is before: after a restart of the gateway, the hurry is there.
                self._note_leader(subscriber, subscriber.block)
        self._pump(subscriber)

    def _subscribe(self, subscriber: Subscriber) -> None:
        self.subscribers.add(subscriber)
        if subscriber.proven:
            self._stack.add(subscriber)
        subscriber.stage = STREAM

    def hurry(self, seq: int) -> None:
        """Release the ticks below ``seq``: each subscriber is sent them as fast as it reads."""
        self._leader_block, self._leader = self._locate(self.released)
        self._unpaced = True
        self.release(seq)

    @property
    def leads(self) -> bool:
        """Whether a subscriber reads, so that a hurry gets on."""
        return len(self.subscribers) > len(self._parked)

    def stop_hurry(self, skip: bool = False) -> None:
        """No tick is released any more that the leader was not sent, at least in part.

        ``skip``: nobody reads, so the hurry is at its end.
        """
        self._unpaced = False
        if skip:
            return
        seq = _next_whole(self._leader_block, self._leader)
        if self.released <= seq:
            return
        for subscriber in self._take_caught_up():
            subscriber.block, subscriber.position = self._tail_block, self._tail
        self.released = seq
        for subscriber in tuple(self.subscribers):
            if subscriber.block is not None:
                self._park_if_ahead(subscriber, subscriber.block)

    def _park_if_ahead(self, subscriber: Subscriber, block: Block) -> None:
        """A client that is none of this stack, and asked for later ticks, waits for them."""
        next_seq = _next_whole(block, subscriber.position)
        if next_seq > self.released:
            subscriber.queue(_rest_of_frame(block, subscriber.position))
            subscriber.block, subscriber.next_seq = None, next_seq
            self._parked.add(subscriber)
            self._pump(subscriber)

    def release(self, seq: int) -> None:
        """Release the ticks below ``seq``; a smaller number than before does nothing."""
        if seq <= self.released:
            return
        if self.times is not None and not self._unpaced:
            self.times.note(self.released, seq, time.monotonic_ns())
        self.released = seq
        self._send_released(seq)
        for subscriber in [each for each in self._parked if each.next_seq <= seq]:
            self._parked.discard(subscriber)
            subscriber.block, subscriber.position = self._locate(subscriber.next_seq)
            self._pump(subscriber)

    def _send_released(self, seq: int) -> None:
        if self._unpaced:
            # The first that is caught up again moves the tail.
            block, start = self._tail_block, self._tail
            for subscriber in self._take_caught_up():
                subscriber.block, subscriber.position = block, start
                self._pump(subscriber)
            return
        block, start = self._tail_block, self._tail
        while self._caught_up:
            stop = block.offsets[min(seq, block.end) - block.first]
            if stop > start:
                self._send_caught_up(block, start, stop)
                start = stop
            if seq <= block.end:
                break
            block, start = self._locate(block.end)
        self._tail_block, self._tail = block, start
        if seq == self._feed.total:
            for subscriber in self._take_caught_up():
                self._finish(subscriber)

    def end(self) -> None:
        """How many ticks there are is known now, and all are released."""
        if self.released == self._feed.total:
            for subscriber in self._take_caught_up():
                self._finish(subscriber)

    def _send_caught_up(self, block: Block, start: int, stop: int) -> None:
        chunk, size = block.data[start:stop], stop - start
        send = self._sessions.send
        # Copy: send() may remove a dead subscriber from the list.
        for subscriber in tuple(self._caught_up):
            sent = send(subscriber, chunk)
            if sent != size and subscriber.stage != GONE:
                self._caught_up.remove(subscriber)
                subscriber.block, subscriber.position = block, start + sent
                self._sessions.watch(subscriber, writable=True)

    def _take_caught_up(self) -> list[Subscriber]:
        subscribers, self._caught_up = self._caught_up, []
        return subscribers

    def pump(self, subscriber: Subscriber) -> None:
        """It is the turn of a lagging subscriber, whose socket is writable."""
        if not subscriber.proven:
            for each in tuple(self._stack):
                if each.stage == STREAM and each.watching & select.EPOLLOUT:
                    self._pump(each)
        self._pump(subscriber)

    def _pump(self, subscriber: Subscriber) -> None:
        """Send up to SEND_BYTES_MAX, or until the socket is full."""
        if not self._sessions.flush(subscriber):
            return
        if subscriber.block is None:
            if subscriber in self._parked:
                self._sessions.watch(subscriber, writable=False)
            return
        budget = SEND_BYTES_MAX
        while budget > 0:
            block = subscriber.block
            limit = block.offsets[min(self.released, block.end) - block.first]
            if subscriber.position == limit:
                if self.released <= block.end:
                    self._mark_caught_up(subscriber)
                    return
                subscriber.block, subscriber.position = self._locate(block.end)
                continue
            size = min(limit - subscriber.position, budget)
            if self.times is not None and subscriber.proven:
                self._note_send(self.times, block, subscriber.position)
            sent = self._sessions.send(
                subscriber, block.data[subscriber.position : subscriber.position + size]
            )
            if subscriber.stage == GONE:
                return
            subscriber.position += sent
            budget -= sent
            RESIDENT.passed(sent)
            if self._unpaced:
                self._note_leader(subscriber, block)
            if sent < size:
                break
        self._sessions.watch(subscriber, writable=True)

    def _note_send(self, times: BatchTimes, block: Block, position: int) -> None:
        """Ticks from ``position`` on are sent now; those that do not fit are noted again later."""
        first = block.first + bisect_right(block.offsets, position) - 1
        times.note(first, min(self.released, block.end), time.monotonic_ns())

    def _note_leader(self, subscriber: Subscriber, block: Block) -> None:
        if self._stack and subscriber not in self._stack:
            return
        if (block.first, subscriber.position) > (self._leader_block.first, self._leader):
            self._leader_block, self._leader = block, subscriber.position

    def _mark_caught_up(self, subscriber: Subscriber) -> None:
        assert subscriber.block is not None
        if self.released == self._feed.total:
            self._finish(subscriber)
            return
        self._tail_block, self._tail = subscriber.block, subscriber.position
        self._caught_up.insert(0 if subscriber.proven else len(self._caught_up), subscriber)
        self._sessions.watch(subscriber, writable=False)

    def _finish(self, subscriber: Subscriber) -> None:
        subscriber.block = None
        if subscriber.resuming:
            subscriber.queue(encode_mark("END", self._feed.total))
        self._sessions.finish(subscriber)

    def heartbeat(self, subscriber: Subscriber) -> None:
        """Tell the subscriber how many ticks it was sent; does nothing while frames are pending."""
        if subscriber in self._parked and not subscriber.pending:
            subscriber.queue(encode_mark("BEAT", subscriber.next_seq))
            self._sessions.flush(subscriber)
        if subscriber.pending or subscriber.block is None:
            return
        caught_up = subscriber in self._caught_up
        rest, seq = b"", self.released
        if not caught_up:
            rest = _rest_of_frame(subscriber.block, subscriber.position)
            seq = _next_whole(subscriber.block, subscriber.position)
            subscriber.position += len(rest)
        subscriber.queue(rest + encode_mark("BEAT", seq))
        if not self._sessions.flush(subscriber) and subscriber in self._caught_up:
            self._caught_up.remove(subscriber)
            subscriber.block, subscriber.position = self._tail_block, self._tail

    def forget(self, subscriber: Subscriber) -> None:
        """Remove a subscriber whose connection is closed."""
        self.subscribers.discard(subscriber)
        self._parked.discard(subscriber)
        self._stack.discard(subscriber)
        self.completed += subscriber.finished
        if subscriber in self._caught_up:
            self._caught_up.remove(subscriber)

    def lag_bytes(self, subscriber: Subscriber) -> int:
        """Estimate of the bytes of ticks not yet sent to the subscriber."""
        if subscriber.block is None or subscriber in self._caught_up:
            return len(subscriber.pending)
        lag_ticks = self.position - subscriber.block.seq_at(subscriber.position)
        return len(subscriber.pending) + int(lag_ticks * self._feed.frame_bytes_mean)


def _next_whole(block: Block, position: int) -> int:
    """The first tick of which nothing is sent at ``position``."""
    seq = block.seq_at(position)
    return seq + (block.offsets[seq - block.first] != position)


def _rest_of_frame(block: Block, position: int) -> bytes:
    """The rest of the frame around ``position``; empty at the start of a frame."""
    seq = block.seq_at(position) - block.first
    if block.offsets[seq] == position:
        return b""
    return bytes(block.data[position : block.offsets[seq + 1]])
