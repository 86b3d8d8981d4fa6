"""Clients at the door: what a client shows before it gets anything, where a token or TLS is needed.

A process of the stack shows its proof, on plain TCP.  Any other client speaks TLS, if there is a
certificate, and sends the token in its first frame.  A ping is answered for anybody.
"""

import socket
import time
from collections.abc import Callable
from typing import Final

from app.gateway.sessions import CLOSING, DOOR, Sessions, Subscriber
from app.model.wire.feed_protocol import (
    AUTH,
    PING,
    PONG,
    WHO,
    answer_who,
    encode_refusal,
    parse_auth,
)
from app.model.wire.frames import DELIMITER, RemoteProtocolError
from app.runtime.net.access import speaks_another_protocol
from app.runtime.net.feed_access import FeedAccess
from app.runtime.net.strangers import (
    STRANGER_FRAME_BYTES_MAX,
    STRANGERS_OF_HOST_MAX,
    TOKEN_S,
    Penalties,
)
from app.runtime.net.tls_relay import TlsRelay

HANDSHAKES_MAX: Final = 128
"""TLS handshakes at once; the oldest gives way."""
OPEN_WAIT_S: Final = 0.5
"""Where anybody may read: a client that has sent nothing by then is a plain client."""
TLS_HANDSHAKE: Final = b"\x16"
"""The first byte of every TLS client, and of no frame."""
PEEK_BYTES: Final = 8
LINGER_S: Final = 1.0
"""Time to read why one may not read the feed."""
NO_TLS: Final = "TLS, which this gateway does not speak: ORDER_TLS_CERT_FILE is not set"
NEEDS_TLS: Final = (
    "TLS is needed: connect with TLS and the certificate of ORDER_TLS_CERT_FILE, "
    "then send AUTH|token"
)
NEEDS_TOKEN: Final = "the first frame must be AUTH|token (ORDER_TOKEN_FILE)"


