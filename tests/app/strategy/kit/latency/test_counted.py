"""Latency in the strategy's counters and log: after each order, and without latency."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from app.config.settings import Settings
from app.kernel._kernel import Intent
from app.model.wire.answers import Answer
from app.runtime.metrics.expectations import bits_of_money, money_of_bits
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.shared_memory_utils.segment import SHM_DIRECTORY
from app.strategy import counters as counting
from app.strategy.counters import StrategyCounters
from app.strategy.engine import Engine
from tests.app.strategy.kit.latency.test_signals_in_transit import (
    SYMBOLS,
    Scripted,
    drive,
    ticks_of,
)


@pytest.fixture
def metrics() -> Iterator[ProcessMetrics]:
    name = f"test_latency_{secrets.token_hex(4)}"
    found = ProcessMetrics.open(name, "strategy")
    yield found
    found.close()
    (SHM_DIRECTORY / name).unlink(missing_ok=True)


class Reader:
    """The ring's end, for :meth:`StrategyCounters.publish`."""

    lost = position = 0

    def available(self) -> int:
        return 0


def counters_of(engine: Engine, settings: Settings, metrics: ProcessMetrics) -> StrategyCounters:
    return StrategyCounters(settings, metrics, engine, lambda: 0, lambda: 0, "c")


def late() -> tuple[Engine, Settings]:
    """An engine whose only order has cost 10 times 1.0."""
    settings = Settings(trading_mode="live", paper_latency_ms=1.0, order_mode="every")
    ticks, script = ticks_of([(0, 1, 100.0, 1), (0, 5, 101.0, 0)])
    engine, found = drive(Scripted, ticks, script, [], settings, lambda _id, qty: qty)
    assert len(found) == 1
    return engine, settings


def test_a_kill_after_an_order_is_counted_loses_no_cost(metrics: ProcessMetrics) -> None:
    """No heartbeat in between; a live run goes on from the counters."""
    engine = Engine(Scripted, SYMBOLS, late()[1])
    settings = engine.context.settings
    counters = counters_of(engine, settings, metrics)
    engine.latency_cost = late()[0].latency_cost
    order = Intent(1, 1, 0, "A", 1, 1, 101.0, 0, 2)
    counters.count_orders([order], [Answer(ok=True)], [0], 1000, 2000)
    assert metrics.get("orders_sent") == 1
    assert money_of_bits(metrics.get("latency_cost")) == 10.0
    again = Engine(Scripted, SYMBOLS, settings)
    counters_of(again, settings, metrics)
    assert again.latency_cost == engine.latency_cost


def test_without_latency_nothing_of_a_process_before_is_left(metrics: ProcessMetrics) -> None:
    metrics.set("latency_cost", bits_of_money(12.5))
    metrics.set("in_transit", 3)
    metrics.set("transit_refused", 4)
    settings = Settings(trading_mode="live")
    engine = Engine(Scripted, SYMBOLS, settings)
    counters_of(engine, settings, metrics).publish(Reader())  # type: ignore[arg-type]
    assert engine.latency_cost == 0
    assert [metrics.get(n) for n in ("latency_cost", "in_transit", "transit_refused")] == [0, 0, 0]


def test_signals_without_room_are_counted_and_logged_but_not_all(
    metrics: ProcessMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, settings = late()
    counters = counters_of(engine, settings, metrics)
    counters.listen()
    transit = engine.context.transit
    assert transit is not None
    order = Intent(7, 1, 0, "A", 1, 1, 101.0, 0, 8)
    lines: list[dict[str, Any]] = []

    class Log:
        def warning(self, event: str, **fields: Any) -> None:
            lines.append({"event": event, **fields})

    monkeypatch.setattr(counting, "log", Log())
    for _ in range(1000):
        transit.refused += 1
        transit.on_refused(order)
    found = [line for line in lines if line["event"] == "too_many_in_transit"]
    assert 1 <= len(found) < 500
    assert (found[0]["seq"], found[0]["symbol"], found[0]["refused"]) == (7, "A", 1)
    counters.publish(Reader())  # type: ignore[arg-type]
    assert metrics.get("transit_refused") == 1000
