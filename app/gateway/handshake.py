"""A client's hello: ``PING``, ``PROOF|x``, ``RUN``, ``BEAT``, ``RESUME|n``, or nothing: plain.

On the control port requests follow it, or replace it.
"""

import hmac
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from app.gateway.control import WHO_S, ControlPort
from app.gateway.door import Door
from app.gateway.playback import Playback
from app.gateway.sessions import (
    DOOR,
    GONE,
    HELLO,
    HELLO_BYTES_MAX,
    STREAM,
    Publisher,
    Sessions,
    Subscriber,
    send_symbol_list,
)
from app.gateway.transport import Transport
from app.market_data.feed import Feed
from app.model.wire.feed_protocol import (
    AUTH,
    BEAT,
    PING,
    PONG,
    PROOF,
    WHO,
    answer_who,
    parse_mark,
)
from app.model.wire.frames import DELIMITER, RemoteProtocolError
from app.runtime.log import get_logger
from app.runtime.net.feed_access import FeedAccess

log = get_logger()

HELLO_S: Final = 0.05
"""A client that has not sent ``RESUME`` within this time is a plain client."""
GUEST_HELLO_S: Final = 1.0
"""A client above the limit of clients has this time to prove that it is of this stack."""
RECEIVE_BYTES: Final = 4096
TOO_MANY: Final = "too many clients"


