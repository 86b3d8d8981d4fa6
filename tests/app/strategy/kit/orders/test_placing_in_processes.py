"""A strategy that places its own orders, in the four processes: the backtest's trades, also after
kills of strategy and order manager."""

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.backtest import replay as backtest
from app.backtest.outcome import Outcome, first_difference, of_backtest
from app.backtest.result import Result
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from tests.app.strategy.kit.killed_runs import check_killed_run
from tests.app.strategy.kit.test_stepping import HARD, SAMPLE
from tests.chaos.host import HostStack, dying

PLACE = "tests.app.strategy.kit.orders.placing"
MARKED: dict[str, Any] = {
    **HARD,
    "risk_client_exposure_max": 20_000.0,
    "risk_client_daily_loss_max": 3_000.0,
    "risk_client_notional_max": 3000.0,
}
"""Also limits that value what is held, at the prices as of each order's tick."""


@cache
def computed() -> Result:
    settings = Settings(data_path=SAMPLE, replay="once", strategy=f"{PLACE}:Placing", **MARKED)
    return backtest.run(settings, open_feed(settings))


def expected() -> Outcome:
    found = of_backtest(computed())
    assert len(found.orders) > 1000
    assert {order.code for order in found.orders} == {0, 206, 210, 212, 215}
    assert {order.type for order in found.orders} == {"PLAIN", "LIMIT"}
    assert max(Counter(order.tick for order in found.orders).values()) > 2
    assert any(0 < order.filled_qty < order.qty for order in found.orders)
    return found


@pytest.mark.medium
def test_the_four_processes_trade_like_the_backtest(tmp_path: Path) -> None:
    """And so do the proof that goes along, and a cell of a sweep."""
    run = {"data_path": SAMPLE, "pace": "8000/s", "strategy": f"{PLACE}:Placing", **MARKED}
    with HostStack(tmp_path / "run", **run) as stack:
        stack.wait_ready()
        proof = stack.command("proof")
        assert stack.wait(120) == 0, stack.tail()
        assert first_difference(stack.outcome(), expected()) is None
        assert proof.returncode == 0, proof.stdout[-1000:] + proof.stderr[-1000:]
        said = json.loads(proof.stdout.splitlines()[-1])
        assert said["equal"] == said["expected"] == len(expected().orders)
        out = tmp_path / "sweep"
        sweep = stack.command("sweep", "--param", "most=40,50", "--out", str(out))
        assert sweep.returncode == 0, sweep.stderr[-1000:]
        assert computed().trades_hash in (out / "sweep.csv").read_text()
        log = stack.log_path.read_text()
    assert "placed_order" in log
    assert re.search(
        r"placed_order .*what=waits number=\d+ side=\w+ qty=\d+ symbol=\w+ limit=", log
    )
    found = computed()
    left = re.search(r"placed_orders_canceled client=\S+ count=(\d+)", log)
    assert left is not None
    assert int(left[1]) == found.left_open
    report = (tmp_path / "run/performance_report.md").read_text()
    counts = (found.placed, found.canceled, found.left_open)
    row = "".join(rf"\s*\|\s*{number:,}" for number in counts)
    assert re.search(rf"strategy{row}\s*\|", report), report
    assert found.trades_hash in report


@pytest.mark.medium
def test_the_same_trades_after_kills_of_strategy_and_order_manager(tmp_path: Path) -> None:
    kills = (5000, 12_000, 20_000)
    strategy = dying(tmp_path, f"from {PLACE} import Placing", "Placing", kills, by_tick=True)
    check_killed_run(tmp_path, strategy, MARKED, expected())


AIMING = """
from app.strategy import Strategy

class Aiming(Strategy):
    history_ticks = 12

    def on_tick(self, tick):
        held, paid = self.position(tick.symbol), self.average_price(tick.symbol)
        if held and (tick.price / paid - 1) * held < -0.0005 * abs(held):
            self.target(tick.symbol, 0)
            return
        away = tick.price / self.history(tick.symbol, 12).mean() - 1
        if abs(away) > 0.0006:
            self.target(tick.symbol, -7 if away > 0 else 7)
"""


@pytest.mark.medium
def test_live_a_restart_goes_on_with_what_the_order_manager_has(tmp_path: Path) -> None:
    """No order is sent again for the time before: what is held says which ones are missing."""
    kills = (9000, 15_000, 21_000)
    strategy = dying(tmp_path, AIMING, "Aiming", kills, by_tick=True)
    settings = Settings(data_path=SAMPLE, replay="once", strategy=f"{tmp_path}/dying.py:Aiming")
    undisturbed = of_backtest(backtest.run(settings, open_feed(settings)))
    assert len(undisturbed.orders) > 500
    run = {"data_path": SAMPLE, "pace": "10000/s", "trading_mode": "live"}
    with HostStack(tmp_path / "run", strategy=strategy, **run) as stack:
        assert stack.wait(120) == 0, stack.tail()
        assert first_difference(stack.outcome(), undisturbed) is None
        log = stack.log_path.read_text()
    assert log.count("process_died process=strategy") >= 2
