"""``/metrics``: what it shows is what is in shared memory, under conventional names."""

import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from app.config.settings import Settings
from app.dashboard.prometheus import (
    BUCKETS_S,
    GAUGES,
    NOT_SHOWN,
    OTHERWISE,
    in_seconds,
    metrics_answer,
    signed,
)
from app.dashboard.serving.access import Access
from app.runtime.metrics.expectations import bits_of_money
from app.runtime.metrics.histogram import Histogram
from app.runtime.metrics.layout import BUCKET_SLOTS, COUNTERS, HISTOGRAMS, STATES
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.shared_memory_utils.tick_ring import TickRing
from tests.support.paths import ROOT

Series = dict[tuple[str, ...], float]


@pytest.fixture
def settings(name: str) -> Settings:
    return Settings(shm_metrics=f"{name}_metrics", shm_tick_ring=f"{name}_ring")


@pytest.fixture
def stack(settings: Settings) -> Iterator[dict[str, ProcessMetrics]]:
    """A block of each service."""
    made = {service: ProcessMetrics.open(settings.shm_metrics, service) for service in COUNTERS}
    yield made
    for metrics in made.values():
        metrics.close()


def scraped(settings: Settings) -> Series:
    """Name and label values -> value; fails if a family comes twice."""
    answer = metrics_answer(settings)
    assert answer.status == 200
    found: Series = {}
    families = list(text_string_to_metric_families(answer.body.decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    for family in families:
        assert family.documentation, family.name
        for sample in family.samples:
            key = (sample.name, *(value for _, value in sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def test_without_a_stack_it_says_so(settings: Settings) -> None:
    assert scraped(settings) == {("trading_stack_up",): 0}


def test_every_counter_is_shown_with_its_value(
    stack: dict[str, ProcessMetrics], settings: Settings
) -> None:
    number = 1000
    expected: Series = {}
    for service, names in COUNTERS.items():
        for counter in names.keys() - NOT_SHOWN - OTHERWISE.keys():
            number += 1
            stack[service].set(counter, number)
            for unit in ("bytes_sent", "bytes_received"):
                if counter == unit:
                    counter = f"{unit.partition('_')[2]}_bytes"
            end = "" if counter in GAUGES else "_total"
            expected[f"trading_{service}_{counter}{end}", service] = number
    found = scraped(settings)
    assert {key: found.get(key) for key in expected} == expected


def test_what_has_another_form(stack: dict[str, ProcessMetrics], settings: Settings) -> None:
    stack["gateway"].set("event_ns", (1 << 64) - 1_500_000_000)  # before 1970
    stack["gateway"].set("ticks_total", 30_000)
    assert ("trading_strategy_run_pnl", "strategy") not in scraped(settings)
    stack["strategy"].set("run_pnl", bits_of_money(-12.5))
    stack["strategy"].set("run_pnl_known", 1)
    stack["order_manager"].set("trading_mode", 2)
    found = scraped(settings)
    assert found["trading_gateway_event_time_seconds", "gateway"] == -1.5
    assert found["trading_gateway_run_ticks", "gateway"] == 30_000
    assert found["trading_strategy_run_pnl", "strategy"] == -12.5
    modes = {mode: found["trading_mode", mode] for mode in ("active", "reduce", "halted", "killed")}
    assert modes == {"active": 0, "reduce": 0, "halted": 1, "killed": 0}


def test_processes_and_the_age_of_prices(
    stack: dict[str, ProcessMetrics], settings: Settings
) -> None:
    stack["strategy"].set_state("stale")
    stack["orderbook"].close()
    second = ProcessMetrics.open(settings.shm_metrics, "strategy", "2")
    ring = TickRing.open_writer(settings.shm_tick_ring, 64, "lossless")
    try:
        found = scraped(settings)
    finally:
        second.close()
        ring.close()
    assert found["trading_process_up", "strategy", "strategy"] == 1
    assert found["trading_process_up", "strategy/2", "strategy"] == 1
    assert found["trading_process_up", "orderbook", "orderbook"] == 0
    for state in STATES[1:]:
        key = ("trading_process_state", "strategy", "strategy", state)
        assert found[key] == (state == "stale")
    assert 0 <= found["trading_process_heartbeat_age_seconds", "gateway", "gateway"] < 5
    assert found["trading_process_restarts_total", "gateway", "gateway"] == 0
    assert found["trading_feed_age_seconds",] >= 0
    stack["orderbook"] = second  # closed twice is no error, but it has no block any more


@given(st.lists(st.integers(0, 20_000_000_000), max_size=60))
def test_latencies_as_a_histogram(values: list[int]) -> None:
    histogram = Histogram(memoryview(bytearray(8 * BUCKET_SLOTS)).cast("Q"))
    for value in values:
        histogram.record(value)
    buckets, sum_s = in_seconds(histogram.snapshot())
    assert [float(bound) for bound, _ in buckets] == [*map(pytest.approx, BUCKETS_S), float("inf")]
    counts = [count for _, count in buckets]
    assert counts == sorted(counts)
    assert counts[-1] == len(values)
    for bound, count in buckets[:-1]:
        bound_ns = float(bound) * 1e9
        below = sum(value <= bound_ns for value in values)
        clearly_below = sum(value * 1.008 <= bound_ns for value in values)
        assert clearly_below <= count <= below
    assert sum_s == pytest.approx(sum(values) / 1e9, rel=0.01, abs=1e-9)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_a_word_with_a_sign(value: int) -> None:
    assert signed(value % (1 << 64)) == value


def test_every_histogram_is_shown(stack: dict[str, ProcessMetrics], settings: Settings) -> None:
    for service, names in HISTOGRAMS.items():
        for histogram in names:
            stack[service].histogram(histogram).record(3_000_000)
    found = scraped(settings)
    for service, names in HISTOGRAMS.items():
        for histogram in names:
            name = f"trading_{service}_{histogram.removesuffix('_ns')}_seconds"
            assert found[f"{name}_count", service] == 1
            assert found[f"{name}_bucket", "0.0025", service] == 0
            assert found[f"{name}_bucket", "0.005", service] == 1


@pytest.mark.medium
def test_names_and_units_follow_the_conventions(
    stack: dict[str, ProcessMetrics], settings: Settings
) -> None:
    """As Prometheus' own tool sees them."""
    tools = subprocess.run(
        [ROOT / "images/observability/tools.sh"], capture_output=True, text=True, check=False
    )
    if tools.returncode:
        pytest.skip(tools.stderr.strip())
    done = subprocess.run(
        [f"{tools.stdout.strip()}/promtool", "check", "metrics"],
        input=metrics_answer(settings).body, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.decode() + done.stderr.decode()) == (0, "")


def test_prometheus_may_ask_by_the_name_of_the_service() -> None:
    """For the metrics only: a page under this name could be another site's."""
    access = Access(Settings())
    headers = {"host": "dashboard:8080"}
    assert access.refuse_origin(headers, "http", scraped=True) is None
    refusal = access.refuse_origin(headers, "http")
    assert refusal is not None
    assert refusal.status == 421
    other = access.refuse_origin({"host": "evil.example"}, "http", scraped=True)
    assert other is not None