class Handshake:
    """Reads what clients send, and starts their stream.

    ``waiting`` holds the clients whose hello is not finished; ``resumes`` counts the answered
    ``RESUME`` frames.  ``door`` is where clients show first that they may read the feed; None if
    they need not.
    """

    def __init__(
        self,
        sessions: Sessions,
        playback: Playback,
        feed: Feed,
        proof: str = "",
        access: FeedAccess | None = None,
        new_run: Callable[[Transport], None] = lambda _transport: None,
    ) -> None:
        self._sessions, self._playback, self._feed = sessions, playback, feed
        self.use_proof(proof)
        self.control = ControlPort(
            sessions, playback, feed, lambda: self._proof_text, access, new_run
        )
        self.waiting: set[Subscriber] = set()
        self.resumes = 0
        self.door: Door | None = None
        if access is not None and (access.needs_token or access.tls is not None):
            self.door = Door(sessions, access, lambda: self._proof_text, self._admit)
            sessions.on_close = self.door.forget

    def use_proof(self, proof: str) -> None:
        """What clients of this stack show; empty: none of them can."""
        self._proof_text = proof
        self._proof = PROOF + proof.encode() if proof else b""

    def begin(
        self, connection: socket.socket, peer: str, publisher: Publisher, *, guest: bool = False
    ) -> None:
        """Wait for the hello of a new client; ``guest``: it is above the limit of clients."""
        wait_s = GUEST_HELLO_S if guest else HELLO_S
        deadline_ns = time.monotonic_ns() + int(wait_s * 1e9)
        subscriber = Subscriber(connection, peer, publisher, deadline_ns)
        self._sessions.add(subscriber)
        if guest:
            self._sessions.guests[subscriber] = None
        if self.door is not None:
            if (oldest := self.door.meet(subscriber)) is not None:
                self.receive(oldest)  # its proof or token may have arrived
                self.door.make_room(oldest)
            return
        if publisher is self.control and not guest:
            self._join_control(subscriber)
            return
        self.waiting.add(subscriber)
        if not guest:
            self._greet(subscriber)

    def _greet(self, subscriber: Subscriber) -> None:
        if subscriber.publisher.has_symbols and not send_symbol_list(
            subscriber.socket, self._feed.symbols
        ):
            self._sessions.disconnect(subscriber, "client_left")

    def _admit(self, subscriber: Subscriber) -> None:
        """A client that may read the feed begins its hello."""
        assert self.door is not None
        if subscriber in self._sessions.guests:
            self.door.turn_away(subscriber, TOO_MANY)
            return
        if subscriber.publisher is self.control:
            self._join_control(subscriber)
            return
        subscriber.stage = HELLO
        subscriber.hello.max_frame_bytes = HELLO_BYTES_MAX
        subscriber.deadline_ns = time.monotonic_ns() + int(HELLO_S * 1e9)
        self.waiting.add(subscriber)
        self._greet(subscriber)

    def _join_control(self, subscriber: Subscriber) -> None:
        """The client may send requests; where there are too many, another one gives way."""
        self.control.subscribe(subscriber)
        looked = None
        while (oldest := self.control.one_too_many()) is not None:
            if oldest is looked:
                self.control.make_room(oldest)
            else:
                looked = oldest
                self.receive(oldest)  # its proof, or its question, may have arrived

    def evict(self, guest: Subscriber) -> None:
        """Close the connection of a guest, unless it turns out to be of the stack."""
        self.receive(guest)
        if guest in self._sessions.guests:
            self._sessions.disconnect(guest, "client_left", reason=TOO_MANY)

    def join_silent_clients(self, now_ns: int) -> None:
        """Start the stream of the clients that sent no ``RESUME`` in time, as plain clients."""
        done = [each for each in self.waiting if each.stage != HELLO or each.deadline_ns <= now_ns]
        for subscriber in done:
            self.waiting.discard(subscriber)
            if subscriber in self._sessions.guests:
                self._sessions.disconnect(subscriber, "client_left", reason=TOO_MANY)
            elif subscriber.stage == HELLO:
                subscriber.publisher.subscribe(subscriber)
                self._joined(subscriber)

    def receive(self, subscriber: Subscriber) -> None:
        """Read from a client; a frame that is not allowed closes its connection."""
        try:
            if subscriber.stage == DOOR and self.door and self.door.turns_to_tls(subscriber):
                return
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
            self._refuse(subscriber, str(error))

    def _refuse(self, subscriber: Subscriber, reason: str) -> None:
        if subscriber.stage == DOOR and self.door is not None:
            self.door.turn_away(subscriber, reason)
        else:
            self._sessions.refuse(subscriber, "client_refused", reason=reason)

    def _end_of_input(self, subscriber: Subscriber) -> None:
        """A plain client may shut down its sending side and keep reading; any other has left."""
        reads = subscriber in subscriber.publisher.subscribers and not subscriber.resuming
        if reads and self._playback.started:
            subscriber.half_closed = True
            self._sessions.watch(subscriber, bool(subscriber.watching & select.EPOLLOUT))
        else:
            self._sessions.disconnect(subscriber, "client_left", port=subscriber.publisher.name)

    def _take_frame(self, subscriber: Subscriber, frame: bytes) -> None:
        if subscriber.stage not in (HELLO, STREAM, DOOR):
            return
        if subscriber.resuming:
            raise RemoteProtocolError(f"frame after RESUME: {frame!r}")
        if frame.startswith(PROOF):
            self._take_proof(subscriber, frame)
            return
        if subscriber in self._sessions.guests and not frame.startswith((PING, WHO)):
            self._sessions.disconnect(subscriber, "client_left", reason=TOO_MANY)
            return
        if subscriber.publisher is self.control:
            self._take_request(subscriber, frame)
            return
        if subscriber.stage == DOOR and self.door is not None:
            self.door.take(subscriber, frame)
            if subscriber.stage != HELLO or frame.startswith(AUTH):
                return
            # Anybody may read: the frame is the first of the hello.
        seq = parse_mark(frame, "RESUME")
        if seq is not None:
            self._resume_at(subscriber, seq)
        elif subscriber.stage == HELLO and frame == PING:
            subscriber.queue(PONG + DELIMITER)
            self._sessions.finish(subscriber)
        elif subscriber.stage == HELLO and frame == BEAT:
            subscriber.heartbeats = True
        elif subscriber.stage == HELLO and frame.startswith(AUTH):
            pass  # not needed here: anybody may read, or it has shown that it is of the stack
        elif subscriber.stage == HELLO and frame.startswith(WHO) and not subscriber.asked:
            subscriber.asked = True
            subscriber.deadline_ns = time.monotonic_ns() + int(WHO_S * 1e9)
            subscriber.queue(answer_who(frame, self._proof_text))
            subscriber.publisher.pump(subscriber)
        elif subscriber.stage == HELLO and frame == b"RUN":
            subscriber.queue(f"RUN|{self._feed.feed_id}*".encode())
            subscriber.publisher.pump(subscriber)
        else:
            raise RemoteProtocolError(f"unknown hello {frame!r}")

    def _take_request(self, subscriber: Subscriber, frame: bytes) -> None:
        if subscriber.stage == DOOR and self.door is not None:
            self.door.take(subscriber, self.control.as_hello(frame))
        if subscriber.stage == STREAM:
            self.control.take(subscriber, frame)

    def _take_proof(self, subscriber: Subscriber, frame: bytes) -> None:
        """A wrong proof is ignored: it may be that of a stack with its own shared memory."""
        if not self._proof or not hmac.compare_digest(frame, self._proof):
            return
        guest = subscriber in self._sessions.guests
        self._sessions.prove(subscriber)
        if subscriber.stage == DOOR and self.door is not None:
            self.door.let_in(subscriber)
        elif guest and subscriber.publisher is self.control:
            self._join_control(subscriber)
        elif guest:
            self._greet(subscriber)

    def _resume_at(self, subscriber: Subscriber, seq: int) -> None:
        if seq > self._feed.available:
            raise RemoteProtocolError(f"RESUME|{seq}: the run has {self._feed.available} ticks")
        released = self._playback.released
        subscriber.publisher.resume(subscriber, seq)
        self.resumes += 1
        self._joined(subscriber, seq)
        self._playback.follow_resume(released, time.monotonic_ns())

    def _joined(self, subscriber: Subscriber, seq: int = 0) -> None:
        if subscriber.stage != GONE:  # its link may break with the first bytes
            where = {"seq": seq} if subscriber.resuming else {}
            log.info("client_joined", port=subscriber.publisher.name, peer=subscriber.peer, **where)
        self._playback.start_when_ready(time.monotonic_ns())
