"""One client of the order port: received bytes to frames, answers to bytes, and its limits."""

import socket
import ssl
import time
from collections import deque
from typing import Final

from app.model.token_bucket import TokenBucket
from app.model.wire.frames import DELIMITER, MAX_FRAME_BYTES
from app.order_manager.access.grants import NOTHING

RECV_BYTES: Final = 32 * 1024

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Session:
    """A non-blocking client socket with its input frames and its unsent answers."""

    __slots__ = (
        "authorized",
        "bucket",
        "cancels",
        "closing",
        "ended",
        "fileno",
        "frame_bytes_max",
        "frames",
        "grant",
        "handshaking",
        "held_bytes",
        "key",
        "known",
        "last_ns",
        "lingering",
        "mask",
        "oversize",
        "peer",
        "postponed",
        "read_any",
        "rest",
        "since_ns",
        "sock",
        "stalled_ns",
        "tls",
        "unsent",
        "waiting",
    )

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self.sock = sock
        self.fileno = sock.fileno()
        self.peer = peer
        self.mask = 0
        """The events that epoll watches for."""
        self.rest = b""
        """The bytes of an unfinished frame."""
        self.frames: deque[bytes] = deque()
        """Complete frames that wait for a batch."""
        self.waiting = False
        """Whether the session is in the queue for a batch."""
        self.postponed = False
        """Its next frame is a query that waits for its turn."""
        self.unsent = b""
        self.stalled_ns = 0
        """When the peer stopped reading (CLOCK_MONOTONIC); 0 while it reads."""
        self.last_ns = self.since_ns = time.monotonic_ns()
        """When the peer last sent something, and when it connected (CLOCK_MONOTONIC)."""
        self.frame_bytes_max = MAX_FRAME_BYTES
        self.held_bytes = 0
        """Of ``rest`` and ``frames``."""
        self.bucket: TokenBucket | None = None
        self.authorized = True
        self.grant = NOTHING
        self.key = b""
        """Of the token that it has sent (:meth:`Keyring.key_of`); empty without one."""
        self.known: set[str] = set()
        """Client names of its orders that need no other look."""
        self.cancels: set[str] | None = None
        """Clients whose open orders are canceled at its end; None if it has not asked for that."""
        self.tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self.handshaking = self.tls is not None
        self.read_any = False
        self.oversize = False
        """A frame exceeded the limit; reported after the answers to the frames before it."""
        self.ended = False
        """The peer has shut down its sending side; it still gets its answers."""
        self.closing = False
        """Refused: close once everything is sent; discard what the peer still sends."""
        self.lingering = False
        """Our sending side is shut down; the peer has LINGER_S to read the last answer."""

    def free_pass(self) -> tuple[bool, set[str]]:
        """What needs no check: whether all requests, and else the client names of orders."""
        if not self.authorized or self.bucket is not None:
            return False, set()
        return self.grant.everything and self.cancels is None, self.known

    def receive(self) -> bool:
        """Read what has arrived and split it into frames; False when there was nothing to read.

        Raises:
            OSError: the connection is broken, or the TLS handshake failed.
        """
        sock = self.sock
        try:
            if self.tls is not None and self.handshaking:
                self.tls.do_handshake()
                self.handshaking = False
            data = sock.recv(RECV_BYTES)
            if self.tls is not None:
                while self.tls.pending():
                    data += sock.recv(RECV_BYTES)
        except WOULD_BLOCK:
            return False
        if not data:
            self.ended = True
            return True
        if self.closing:
            return True
        self.held_bytes += len(data)
        *frames, rest = (self.rest + data if self.rest else data).split(DELIMITER)
        self.rest = rest
        if frames:
            self.frames.extend(frames)
        # A frame in one piece can be too long only if it is longer than one read.
        bytes_max = self.frame_bytes_max
        if len(rest) > bytes_max or (frames and len(frames[0]) > bytes_max):
            self._keep_whole_frames()
        return True

    def _keep_whole_frames(self) -> None:
        self.oversize = True
        self.rest = b""
        good: deque[bytes] = deque()
        for frame in self.frames:
            if len(frame) > self.frame_bytes_max:
                break
            good.append(frame)
        self.frames = good
        self.held_bytes = sum(map(len, good)) + len(good)

    def forget_input(self) -> None:
        """Drop all that the peer has sent; nothing of it waits for a turn any more."""
        self.frames.clear()
        self.rest = b""
        self.held_bytes = 0
        self.oversize = self.postponed = False

    def first_bytes(self) -> bytes:
        """The first frame, or as much of it as has arrived."""
        return self.frames[0] if self.frames else self.rest

    def send(self, data: bytes) -> bool:
        """Send ``data`` after whatever is still unsent; returns whether everything is sent.

        Raises:
            OSError: the connection is broken.
        """
        if self.unsent:
            data = self.unsent + data
        try:
            sent = self.sock.send(data) if data else 0
        except WOULD_BLOCK:
            sent = 0
        if sent == len(data):
            self.unsent = b""
            self.stalled_ns = 0
            return True
        if sent or not self.stalled_ns:
            self.stalled_ns = time.monotonic_ns()
        self.unsent = data[sent:]
        return False

    def shutdown_write(self) -> None:
        """Tell the peer that nothing more will be sent.

        Closing at once could reset the connection before the peer reads the last answer, because
        data that it has sent may still be unread.
        """
        self.lingering = True
        self.sock.shutdown(socket.SHUT_WR)
