"""One client session: bytes to frames, answers to bytes, and what it may cost us."""

import socket
import ssl
import time
from collections import deque
from typing import Final

from app.model.token_bucket import TokenBucket
from app.model.wire.frames import DELIMITER, MAX_FRAME_BYTES

RECV_BYTES: Final = 32 * 1024

Blocked = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Session:
    """A non-blocking client socket with its input frames and its unsent answers."""

    __slots__ = (
        "authorized",
        "bucket",
        "closing",
        "ended",
        "fileno",
        "frames",
        "handshaking",
        "last_ns",
        "lingering",
        "mask",
        "oversize",
        "peer",
        "read_any",
        "rest",
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
        """What epoll watches for."""
        self.rest = b""
        """The bytes of a frame that is not finished yet."""
        self.frames: deque[bytes] = deque()
        """Complete frames that wait for a turn."""
        self.waiting = False
        """Whether it stands in the line for a turn."""
        self.unsent = b""
        self.stalled_ns = 0
        """Since when the peer takes nothing of ``unsent`` (CLOCK_MONOTONIC), 0 if it does."""
        self.last_ns = time.monotonic_ns()
        """When it last sent something (CLOCK_MONOTONIC)."""
        self.bucket: TokenBucket | None = None
        self.authorized = True
        self.tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self.handshaking = self.tls is not None
        self.read_any = False
        self.oversize = False
        """A frame passed the limit: to be said after the answers to what came before."""
        self.ended = False
        """The peer sends no more; it still gets its answers."""
        self.closing = False
        """Refused: close once everything is sent; what it still sends is thrown away."""
        self.lingering = False
        """Our side is shut; the peer has a moment to read the last answer."""

    def receive(self) -> bool:
        """Read what is there and cut it into frames; False when there was nothing to read.

        Raises:
            OSError: the connection is broken, or its TLS handshake failed.
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
        except Blocked:
            return False
        if not data:
            self.ended = True
            return True
        if self.closing:
            return True
        *frames, rest = (self.rest + data if self.rest else data).split(DELIMITER)
        self.rest = rest
        if frames:
            self.frames.extend(frames)
        # A frame in one piece can be too long only if it is longer than one read.
        if len(rest) > MAX_FRAME_BYTES or (frames and len(frames[0]) > MAX_FRAME_BYTES):
            self._keep_whole_frames()
        return True

    def _keep_whole_frames(self) -> None:
        self.oversize = True
        self.rest = b""
        good: deque[bytes] = deque()
        for frame in self.frames:
            if len(frame) > MAX_FRAME_BYTES:
                break
            good.append(frame)
        self.frames = good

    def first_bytes(self) -> bytes:
        """What the peer said first, as far as it is here."""
        return self.frames[0] if self.frames else self.rest

    def send(self, data: bytes) -> bool:
        """Send ``data`` behind whatever is still unsent; returns whether everything is sent.

        Raises:
            OSError: the connection is broken.
        """
        if self.unsent:
            data = self.unsent + data
        try:
            sent = self.sock.send(data) if data else 0
        except Blocked:
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
        """Say that nothing more will be sent.

        Closing at once could reset the session under the last answer, because the peer may have
        sent what was never read.
        """
        self.lingering = True
        self.sock.shutdown(socket.SHUT_WR)
