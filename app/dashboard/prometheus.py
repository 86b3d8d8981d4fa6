"""``/metrics``: the counters, states and latencies of shared memory in Prometheus' text format.

One collector reads them when it is asked; no process serves HTTP for it, and none counts twice.
Names, units and ``_total`` follow the conventions of Prometheus, help texts are those of the layout
(app/runtime/metrics/layout.py).  A process is labeled with its service and, of several, its number.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from app.config.settings import Settings
from app.runtime.metrics.expectations import money_of_bits
from app.runtime.metrics.histogram import HistogramSnapshot, highest_of
from app.runtime.metrics.layout import (
    BUCKET_SLOTS,
    COUNTERS,
    HISTOGRAMS,
    STATES,
    MetricsError,
)
from app.runtime.metrics.snapshot import ProcessSnapshot, read_metrics, unique_labels
from app.shared_memory_utils.segment import SegmentError
from app.shared_memory_utils.tick_ring import TickRing

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "trading"

GAUGES: Final = frozenset(
    {
        "clients", "connections", "pages", "queue_depth", "run_number", "symbols", "store_bytes",
        "store_free_bytes", "paused", "run_orders", "run_filled", "run_refused",
        "placed", "placed_canceled", "placed_open", "in_transit", "transit_refused",
    }
)  # fmt: skip
"""Counters of the layout that also fall; the others only rise, and start over with a new run."""

RENAMED: Final = {
    "bytes_sent": "sent_bytes",
    "bytes_received": "received_bytes",
}
"""A unit ends a name, before ``_total``."""

OTHERWISE: Final = {
    "event_ns": "trading_gateway_event_time_seconds",
    "ticks_total": "trading_gateway_run_ticks",
    "run_pnl": "trading_strategy_run_pnl",
    "latency_cost": "trading_strategy_latency_cost",
    "trading_mode": "trading_mode",
    "hurries_to": "trading_gateway_jump_target_tick",
    "last_event_ns": "trading_process_last_event_age_seconds",
}
"""Shown in another form under this name."""

NOT_SHOWN: Final = frozenset(
    {
        # parts of a value that only readers of the memory put together
        "schedule_seq", "schedule_ns", "market_changes", "pace_kind", "pace_millionths",
        "unpaced_until", "run_pnl_known",
        # points in time and places that mean nothing outside
        "joined_at", "started_ns", "first_event_ns",
        # not a quantity
        "trades_hash",
    }
)  # fmt: skip

FORMS: Final[dict[str, tuple[str, Callable[[dict[str, int]], float | None]]]] = {
    "event_ns": (
        "event time of the last tick sent, since 1970",
        lambda counters: signed(counters["event_ns"]) / 1e9,
    ),
    "ticks_total": (
        COUNTERS["gateway"]["ticks_total"],
        lambda counters: counters["ticks_total"],
    ),
    "hurries_to": (
        COUNTERS["gateway"]["hurries_to"],
        lambda counters: counters["hurries_to"],
    ),
    "run_pnl": (
        "PnL at the end of the run, in the currency of the prices",
        lambda counters: money_of_bits(counters["run_pnl"]) if counters["run_pnl_known"] else None,
    ),
    "latency_cost": (
        "what latency to the fill has cost in the run, in the currency of the prices",
        lambda counters: money_of_bits(counters["latency_cost"]),
    ),
}
"""Of OTHERWISE: its help text and its value, None where it is not known."""

MODES: Final = ("active", "reduce", "halted", "killed")

BUCKETS_S: Final = tuple(digit * 10.0**power for power in range(-6, 1) for digit in (1, 2.5, 5))
"""Upper bounds of the latency histograms: 1 us to 5 s."""

_HIGHEST_S: Final = np.array([highest_of(index) for index in range(BUCKET_SLOTS)]) / 1e9
_PLACES: Final = np.searchsorted(_HIGHEST_S, np.array(BUCKETS_S) * (1 + 1e-12), "right")
"""For each bound, how many of the memory's buckets lie below it as a whole."""


class Answer(NamedTuple):
    """What an HTTP route answers."""

    status: int
    content_type: str
    body: bytes


def signed(word: int) -> int:
    """A word as two's complement."""
    return word - (1 << 64) if word >> 63 else word


Labeled = list[tuple[str, ProcessSnapshot]]


