"""The control port: tells the market to stand still, to step, to play, or to jump.

A third publisher beside the feed ports, so its clients pass the same door.  Everybody who may come
in may ask for the state; to change it, one is a process of this stack, or an operator.
"""

import re
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from app.config.kinds import PACE, is_zero
from app.gateway.door import NEEDS_TLS
from app.gateway.playback import Playback
from app.gateway.sessions import STREAM, Sessions, Subscriber
from app.gateway.transport import Transport
from app.market_data.feed import Feed
from app.model.timestamps import format_timestamp
from app.model.wire.control_json import (
    Auth,
    BadRequest,
    Pause,
    Ping,
    Request,
    Resume,
    Seek,
    Speed,
    Status,
    Step,
    event_ns_of,
    parse_request,
)
from app.model.wire.feed_protocol import AUTH, PING, PONG, WHO, answer_who, encode_auth, parse_auth
from app.model.wire.frames import DELIMITER, RemoteProtocolError, json_frame
from app.runtime.control.pace import LIVE
from app.runtime.log import get_logger
from app.runtime.net.feed_access import FeedAccess
from app.runtime.net.strangers import STRANGERS_OF_HOST_MAX, Penalties

log = get_logger()

FRAME_BYTES_MAX: Final = 4096
ANSWER_BYTES_MAX: Final = 64 * 1024
"""Answers that a client does not read, before its connection is closed."""
STRANGERS_MAX: Final = 32
"""Connections that may change nothing; the oldest gives way.  Operators and the stack always get
in."""

WHO_S: Final = 1.0
"""A client that has asked who the gateway is has this time for the rest of its hello."""

_PACE: Final = re.compile(PACE)


class Refused(Exception):
    """A request is not carried out: a code, and why."""

    def __init__(self, code: str, msg: str) -> None:
        super().__init__(msg)
        self.code = code


