"""The receiving end of a gateway port: connect, say hello, hand over the receive buffer.

Speaks the opt-in ``RESUME`` (see the README's *Protocols*); a gateway that does not know it is
taken as a plain feed, whose ticks are numbered as they come.
"""

import errno
import os
import socket
import struct
import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.kernel._kernel import PARSE_SLACK_BYTES, TickWriter
from app.model.wire.feed_protocol import encode_mark, parse_mark, parse_symbol_list
from app.model.wire.frames import MAX_FRAME_BYTES, RemoteProtocolError

RECV_BYTES = 384 * 1024
"""One receive call's room: large enough to amortise the call, small enough to stay in the L2
cache."""

BUFFER_BYTES = RECV_BYTES + 3 * (MAX_FRAME_BYTES + 1)
"""Room for one more receive behind the three frames of an unfinished tick."""
HELLO_TIMEOUT_S = 2.0
WAIT_S = 0.25
CONNECT_TIMEOUT_S = 2.0


class FeedClosed(Exception):
    """The gateway closed the connection, or could not be reached."""


class Pulled(NamedTuple):
    """What one :meth:`FeedConnection.pull` brought."""

    received_bytes: int
    ticks: int
    position: int
    stop: int
    """Why the parser stopped, and where; NEED_MORE at 0, or what is to be looked at."""
    first_ns: int
    """When the first ticks came (CLOCK_MONOTONIC)."""
    recv_ns: int
    """When the last piece came."""
    pieces: int
    """Receive calls that brought ticks."""


