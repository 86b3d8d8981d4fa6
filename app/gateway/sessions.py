"""The gateway's connections.  A client may say ``PING``, ``RUN``, ``RESUME|n``, or nothing."""

import select
import socket
import struct
import time
from typing import Final, Protocol

from app.market_data.feed_segment import Block
from app.model.wire.feed_protocol import encode_symbol_list
from app.model.wire.frames import DELIMITER, FrameBuffer
from app.runtime.log import get_logger

log = get_logger()

HELLO_BYTES_MAX: Final = 64
SEND_BYTES: Final = 1 << 20
"""Most that one client is sent before the others get their turn."""
CLOSE_TIMEOUT_S: Final = 10.0
"""How long a client may take to close after the end of the run."""

_RESET: Final = struct.pack("ii", 1, 0)

HELLO, STREAM, CLOSING, GONE = range(4)


class Publisher(Protocol):
    """One port's subscribers."""

    name: str
    subscribers: set["Subscriber"]
    completed: int

    def join(self, client: "Subscriber") -> None:
        """Subscribe a plain client."""

    def resume(self, client: "Subscriber", seq: int) -> None:
        """Subscribe a client that says where it stands, or move a plain one there."""

    def pump(self, client: "Subscriber") -> None:
        """Send on to a client that can be written to."""

    def heartbeat(self, client: "Subscriber") -> None:
        """Show a client that asked for it that we live, and where it stands in the stream."""

    def forget(self, client: "Subscriber") -> None:
        """The client is gone."""

    def lag_bytes(self, client: "Subscriber") -> int:
        """About how many bytes the client has still to be sent."""


class Subscriber:
    """A connected client; the hub that it subscribed to moves its cursor."""

    __slots__ = (
        "block",
        "deadline_ns",
        "finished",
        "half_closed",
        "heartbeats",
        "hello",
        "next_seq",
        "peer",
        "pending",
        "position",
        "progress_ns",
        "publisher",
        "resuming",
        "socket",
        "stage",
        "watching",
    )

    def __init__(
        self, connection: socket.socket, peer: str, publisher: "Publisher", deadline_ns: int
    ) -> None:
        self.socket = connection
        self.publisher = publisher
        self.peer = peer
        self.stage = HELLO
        self.hello = FrameBuffer(HELLO_BYTES_MAX)
        self.resuming = False
        self.heartbeats = False
        self.half_closed = False
        # Was sent everything there is.
        self.finished = False
        self.watching = 0
        # What goes out before the stream goes on: whole frames.
        self.pending: memoryview = memoryview(b"")
        # The end of the hello, later of the time to close.
        self.deadline_ns = deadline_ns
        self.progress_ns = time.monotonic_ns()
        # Where the client stands.  Prices: a byte of a block.  Sentiment: the next tick to look at.
        self.block: Block | None = None
        self.position = 0
        self.next_seq = 0

    def queue(self, data: bytes) -> None:
        """Send ``data`` before the stream goes on."""
        self.pending = memoryview(bytes(self.pending) + data) if self.pending else memoryview(data)


class Connections:
    """All clients of both ports: registration with epoll, sending, and parting."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self.by_descriptor: dict[int, Subscriber] = {}
        self.bytes_sent = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self.by_descriptor)

    def add(self, client: Subscriber) -> None:
        """Watch a new client for its hello."""
        descriptor = client.socket.fileno()
        self.by_descriptor[descriptor] = client
        client.watching = select.EPOLLIN
        self._epoll.register(descriptor, client.watching)

    def watch(self, client: Subscriber, writable: bool) -> None:
        """Ask to be told when the client can be written to, or no longer."""
        wanted = 0 if client.half_closed else select.EPOLLIN
        wanted |= select.EPOLLOUT if writable else 0
        if wanted != client.watching and client.stage != GONE:
            client.watching = wanted
            self._epoll.modify(client.socket.fileno(), wanted)

    def send(self, client: Subscriber, data: memoryview) -> int:
        """Send what the client takes now, in bytes; a broken connection is closed and takes 0."""
        try:
            sent = client.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.disconnect(client, "client_left", reason=error.strerror)
            return 0
        self.bytes_sent += sent
        client.progress_ns = time.monotonic_ns()
        return sent

    def flush(self, client: Subscriber) -> bool:
        """Send what is pending; True when nothing is left of it."""
        if client.pending:
            client.pending = client.pending[self.send(client, client.pending) :]
            if client.pending:
                self.watch(client, writable=True)
                return False
        return client.stage != GONE

    def finish(self, client: Subscriber) -> None:
        """Nothing more will be sent: close our side and give the client time to close its own."""
        client.stage, client.finished = CLOSING, client in client.publisher.subscribers
        if not self.flush(client):
            return
        try:
            client.socket.shutdown(socket.SHUT_WR)
        except OSError:
            client.half_closed = True
        client.deadline_ns = time.monotonic_ns() + int(CLOSE_TIMEOUT_S * 1e9)
        if client.half_closed:
            self.disconnect(client, "client_left")
        else:
            self.watch(client, writable=False)

    def refuse(self, client: Subscriber, event: str, **why: object) -> None:
        """Drop a client for what it did: one line, one count.

        By a reset, since the kernel would go on to offer it what is in its socket buffer.
        """
        if client.stage != GONE:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.dropped += 1
            log.warning(event, peer=client.peer, **why)
            self._close(client)

    def disconnect(self, client: Subscriber, event: str, **why: object) -> None:
        """Let go of a client that left; who never subscribed leaves without a word."""
        if client.stage != GONE:
            say = log.info if client in client.publisher.subscribers else log.debug
            say(event, peer=client.peer, **why)
            self._close(client)

    def _close(self, client: Subscriber) -> None:
        client.stage = GONE
        client.publisher.forget(client)
        descriptor = client.socket.fileno()
        self._epoll.unregister(descriptor)
        del self.by_descriptor[descriptor]
        client.socket.close()

    def close(self) -> None:
        """Close every connection."""
        for client in list(self.by_descriptor.values()):
            self._close(client)


def send_symbol_list(
    client: socket.socket, symbols: list[str], delimiter: bytes = DELIMITER
) -> bool:
    """Send the first frame of the price port; False if the client is gone or takes nothing."""
    try:
        client.sendall(encode_symbol_list(symbols, delimiter))
    except OSError:
        return False
    return True
