"""Latency in the four processes: the backtest's trades and cost, also after kills."""

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.backtest import replay as backtest
from app.backtest.outcome import first_difference, of_backtest
from app.backtest.result import Result
from app.config.settings import Settings
from app.dashboard.sources.processes import latency_cost
from app.market_data.sources.loader import open_feed
from app.model.money import UNITS
from app.runtime.metrics.figures import take_sample
from tests.app.strategy.kit.killed_runs import check_killed_run
from tests.app.strategy.kit.test_stepping import HARD, SAMPLE
from tests.chaos.host import HostStack, dying

CROSS_CHECK = "app.strategy.cross_check:CrossCheck"
TOLD = "tests.app.strategy.kit.everything:Everything"
MARKET_MAKER = "data/strategies/market_making.py:MarketMaker"
PLACING = "tests.app.strategy.kit.orders.placing"
LATE: dict[str, Any] = {
    **HARD,
    "paper_latency_ms": 60_000.0,
    "risk_client_exposure_max": 20_000.0,
}
"""A minute: at any moment several orders are in transit.  Limits value holdings, too."""


@cache
def computed(strategy: str) -> Result:
    settings = Settings(data_path=SAMPLE, replay="once", strategy=strategy, **LATE)
    result = backtest.run(settings, open_feed(settings))
    assert len(result.orders) > 200
    assert result.latency_cost
    assert any(order.code for order in result.orders)
    assert any(0 < order.filled_qty < order.qty for order in result.orders)
    return result


@pytest.mark.medium
@pytest.mark.parametrize("strategy", [CROSS_CHECK, TOLD, MARKET_MAKER])
def test_the_four_processes_trade_like_the_backtest(tmp_path: Path, strategy: str) -> None:
    """And so does the proof that goes along; report and counters have the cost."""
    result = computed(strategy)
    run = {"data_path": SAMPLE, "pace": "8000/s", "strategy": strategy, **LATE}
    with HostStack(tmp_path, **run) as stack:
        stack.wait_ready()
        proof = stack.command("proof")
        assert stack.wait(120) == 0, stack.tail()
        assert first_difference(stack.outcome(), of_backtest(result)) is None
        assert proof.returncode == 0, proof.stdout[-1000:] + proof.stderr[-1000:]
        said = json.loads(proof.stdout.splitlines()[-1])
        assert said["equal"] == said["expected"] == len(result.orders)
        log = stack.log_path.read_text()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["profit"]["costs"] == pytest.approx(result.costs.figures(), rel=1e-12)
    assert report["orders"][0]["in_transit"] == result.left_in_transit
    left = re.findall(r"orders_left_in_transit client=\S+ count=(\d+)", log)
    assert left == [str(result.left_in_transit)] * bool(result.left_in_transit)
    text = (tmp_path / "performance_report.md").read_text()
    assert f"| latency | {result.latency_cost / UNITS:,.2f} |" in text
    assert ("never sent" in text) == bool(result.left_in_transit)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("source", "base", "by_tick"),
    [
        ("from app.strategy.cross_check import CrossCheck", "CrossCheck", False),
        (f"from {PLACING} import Placing", "Placing", True),
    ],
)
def test_the_same_trades_and_cost_after_kills(
    tmp_path: Path, source: str, base: str, by_tick: bool
) -> None:
    """What was in transit at a kill comes back from the ticks, under the same ids."""
    strategy = dying(tmp_path, source, base, (5000, 12_000, 20_000), by_tick=by_tick)
    place = source.split()[1]
    result = computed(f"{place}:{base}")
    of_tick = Counter((order.id - 1) % 2**40 for order in result.orders)
    assert base == "CrossCheck" or max(of_tick.values()) > 1
    check_killed_run(tmp_path, strategy, LATE, of_backtest(result))
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["profit"]["costs"] == pytest.approx(result.costs.figures(), rel=1e-12)


@pytest.mark.medium
def test_the_page_has_the_cost_while_the_stack_runs(tmp_path: Path) -> None:
    run = {"data_path": SAMPLE, "pace": "8000/s", **LATE, "replay": "walk"}
    with HostStack(tmp_path, **run) as stack:
        stack.wait_until("orders", lambda: stack.counter("strategy", "ticks_consumed") > 20_000, 60)
        stack.wait_until("a cost", lambda: latency_cost(take_sample(stack.metrics_name)), 10)
        stack.wait_until("in transit", lambda: stack.counter("strategy", "in_transit"), 10)
    assert latency_cost(None) == 0
