"""The metadata segment: a small JSON object in shared memory."""

import json
import struct
import time
import zlib
from collections.abc import Mapping
from typing import Any

from app.shared_memory_utils.segment import (
    Segment,
    SegmentError,
    SegmentForeign,
    SegmentHandle,
    create_or_attach,
)


class SharedMemoryMetadata(SegmentHandle):
    """A small JSON object in shared memory.

    The segment holds the JSON text, padded with zeros to ``METADATA_SIZE`` bytes, then its length
    and CRC, by which a reader detects a half-written text.
    """

    METADATA_SIZE = 1024
    _TRAILER = struct.Struct("<II")

    def __init__(self, name: str = "trading_metadata", create: bool = True) -> None:
        size = self.METADATA_SIZE + self._TRAILER.size
        if create:
            self._segment, _ = create_or_attach(name, b"", size)
        else:
            self._segment = Segment.attach(name, writable=False)
        problem = self.problem(self._segment.buf)
        if problem:
            self._segment.close()
            raise SegmentForeign(f"{name}: {problem}; remove it, or set another SHM_METADATA")

    @classmethod
    def problem(cls, segment: memoryview) -> str:
        """Why this is no metadata segment; empty if it is one, perhaps half-written."""
        if len(segment) != cls.METADATA_SIZE + cls._TRAILER.size:
            return f"{len(segment)} bytes, not a metadata segment"
        return "" if segment[0] in b"{\0" else "not a metadata segment: it does not begin with {"

    def write(self, values: Mapping[str, Any]) -> None:
        """Replace the object.  ``ValueError`` if its JSON exceeds ``METADATA_SIZE`` bytes."""
        text = json.dumps(values, separators=(",", ":"), allow_nan=False).encode()
        if len(text) > self.METADATA_SIZE:
            raise ValueError(f"metadata of {len(text)} bytes, at most {self.METADATA_SIZE}")
        self._segment.buf[: self.METADATA_SIZE] = text.ljust(self.METADATA_SIZE, b"\0")
        # Assigned in one copy: pack_into would zero the bytes first, and length 0 with CRC 0 is the
        # valid trailer of an object that was never written.
        trailer = self._TRAILER.pack(len(text), zlib.crc32(text))
        self._segment.buf[self.METADATA_SIZE :] = trailer

    def read(self) -> dict[str, Any]:
        """The object; empty before the first write.

        Raises:
            SegmentError: the writer died during a write and was not restarted within a second.
        """
        deadline = time.monotonic() + 1.0
        while True:
            copy = bytes(self._segment.buf)
            length, crc = self._TRAILER.unpack_from(copy, self.METADATA_SIZE)
            text = copy[: min(length, self.METADATA_SIZE)]
            if zlib.crc32(text) == crc:
                return dict(json.loads(text)) if text else {}
            if time.monotonic() > deadline:
                raise SegmentError(f"{self._segment.name}: half-written; restart the orderbook")
            time.sleep(0.001)