class StackCollector(Collector):
    """Collects from the shared memory that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def collect(self) -> Iterator[Metric]:
        """Everything, as of now; only ``trading_stack_up`` 0 where no stack runs."""
        up = GaugeMetricFamily("trading_stack_up", "whether there is a stack's shared memory")
        try:
            processes = read_metrics(self._settings.shm_metrics)
        except (MetricsError, SegmentError):
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        labeled = list(zip(unique_labels(processes), processes, strict=True))
        yield from _process_metrics(labeled)
        for service in COUNTERS:
            own = [(label, process) for label, process in labeled if process.service == service]
            yield from _counters(service, own)
            yield from _otherwise(service, own)
            yield from _histograms(service, own)
        yield from self._feed_age()

    def _feed_age(self) -> Iterator[Metric]:
        """Of the prices in the ring; absent if there is no ring."""
        try:
            ring = TickRing.attach(self._settings.shm_tick_ring)
        except SegmentError:
            return
        age_s = ring.heartbeat_age_s()
        ring.close()
        yield _one("trading_feed_age_seconds", "age of the prices, not of the last tick", age_s)


def _one(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family


def _process_metrics(labeled: Labeled) -> Iterator[Metric]:
    """What every process has."""
    names = ["service", "process"]
    up = GaugeMetricFamily("trading_process_up", "whether the process lives", labels=names)
    state = GaugeMetricFamily(
        "trading_process_state", "1 for the state that the process is in", labels=[*names, "state"]
    )
    beat = GaugeMetricFamily(
        "trading_process_heartbeat_age_seconds", "age of its last heartbeat", labels=names
    )
    start = GaugeMetricFamily(
        "trading_process_start_time_seconds", "when it started, since 1970", labels=names
    )
    event = GaugeMetricFamily(
        OTHERWISE["last_event_ns"], "time since its last tick or order", labels=names
    )
    restarts = CounterMetricFamily(
        "trading_process_restarts", "starts after the first", labels=names
    )
    for label, process in labeled:
        values = [process.service, label]
        up.add_metric(values, process.alive)
        for each in STATES[1:]:
            state.add_metric([*values, each], each == process.state)
        beat.add_metric(values, process.heartbeat_age_s)
        start.add_metric(values, process.started.timestamp())
        restarts.add_metric(values, process.restarts)
        if last_ns := process.counters["last_event_ns"]:
            event.add_metric(values, max(time.monotonic_ns() - last_ns, 0) / 1e9)
    yield from (up, state, beat, start, event, restarts)


def _counters(service: str, own: Labeled) -> Iterator[Metric]:
    """The counters of one service that are shown as they are."""
    for counter, text in COUNTERS[service].items():
        if counter in OTHERWISE or counter in NOT_SHOWN:
            continue
        name = f"{PREFIX}_{service}_{RENAMED.get(counter, counter)}"
        kind = GaugeMetricFamily if counter in GAUGES else CounterMetricFamily
        family = kind(name, text, labels=["process"])
        for label, process in own:
            family.add_metric([label], process.counters[counter])
        yield family


def _otherwise(service: str, own: Labeled) -> Iterator[Metric]:
    """The counters of one service that need another form."""
    for counter in COUNTERS[service].keys() & FORMS.keys():
        text, form = FORMS[counter]
        family = GaugeMetricFamily(OTHERWISE[counter], text, labels=["process"])
        for label, process in own:
            value = form(process.counters)
            if value is not None:
                family.add_metric([label], value)
        yield family
    if service == "order_manager":
        modes = GaugeMetricFamily(
            OTHERWISE["trading_mode"], "1 for the mode of the whole stack", labels=["mode"]
        )
        for _, process in own[:1]:
            for number, mode in enumerate(MODES):
                modes.add_metric([mode], process.counters["trading_mode"] == number)
        yield modes


def _histograms(service: str, own: Labeled) -> Iterator[Metric]:
    """The latencies of one service, in seconds."""
    for histogram, text in HISTOGRAMS[service].items():
        name = f"{PREFIX}_{service}_{histogram.removesuffix('_ns')}_seconds"
        family = HistogramMetricFamily(name, text, labels=["process"])
        for label, process in own:
            buckets, sum_s = in_seconds(process.histograms[histogram])
            family.add_metric([label], buckets=buckets, sum_value=sum_s)
        yield family


def in_seconds(found: HistogramSnapshot) -> tuple[list[tuple[str, float]], float]:
    """Cumulative buckets with their bounds, and the sum of the values.

    A bucket of the memory counts where it lies below the bound as a whole, so a count may miss
    values within 0.8 % of the bound.  The sum takes the middle of each bucket.
    """
    below = np.concatenate(([0], np.cumsum(found.counts)))
    counts = below[_PLACES].tolist()
    bounds = [*(f"{bound:.7g}" for bound in BUCKETS_S), "+Inf"]
    mean_ns, _ = found.mean_and_deviation()
    return list(zip(bounds, [*counts, found.total], strict=True)), mean_ns * found.total / 1e9


def metrics_answer(settings: Settings) -> Answer:
    """The answer to ``GET /metrics``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StackCollector(settings))
    return Answer(200, CONTENT_TYPE, generate_latest(registry))
