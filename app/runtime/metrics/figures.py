"""States, rates and latencies from the counters, as rows of text."""

import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from app.model.trades_hash import hash_text
from app.runtime.metrics.expectations import MONEY_COUNTERS, money_of_bits
from app.runtime.metrics.histogram import HistogramSnapshot
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.snapshot import ProcessSnapshot, read_metrics, unique_labels
from app.runtime.metrics.tables import EMPTY, micros, number

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
LATENCY_WINDOW_S = 10.0
PERCENTILE_NAMES = tuple(f"p{percent:g}" for percent in PERCENTILES)
PROCESS_HEADER = (
    "process",
    "state",
    "heartbeat s",
    "restarts",
    "events",
    "events/s",
    "queue",
    "lost",
)
LATENCY_HEADER = ("latency µs", "count", *PERCENTILE_NAMES, "max")


class Sample(NamedTuple):
    """Every block, read at one moment (seconds of CLOCK_MONOTONIC)."""

    taken_s: float
    processes: list[ProcessSnapshot]

    def find(self, wanted: ProcessSnapshot) -> ProcessSnapshot | None:
        """The same run of the same process in this sample."""
        for process in self.processes:
            if (process.label, process.pid, process.started) == (
                wanted.label,
                wanted.pid,
                wanted.started,
            ):
                return process
        return None


def take_sample(segment: str) -> Sample:
    """Read the segment now."""
    return Sample(time.monotonic(), read_metrics(segment))


def state_of(process: ProcessSnapshot, stale_after_s: float) -> str:
    """The state in one word; a process that is dead or silent is shown as such."""
    if process.state in ("done", "failed"):
        return process.state
    if not process.alive:
        return f"dead ({process.state})"
    return f"stale ({process.state})" if process.heartbeat_age_s > stale_after_s else process.state


def rate_of(
    process: ProcessSnapshot, counter: str, now: Sample, earlier: Sample | None
) -> float | None:
    """Growth per second since ``earlier``; without it, the mean between first and last event."""
    before = earlier.find(process) if earlier else None
    if earlier and before:
        grown = process.counters[counter] - before.counters[counter]
        return max(grown, 0) / max(now.taken_s - earlier.taken_s, 1e-9)
    return process.counters[counter] / process.active_s if process.active_s > 0 else None


def process_rows(now: Sample, earlier: Sample | None, stale_after_s: float) -> list[list[str]]:
    """Rows under :data:`PROCESS_HEADER`."""
    rows = []
    for label, process in zip(unique_labels(now.processes), now.processes, strict=True):
        counters = process.counters
        rows.append(
            [
                label,
                state_of(process, stale_after_s),
                number(process.heartbeat_age_s, 1),
                number(process.restarts),
                number(process.events),
                number(rate_of(process, process.stage_counter, now, earlier)),
                number(counters.get("queue_depth")),
                number(counters.get("ticks_lost")),
            ]
        )
    return rows


def latency_rows(now: Sample, earlier: Sample | None) -> list[list[str]]:
    """Rows under :data:`LATENCY_HEADER`: values recorded since ``earlier``, or all."""
    rows = []
    for label, process in zip(unique_labels(now.processes), now.processes, strict=True):
        before = earlier.find(process) if earlier else None
        for name, histogram in process.histograms.items():
            recent = histogram - before.histograms[name] if before else histogram
            row = [f"{label} {name.removesuffix('_ns')}", number(recent.total)]
            if recent.total:
                row += [micros(recent.percentile(p)) for p in PERCENTILES] + [micros(recent.max)]
            else:
                row += [EMPTY] * (len(PERCENTILES) + 1)
            rows.append(row)
    return rows


def counter_lines(now: Sample, earlier: Sample | None) -> list[str]:
    """One line per process: every other counter that is not zero, with its rate where it grows."""
    lines = []
    for label, process in zip(unique_labels(now.processes), now.processes, strict=True):
        shown = []
        for name, value in process.counters.items():
            if not value or name in (process.stage_counter, "queue_depth", "ticks_lost"):
                continue
            if name.endswith("_event_ns"):
                continue
            rate = rate_of(process, name, now, earlier) if earlier else None
            shown.append(f"{name} {_shown(name, value, rate)}")
        lines.append(f"{label}: " + (", ".join(shown) or "nothing counted yet"))
    return lines


def readable(name: str, value: int) -> int | float | str:
    """What the word of a counter stands for: a number, money, or the digest of the trades."""
    if name in MONEY_COUNTERS:
        return money_of_bits(value)
    return hash_text(value) if name == "trades_hash" else value


def _shown(name: str, value: int, rate: float | None) -> str:
    found = readable(name, value)
    if isinstance(found, str):
        return found
    if isinstance(found, float):
        return f"{found:,.2f}"
    return f"{found:,}" + (f" (+{rate:,.0f}/s)" if rate else "")


def summary_ns(histogram: HistogramSnapshot) -> dict[str, int]:
    """Count, percentiles and maximum of a histogram, in its own unit."""
    values = {f"p{p:g}": histogram.percentile(p) for p in PERCENTILES}
    return {"count": histogram.total, **values, "max": histogram.max}


def samples(segment: str, interval_s: float) -> Iterator[tuple[Sample, Sample | None, Sample]]:
    """Every ``interval_s``: a sample, the one before, the oldest of the last ten seconds.

    Ends when the segment is removed.
    """
    history: deque[Sample] = deque()
    while True:
        try:
            now = take_sample(segment)
        except MetricsError:
            if history:
                return
            raise
        earlier = history[-1] if history else None
        history.append(now)
        while now.taken_s - history[0].taken_s > LATENCY_WINDOW_S + interval_s:
            history.popleft()
        yield now, earlier, history[0]
        time.sleep(interval_s)