class ControlPort:
    """Takes requests, and answers each."""

    name = "control"
    has_symbols = False
    takes_requests = True

    def __init__(
        self,
        sessions: Sessions,
        playback: Playback,
        feed: Feed,
        proof: Callable[[], str],
        access: FeedAccess | None = None,
        new_run: Callable[[Transport], None] = lambda _transport: None,
    ) -> None:
        """``new_run``: begins another run of the stack, for a jump back."""
        self._sessions, self._playback, self._feed = sessions, playback, feed
        self._new_run = new_run
        self._proof, self._access = proof, access
        self.subscribers: set[Subscriber] = set()
        """Stays empty: that a client comes and goes is no event."""
        self.completed = 0
        self._clients: dict[Subscriber, None] = {}
        self._penalties = Penalties()

    # ---- what every port does with its clients

    def subscribe(self, subscriber: Subscriber) -> None:
        """The client may send requests."""
        subscriber.stage = STREAM
        subscriber.hello.max_frame_bytes = FRAME_BYTES_MAX
        self._clients[subscriber] = None

    def one_too_many(self) -> Subscriber | None:
        """The client that gives way; None if there is room.

        The oldest, but not one that has just asked who the gateway is: a process of the stack does
        that first, and needs a moment for its proof.  Nor the newest, which has not said anything.
        """
        strangers = [each for each in self._clients if not self._may_command(each)]
        if len(strangers) <= STRANGERS_MAX:
            return None
        now_ns = time.monotonic_ns()
        waits = [each.asked and now_ns < each.deadline_ns for each in strangers[:-1]]
        return strangers[waits.index(False) if False in waits else 0]

    def make_room(self, oldest: Subscriber) -> None:
        """Close the connection of :meth:`one_too_many`."""
        reason = f"over {STRANGERS_MAX} connections without the right to command"
        self._sessions.refuse(oldest, "client_refused", port=self.name, reason=reason)

    def resume(self, subscriber: Subscriber, seq: int) -> None:
        """There is no stream here."""
        raise RemoteProtocolError(f"RESUME|{seq}: this is the control port")

    def pump(self, subscriber: Subscriber) -> None:
        """Send answers: the socket is writable."""
        if self._sessions.flush(subscriber):
            self._sessions.watch(subscriber, writable=False)

    def heartbeat(self, subscriber: Subscriber) -> None:
        """There is no stream here."""

    def forget(self, subscriber: Subscriber) -> None:
        """Remove a client whose connection is closed."""
        self._clients.pop(subscriber, None)

    def lag_bytes(self, subscriber: Subscriber) -> int:
        """Answers not yet sent; they have a bound of their own."""
        return 0

    # ---- requests

    def as_hello(self, frame: bytes) -> bytes:
        """A frame for the door: a token may be shown as on the order port, in JSON."""
        if frame.startswith(b"{"):
            try:
                request = parse_request(frame)
            except BadRequest:
                return frame
            if isinstance(request, Auth):
                return encode_auth(request.token.encode())[: -len(DELIMITER)]
        return frame

    def take(self, subscriber: Subscriber, frame: bytes) -> None:
        """Carry out a request, and answer it.

        Raises:
            RemoteProtocolError: the client does not read its answers.
        """
        if frame == PING:
            subscriber.queue(PONG + DELIMITER)
            self._sessions.finish(subscriber)
            return
        if frame.startswith(WHO):
            subscriber.asked = True
            subscriber.deadline_ns = time.monotonic_ns() + int(WHO_S * 1e9)
            subscriber.queue(answer_who(frame, self._proof()))
        elif frame.startswith(AUTH):
            self._take_token(subscriber, frame)
        else:
            subscriber.queue(json_frame(msgspec.json.encode(self._answer(subscriber, frame))))
        if len(subscriber.pending) > ANSWER_BYTES_MAX:
            raise RemoteProtocolError(f"over {ANSWER_BYTES_MAX} bytes of answers not read")
        self.pump(subscriber)

    def _take_token(self, subscriber: Subscriber, frame: bytes) -> None:
        """As on the feed ports, without an answer; where tokens are not needed, nothing closes."""
        if self._access is None or not self._access.has_tokens:
            return
        try:
            self._check_token(subscriber, parse_auth(frame))
        except Refused as error:
            self._log_refusal(subscriber, error.code, error)

    def _log_refusal(self, subscriber: Subscriber, code: str, error: Exception) -> None:
        self._sessions.log_refusal("command_refused", subscriber.peer, code=code, reason=str(error))

    def _answer(self, subscriber: Subscriber, frame: bytes) -> dict[str, Any]:
        try:
            request = parse_request(frame)
            extra = self._carry_out(subscriber, request)
        except (BadRequest, Refused) as error:
            code = error.code if isinstance(error, Refused) else "BAD_REQUEST"
            self._log_refusal(subscriber, code, error)
            return {"ok": False, "code": code, "msg": str(error)}
        return {"ok": True, **extra, "market": self.state()}

    def _carry_out(self, subscriber: Subscriber, request: Request) -> dict[str, Any]:
        if isinstance(request, Auth):
            self._check_token(subscriber, request.token)
            return {"role": "operator" if self._may_command(subscriber) else "client"}
        if isinstance(request, Ping | Status):
            return {}
        if not self._may_command(subscriber):
            raise Refused(
                "NOT_ALLOWED",
                'only an operator may: send {"op":"auth","token":...} with the token of one '
                "(ORDER_TOKEN_FILE), or run the command where the stack's shared memory is",
            )
        transport, again = self._decide(request)
        if again:
            self._begin_again(transport)
        else:
            self._playback.tell(transport, time.monotonic_ns())
        log.info(
            "market_told",
            peer=subscriber.peer,
            op=type(request).__name__.lower(),
            mode=transport.mode.value,
            paused=transport.paused,
            pace=transport.pace,
            tick=self._playback.position,
            until=transport.until,
        )
        return {}

    def _begin_again(self, transport: Transport) -> None:
        try:
            self._new_run(transport)
        except OSError as error:
            raise Refused("NO_NEW_RUN", f"RUN_DIR cannot be written: {error.strerror}") from None

    def _decide(self, request: Request) -> tuple[Transport, bool]:
        """The state that a request leads to, and whether in a new run.

        Raises:
            Refused: it cannot be carried out.
        """
        now, position, total = (
            self._playback.transport,
            self._playback.position,
            self._feed.available,
        )
        if isinstance(request, Pause):
            return now.pause(), False
        if isinstance(request, Resume):
            return now.resume(), False
        if isinstance(request, Speed):
            if now.pace == LIVE:
                raise Refused("NO_PACE", "a live market has the pace of its exchange")
            if not _PACE.fullmatch(request.pace) or is_zero(request.pace):
                raise Refused(
                    "BAD_REQUEST",
                    f"pace={request.pace[:40]}: must be max, ticks per second above zero (1000/s), "
                    "or a multiple of event time (60x)",
                )
            return now.at_pace(request.pace), False
        if self._playback.finished:
            raise Refused("RUN_OVER", "the run is over: every tick was sent; start the next run")
        if isinstance(request, Step):
            return now.step(request.ticks, position, total), False
        assert isinstance(request, Seek)
        tick = self._tick_of(request)
        again = tick < position
        return now.seek(tick, 0 if again else position), again

    def _tick_of(self, request: Seek) -> int:
        total = self._feed.available
        if request.tick is not None:
            tick = request.tick
        else:
            tick = self._feed.tick_at(event_ns_of(request.time or ""))
        if tick > total or (request.time is not None and tick == total):
            if not total:
                raise Refused("NO_SUCH_TICK", "the run has no tick yet")
            last = format_timestamp(self._feed.event_ns(total - 1)).decode()
            raise Refused("NO_SUCH_TICK", f"the run has {total:,} ticks and ends at {last}")
        return tick

    def _may_command(self, subscriber: Subscriber) -> bool:
        return subscriber.proven or bool(
            subscriber.token and self._access and self._access.is_operator(subscriber.token)
        )

    def _check_token(self, subscriber: Subscriber, token: str) -> None:
        """The door has looked at it, unless anybody may come in.

        Raises:
            Refused: it is wrong.
        """
        if subscriber.token and subscriber.token == token:
            return
        host, now_s = subscriber.host, time.monotonic()
        if self._access is None or not self._access.has_tokens:
            raise Refused("NOT_ALLOWED", "no token is known here: ORDER_TOKEN_FILE is not set")
        if self._access.tls is not None and not subscriber.encrypted:
            raise Refused("NOT_ALLOWED", NEEDS_TLS)
        if self._penalties.places(host, now_s) >= STRANGERS_OF_HOST_MAX:
            raise Refused("NOT_ALLOWED", "too many wrong tokens of this host: try again later")
        if not self._access.accepts(token):
            self._penalties.add(host, now_s)
            raise Refused("NOT_ALLOWED", "wrong token: it is not in the gateway's ORDER_TOKEN_FILE")
        subscriber.token = token

    def state(self) -> dict[str, Any]:
        """What the market does, for the answer."""
        playback, transport = self._playback, self._playback.transport
        position = playback.position
        last_ns = self._feed.event_ns(position - 1) if position else None
        return {
            "mode": transport.mode.value,
            "paused": transport.paused,
            "pace": transport.pace,
            "tick": position,
            "until": transport.until,
            "event_time": None if last_ns is None else format_timestamp(last_ns).decode(),
            "ticks": self._feed.available,
            "started": playback.started,
            "finished": playback.finished,
        }
