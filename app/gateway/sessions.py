"""The gateway's connected clients: their state, sending to them, closing their connections."""

import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Final, Protocol

from app.market_data.feed_segment import Block
from app.model.repeat_window import OTHER
from app.model.wire.feed_protocol import encode_symbol_list
from app.model.wire.frames import DELIMITER, FrameBuffer
from app.runtime.log import get_logger
from app.runtime.net.strangers import refusal_window

log = get_logger()

HELLO_BYTES_MAX: Final = 128
"""Also for a token that is not needed."""
CLOSE_TIMEOUT_S: Final = 10.0
"""Time a client has to close its side after the end of the run."""

_RESET: Final = struct.pack("ii", 1, 0)

HELLO, STREAM, CLOSING, GONE, DOOR = range(5)
"""DOOR comes before HELLO, where a client has to show first that it may read the feed."""


class Publisher(Protocol):
    """One port's subscribers."""

    name: str
    has_symbols: bool
    """Whether the symbol list is the first frame to each client."""
    subscribers: set["Subscriber"]
    completed: int

    def subscribe(self, subscriber: "Subscriber") -> None:
        """Start the stream for a plain client."""

    def resume(self, subscriber: "Subscriber", seq: int) -> None:
        """Continue at tick ``seq`` of the run; also for a client already in the plain stream."""

    def pump(self, subscriber: "Subscriber") -> None:
        """Send more: the socket is writable."""

    def heartbeat(self, subscriber: "Subscriber") -> None:
        """Send a heartbeat with the subscriber's position in the stream."""

    def forget(self, subscriber: "Subscriber") -> None:
        """Remove a subscriber whose connection is closed."""

    def lag_bytes(self, subscriber: "Subscriber") -> int:
        """Estimate of the bytes not yet sent to the subscriber."""


class Subscriber:
    """A connected client: its socket, its hello, and a cursor that its publisher moves."""

    __slots__ = (
        "asked",
        "block",
        "deadline_ns",
        "encrypted",
        "finished",
        "half_closed",
        "heartbeats",
        "hello",
        "host",
        "next_seq",
        "peer",
        "pending",
        "position",
        "progress_ns",
        "proven",
        "publisher",
        "resuming",
        "socket",
        "stage",
        "token",
        "watching",
    )

    def __init__(
        self, connection: socket.socket, peer: str, publisher: "Publisher", deadline_ns: int
    ) -> None:
        self.socket = connection
        self.publisher = publisher
        self.peer = peer
        self.host = peer.rpartition(":")[0]
        self.stage = HELLO
        self.hello = FrameBuffer(HELLO_BYTES_MAX)
        self.resuming = False
        # Whether it has shown that it is a process of this stack.
        self.proven = False
        # With which it may read the feed; empty if it needed none.
        self.token = ""
        # Whether it has asked who the gateway is.
        self.asked = False
        # Whether its socket is the plain end of a TLS connection.
        self.encrypted = False
        self.heartbeats = False
        self.half_closed = False
        # Whether it was sent the whole stream.
        self.finished = False
        self.watching = 0
        # Bytes to send before the stream continues; they end with a whole frame.
        self.pending: memoryview = memoryview(b"")
        # CLOCK_MONOTONIC: the end of the time at the door, then of the hello; in CLOSING the limit
        # for the close.
        self.deadline_ns = deadline_ns
        self.progress_ns = time.monotonic_ns()
        # The cursor.  Prices: a byte position in a block.  Sentiment: the next tick to look at.
        self.block: Block | None = None
        self.position = 0
        self.next_seq = 0

    def queue(self, data: bytes) -> None:
        """Send ``data`` before the stream continues; it ends with a whole frame."""
        self.pending = memoryview(bytes(self.pending) + data) if self.pending else memoryview(data)


