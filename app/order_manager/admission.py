"""Which requests the order port accepts, protocol, token, rate, turn; how it refuses a client."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from app.model.reject_codes import RejectCode
from app.model.repeat_window import OTHER
from app.model.requests import (
    Auth,
    Limits,
    Marks,
    Orders,
    Ping,
    Positions,
    Reject,
    Request,
    Status,
)
from app.model.wire.order_answers import encode_object, encode_reject
from app.order_manager.service import OrderService
from app.order_manager.session import Session
from app.order_manager.sessions import (
    REASON_CHARACTERS_MAX,
    Sessions,
    host_of,
    refusal_window,
)
from app.runtime.log import get_logger
from app.runtime.net.access import speaks_another_protocol, token_matches

log = get_logger()

NOT_OK: Final = b'{"ok":false'
CLOSING: Final = frozenset(
    {
        RejectCode.OTHER_PROTOCOL,
        RejectCode.AUTH_REQUIRED,
        RejectCode.BAD_TOKEN,
        RejectCode.FRAME_TOO_LONG,
        RejectCode.BAD_UTF8,
        RejectCode.INTERNAL,
    }
)
"""Rejects that close the session; :meth:`Sessions.refuse` logs them."""


QUERIES: Final = frozenset({Limits, Orders, Positions, Status})
"""Requests that change nothing and may take longer than an order."""
QUERY_NS_MAX: Final = 1_000_000
"""After this time the other queries of a batch wait; one of any length is always answered."""
TAKEN_BYTES_MAX: Final = 256 * 1024
"""Of one session's frames in a batch: usual orders are far below."""


class Refusal(msgspec.Struct):
    """What the log needs of a negative answer."""

    code: str
    msg: str
    id: int | None = None
    client: str | None = None
    order: msgspec.Raw = msgspec.Raw(b"")
    """The order that is recorded; empty if there is none."""


_decode_refusal = msgspec.json.Decoder(Refusal).decode


class RefusalLog:
    """A warning for each request that is refused and of which nothing is recorded.

    (An order that is denied is recorded: it has its order number and its own line.)  One that is
    sent again and again, by one client or from one connection after the other, gets
    REFUSALS_LOGGED lines in REFUSALS_WINDOW_S and then one with the number of the others.
    """

    def __init__(self) -> None:
        self._refused = refusal_window()
        """By host and reject code."""

    def note(self, answers: Iterable[tuple[Session, bytes]]) -> int:
        """Log the refusals among the answers of a batch; returns their number."""
        found = 0
        for session, answer in answers:
            if answer.startswith(NOT_OK):
                refusal = _decode_refusal(answer[:-1])
                if not bytes(refusal.order) and RejectCode[refusal.code] not in CLOSING:
                    self._add(session, refusal)
                    found += 1
        return found

    def _add(self, session: Session, refusal: Refusal) -> None:
        peer, code = session.peer, refusal.code
        if self._refused.add((host_of(session), code), (OTHER, OTHER.upper()), time.monotonic()):
            reason = refusal.msg[:REASON_CHARACTERS_MAX]
            order = {"client": refusal.client, "id": refusal.id}
            named = {key: value for key, value in order.items() if value is not None}
            log.warning("request_refused", peer=peer, code=code, reason=reason, **named)

    def flush(self, end: bool = False) -> None:
        """At the end of a window, or of the process: one line for each kind that has more."""
        for (host, code), more in self._refused.take_rest(time.monotonic(), end=end):
            log.warning("requests_refused", peer=host, code=code, more=more)


