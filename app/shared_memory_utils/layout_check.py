"""Check that a segment holds the layout that this program reads, before anything else is read."""

import struct
from typing import NamedTuple

from app.kernel import _kernel
from app.shared_memory_utils.segment import Segment, SegmentError, SegmentForeign

_HEAD = struct.Struct("<QII")
"""The first fields of price book and tick ring: magic, layout version, bytes per item."""

_COUNT_OFFSET = 16


class Layout(NamedTuple):
    """One kind of segment: a header, then items of one size (see ``layout.h``)."""

    kind: str
    magic: int
    header_bytes: int
    item_bytes: int
    count_struct: struct.Struct
    """How the number of items is stored."""


def item_count(segment: Segment, layout: Layout) -> int:
    """Number of items in the segment, all of them mapped.

    Raises:
        SegmentForeign: the segment belongs to another program.
        SegmentError: it is truncated or has another layout version.
    """
    name, size = segment.name, segment.size
    if size < layout.header_bytes:
        raise SegmentForeign(f"{name}: {size} bytes, not a {layout.kind}; remove it")
    magic, version, item_bytes = _HEAD.unpack_from(segment.buf)
    if magic != layout.magic:
        raise SegmentForeign(f"{name}: not a {layout.kind} (magic {magic:#x}); choose another name")
    if (version, item_bytes) != (_kernel.LAYOUT_VERSION, layout.item_bytes):
        raise SegmentError(
            f"{name}: layout version {version}, this program reads {_kernel.LAYOUT_VERSION}; "
            "restart every process on one version"
        )
    count: int = layout.count_struct.unpack_from(segment.buf, _COUNT_OFFSET)[0]
    if size < layout.header_bytes + count * item_bytes:
        raise SegmentError(f"{name}: truncated {layout.kind}; remove it and restart")
    return count
