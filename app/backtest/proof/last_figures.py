"""The figures that a strategy leaves at its end, also when its stack is gone.

A stack on a host ends soon after its run, and removes its shared memory.  A mapping of it stays.
"""

from typing import NamedTuple

from app.config.settings import Settings
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.snapshot import blocks_of
from app.shared_memory_utils.segment import Segment, SegmentError


class Figures(NamedTuple):
    """Of a run that came to its end: its answered orders, and their digest."""

    orders: int
    trades_hash: int


class LastFigures:
    """Keeps the latest metrics segment of the stack mapped."""

    def __init__(self, settings: Settings) -> None:
        self._name, self._replay = settings.shm_metrics, settings.replay
        self._segment: Segment | None = None

    def look(self) -> None:
        """Map the segment, or the one that has replaced it."""
        if self._segment is not None and self._segment.is_current():
            return
        try:
            found = Segment.attach(self._name, writable=False)
        except SegmentError:
            return
        self.close()
        self._segment = found

    def at_end(self) -> Figures | None:
        """Those of the only strategy; None if there are several, or it did not come to the end."""
        if self._segment is None or self._replay != "once":
            return None
        try:
            blocks = blocks_of(self._segment)
        except (MetricsError, SegmentError):
            return None
        found = [block for block in blocks if block.service == "strategy"]
        if len(found) != 1 or found[0].state != "done":
            return None
        counters = found[0].counters
        if not counters["trades_hash"]:
            return None
        return Figures(counters["run_orders"], counters["trades_hash"])

    def close(self) -> None:
        """Unmap it."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None