class Admission:
    """Checks requests before the service sees them.

    A session that is authorized and has no rate limit needs none of these checks: the caller tests
    that once per batch instead of calling :meth:`allows` for each request.
    """

    def __init__(self, token: bytes, service: OrderService[Session], sessions: Sessions) -> None:
        self._token = token
        self._service = service
        self._sessions = sessions

    def speaks_our_protocol(self, session: Session) -> bool:
        """Check a session's first bytes; a client of another protocol is refused."""
        if not speaks_another_protocol(session.first_bytes()):
            return True
        self.refuse(session, RejectCode.OTHER_PROTOCOL, "not the order protocol")
        return False

    def allows(self, session: Session, request: Request) -> bool:
        """Whether token and rate allow this request; if not, its answer is queued already."""
        if not session.authorized and not self._authorize(session, request):
            return False
        # The orders after a strategy's marks need them: they never exceed a rate.
        if isinstance(request, Marks) and self._service.core.gate.at_tick(request.proof):
            return True
        if session.bucket is None or session.bucket.take(time.monotonic_ns()):
            return True
        reject = Reject(RejectCode.FRAME_RATE, "too many frames per second", retryable=True)
        self._service.answer(session, encode_reject(reject))
        return False

    def _authorize(self, session: Session, request: Request) -> bool:
        """Whether a request may be handled before the token has arrived (a ping may)."""
        if isinstance(request, Ping):
            return True
        if not isinstance(request, Auth):
            self.refuse(session, RejectCode.AUTH_REQUIRED, "the first frame must be the token")
        elif token_matches(self._token, request.token):
            self._sessions.authorize(session)
            self._service.answer(session, encode_object({"ok": True}))
        else:
            self.refuse(session, RejectCode.BAD_TOKEN, "wrong token")
        return False

    def refuse(self, session: Session, code: RejectCode, reason: str) -> None:
        """Send one error answer, then close the session."""
        self._service.counts["frames_bad"] += 1
        self._service.answer(session, encode_reject(Reject(code, reason)))
        self._sessions.refuse(session, "client_refused", f"{code.name}: {reason}")

    def refuse_after_bug(self, session: Session, frame: bytes) -> None:
        """A bug in our code: drop this session, keep serving the others."""
        log.exception("bug", peer=session.peer, frame=frame[:200])
        self.refuse(session, RejectCode.INTERNAL, "internal error")


class Turn:
    """How long one batch may take: bounded by time, and queries give way to orders.

    A batch of orders takes about two milliseconds.  Frames that take longer, because they are long
    or ask for much, must not make the orders of other clients wait.
    """

    def __init__(self, batch_ns_max: int) -> None:
        self.batch_ns_max = batch_ns_max
        self._begin_ns = 0
        self._query_ns = 0

    def begin(self) -> None:
        """A new batch."""
        self._begin_ns = time.monotonic_ns()
        self._query_ns = 0

    def is_over(self) -> bool:
        """Whether the sessions that are left have to wait for the next batch."""
        return time.monotonic_ns() - self._begin_ns > self.batch_ns_max

    def take(self, session: Session, count: int) -> list[bytes]:
        """Up to ``count`` frames of a session, fewer if they are long."""
        frames = session.frames
        if session.postponed:
            session.postponed = False
            count = 1
        if session.held_bytes <= TAKEN_BYTES_MAX:
            if count == len(frames):
                taken = list(frames)
                frames.clear()
                session.held_bytes = len(session.rest)
                return taken
            taken = [frames.popleft() for _ in range(count)]
            session.held_bytes -= sum(map(len, taken)) + count
            return taken
        taken = []
        size = 0
        while len(taken) < count and size < TAKEN_BYTES_MAX:
            frame = frames.popleft()
            size += len(frame) + 1
            taken.append(frame)
        session.held_bytes -= size
        return taken

    def query_waits(self) -> bool:
        """Whether a query has to wait for the next batch; it is the first there."""
        return self._query_ns >= QUERY_NS_MAX

    def postpone(self, session: Session, frames: list[bytes]) -> None:
        """Put frames back for the next batch, the first of which is a query that waits."""
        session.postponed = True
        session.frames.extendleft(reversed(frames))
        session.held_bytes += sum(map(len, frames)) + len(frames)

    @contextmanager
    def query(self) -> Iterator[None]:
        """Measure a query."""
        begin_ns = time.monotonic_ns()
        yield
        self._query_ns += time.monotonic_ns() - begin_ns
