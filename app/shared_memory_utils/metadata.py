"""The metadata segment: a small JSON object in shared memory."""

import json
import struct
import time
import zlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from app.shared_memory_utils.segment import Segment, SegmentError, SegmentForeign, create_or_attach


class SharedMemoryMetadata:
    """A small JSON object in shared memory.

    The bytes at the segment's start are the JSON text, padded with zeros; behind
    ``METADATA_SIZE`` stand its length and CRC, so that a reader never takes a half-written text.
    """

    METADATA_SIZE = 1024
    _TRAILER = struct.Struct("<II")

    def __init__(self, name: str = "trading_metadata", create: bool = True) -> None:
        size = self.METADATA_SIZE + self._TRAILER.size
        if create:
            self._segment, _ = create_or_attach(name, b"", size)
        else:
            self._segment = Segment.attach(name)
        if self._segment.size != size:
            found = self._segment.size
            self._segment.close()
            raise SegmentForeign(f"{name}: {found} bytes are no metadata; remove it")

    def write(self, values: Mapping[str, Any]) -> None:
        """Replace the object.  ``ValueError`` if its JSON passes ``METADATA_SIZE`` bytes."""
        text = json.dumps(values, separators=(",", ":"), allow_nan=False).encode()
        if len(text) > self.METADATA_SIZE:
            raise ValueError(f"metadata of {len(text)} bytes, at most {self.METADATA_SIZE}")
        self._segment.buf[: self.METADATA_SIZE] = text.ljust(self.METADATA_SIZE, b"\0")
        # copied in, not packed into: pack_into clears its bytes first, and a length of 0 with a
        # CRC of 0 is the valid trailer of an object that was never written
        trailer = self._TRAILER.pack(len(text), zlib.crc32(text))
        self._segment.buf[self.METADATA_SIZE :] = trailer

    def read(self) -> dict[str, Any]:
        """The object; empty before the first write.

        Raises:
            SegmentError: the writer died in mid-write and has not come back for a second.
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

    def is_current(self) -> bool:
        """Whether the name still stands for this segment."""
        return self._segment.is_current()

    def close(self) -> None:
        """Unmap; the segment stays."""
        self._segment.close()

    def unlink(self) -> None:
        """Remove the segment's name."""
        self._segment.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
