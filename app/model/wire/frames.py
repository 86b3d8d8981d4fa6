"""Framing on every port: bytes in, frames out, no I/O.

Every frame is UTF-8 and ends with ``*``.  The compiled kernel splits and parses ticks itself; this
module is for all other frames.
"""

from typing import Final

DELIMITER: Final = b"*"
MAX_FRAME_BYTES: Final = 65536
"""Every port rejects a longer frame, so an unfinished one cannot grow without bound."""


class RemoteProtocolError(Exception):
    """The peer broke the protocol: drop its connection."""


class LocalProtocolError(Exception):
    """We tried to send a frame that the protocol forbids: a bug in our code."""


class FrameBuffer:
    """Collects received bytes and returns the complete frames, delimiter removed.

    Raises :class:`RemoteProtocolError` for a frame of over ``max_frame_bytes``, finished or not.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._rest = b""
        self.max_frame_bytes = max_frame_bytes

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Add received bytes; returns the frames that they complete, in order."""
        text = self._rest + data if self._rest else bytes(data)
        *frames, self._rest = text.split(DELIMITER)
        if len(text) > self.max_frame_bytes:
            longest = max(map(len, [*frames, self._rest]))
            if longest > self.max_frame_bytes:
                raise RemoteProtocolError(
                    f"frame of over {self.max_frame_bytes} bytes: {longest} bytes"
                )
        return frames


def json_frame(text: bytes) -> bytes:
    """JSON as a frame; a ``*`` inside a string is sent as ``\\u002a``."""
    return text.replace(b"*", b"\\u002a") + DELIMITER
