"""Notices a run that stands still: trading is halted, or a process hangs or is paused."""

from typing import Final

from app.config.settings import Settings
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.snapshot import ProcessSnapshot, read_metrics
from app.runtime.net.order_client import ask_once
from app.shared_memory_utils.segment import SegmentError

CHECK_EVERY_S: Final = 1.0
HALTED_MODES: Final = ("reduce", "halted", "killed")


class StallWatch:
    """Call :meth:`check` every now and then during a ``REPLAY=once`` run.

    A slow pace is no stall: the strategy also has to be ``stale``, which it is when prices,
    sentiment or answers have been missing for ``HEARTBEAT_TIMEOUT_S``.  A strategy that hangs in
    its own code looks like one that computes; for that there is ``DEADLINE_S``.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._position = -1
        self._since_s: float | None = None
        self._next_s = 0.0

    def check(self, now_s: float) -> str:
        """Why the run will not go on; empty while it does, or may.  ``now_s``: CLOCK_MONOTONIC."""
        if now_s < self._next_s:
            return ""
        self._next_s = now_s + CHECK_EVERY_S
        try:
            processes = read_metrics(self._settings.shm_metrics)
        except (MetricsError, SegmentError):
            return ""
        strategies = [p for p in processes if p.service == "strategy"]
        position = sum(p.events for p in strategies)
        if position != self._position or not any(p.state == "stale" for p in strategies):
            self._position, self._since_s = position, None
            return ""
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s < self._settings.stall_timeout_s:
            return ""
        return (
            f"no progress for {self._settings.stall_timeout_s:g} s at tick {position:,}: "
            f"{self._cause(processes)}"
        )

    def _cause(self, processes: list[ProcessSnapshot]) -> str:
        silent = [
            f"{process.service} gives no sign of life"
            for process in processes
            if process.heartbeat_age_s > self._settings.heartbeat_timeout_s
        ]
        if silent:
            return ", ".join(silent)
        try:
            mode = str(ask_once({"op": "limits"}, self._settings).get("mode", ""))
        except (OSError, ValueError) as error:
            return f"the order manager does not answer ({error})"
        if mode in HALTED_MODES:
            return f"trading is {mode} (python -m app orders resume)"
        return (
            "the strategy waits for prices, sentiment or answers, or its client is halted "
            "(python -m app orders limits --client NAME)"
        )
