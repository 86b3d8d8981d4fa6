"""Which requests the order port accepts: protocol, token, role, client names, rate."""

import socket
import time
from typing import Final

from app.model.orders import OrderRequest
from app.model.reject_codes import RejectCode
from app.model.requests import (
    DEFAULT_CLIENT,
    Auth,
    BusAlive,
    Cancel,
    Halt,
    Hello,
    Limits,
    Marks,
    Orders,
    Ping,
    Positions,
    Reduce,
    Reject,
    Request,
    Resume,
    Status,
)
from app.model.wire.order_answers import encode_object, encode_reject
from app.model.words import one_word
from app.order_manager.access.grants import Grant
from app.order_manager.access.keyring import Keyring
from app.order_manager.service import OrderService
from app.order_manager.session import Session
from app.order_manager.sessions import Sessions, host_of
from app.runtime.log import get_logger
from app.runtime.net.access import speaks_another_protocol
from app.runtime.net.strangers import STRANGERS_OF_HOST_MAX

log = get_logger()

NAMES_MAX: Final = 64
"""Client names of a connection that are remembered."""
GREETINGS: Final = frozenset({Auth, Hello})
"""Requests that change what a connection may do; the next ones are looked at anew."""
KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 11_000),
)
"""For cancel_on_disconnect: a peer that vanishes without a word is noticed after 11 s.

The last is for a peer that owes acknowledgements: the kernel sends it data again, and no keepalive.
"""
HOW: Final = (
    "use a token with that role (ORDER_TOKEN_FILE), or the command line where the stack runs "
    "(python -m app orders; docker compose exec order_manager python3 -m app orders)"
)


