"""When a tick was due at the gateway; latency measured from then has no coordinated omission.

A paced gateway that falls behind sends late; latency measured from the receipt would not show it.
A pause is no latency, nor is a changed pace: each begins a new schedule, which holds for the ticks
after it.  Of ticks that were sent without a pace, none was due at a time.
"""

from collections.abc import Callable
from typing import Final

from app.config.settings import Settings
from app.runtime.control.pace import TICKS_PER_S
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.snapshot import LiveCounters
from app.shared_memory_utils.segment import SegmentError

NS_AND_MILLIONTHS: Final = 10**15
NAMES: Final = (
    "pace_kind",
    "pace_millionths",
    "schedule_seq",
    "schedule_ns",
    "unpaced_until",
)


class Schedule:
    """The gateway's schedule, read from its counters; only for a pace in ticks per second.

    Of another pace, the due times do not follow from the ticks' numbers.

    ``gaps``: how often the feed was interrupted; each time the counters may have moved.
    ``published``: the next tick to arrive.
    """

    def __init__(
        self, settings: Settings, gaps: Callable[[], int], published: Callable[[], int]
    ) -> None:
        self._segment = settings.shm_metrics
        self._gaps, self._published = gaps, published
        self._gaps_seen = -1
        self._counters: LiveCounters | None = None
        self._changes_at = 0
        self._changes = -1
        self._millionths = self._seq = self._due_ns = self._first = 0
        self._catches_up = False

    def due_ns(self, seq: int) -> int | None:
        """When tick ``seq`` was due, CLOCK_MONOTONIC; None if unknown."""
        if self._gaps_seen != (gaps := self._gaps()):
            self._gaps_seen = gaps
            self._attach()
        if self._counters is None:
            return None
        if self._counters.words[self._changes_at] != self._changes:
            self._read(self._counters)
        if not self._due_ns or seq < self._seq:
            return None
        if self._catches_up:
            # What has arrived by now had to wait for the ticks before it, which had no pace.
            self._catches_up, self._first = False, self._published()
        if seq < self._first:
            return None
        return self._due_ns + (seq - self._seq) * NS_AND_MILLIONTHS // self._millionths

    def _attach(self) -> None:
        self.close()
        try:
            self._counters = LiveCounters(self._segment, "gateway")
        except (MetricsError, SegmentError):
            return
        self._changes_at = self._counters.index("market_changes")

    def _read(self, counters: LiveCounters) -> None:
        """Take the schedule, unless it is being changed: then the next order tries again."""
        changes = counters.words[self._changes_at]
        kind, millionths, seq, due_ns, unpaced_until = [
            counters.words[counters.index(name)] for name in NAMES
        ]
        self._due_ns = 0
        if changes % 2 or counters.words[self._changes_at] != changes:
            return
        self._changes = changes
        if kind == TICKS_PER_S and millionths:
            self._millionths, self._seq, self._due_ns = millionths, seq, due_ns
            self._catches_up, self._first = unpaced_until == seq > 0, 0

    def close(self) -> None:
        """Detach from the counters."""
        if self._counters is not None:
            self._counters.close()
            self._counters, self._changes = None, -1
            self._due_ns = 0
