"""The stack's shared memory as a whole: leftovers, removal, whether the run is over."""

import contextlib
from collections.abc import Callable

from app.config.settings import Settings
from app.runtime.lifecycle import FatalError
from app.runtime.metrics.layout import MAGIC as METRICS_MAGIC
from app.runtime.trace.layout import is_trace
from app.shared_memory_utils.metadata import SharedMemoryMetadata
from app.shared_memory_utils.price_book import is_price_book
from app.shared_memory_utils.segment import (
    WRITER_LOCK_BYTE,
    Segment,
    SegmentError,
    SegmentForeign,
    SegmentMissing,
)
from app.shared_memory_utils.tick_ring import TickRing, is_tick_ring


def _is_metrics(segment: Segment) -> bool:
    return bytes(segment.buf[: len(METRICS_MAGIC)]) == METRICS_MAGIC


def _is_metadata(segment: Segment) -> bool:
    return not SharedMemoryMetadata.problem(segment.buf)


def segments_of(settings: Settings) -> dict[str, Callable[[Segment], bool]]:
    """The names of a stack's segments, and whether a segment is of that kind, of any version."""
    return {
        settings.shm_price_book: is_price_book,
        settings.shm_metadata: _is_metadata,
        settings.shm_tick_ring: is_tick_ring,
        settings.shm_metrics: _is_metrics,
        settings.shm_trace: lambda segment: is_trace(segment.buf),
    }


def _attach_ours(name: str, is_ours: Callable[[Segment], bool]) -> Segment | None:
    """The segment of that name; None if there is none.

    Raises:
        SegmentError: something else has the name.
    """
    try:
        segment = Segment.attach(name, writable=False)
    except SegmentMissing:
        return None
    if is_ours(segment):
        return segment
    segment.close()
    raise SegmentForeign(
        f"shared memory segment {name}: another program's, left alone; remove it, or set another "
        "name in SHM_*"
    )


def remove_leftovers(settings: Settings) -> None:
    """Remove the segments of an earlier stack, unless that stack is still running.

    Raises:
        FatalError: the price book or the tick ring has a living writer.
        SegmentError: a name belongs to a folder, or to another program's file.
    """
    for name, is_ours in segments_of(settings).items():
        segment = _attach_ours(name, is_ours)
        if segment is None:
            continue
        has_writer = name in (settings.shm_price_book, settings.shm_tick_ring)
        alive = has_writer and segment.is_locked(WRITER_LOCK_BYTE)
        segment.close()
        if alive:
            raise FatalError(
                f"shared memory segment {name} has a living writer: another stack runs on this "
                "host; stop it, or set other names in SHM_* and other ports"
            )
    remove_segments(settings)


def remove_segments(settings: Settings) -> None:
    """Remove every segment of the stack; what is not a segment of the stack stays."""
    for name, is_ours in segments_of(settings).items():
        _remove(name, is_ours)


def _remove(name: str, is_ours: Callable[[Segment], bool]) -> None:
    with contextlib.suppress(SegmentError):
        segment = _attach_ours(name, is_ours)
        if segment is not None:
            segment.unlink()
            segment.close()


def remove_ticks(settings: Settings) -> None:
    """Remove price book and tick ring: their run is over, and nobody shall decide on it."""
    for name in (settings.shm_tick_ring, settings.shm_price_book):
        _remove(name, segments_of(settings)[name])


def run_is_over(settings: Settings) -> bool:
    """Whether the feed has ended and the strategy has left the ring for good.

    The strategy's exit code alone does not tell: a strategy that somebody stops in the middle of a
    run also exits with 0, but keeps its reader slot.
    """
    try:
        ring = TickRing.attach(settings.shm_tick_ring)
    except SegmentError:
        return False
    try:
        name = settings.strategy_client
        coming_back = any(n == name or n.startswith(f"{name}-") for n in ring.absent())
        return ring.state.end_seq is not None and not coming_back
    finally:
        ring.close()