class Sessions:
    """The subscribers of both ports: registration with epoll, sending, closing."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self.by_descriptor: dict[int, Subscriber] = {}
        # Clients above the limit, in order of arrival: each has to prove itself with its hello.
        self.guests: dict[Subscriber, None] = {}
        self.strangers = 0
        self.bytes_sent = 0
        self.dropped = 0
        self.on_close: Callable[[Subscriber], None] | None = None
        self._refused = refusal_window()

    def __len__(self) -> int:
        return len(self.by_descriptor)

    def add(self, subscriber: Subscriber) -> None:
        """Wait for the hello of a new subscriber."""
        descriptor = subscriber.socket.fileno()
        self.by_descriptor[descriptor] = subscriber
        self.strangers += 1
        subscriber.watching = select.EPOLLIN
        self._epoll.register(descriptor, subscriber.watching)

    def release_socket(self, subscriber: Subscriber) -> None:
        """Stop waiting for the socket of a subscriber, which gets another one."""
        descriptor = subscriber.socket.fileno()
        self._epoll.unregister(descriptor)
        del self.by_descriptor[descriptor]

    def take_socket(self, subscriber: Subscriber, connection: socket.socket) -> None:
        """The other socket."""
        subscriber.socket = connection
        self.by_descriptor[connection.fileno()] = subscriber
        subscriber.watching = select.EPOLLIN
        self._epoll.register(connection.fileno(), subscriber.watching)

    def prove(self, subscriber: Subscriber) -> None:
        """The client is a process of this stack: it has a place, however many others there are."""
        if not subscriber.proven:
            subscriber.proven = True
            self.strangers -= 1
            self.guests.pop(subscriber, None)

    def watch(self, subscriber: Subscriber, writable: bool) -> None:
        """Wait for the socket to become writable, or stop waiting for it."""
        wanted = 0 if subscriber.half_closed else select.EPOLLIN
        wanted |= select.EPOLLOUT if writable else 0
        if wanted != subscriber.watching and subscriber.stage != GONE:
            subscriber.watching = wanted
            self._epoll.modify(subscriber.socket.fileno(), wanted)

    def send(self, subscriber: Subscriber, data: memoryview) -> int:
        """Send as much as the socket takes now; returns the bytes sent, 0 after a failure."""
        try:
            sent = subscriber.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.disconnect(subscriber, "client_left", reason=error.strerror)
            return 0
        self.bytes_sent += sent
        subscriber.progress_ns = time.monotonic_ns()
        return sent

    def flush(self, subscriber: Subscriber) -> bool:
        """Send the pending frames; True when all of them are sent."""
        if subscriber.pending:
            subscriber.pending = subscriber.pending[self.send(subscriber, subscriber.pending) :]
            if subscriber.pending:
                self.watch(subscriber, writable=True)
                return False
        return subscriber.stage != GONE

    def finish(self, subscriber: Subscriber) -> None:
        """End of the stream: shut down our side, give the client time to close its own."""
        subscriber.stage = CLOSING
        subscriber.finished = subscriber in subscriber.publisher.subscribers
        if not self.flush(subscriber):
            return
        try:
            subscriber.socket.shutdown(socket.SHUT_WR)
        except OSError:
            # Peer already disconnected.
            subscriber.half_closed = True
        subscriber.deadline_ns = time.monotonic_ns() + int(CLOSE_TIMEOUT_S * 1e9)
        if subscriber.half_closed:
            self.disconnect(subscriber, "client_left")
        else:
            self.watch(subscriber, writable=False)

    def refuse(self, subscriber: Subscriber, event: str, **why: object) -> None:
        """Drop a subscriber that misbehaved; log it and count it.

        Resets the connection: after a normal close, Linux would keep sending the socket buffer.
        """
        if subscriber.stage != GONE:
            subscriber.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.dropped += 1
            self.log_refusal(event, subscriber.peer, **why)
            self._close(subscriber)

    def log_refusal(self, event: str, peer: str, **why: object) -> None:
        """A line, unless there were some of this host; then their number later."""
        host = peer.rpartition(":")[0]
        if self._refused.add((event, host), (event, OTHER), time.monotonic()):
            log.warning(event, peer=peer, **why)

    def flush_refusals(self, end: bool = False) -> None:
        """After the window: how many more there were, in one line for each kind and host."""
        for (event, host), more in self._refused.take_rest(time.monotonic(), end=end):
            log.warning("clients_refused", peer=host, what=event, more=more)

    def disconnect(self, subscriber: Subscriber, event: str, **why: object) -> None:
        """Close the connection of a client that left; logged as debug if it never subscribed."""
        if subscriber.stage != GONE:
            write_log = log.info if subscriber in subscriber.publisher.subscribers else log.debug
            write_log(event, peer=subscriber.peer, **why)
            self._close(subscriber)

    def _close(self, subscriber: Subscriber) -> None:
        subscriber.stage = GONE
        self.strangers -= not subscriber.proven
        self.guests.pop(subscriber, None)
        subscriber.publisher.forget(subscriber)
        if self.on_close is not None:
            self.on_close(subscriber)
        descriptor = subscriber.socket.fileno()
        self._epoll.unregister(descriptor)
        del self.by_descriptor[descriptor]
        subscriber.socket.close()

    def close(self) -> None:
        """Close every connection."""
        self.flush_refusals(end=True)
        for subscriber in list(self.by_descriptor.values()):
            self._close(subscriber)


def send_symbol_list(
    client: socket.socket, symbols: list[str], delimiter: bytes = DELIMITER
) -> bool:
    """Send the first frame of the price port; False if the client is gone or its buffer is full."""
    try:
        client.sendall(encode_symbol_list(symbols, delimiter))
    except OSError:
        return False
    return True
