"""A client's hello: ``PING``, ``PROOF|x``, ``RUN``, ``BEAT``, ``RESUME|n``, or nothing: plain."""

import hmac
import select
import socket
import time
from typing import Final

from app.gateway.playback import Playback
from app.gateway.sessions import (
    HELLO,
    STREAM,
    Publisher,
    Sessions,
    Subscriber,
    send_symbol_list,
)
from app.market_data.feed import Feed
from app.model.wire.feed_protocol import BEAT, PING, PONG, PROOF, parse_mark
from app.model.wire.frames import DELIMITER, RemoteProtocolError
from app.runtime.log import get_logger

log = get_logger()

HELLO_S: Final = 0.05
"""A client that has not sent ``RESUME`` within this time is a plain client."""
GUEST_HELLO_S: Final = 1.0
"""A client above the limit of clients has this time to prove that it is of this stack."""
RECEIVE_BYTES: Final = 4096


class Handshake:
    """Reads what clients send, and starts their stream.

    ``waiting`` holds the clients whose hello is not finished; ``resumes`` counts the answered
    ``RESUME`` frames.
    """

    def __init__(self, sessions: Sessions, playback: Playback, feed: Feed, proof: str = "") -> None:
        self._sessions, self._playback, self._feed = sessions, playback, feed
        self._proof = PROOF + proof.encode() if proof else b""
        self.waiting: set[Subscriber] = set()
        self.resumes = 0

    def begin(
        self, connection: socket.socket, peer: str, publisher: Publisher, *, guest: bool = False
    ) -> None:
        """Wait for the hello of a new client; ``guest``: it is above the limit of clients."""
        wait_s = GUEST_HELLO_S if guest else HELLO_S
        deadline_ns = time.monotonic_ns() + int(wait_s * 1e9)
        subscriber = Subscriber(connection, peer, publisher, deadline_ns)
        self._sessions.add(subscriber)
        self.waiting.add(subscriber)
        if guest:
            self._sessions.guests[subscriber] = None
        elif publisher.has_symbols and not send_symbol_list(connection, self._feed.symbols):
            self._sessions.disconnect(subscriber, "client_left")

    def join_silent_clients(self, now_ns: int) -> None:
        """Start the stream of the clients that sent no ``RESUME`` in time, as plain clients."""
        done = [each for each in self.waiting if each.stage != HELLO or each.deadline_ns <= now_ns]
        for subscriber in done:
            self.waiting.discard(subscriber)
            if subscriber in self._sessions.guests:
                self._sessions.disconnect(subscriber, "client_left", reason="too many clients")
            elif subscriber.stage == HELLO:
                subscriber.publisher.subscribe(subscriber)
                self._joined(subscriber)

    def receive(self, subscriber: Subscriber) -> None:
        """Read from a client; a frame that is not allowed closes its connection."""
        try:
            data = subscriber.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._sessions.disconnect(subscriber, "client_left", reason=error.strerror)
            return
        if not data:
            self._end_of_input(subscriber)
            return
        try:
            for frame in subscriber.hello.feed(data):
                self._take_frame(subscriber, frame)
        except RemoteProtocolError as error:
            self._sessions.refuse(subscriber, "client_refused", reason=str(error))

    def _end_of_input(self, subscriber: Subscriber) -> None:
        """A plain client may shut down its sending side and keep reading; any other has left."""
        if subscriber.stage == STREAM and self._playback.started and not subscriber.resuming:
            subscriber.half_closed = True
            self._sessions.watch(subscriber, bool(subscriber.watching & select.EPOLLOUT))
        else:
            self._sessions.disconnect(subscriber, "client_left", port=subscriber.publisher.name)

    def _take_frame(self, subscriber: Subscriber, frame: bytes) -> None:
        if subscriber.stage not in (HELLO, STREAM):
            return
        if subscriber.resuming:
            raise RemoteProtocolError(f"frame after RESUME: {frame!r}")
        if frame.startswith(PROOF):
            self._take_proof(subscriber, frame)
            return
        if subscriber in self._sessions.guests and frame != PING:
            self._sessions.disconnect(subscriber, "client_left", reason="too many clients")
            return
        seq = parse_mark(frame, "RESUME")
        if seq is not None:
            self._resume_at(subscriber, seq)
        elif subscriber.stage == HELLO and frame == PING:
            subscriber.queue(PONG + DELIMITER)
            self._sessions.finish(subscriber)
        elif subscriber.stage == HELLO and frame == BEAT:
            subscriber.heartbeats = True
        elif subscriber.stage == HELLO and frame == b"RUN":
            subscriber.queue(f"RUN|{self._feed.feed_id}*".encode())
            subscriber.publisher.pump(subscriber)
        else:
            raise RemoteProtocolError(f"unknown hello {frame!r}")

    def _take_proof(self, subscriber: Subscriber, frame: bytes) -> None:
        """A wrong proof is ignored: it may be that of a stack with its own shared memory."""
        if not self._proof or not hmac.compare_digest(frame, self._proof):
            return
        guest = subscriber in self._sessions.guests
        self._sessions.prove(subscriber)
        if guest and subscriber.publisher.has_symbols:
            send_symbol_list(subscriber.socket, self._feed.symbols)

    def _resume_at(self, subscriber: Subscriber, seq: int) -> None:
        if seq > self._feed.total:
            raise RemoteProtocolError(f"RESUME|{seq}: the run has {self._feed.total} ticks")
        released = self._playback.released
        subscriber.publisher.resume(subscriber, seq)
        self.resumes += 1
        self._joined(subscriber, seq)
        self._playback.follow_resume(released, time.monotonic_ns())

    def _joined(self, subscriber: Subscriber, seq: int = 0) -> None:
        where = {"seq": seq} if subscriber.resuming else {}
        log.info("client_joined", port=subscriber.publisher.name, peer=subscriber.peer, **where)
        self._playback.start_when_ready(time.monotonic_ns())
