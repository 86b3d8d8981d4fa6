"""Which requests the order port accepts: protocol, token, rate; and how it refuses a client."""

import time

from app.model.reject_codes import RejectCode
from app.model.requests import Auth, Ping, Reject, Request
from app.model.wire.order_answers import encode_object, encode_reject
from app.order_manager.service import OrderService
from app.order_manager.session import Session
from app.order_manager.sessions import Sessions
from app.runtime.log import get_logger
from app.runtime.net.access import speaks_another_protocol, token_matches

log = get_logger()


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
            session.authorized = True
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
