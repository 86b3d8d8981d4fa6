"""A run that stands still ends; one that is only slow does not."""

from collections.abc import Iterator

import msgspec
import pytest

from app.config.settings import Settings
from app.runtime.metrics.layout import HEARTBEAT
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.verdict.stall import StallWatch
from tests.support.children import segment_name
from tests.support.ports import free_ports

STALL_S = 30.0


@pytest.fixture
def settings() -> Iterator[Settings]:
    for name in segment_name():
        (port,) = free_ports(1)
        yield Settings(shm_metrics=name, replay="once", stall_timeout_s=STALL_S, order_port=port)


@pytest.fixture
def strategy(settings: Settings) -> Iterator[ProcessMetrics]:
    metrics = ProcessMetrics.open(settings.shm_metrics, "strategy")
    metrics.set_state("stale")
    metrics.set("ticks_consumed", 1234)
    yield metrics
    metrics.close()


def test_without_figures_nothing_is_known(settings: Settings) -> None:
    watch = StallWatch(settings)
    assert [watch.check(at_s) for at_s in (0.0, 100.0, 200.0)] == ["", "", ""]


def test_a_run_that_stands_still(settings: Settings, strategy: ProcessMetrics) -> None:
    watch = StallWatch(settings)
    assert watch.check(100.0) == ""
    assert watch.check(101.0) == ""
    assert watch.check(101.0 + STALL_S - 1) == ""
    strategy.heartbeat()
    found = watch.check(101.0 + STALL_S)
    assert found.startswith("no progress for 30 s at tick 1,234: the order manager does not answer")


def test_progress_begins_anew(settings: Settings, strategy: ProcessMetrics) -> None:
    watch = StallWatch(settings)
    assert watch.check(100.0) == ""
    assert watch.check(101.0) == ""
    strategy.add("ticks_consumed")
    assert watch.check(101.0 + STALL_S) == ""
    assert watch.check(102.0 + STALL_S) == ""
    strategy.set_state("ready")
    assert watch.check(102.0 + 2 * STALL_S) == ""
    assert watch.check(103.0 + 9 * STALL_S) == "", "a slow pace is no stall"


def test_a_silent_process_is_named(settings: Settings, strategy: ProcessMetrics) -> None:
    quick = msgspec.structs.replace(settings, heartbeat_timeout_s=1.0)
    orderbook = ProcessMetrics.open(settings.shm_metrics, "orderbook")
    orderbook._head[HEARTBEAT] = 1  # its last heartbeat is that of the boot
    watch = StallWatch(quick)
    for at_s in (100.0, 101.0):
        assert watch.check(at_s) == ""
    strategy.heartbeat()
    found = watch.check(101.0 + STALL_S)
    assert found == "no progress for 30 s at tick 1,234: orderbook gives no sign of life"
    orderbook.close()
