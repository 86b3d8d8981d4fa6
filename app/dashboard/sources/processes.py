"""From counters: each service's state, rate, queue, age and restarts; latencies; losses."""

import time
from collections import deque
from typing import Any, Final

import numpy as np

from app.runtime.metrics.expectations import money_of_bits
from app.runtime.metrics.figures import Sample, rate_of, state_of, take_sample
from app.runtime.metrics.histogram import HistogramSnapshot
from app.runtime.metrics.layout import BUCKET_SLOTS, COUNTERS, MetricsError
from app.runtime.metrics.snapshot import ProcessSnapshot
from app.shared_memory_utils.segment import SegmentError

SERVICES: Final = ("gateway", "orderbook", "strategy", "order_manager")
RATE_WINDOW_S: Final = 1.0
LATENCY_WINDOW_S: Final = 10.0
LATENCY_EVERY_S: Final = 1.0
LEVELS: Final = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0)
"""Percentiles of the latency curve."""
PATHS: Final = (
    ("orderbook", "book_update_ns", "shared memory", "tick received until it is in shared memory"),
    ("strategy", "tick_to_decision_ns", "decision", "tick received until the decision on it"),
    ("strategy", "tick_to_ack_ns", "ACK", "tick received until its order's ACK"),
    ("order_manager", "order_ack_ns", "order to ACK", "order received until its ACK is sent"),
)
"""Service, histogram, name and meaning of each curve, in the order in which a tick passes."""
LOSSES: Final = (
    ("gateway", "rows_skipped", "bad rows skipped"),
    ("gateway", "clients_dropped", "feed clients dropped"),
    ("gateway", "live_missing", "trades missing"),
    ("gateway", "live_refused", "trades refused"),
    ("orderbook", "gaps", "gaps in the feed"),
    ("orderbook", "ticks_malformed", "malformed ticks"),
    ("orderbook", "reconnects", "feed reconnects"),
    ("strategy", "ticks_lost", "ticks lost"),
    ("strategy", "orders_timed_out", "orders sent again"),
    ("strategy", "orders_duplicate", "answers repeated"),
    ("strategy", "reconnects", "strategy reconnects"),
    ("order_manager", "orders_rejected", "orders rejected"),
    ("order_manager", "connections_dropped", "order clients dropped"),
    ("order_manager", "frames_bad", "bad frames"),
    ("order_manager", "checkpoint_errors", "store errors"),
    ("dashboard", "pages_dropped", "pages dropped"),
    ("dashboard", "requests_refused", "page requests refused"),
)
"""Service, counter and name of what should stay at zero, or be explained."""
HARMLESS: Final = frozenset({"reconnects", "orders_duplicate", "orders_timed_out", "rows_skipped"})
"""Counters that grow when a process was restarted, without any loss."""

# A light per state: what the page draws, and its words.
OK, BUSY, WARN, BAD, OFF = "ok", "busy", "warn", "bad", "off"
LIGHTS: Final = {
    "ready": OK,
    "done": OK,
    "starting": BUSY,
    "draining": BUSY,
    "stale": WARN,
    "failed": BAD,
}


def light_of(state: str) -> str:
    """The light for the words of :func:`state_of`."""
    if state.startswith("dead"):
        return BAD
    return WARN if state.startswith("stale (") else LIGHTS.get(state, WARN)


