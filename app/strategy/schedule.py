"""When a tick was due at the gateway; latency measured from then has no coordinated omission.

A paced gateway that falls behind sends late; latency measured from the receipt would not show it.
"""

from collections.abc import Callable

from app.config import Settings
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.snapshot import read_metrics


class Schedule:
    """The gateway's schedule, read from its counters; only for a pace in ticks per second.

    ``gaps``: how often the feed was interrupted; each time the gateway may start a new schedule.
    """

    def __init__(self, settings: Settings, gaps: Callable[[], int]) -> None:
        self._segment = settings.shm_metrics
        pace = settings.pace
        self._rate = float(pace.removesuffix("/s")) if pace.endswith("/s") else 0.0
        self._gaps = gaps
        self._gaps_seen = -1
        self._origin: tuple[int, int] | None = None

    def due_ns(self, seq: int) -> int | None:
        """When tick ``seq`` was due, CLOCK_MONOTONIC; None if unknown."""
        if not self._rate:
            return None
        if self._gaps_seen != (gaps := self._gaps()):
            self._gaps_seen, self._origin = gaps, self._read()
        if self._origin is None or seq < self._origin[0]:
            return None
        return self._origin[1] + int((seq - self._origin[0]) * 1e9 / self._rate)

    def _read(self) -> tuple[int, int] | None:
        try:
            blocks = read_metrics(self._segment)
        except MetricsError:
            return None
        for block in blocks:
            if block.service == "gateway" and block.counters["schedule_ns"]:
                return block.counters["schedule_seq"], block.counters["schedule_ns"]
        return None
