"""The client of a gateway port: connect, exchange the hello, receive.

Sends the opt-in ``RESUME`` (see the README's *Protocols*).  A gateway that does not answer it is
treated as a plain feed, whose ticks are numbered in the order of their arrival.
"""

import errno
import os
import secrets
import select
import socket
import ssl
import struct
import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.kernel._kernel import PARSE_SLACK_BYTES, TickWriter
from app.model.wire.feed_protocol import (
    PROOF,
    REFUSED,
    WHO,
    answer_who,
    encode_auth,
    encode_mark,
    parse_mark,
    parse_symbol_list,
)
from app.model.wire.frames import DELIMITER, MAX_FRAME_BYTES, RemoteProtocolError
from app.runtime.net.tls_relay import TlsRelay

RECV_BYTES = 384 * 1024
"""Bytes per receive call: enough to amortize the call, few enough to stay in the L2 cache."""

BUFFER_BYTES = RECV_BYTES + 3 * (MAX_FRAME_BYTES + 1)
"""Room for one receive call behind an unfinished tick of up to three frames."""
HELLO_TIMEOUT_S = 2.0
STARVED_S = 8.0
"""How much longer a gateway may say nothing after its symbols before it counts as a plain feed."""
WAIT_S = 0.25
"""How long a receive call waits for bytes."""
CONNECT_TIMEOUT_S = 2.0


class FeedClosed(Exception):
    """The gateway closed the connection, went silent, or could not be reached."""


class FeedRefused(FeedClosed):
    """The gateway does not let this client read the feed, or is not that of this stack."""


class Credentials(NamedTuple):
    """What a client shows to a gateway that is not of its stack."""

    token: bytes
    tls: ssl.SSLContext | None


class Received(NamedTuple):
    """Result of one :meth:`FeedConnection.receive_ticks`."""

    byte_count: int
    ticks: int
    position: int
    stop: int
    """Why the parser stopped (``position``: where); NEED_MORE at 0 if everything was parsed."""
    first_ns: int
    """CLOCK_MONOTONIC of the first receive call that brought ticks, 0 if none did."""
    recv_ns: int
    """CLOCK_MONOTONIC of the last receive call that brought bytes."""
    pieces: int
    """Number of receive calls that brought ticks."""


