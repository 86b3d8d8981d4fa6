"""Framing and the small opt-in protocol beside the ticks: bytes in, frames out, no I/O.

Every frame is UTF-8 and ends with ``*``.  Ticks themselves are parsed by the compiled kernel; this
module carries what surrounds them (symbol list, hello frames, watermarks) and the order frames.
"""

from typing import Final

DELIMITER: Final = b"*"
MAX_FRAME_BYTES: Final = 65536
"""A longer frame is refused on every port, so an unfinished one cannot grow without bound."""


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


def json_frame(text: bytes) -> bytes:
    """JSON as a frame: a ``*`` inside a string goes out as ``\\u002a``, so none stands in it."""
    return text.replace(b"*", b"\\u002a") + DELIMITER