class ProcessReader:
    """Samples the metrics segment, and remembers enough to know rates and recent latencies."""

    def __init__(self, segment: str, stale_after_s: float) -> None:
        self._segment, self._stale_s = segment, stale_after_s
        self._rates: deque[Sample] = deque()
        self._latencies: deque[Sample] = deque()
        self.problem = ""
        """Why there is no sample; empty if there is one."""

    def read(self) -> Sample | None:
        """The counters now; None while there is no segment."""
        try:
            sample = take_sample(self._segment)
        except (MetricsError, SegmentError) as error:
            self.problem = str(error)
            return None
        self.problem = ""
        self._rates.append(sample)
        while len(self._rates) > 2 and sample.taken_s - self._rates[1].taken_s > RATE_WINDOW_S:
            self._rates.popleft()
        return sample

    def services(self, sample: Sample) -> list[dict[str, Any]]:
        """One row for each service of the pipeline, whether it runs or not."""
        return [self._service(name, sample) for name in SERVICES]

    def _service(self, name: str, sample: Sample) -> dict[str, Any]:
        found = current(sample, name)
        if not found:
            return {"service": name, "state": "absent", "light": OFF, "instances": 0}
        earlier = self._rates[0] if len(self._rates) > 1 else None
        states = [state_of(process, self._stale_s) for process in found]
        lights = [light_of(state) for state in states]
        worst = max(range(len(found)), key=lambda at: (OK, BUSY, WARN, BAD).index(lights[at]))
        rates = [rate_of(process, process.stage_counter, sample, earlier) for process in found]
        now_ns = time.monotonic_ns()
        last_ns = max(process.counters["last_event_ns"] for process in found)
        return {
            "service": name,
            "state": states[worst],
            "light": lights[worst],
            "instances": len(found),
            "age_s": round((now_ns - last_ns) / 1e9, 2) if last_ns else None,
            "beat_s": round(max(process.heartbeat_age_s for process in found), 2),
            "rate": round(sum(rate or 0.0 for rate in rates), 1),
            "events": max(process.events for process in found),
            "queue": queue_of(found),
            "restarts": sum(process.restarts for process in found),
        }

    def latency(self, sample: Sample) -> dict[str, Any] | None:
        """The curves, of the last ten seconds and since the start; None until they are due."""
        past = self._latencies
        if past and sample.taken_s - past[-1].taken_s < LATENCY_EVERY_S:
            return None
        past.append(sample)
        while len(past) > 2 and sample.taken_s - past[1].taken_s >= LATENCY_WINDOW_S:
            past.popleft()
        curves = []
        for service, histogram, name, meaning in PATHS:
            whole = total_of(sample, service, histogram)
            recent = whole - total_of(past[0], service, histogram) if len(past) > 1 else whole
            curves.append(
                {
                    "name": name,
                    "meaning": meaning,
                    "recent": _curve(recent),
                    "whole": _curve(whole),
                }
            )
        return {"levels": LEVELS, "window_s": LATENCY_WINDOW_S, "curves": curves}


def current(sample: Sample, service: str) -> list[ProcessSnapshot]:
    """The blocks of a service: the living, or the latest of the dead."""
    found = [process for process in sample.processes if process.service == service]
    living = [process for process in found if process.alive]
    return living or found[-1:]


def queue_of(found: list[ProcessSnapshot]) -> int | None:
    """What waits for a service: the longest queue of its processes; None if it has none."""
    depths = [p.counters["queue_depth"] for p in found if "queue_depth" in p.counters]
    return max(depths) if depths else None


def total_of(sample: Sample, service: str, histogram: str) -> HistogramSnapshot:
    """The sum of a histogram over all blocks of a service, dead ones included."""
    total = None
    for process in sample.processes:
        if process.service == service:
            each = process.histograms[histogram]
            total = each if total is None else total + each
    return total if total is not None else NOTHING


NOTHING: Final = HistogramSnapshot(np.zeros(BUCKET_SLOTS, np.uint64))


def _curve(histogram: HistogramSnapshot) -> dict[str, Any]:
    count = histogram.total
    values = [round(histogram.percentile(level) / 1000, 2) for level in LEVELS] if count else []
    return {"count": count, "us": values}


def losses(sample: Sample) -> list[int]:
    """The value of each row of :data:`LOSSES`, summed over the blocks of its service."""
    return [
        sum(process.counters[counter] for process in sample.processes if process.service == service)
        for service, counter, _ in LOSSES
    ]


def latency_cost(sample: Sample | None) -> float:
    """What latency to the fill has cost the strategies of the run."""
    found = current(sample, "strategy") if sample else []
    return sum(money_of_bits(process.counters["latency_cost"]) for process in found)


def loss_names() -> list[dict[str, Any]]:
    """What the values of :func:`losses` are."""
    return [
        {
            "service": service,
            "name": name,
            "meaning": COUNTERS[service][counter],
            "harmless": counter in HARMLESS,
        }
        for service, counter, name in LOSSES
    ]
