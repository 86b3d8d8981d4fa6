"""Check that a segment holds the layout that this program reads, before anything else is read."""

import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

from app.kernel import _kernel
from app.shared_memory_utils.segment import (
    Segment,
    SegmentDamaged,
    SegmentError,
    SegmentForeign,
)

_HEAD = struct.Struct("<QII")
"""The first fields of price book and tick ring: magic, layout version, bytes per item."""

_COUNT_OFFSET = 16
_CHECKSUM = struct.Struct("<I")


class Layout(NamedTuple):
    """One kind of segment: a header, then items of one size (see ``layout.h``)."""

    kind: str
    magic: int
    header_bytes: int
    item_bytes: int
    count_struct: struct.Struct
    """How the number of items is stored."""
    checksum_offset: int
    constants: Callable[[memoryview, int], bytes]
    """The bytes, of a segment with that many items, that never change and have the checksum."""


def has_magic(segment: Segment, layout: Layout) -> bool:
    """Whether the segment is of this kind, of any version."""
    return bytes(segment.buf[:8]) == layout.magic.to_bytes(8, "little")


def item_count(segment: Segment, layout: Layout) -> int:
    """Number of items in the segment, all of them mapped.

    Raises:
        SegmentForeign: the segment belongs to another program.
        SegmentDamaged: its checksum does not fit.
        SegmentError: it is truncated or has another layout version.
    """
    name, size = segment.name, segment.size
    if size < layout.header_bytes:
        raise SegmentForeign(f"{name}: {size} bytes, not a {layout.kind}; remove it")
    magic, version, item_bytes = _HEAD.unpack_from(segment.buf)
    if magic != layout.magic:
        raise SegmentForeign(
            f"{name}: not a {layout.kind} (magic {magic:#x}); remove it, or set another name "
            "in SHM_*"
        )
    if (version, item_bytes) != (_kernel.LAYOUT_VERSION, layout.item_bytes):
        raise SegmentError(
            f"{name}: layout version {version}, this program reads {_kernel.LAYOUT_VERSION}; "
            "restart every process on one version"
        )
    count: int = layout.count_struct.unpack_from(segment.buf, _COUNT_OFFSET)[0]
    if size < layout.header_bytes + count * item_bytes:
        raise SegmentError(f"{name}: truncated {layout.kind}; remove it and restart")
    check_constants(segment, layout, count)
    return count


def check_constants(segment: Segment, layout: Layout, count: int) -> None:
    """Check what never changes in a segment with ``count`` items.

    Raises:
        SegmentDamaged: its checksum does not fit.
    """
    stored = _CHECKSUM.unpack_from(segment.buf, layout.checksum_offset)[0]
    if zlib.crc32(layout.constants(segment.buf, count)) != stored:
        raise SegmentDamaged(f"{segment.name}: the header of the {layout.kind} is damaged")


def store_checksum(image: bytearray, layout: Layout, count: int) -> None:
    """Complete the bytes of a new segment with ``count`` items."""
    constants = layout.constants(memoryview(image), count)
    _CHECKSUM.pack_into(image, layout.checksum_offset, zlib.crc32(constants))
