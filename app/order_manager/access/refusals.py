"""The log lines about refused requests, within bounds."""

import time
from collections.abc import Iterable
from typing import Final

import msgspec

from app.model.reject_codes import RejectCode
from app.model.repeat_window import OTHER
from app.order_manager.session import Session
from app.order_manager.sessions import REASON_CHARACTERS_MAX, host_of
from app.runtime.log import get_logger
from app.runtime.net.strangers import refusal_window

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
