"""The stack's shared memory as a whole: leftovers, removal, whether the run is over."""

from app.config import Settings
from app.runtime.lifecycle import FatalError
from app.shared_memory_utils.segment import (
    SHM_DIRECTORY,
    WRITER_LOCK_BYTE,
    Segment,
    SegmentError,
    SegmentMissing,
)
from app.shared_memory_utils.tick_ring import TickRing


def segment_names(settings: Settings) -> tuple[str, ...]:
    """Every shared memory segment of a stack."""
    return (
        settings.shm_price_book,
        settings.shm_metadata,
        settings.shm_tick_ring,
        settings.shm_metrics,
    )


def remove_leftovers(settings: Settings) -> None:
    """Remove the segments of an earlier stack, unless that stack is still running.

    Raises:
        FatalError: the price book or the tick ring has a living writer.
    """
    for name in (settings.shm_price_book, settings.shm_tick_ring):
        try:
            segment = Segment.attach(name)
        except SegmentMissing:
            continue
        alive = segment.is_locked(WRITER_LOCK_BYTE)
        segment.close()
        if alive:
            raise FatalError(
                f"shared memory segment {name} has a living writer: another stack runs on this "
                "host; stop it, or set other names in SHM_* and other ports"
            )
    remove_segments(settings)


def remove_segments(settings: Settings) -> None:
    """Remove every segment of the stack."""
    for name in segment_names(settings):
        (SHM_DIRECTORY / name).unlink(missing_ok=True)


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