class FeedConnection:
    """One connection to a gateway port.

    ``buffer[:fill]`` holds the bytes received and not yet consumed.  ``symbols`` is the gateway's
    list (None on the sentiment port); ``sequenced``: the gateway sends sequence numbers.
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
        proof: str = "",
        must_know_proof: bool = False,
        credentials: Credentials | None = None,
    ) -> None:
        """Connect and exchange the hello.

        ``silent_s_max``: a sequenced gateway that sends nothing for this many seconds is considered
        dead: it sends a heartbeat twice a second.
        ``must_be_sequenced``: the gateway was sequenced before, so one that does not answer the
        hello is stopped or overloaded, not a plain feed.
        ``proof``: shows that this is a process of the gateway's stack.
        ``must_know_proof``: the gateway has to show first that it is of the stack, too.
        ``credentials``: for a gateway of another stack; the proof is then not shown.

        Raises:
            FeedRefused: the gateway wants other credentials, or is of another stack.
            ssl.SSLCertVerificationError: its certificate is not trusted.
            FeedClosed: the gateway cannot be reached, or does not answer.
            RemoteProtocolError: the answer is malformed or for another tick.
        """
        self.buffer = bytearray(BUFFER_BYTES + PARSE_SLACK_BYTES)
        self._view = memoryview(self.buffer)[:BUFFER_BYTES]
        self._empty_view = self._view[:RECV_BYTES]  # sliced once, for an empty buffer
        self.fill = 0
        self.symbols: list[str] | None = None
        self.sequenced = False
        self._silent_s, self._silent_s_max = 0.0, silent_s_max
        self.feed_id = ""
        self._relay: TlsRelay | None = None
        try:
            self._socket = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
        except OSError as error:
            raise FeedClosed(f"{host}:{port}: {error}") from error
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if credentials is not None and credentials.tls is not None:
                self._encrypt(credentials.tls, host)
            if must_know_proof:
                self._ask_for_proof(proof)
            self._socket.sendall(_hello(resume_seq, proof, credentials))
            self._read_hello(resume_seq, has_symbols)
            if must_be_sequenced and not self.sequenced:
                raise FeedClosed(f"{host}:{port}: no answer within {HELLO_TIMEOUT_S:g} s")
            self._wait_in_kernel()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and not isinstance(error, ssl.SSLCertVerificationError):
                raise FeedClosed(f"{host}:{port}: {error}") from error
            raise

    def _wait_in_kernel(self) -> None:
        """A receive timeout in the kernel: one system call per receive; settimeout makes it two."""
        self._socket.settimeout(None)
        wait = struct.pack("ll", 0, int(WAIT_S * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)

    def _encrypt(self, tls: ssl.SSLContext, host: str) -> None:
        """The socket becomes the plain end of an encrypted connection; receiving stays as it is."""
        self._relay = TlsRelay()
        self._socket = self._relay.adopt(self._socket, tls, host)
        self._socket.settimeout(CONNECT_TIMEOUT_S)
        select.select([self._relay.event_descriptor], [], [], CONNECT_TIMEOUT_S)
        ended = self._relay.take_handshakes()
        if not ended:
            raise TimeoutError(f"no TLS handshake within {CONNECT_TIMEOUT_S:g} s")
        if ended[0].problem is not None:
            raise ended[0].problem

    def _ask_for_proof(self, proof: str) -> None:
        """Let the gateway show that it knows the proof, before it is told to it.

        So nobody on the way can take the place of another machine's gateway, and its TLS.
        """
        question = WHO + secrets.token_hex(16).encode()
        self._socket.sendall(question + DELIMITER)
        deadline = time.monotonic() + HELLO_TIMEOUT_S
        self._socket.settimeout(0.1)
        scanned = 0
        while time.monotonic() < deadline:
            while (end := self.buffer.find(b"*", scanned, self.fill)) >= 0:
                frame = bytes(self.buffer[scanned:end])
                if not frame.startswith(b"SYMBOLS|"):
                    if frame + DELIMITER != answer_who(question, proof):
                        raise FeedRefused("the gateway is not of this stack")
                    # What came before it is read with the rest of the hello.
                    after = bytes(self.buffer[end + 1 : self.fill])
                    self.buffer[scanned : scanned + len(after)] = after
                    self.fill = scanned + len(after)
                    return
                scanned = end + 1
            self._receive_more()
        raise FeedClosed(f"no answer within {HELLO_TIMEOUT_S:g} s")

    def _read_hello(self, resume_seq: int, has_symbols: bool) -> None:
        """Read up to the first byte of data."""
        deadline = time.monotonic() + HELLO_TIMEOUT_S
        self._socket.settimeout(0.1)
        scanned = 0
        if has_symbols:
            while (end := self.buffer.find(b"*", 0, self.fill)) < 0:
                if time.monotonic() > deadline:
                    raise FeedClosed(f"no symbol list within {HELLO_TIMEOUT_S:g} s")
                self._receive_more()
            frame = bytes(self.buffer[:end])
            _check_not_refused(frame)
            self.symbols = parse_symbol_list(frame)
            self.consume(end + 1)
        patience = time.monotonic() + STARVED_S
        # One that has named its run answers hellos, and is late with the rest.
        while self.fill < RECV_BYTES and time.monotonic() < (
            deadline if self.fill and not self.feed_id else patience
        ):
            while (end := self.buffer.find(b"*", scanned, self.fill)) >= 0:
                frame = bytes(self.buffer[scanned:end])
                scanned = end + 1
                _check_not_refused(frame)
                if frame.startswith(b"RUN|"):
                    self.feed_id = frame[4:].decode("ascii", "replace")[:64]
                seq = parse_mark(frame, "SEQ")
                if seq is not None:
                    if seq != resume_seq:
                        raise RemoteProtocolError(f"asked for tick {resume_seq}, got {seq}")
                    self.sequenced = True
                    self.consume(scanned)
                    return
            if self.fill == 0:
                deadline = time.monotonic() + HELLO_TIMEOUT_S
            self._receive_more()
        if self.feed_id:
            raise FeedClosed("it named its run, and then no tick to begin with")

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
        """Wait up to a quarter of a second for bytes; return their number, 0 if none arrived.

        Raises:
            FeedClosed: the gateway closed the connection, or was silent for too long.
        """
        return self._receive(0, WAIT_S)

    def receive_now(self) -> int:
        """As :meth:`receive`, without waiting; does not count as silence."""
        return self._receive(socket.MSG_DONTWAIT, 0.0)

    def _receive(self, flags: int, waited_s: float) -> int:
        try:
            if self.fill == 0:
                count = self._socket.recv_into(self._empty_view, 0, flags)
            else:
                count = self._socket.recv_into(self._view[self.fill :], self._room(), flags)
        except OSError as error:
            count = -(error.errno or errno.EIO)
        count = self._check_received(count, waited_s)
        self.fill += count
        return count

    def receive_ticks(
        self, writer: TickWriter, until_ns: int, buckets: npt.NDArray[np.uint64]
    ) -> Received:
        """Receive until ``until_ns`` straight into ``writer``; an unfinished tick stays buffered.

        Returns earlier when nothing arrives for a quarter of a second, or when the parser stops at
        something that is not a tick.  Silence or a close after other bytes is reported by the next
        call.  ``buckets``: histogram of the time from receipt to publication.  The caller then
        calls :meth:`consume` for the bytes that it has handled.

        Raises:
            FeedClosed: the gateway closed the connection, or was silent for too long.
        """
        count, ticks, position, self.fill, stop, *times = writer.receive(
            self._socket.fileno(), self.buffer, self.fill, RECV_BYTES, until_ns, buckets
        )
        return Received(self._check_received(count, WAIT_S), ticks, position, stop, *times)

    def _check_received(self, count: int, waited_s: float) -> int:
        """Turn a receive call's result (bytes, or -errno) into bytes, 0 for none yet; or raise."""
        if count > 0:
            self._silent_s = 0.0
            return count
        if count == 0:
            raise FeedClosed("closed by the gateway")
        if count == -errno.EAGAIN:
            self._silent_s += waited_s
            if self.sequenced and self._silent_s > self._silent_s_max:
                raise FeedClosed(f"silent for {self._silent_s:g} s")
        elif count != -errno.EINTR:
            raise FeedClosed(os.strerror(-count))
        return 0

    def consume(self, count: int) -> None:
        """Drop the first ``count`` bytes; the rest is at most one unfinished tick.

        Raises:
            RemoteProtocolError: a frame of the rest is longer than MAX_FRAME_BYTES.
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
        """The complete frame that starts at ``start``, and the position after it."""
        end = self.buffer.index(b"*", start, self.fill)
        return bytes(self.buffer[start:end]), end + 1

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
        if self._relay is not None:
            self._relay.close()


def _check_not_refused(frame: bytes) -> None:
    if frame.startswith(REFUSED):
        reason = frame[len(REFUSED) :].decode("utf-8", "replace")[:200]
        raise FeedRefused(f"refused by the gateway: {reason}")


def _hello(resume_seq: int, proof: str, credentials: Credentials | None) -> bytes:
    shown = PROOF + proof.encode() + DELIMITER if proof else b""
    if credentials is not None:
        shown = encode_auth(credentials.token) if credentials.token else b""
    return shown + b"RUN*BEAT*" + encode_mark("RESUME", resume_seq)


class MalformedTicks:
    """Distinguishes damage on the connection from malformed ticks in the source.

    A tick damaged on the way arrives intact when it is requested again.  A tick that arrives
    malformed in the same way :data:`TIMES` times is malformed in the source.
    """

    TIMES = 3

    def __init__(self) -> None:
        self._last: tuple[int, bytes] | None = None
        self._times = 0

    def is_from_source(self, seq: int, field: bytes) -> bool:
        """Note that tick ``seq`` was refused for ``field``; return whether to skip it."""
        self._times = self._times + 1 if self._last == (seq, field) else 1
        self._last = (seq, field)
        return self._times >= self.TIMES