class Door:
    """The clients that have not shown yet who they are.

    ``admit`` is called with each that has; it is then served like any client without a door.
    """

    def __init__(
        self,
        sessions: Sessions,
        access: FeedAccess,
        proof: Callable[[], str],
        admit: Callable[[Subscriber], None],
    ) -> None:
        self._sessions, self._access, self._proof, self._admit = sessions, access, proof, admit
        self.is_guarded = access.needs_token or access.needs_tls
        self.relay = TlsRelay() if access.tls is not None else None
        self._visitors: dict[str, dict[Subscriber, None]] = {}
        """Host -> its clients at the door, in order of arrival."""
        self._waiting: dict[Subscriber, None] = {}
        """All of them, in order of arrival, which is that of their deadlines."""
        self._unknown: set[Subscriber] = set()
        """Those of which not even the first byte is known, where they may speak TLS."""
        self._handshakes: dict[socket.socket, Subscriber] = {}
        """By the plain end of the connection, in order of arrival."""
        self._penalties = Penalties()

    def __len__(self) -> int:
        return len(self._waiting)

    def meet(self, subscriber: Subscriber) -> Subscriber | None:
        """A new client; returns the oldest of its host if too many of them wait."""
        subscriber.stage = DOOR
        subscriber.hello.max_frame_bytes = STRANGER_FRAME_BYTES_MAX
        subscriber.deadline_ns = time.monotonic_ns() + int(
            (TOKEN_S if self.is_guarded else OPEN_WAIT_S) * 1e9
        )
        visitors = self._visitors.setdefault(subscriber.host, {})
        self._waiting[subscriber] = visitors[subscriber] = None
        self._unknown.add(subscriber)
        # Wrong tokens do not count here: they would turn away a process of the stack on that host
        # before its proof arrives.  They count where a token is looked at.
        too_many = self.is_guarded and len(visitors) > STRANGERS_OF_HOST_MAX
        return next(iter(visitors)) if too_many else None

    def make_room(self, oldest: Subscriber) -> None:
        """The oldest client of a host with too many gives way.

        Not the newest, as on the order port: that may be a process of the stack on this host, and
        its proof is not read yet.
        """
        if oldest.stage == DOOR:
            reason = f"over {STRANGERS_OF_HOST_MAX} connections of this host without the token"
            self.turn_away(oldest, reason)

    def turns_to_tls(self, subscriber: Subscriber) -> bool:
        """Look at the first bytes of a client; whether it goes on in the relay, or is closed."""
        if subscriber not in self._unknown:
            return False
        try:
            first = subscriber.socket.recv(PEEK_BYTES, socket.MSG_PEEK)
        except OSError:
            return False
        self._unknown.discard(subscriber)
        if first.startswith(TLS_HANDSHAKE):
            if self.relay is None:
                self.turn_away(subscriber, NO_TLS)
            else:
                self._start_tls(subscriber, self.relay)
            return True
        if speaks_another_protocol(first):
            self.turn_away(subscriber, "not the feed protocol")
            return True
        return False

    def _start_tls(self, subscriber: Subscriber, relay: TlsRelay) -> None:
        assert self._access.tls is not None

        def release() -> None:
            self._sessions.release_socket(subscriber)

        try:
            plain = relay.adopt(subscriber.socket, self._access.tls, release=release)
        except OSError as error:  # out of descriptors
            self.turn_away(subscriber, f"no TLS now: {error.strerror}", "tls_failed")
            return
        plain.setblocking(False)
        self._sessions.take_socket(subscriber, plain)
        subscriber.encrypted = True
        self._handshakes[plain] = subscriber
        if len(self._handshakes) > HANDSHAKES_MAX:
            oldest = next(iter(self._handshakes.values()))
            self.turn_away(oldest, f"over {HANDSHAKES_MAX} TLS handshakes at once", "tls_failed")

    def take_handshakes(self) -> None:
        """The relay may have news."""
        if self.relay is None:
            return
        for plain, problem in self.relay.take_handshakes():
            subscriber = self._handshakes.pop(plain, None)
            if subscriber is None or subscriber.stage != DOOR:
                continue
            if problem is not None:
                self.turn_away(subscriber, str(problem), "tls_failed")
            elif not self._access.needs_token:
                self.let_in(subscriber)

    def take(self, subscriber: Subscriber, frame: bytes) -> None:
        """A frame that is not a proof.

        Raises:
            RemoteProtocolError: a client that may not read the feed; the message says why.
        """
        if frame == PING:
            subscriber.queue(PONG + DELIMITER)
            self.forget(subscriber)
            self._sessions.finish(subscriber)
        elif frame.startswith(WHO) and not subscriber.asked:
            subscriber.asked = True
            subscriber.queue(answer_who(frame, self._proof()))
            self._sessions.flush(subscriber)
        elif self._access.needs_tls and not subscriber.encrypted:
            raise RemoteProtocolError(NEEDS_TLS)
        elif not self._access.needs_token:
            self.let_in(subscriber)
        elif frame.startswith(AUTH):
            self._check_token(subscriber, parse_auth(frame))
        else:
            raise RemoteProtocolError(NEEDS_TOKEN)

    def _check_token(self, subscriber: Subscriber, token: str) -> None:
        host, now_s = subscriber.host, time.monotonic()
        if (wrong := self._penalties.places(host, now_s)) >= STRANGERS_OF_HOST_MAX:
            raise RemoteProtocolError(f"{wrong} wrong tokens of this host of late: try again later")
        if not self._access.accepts(token):
            self._penalties.add(host, now_s)
            raise RemoteProtocolError("wrong token: it is not in the gateway's ORDER_TOKEN_FILE")
        subscriber.token = token
        self.let_in(subscriber)

    def let_in(self, subscriber: Subscriber) -> None:
        """The client may read the feed."""
        self.forget(subscriber)
        self._admit(subscriber)

    def turn_away(self, subscriber: Subscriber, reason: str, event: str = "client_refused") -> None:
        """Say why, in a frame and a line, and close the connection."""
        self.forget(subscriber)
        port = subscriber.publisher.name
        self._sessions.log_refusal(event, subscriber.peer, port=port, reason=reason)
        self._sessions.dropped += 1
        subscriber.queue(encode_refusal(reason))
        self._sessions.finish(subscriber)
        if subscriber.stage == CLOSING:
            subscriber.deadline_ns = time.monotonic_ns() + int(LINGER_S * 1e9)

    def forget(self, subscriber: Subscriber) -> None:
        """The client is at the door no more."""
        self._waiting.pop(subscriber, None)
        self._unknown.discard(subscriber)
        self._handshakes.pop(subscriber.socket, None)
        visitors = self._visitors.get(subscriber.host)
        if visitors is not None:
            visitors.pop(subscriber, None)
            if not visitors:
                del self._visitors[subscriber.host]

    def maintain(self, now_ns: int) -> None:
        """Turn away who has shown nothing in time, or has no valid token any more."""
        if self._access.look(now_ns / 1e9):
            self._revoke()
        while self._waiting:
            oldest = next(iter(self._waiting))
            if now_ns < oldest.deadline_ns:
                return
            if not self.is_guarded and not oldest.encrypted:
                self.let_in(oldest)
            elif oldest.socket in self._handshakes:
                self.turn_away(oldest, f"no TLS handshake within {TOKEN_S:g} s", "tls_failed")
            else:
                self.turn_away(oldest, f"no token within {TOKEN_S:g} s")

    def _revoke(self) -> None:
        for subscriber in list(self._sessions.by_descriptor.values()):
            if subscriber.token and not self._access.accepts(subscriber.token):
                reason = "its token is no longer in ORDER_TOKEN_FILE"
                self._sessions.refuse(subscriber, "credential_revoked", reason=reason)

    def close(self) -> None:
        """End the thread of the encrypted connections."""
        if self.relay is not None:
            self.relay.close()
