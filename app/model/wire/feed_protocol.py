"""Frames around the ticks on the feed ports: symbol list, hello frames and marks."""

import hmac
from typing import Final

from app.model.symbols import symbol_problem
from app.model.wire.frames import DELIMITER, LocalProtocolError, RemoteProtocolError

PING: Final = b"PING"
PONG: Final = b"PONG"
BEAT: Final = b"BEAT"
"""Hello frame that asks for heartbeats.  Each is ``BEAT|n*``: n is the next tick in the stream."""

PROOF: Final = b"PROOF|"
"""Begins the hello frame of a process that shares the gateway's memory, and so knows the rest."""

AUTH: Final = b"AUTH|"
"""Begins the frame with the token of a client that is not of the gateway's stack."""
WHO: Final = b"WHO|"
"""Begins a question, which is a number used once, and the gateway's answer to it."""
REFUSED: Final = b"REFUSED|"
"""Begins the last frame to a client that may not read the feed; the rest says why."""
_STAR: Final = b"\\u002a"


def encode_symbol_list(symbols: list[str], delimiter: bytes = DELIMITER) -> bytes:
    """``SYMBOLS|AAPL,MSFT*``, the first frame to each price client.

    Raises:
        LocalProtocolError: a symbol is not valid on the wire.
    """
    for symbol in symbols:
        problem = symbol_problem(symbol.encode())
        if problem:
            raise LocalProtocolError(f"{symbol!r}: {problem}")
    return b"SYMBOLS|" + ",".join(symbols).encode() + delimiter


def parse_symbol_list(frame: bytes) -> list[str]:
    """The symbols of a ``SYMBOLS|...`` frame, in the sender's order.

    Raises:
        RemoteProtocolError: not a symbol list, or a symbol is invalid or listed twice.
    """
    head, mark, body = frame.partition(b"|")
    if head != b"SYMBOLS" or not mark:
        raise RemoteProtocolError(f"expected a SYMBOLS frame, got {frame[:40]!r}")
    parts = body.split(b",")
    for part in parts:
        problem = symbol_problem(part)
        if problem:
            raise RemoteProtocolError(f"symbol list: {part[:40]!r}: {problem}")
    if len(set(parts)) != len(parts):
        raise RemoteProtocolError("symbol list: a symbol is named twice")
    return [part.decode() for part in parts]


def encode_mark(name: str, seq: int) -> bytes:
    """``RESUME|7*``, ``SEQ|7*``, ``BEAT|7*`` or ``END|7*``."""
    return f"{name}|{seq}*".encode()


def parse_mark(frame: bytes, name: str) -> int | None:
    """The number of a ``NAME|number`` frame, or None if it is another frame.

    Raises:
        RemoteProtocolError: the name is right, but the rest is not a sequence number.
    """
    head, mark, body = frame.partition(b"|")
    if head != name.encode() or not mark:
        return None
    if not body.isdigit() or len(body) > 18:
        raise RemoteProtocolError(f"{name}: not a sequence number: {body[:40]!r}")
    return int(body)


def encode_auth(token: bytes) -> bytes:
    """``AUTH|token*``; a ``*`` in the token is sent as in JSON."""
    return AUTH + token.replace(DELIMITER, _STAR) + DELIMITER


def parse_auth(frame: bytes) -> str:
    """The token of an ``AUTH|...`` frame; bytes that are no UTF-8 become a token that is wrong."""
    return frame[len(AUTH) :].replace(_STAR, DELIMITER).decode("utf-8", "replace")


def answer_who(frame: bytes, proof: str) -> bytes:
    """The gateway's answer to ``WHO|number``: only who knows the proof can give it.

    It differs from a proof, so that an answer to a stranger is worth nothing.  Without a proof it
    is empty.
    """
    shown = hmac.digest(proof.encode(), b"gateway " + frame, "sha256").hex() if proof else ""
    return WHO + shown.encode() + DELIMITER


def encode_refusal(reason: str) -> bytes:
    """``REFUSED|reason*``."""
    return REFUSED + reason.encode().replace(DELIMITER, b"") + DELIMITER