class Admission:
    """Checks requests before the service sees them.

    Most orders need none of these checks: the caller tests once per batch whether a session may do
    everything, and for each order whether its client's name is in ``session.known``.
    """

    def __init__(self, keyring: Keyring, service: OrderService, sessions: Sessions) -> None:
        self._keyring = keyring
        self._service = service
        self._sessions = sessions

    def speaks_our_protocol(self, session: Session) -> bool:
        """Check a session's first bytes; a client of another protocol is refused."""
        if not speaks_another_protocol(session.first_bytes()):
            return True
        self.refuse(session, RejectCode.OTHER_PROTOCOL, "not the order protocol")
        return False

    def allows(self, session: Session, request: Request) -> bool:
        """Whether this request may be handled; if not, its answer is queued already."""
        if isinstance(request, Auth):
            self._authenticate(session, request)
            return False
        if not session.authorized:
            if isinstance(request, Ping):
                return True
            self.refuse(session, RejectCode.AUTH_REQUIRED, "the first frame must be the token")
            return False
        # The orders after a strategy's marks need them: they never exceed a rate.
        if isinstance(request, Marks) and self._service.core.gate.at_tick(request.proof):
            return True
        if session.bucket is not None and not session.bucket.take(time.monotonic_ns()):
            reject = Reject(RejectCode.FRAME_RATE, "too many frames per second", retryable=True)
            self._service.answer(session, encode_reject(reject))
            return False
        if isinstance(request, OrderRequest):
            problem = self._name_problem(session, request.client)
        elif isinstance(request, Hello):
            self._greet(session, request)
            return False
        else:
            problem = _role_problem(session.grant, request)
        if not problem:
            return True
        self._deny(session, request, problem)
        return False

    # Tokens

    def _authenticate(self, session: Session, request: Auth) -> None:
        key = self._keyring.key_of(request.token.encode())
        grant = self._keyring.find(key)
        host, now_s, penalties = host_of(session), time.monotonic(), self._sessions.penalties
        wrong = penalties.places(host, now_s)
        if wrong >= STRANGERS_OF_HOST_MAX and not self._keyring.is_of_run(key):
            self._sessions.turn_away(session, f"{wrong} wrong tokens of this host of late")
            return
        if grant is None and self._keyring.needs_token:
            lasts_s = penalties.add(host, now_s)
            reason = "wrong token"
            if lasts_s:
                reason += f"; many of this host, this one costs a place for {lasts_s:g} s"
            self.refuse(session, RejectCode.BAD_TOKEN, reason)
            return
        session.key = key if grant else b""
        self._assume(session, grant or self._keyring.without_token)
        self._sessions.authorize(session)
        self._service.answer(session, encode_object({"ok": True, "role": session.grant.role}))

    @staticmethod
    def _assume(session: Session, grant: Grant) -> None:
        session.grant = grant
        session.known.clear()
        if session.cancels:  # Whose name it is now decides about its orders.
            session.cancels = {name for name in session.cancels if grant.has(name)}

    def look(self, now_s: float) -> None:
        """Follow the file with the tokens: close the sessions of those that are gone."""
        if not self._keyring.look(now_s):
            return
        for session in self._sessions:
            if not session.key:
                continue
            grant = self._keyring.find(session.key)
            if grant is not None:
                self._assume(session, grant)
                continue
            self._sessions.refuse(session, "credential_revoked", "its token is no longer valid")
            self._sessions.send(session, b"")

    # Rights

    def _name_problem(self, session: Session, client: str) -> str:
        """Why orders under this name are refused; a name that is not is known from now on."""
        if not session.grant.has(client):
            return _not_its_name(session.grant, client)
        if session.cancels is not None and client not in session.cancels:
            if len(session.cancels) >= NAMES_MAX:
                return f"with cancel_on_disconnect, a connection has at most {NAMES_MAX} clients"
            session.cancels.add(client)
        if len(session.known) >= NAMES_MAX:
            session.known.clear()
        session.known.add(client)
        return ""

    def _greet(self, session: Session, request: Hello) -> None:
        wanted = request.cancel_on_disconnect
        session.cancels = set() if wanted else None
        session.known.clear()  # Each name is looked at again, and noted.
        if wanted:
            for option in KEEPALIVE:
                session.sock.setsockopt(*option)
        answer = {"ok": True, "cancel_on_disconnect": wanted}
        self._service.answer(session, encode_object(answer))

    def _deny(self, session: Session, request: Request, problem: str) -> None:
        counts = self._service.counts
        details: dict[str, object] = {}
        if isinstance(request, OrderRequest):
            counts.orders_received += 1
            counts.orders_rejected += 1
            details = {"client": request.client}
            if request.id is not None:
                details["id"] = request.id
        reject = Reject(RejectCode.NOT_ALLOWED, problem, details)
        self._service.answer(session, encode_reject(reject))

    def refuse(self, session: Session, code: RejectCode, reason: str) -> None:
        """Send one error answer, then close the session."""
        self._service.counts.frames_bad += 1
        self._service.answer(session, encode_reject(Reject(code, reason)))
        self._sessions.refuse(session, "client_refused", f"{code.name}: {reason}")

    def refuse_oversize(self, session: Session) -> None:
        """A frame above the limit, after the answers to those before it."""
        reason = f"frame of over {session.frame_bytes_max} bytes"
        if not session.authorized:
            reason += " before the token"
        self.refuse(session, RejectCode.FRAME_TOO_LONG, reason)

    def refuse_after_bug(self, session: Session, frame: bytes) -> None:
        """A bug in our code: drop this session, keep serving the others."""
        log.exception("bug", peer=session.peer, frame=frame[:200])
        self.refuse(session, RejectCode.INTERNAL, "internal error")


def _role_problem(grant: Grant, request: Request) -> str:
    """Why a request other than an order is refused; empty if it is not."""
    if grant.rules:
        return ""
    if isinstance(request, Halt | Resume | Reduce | BusAlive):
        op = request.__struct_config__.tag
        return f"{op} needs role=operator, this connection has role={grant.role}: {HOW}"
    if isinstance(request, Cancel | Status | Positions | Orders | Limits):
        client = request.client
        if client is None:
            if isinstance(request, Limits):
                return f"limits of the whole stack need role=operator; name a client, or {HOW}"
            return ""  # Its own are shown.
        if not grant.sees(client):
            op = request.__struct_config__.tag
            mend = f"{_not_its_name(grant, client)}; {op} of others needs role=operator: {HOW}"
            return mend
    return ""


def _not_its_name(grant: Grant, client: str) -> str:
    name = one_word(client)
    if client == DEFAULT_CLIENT:
        name += " (which stands for no name)"
    if grant.shown in ("", "*"):
        return f"client {name}: a name of the stack's strategies, which only role=stack may use"
    return f"client {name}: not a name of this token, which is for {grant.shown[:80]}"
