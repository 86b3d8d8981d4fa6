"""Framing and the small opt-in protocol beside the ticks: bytes in, frames out, no I/O.

Every frame is UTF-8 and ends with ``*``.  Ticks themselves are parsed by the compiled kernel; this
module carries what surrounds them (symbol list, hello frames, watermarks) and the order frames.
"""

from typing import Final

DELIMITER: Final = b"*"
MAX_FRAME_BYTES: Final = 65536
"""A longer frame is refused on every port, so an unfinished one cannot grow without bound."""
MAX_SYMBOL_BYTES: Final = 10

PING: Final = b"PING"
PONG: Final = b"PONG"
BEAT: Final = b"BEAT"
"""A hello by which a client asks for signs of life: ``BEAT|n*``, n the next tick in its stream."""


class RemoteProtocolError(Exception):
    """The peer broke the protocol; the connection it came on is to be dropped."""


class LocalProtocolError(Exception):
    """We tried to send what the protocol forbids: a bug on our side."""


class FrameBuffer:
    """Collects received bytes and hands out the complete frames, delimiter removed.

    Raises :class:`RemoteProtocolError` once an unfinished frame passes ``max_frame_bytes``.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._rest = b""
        self._max = max_frame_bytes

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Add received bytes; return every frame they complete, in order."""
        text = self._rest + data if self._rest else bytes(data)
        *frames, self._rest = text.split(DELIMITER)
        if len(text) > self._max:
            longest = max(map(len, [*frames, self._rest]))
            if longest > self._max:
                raise RemoteProtocolError(f"frame of over {self._max} bytes: {longest} bytes")
        return frames

    @property
    def pending(self) -> bytes:
        """The bytes of the frame that is not finished yet."""
        return self._rest


def symbol_problem(symbol: bytes) -> str | None:
    """Why these bytes cannot be a symbol on the wire, or None if they can."""
    if not symbol:
        return "empty symbol"
    if len(symbol) > MAX_SYMBOL_BYTES:
        return f"symbol of {len(symbol)} bytes, at most {MAX_SYMBOL_BYTES}"
    if any(byte in b"*|," or byte < 0x20 or byte == 0x7F for byte in symbol):
        return "symbol with a delimiter (* | ,) or a control byte"
    try:
        symbol.decode()
    except UnicodeDecodeError:
        return "symbol that is not UTF-8"
    return None


def encode_symbol_list(symbols: list[str], delimiter: bytes = DELIMITER) -> bytes:
    """``SYMBOLS|AAPL,MSFT*``, the first frame for each price client.

    Raises:
        LocalProtocolError: a symbol that the wire cannot carry.
    """
    for symbol in symbols:
        problem = symbol_problem(symbol.encode())
        if problem:
            raise LocalProtocolError(f"{symbol!r}: {problem}")
    return b"SYMBOLS|" + ",".join(symbols).encode() + delimiter


def parse_symbol_list(frame: bytes) -> list[str]:
    """The symbols of a ``SYMBOLS|...`` frame, in the sender's order.

    Raises:
        RemoteProtocolError: not a symbol list, a symbol that is not allowed, or one named twice.
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


def json_frame(text: bytes) -> bytes:
    """JSON as a frame: a ``*`` inside a string goes out as ``\\u002a``, so none stands in it."""
    return text.replace(b"*", b"\\u002a") + DELIMITER


def encode_mark(name: str, seq: int) -> bytes:
    """``RESUME|7*``, ``SEQ|7*``, ``BEAT|7*`` or ``END|7*``."""
    return f"{name}|{seq}*".encode()


def parse_mark(frame: bytes, name: str) -> int | None:
    """The number of a ``NAME|number`` frame, or None if it is another frame.

    Raises:
        RemoteProtocolError: the right name with something that is not a sequence number.
    """
    head, mark, body = frame.partition(b"|")
    if head != name.encode() or not mark:
        return None
    if not body.isdigit() or len(body) > 18:
        raise RemoteProtocolError(f"{name}: not a sequence number: {body[:40]!r}")
    return int(body)