class FeedConnection:
    """One connection to a gateway port.

    ``buffer[:fill]`` holds what was received and not consumed.  ``symbols`` is the gateway's list
    (None on the sentiment port); ``sequenced`` says whether the gateway knows sequence numbers.
    """

    def __init__(
        self,
        host: str,
        port: int,
        resume_seq: int,
        *,
        has_symbols: bool,
        must_be_sequenced: bool = False,
        silent_s_max: float = 3.0,
    ) -> None:
        """Connect and say hello.

        ``silent_s_max``: a sequenced gateway that says nothing for so long is gone: it was asked
        for a sign of life twice a second.
        ``must_be_sequenced``: a gateway that does not answer the hello is not taken as a plain
        feed, since it is known to be none: it only stands still.

        Raises:
            FeedClosed: it cannot be reached, or does not answer.
            RemoteProtocolError: it answers something else.
        """
        self.buffer = bytearray(BUFFER_BYTES + PARSE_SLACK_BYTES)
        self._view = memoryview(self.buffer)[:BUFFER_BYTES]
        self._whole = self._view[:RECV_BYTES]
        self.fill = 0
        self.symbols: list[str] | None = None
        self.sequenced = False
        self._silent_s, self._silent_s_max = 0.0, silent_s_max
        self.feed_id = ""
        try:
            self._socket = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
        except OSError as error:
            raise FeedClosed(f"{host}:{port}: {error}") from error
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(b"RUN*BEAT*" + encode_mark("RESUME", resume_seq))
            self._hello(resume_seq, has_symbols)
            if must_be_sequenced and not self.sequenced:
                raise FeedClosed(f"{host}:{port}: no answer within {HELLO_TIMEOUT_S:g} s")
            # A receive timeout in the kernel: one system call a receive, where settimeout costs
            # two.
            self._socket.settimeout(None)
            self._socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(WAIT_S * 1e6))
            )
        except BaseException as error:
            self._socket.close()
            if isinstance(error, OSError):
                raise FeedClosed(f"{host}:{port}: {error}") from error
            raise

    def _hello(self, resume_seq: int, has_symbols: bool) -> None:
        """Read up to the first byte of data."""
        deadline = time.monotonic() + HELLO_TIMEOUT_S
        self._socket.settimeout(0.1)
        scanned = 0
        if has_symbols:
            while (end := self.buffer.find(b"*", 0, self.fill)) < 0:
                if time.monotonic() > deadline:
                    raise FeedClosed(f"no symbol list within {HELLO_TIMEOUT_S:g} s")
                self._receive_more()
            self.symbols = parse_symbol_list(bytes(self.buffer[:end]))
            self.consume(end + 1)
        while time.monotonic() < deadline and self.fill < RECV_BYTES:
            while (end := self.buffer.find(b"*", scanned, self.fill)) >= 0:
                frame = bytes(self.buffer[scanned:end])
                scanned = end + 1
                if frame.startswith(b"RUN|"):
                    self.feed_id = frame[4:].decode("ascii", "replace")[:64]
                seq = parse_mark(frame, "SEQ")
                if seq is not None:
                    if seq != resume_seq:
                        raise RemoteProtocolError(f"asked for tick {resume_seq}, got {seq}")
                    self.sequenced = True
                    self.consume(scanned)
                    return
            self._receive_more()

    def _room(self) -> int:
        return min(RECV_BYTES, BUFFER_BYTES - self.fill)

    def _receive_more(self) -> None:
        try:
            count = self._socket.recv_into(self._view[self.fill :], self._room())
        except TimeoutError:
            return
        if count == 0:
            raise FeedClosed("closed during the hello")
        self.fill += count

    def receive(self) -> int:
        """Wait up to a quarter of a second for bytes; their number, 0 if none came.

        Raises:
            FeedClosed: the gateway is gone, or silent for too long.
        """
        try:
            if self.fill == 0:
                count = self._socket.recv_into(self._whole)
            else:
                count = self._socket.recv_into(self._view[self.fill :], self._room())
        except OSError as error:
            count = -(error.errno or errno.EIO)
        count = self._heard(count)
        self.fill += count
        return count

    def pull(self, writer: TickWriter, until_ns: int, buckets: npt.NDArray[np.uint64]) -> Pulled:
        """What comes until ``until_ns`` goes straight to ``writer``; an unfinished tick stays here.

        It ends before that when nothing comes for a quarter of a second, and where there is
        something to look at; silence or an end behind other bytes is met again by the next call.
        ``buckets``: where receipt to publication is counted.  The caller says with :meth:`consume`
        how much of the buffer it is done with.

        Raises:
            FeedClosed: the gateway is gone, or silent for too long.
        """
        count, ticks, position, self.fill, stop, *times = writer.pull(
            self._socket.fileno(), self.buffer, self.fill, RECV_BYTES, until_ns, buckets
        )
        return Pulled(self._heard(count), ticks, position, stop, *times)

    def _heard(self, count: int) -> int:
        """What a receive call's answer (bytes, or -errno) means: the bytes, 0 for none yet."""
        if count > 0:
            self._silent_s = 0.0
            return count
        if count == 0:
            raise FeedClosed("closed by the gateway")
        if count == -errno.EAGAIN:
            self._silent_s += WAIT_S
            if self.sequenced and self._silent_s > self._silent_s_max:
                raise FeedClosed(f"silent for {self._silent_s:g} s")
        elif count != -errno.EINTR:
            raise FeedClosed(os.strerror(-count))
        return 0

    def receive_now(self) -> int:
        """Take what is there without waiting; 0 if nothing is."""
        try:
            count = self._socket.recv_into(
                self._view[self.fill :], self._room(), socket.MSG_DONTWAIT
            )
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise FeedClosed(str(error)) from error
        if count == 0:
            raise FeedClosed("closed by the gateway")
        self.fill += count
        return count

    def consume(self, count: int) -> None:
        """The first ``count`` bytes are done with; what is left is at most an unfinished tick.

        Raises:
            RemoteProtocolError: a frame of it is longer than frames may be.
        """
        left = self.fill - count
        if left > MAX_FRAME_BYTES and (
            max(map(len, bytes(self._view[count : self.fill]).split(b"*"))) > MAX_FRAME_BYTES
        ):
            raise RemoteProtocolError(f"unfinished frame of over {MAX_FRAME_BYTES} bytes")
        if left:
            self._view[:left] = self._view[count : self.fill]
        self.fill = left

    def take_frame(self, start: int) -> tuple[bytes, int]:
        """The complete frame that starts at ``start`` and the position behind it."""
        end = self.buffer.index(b"*", start, self.fill)
        return bytes(self.buffer[start:end]), end + 1

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class MalformedTicks:
    """Tells a link that does damage from a source that is wrong itself.

    A damaged stream comes right when it is asked for again; what comes wrong in the same way
    :data:`TIMES` times is the source's own.
    """

    TIMES = 3

    def __init__(self) -> None:
        self._last: tuple[int, bytes] | None = None
        self._times = 0

    def is_source(self, seq: int, field: bytes) -> bool:
        """Whether tick ``seq``, refused for ``field``, is to be given up."""
        self._times = self._times + 1 if self._last == (seq, field) else 1
        self._last = (seq, field)
        return self._times >= self.TIMES
