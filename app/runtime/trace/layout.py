"""The trace segment: the latest orders, and when their ticks were handed on.

::

    0     8  magic "TRDTRACE"
    8     4  layout version
    12    4  crc32 of the names of stages and kinds
    16    4  bytes per record of an order      20  4  bytes per batch
    24    8  orders that each ring holds       32  8  batches that each process notes
    40   24  zero
    64       ring of orders                    written by strategies and order manager
             ring of repeats                   the same, of orders that are sent again
             batches of the gateway
             batches of the orderbook

``app/kernel/trace.h`` has the bytes of a ring and of a batch.  An order takes three records: sent
by the strategy, handled by the order manager, acknowledged.  A restarted strategy sends the orders
of the whole run again: these have a ring of their own, so that they do not displace the times of
what happened first.  All numbers have the machine's byte order; times are CLOCK_MONOTONIC.
"""

import struct
import zlib
from typing import Final, NamedTuple

import numpy as np

from app.kernel import _kernel
from app.shared_memory_utils.segment import SegmentError, SegmentForeign

MAGIC: Final = b"TRDTRACE"
LAYOUT_VERSION: Final = 1

STAGES: Final[dict[str, str]] = {
    "due": "the gateway's schedule wants the tick sent",
    "tick_sent": "the gateway hands the tick to its socket",
    "tick_received": "the orderbook has received it",
    "published": "it is in the ring, where strategies read",
    "decided": "the strategy has decided on it",
    "order_sent": "the strategy hands the order to its socket",
    "order_received": "the order manager has received it",
    "committed": "it is in the store",
    "ack_sent": "the order manager hands the ACK to its socket",
    "ack_received": "the strategy has the ACK",
}
"""In their order: an attempt that is complete has all of them, none before the one above it."""
STAGE_NAMES: Final = tuple(STAGES)

SENT: Final = _kernel.TRACE_SENT
HANDLED: Final = _kernel.TRACE_HANDLED
ACKED: Final = _kernel.TRACE_ACKED
RECORDS_PER_ORDER: Final = 3
OK: Final = _kernel.TRACE_OK
DUPLICATE: Final = _kernel.TRACE_DUPLICATE

BATCHES_MAX: Final = 65_536
"""So many ticks may wait in the ring of ticks while each was a batch of its own."""

HEADER: Final = struct.Struct("=8sIIIIQQ")
HEADER_BYTES: Final = 64
RING_HEAD_BYTES: Final = _kernel.TRACE_HEAD_BYTES

RECORD_DTYPE: Final = np.dtype(
    [
        ("stamp", "u8"),
        ("seal", "u8"),
        ("id", "i8"),
        ("kind", "u4"),
        ("flags", "u4"),
        ("stage_ns", "i8", (len(STAGES),)),
        ("pad", "V16"),
        ("client", f"S{_kernel.TRACE_CLIENT_BYTES}"),
    ]
)

assert RECORD_DTYPE.itemsize == _kernel.TRACE_RECORD_BYTES
assert len(STAGES) == _kernel.TRACE_STAGES


class TraceError(SegmentError):
    """This build cannot use a trace segment; the message gives the reason and the remedy."""


class Layout(NamedTuple):
    """Where what is, for one size of the segment."""

    orders: int
    batches: int

    @property
    def ring_bytes(self) -> int:
        """Of one ring of orders."""
        records = RECORDS_PER_ORDER * self.orders
        return RING_HEAD_BYTES + records * _kernel.TRACE_RECORD_BYTES

    @property
    def batches_bytes(self) -> int:
        """Of one process's batches."""
        return RING_HEAD_BYTES + self.batches * _kernel.TRACE_BATCH_BYTES

    @property
    def nbytes(self) -> int:
        """Of the segment."""
        return HEADER_BYTES + 2 * self.ring_bytes + 2 * self.batches_bytes

    def ring(self, segment: memoryview, *, repeats: bool) -> memoryview:
        """The bytes of a ring of orders."""
        start = HEADER_BYTES + repeats * self.ring_bytes
        return segment[start : start + self.ring_bytes]

    def times(self, segment: memoryview, *, of_orderbook: bool) -> memoryview:
        """The bytes of the gateway's batches, or of the orderbook's."""
        start = HEADER_BYTES + 2 * self.ring_bytes + of_orderbook * self.batches_bytes
        return segment[start : start + self.batches_bytes]


def layout_for(orders: int, ring_capacity_ticks: int) -> Layout:
    """The layout for settings ``TRACE_ORDERS`` and ``RING_CAPACITY_TICKS``."""
    return Layout(orders, min(ring_capacity_ticks, BATCHES_MAX))


def fingerprint() -> int:
    """Checksum of all names in their order."""
    return zlib.crc32(repr((STAGE_NAMES, SENT, HANDLED, ACKED, OK, DUPLICATE)).encode())


def header_image(layout: Layout) -> bytes:
    """The header of a new segment."""
    record, batch = _kernel.TRACE_RECORD_BYTES, _kernel.TRACE_BATCH_BYTES
    ours = (MAGIC, LAYOUT_VERSION, fingerprint(), record, batch, layout.orders, layout.batches)
    return HEADER.pack(*ours).ljust(HEADER_BYTES, b"\0")


def is_trace(segment: bytes | memoryview) -> bool:
    """Whether this is a trace segment, of any version."""
    return bytes(segment[: len(MAGIC)]) == MAGIC


def check_header(name: str, segment: bytes | memoryview) -> Layout:
    """The layout of an existing segment.

    Raises:
        SegmentForeign: it is no trace segment.
        TraceError: it is of another build, or damaged.
    """
    if len(segment) < HEADER_BYTES or not is_trace(segment):
        raise SegmentForeign(
            f"shared memory segment {name}: not a trace segment, left alone; remove it, or set "
            "another SHM_METRICS, from which the name is made"
        )
    _, version, names, record, batch, orders, batches = HEADER.unpack_from(segment)
    found = (version, names, record, batch)
    ours = (LAYOUT_VERSION, fingerprint(), _kernel.TRACE_RECORD_BYTES, _kernel.TRACE_BATCH_BYTES)
    layout, problem = Layout(orders, batches), ""
    if found != ours:
        texts = [f"{v}/{n:08x}/{r}+{b}" for v, n, r, b in (found, ours)]
        problem = f"layout {texts[0]}, this build has {texts[1]}"
    elif not orders or batches < 2 or layout.nbytes > len(segment):
        problem = f"{len(segment)} bytes do not hold {orders} orders and {batches} batches"
    if problem:
        raise TraceError(
            f"trace segment {name}: {problem}; stop what uses it and remove it, or set another "
            "SHM_METRICS, from which the name is made"
        )
    return layout
