"""A strategy that uses all it has at hand, in the four processes: the backtest's trades, also after
kills of strategy and order manager."""

import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from app.backtest import replay as backtest
from app.backtest.outcome import Outcome, first_difference, of_backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from tests.app.strategy.kit.killed_runs import check_killed_run
from tests.app.strategy.kit.test_stepping import HARD, PLACE, SAMPLE
from tests.chaos.host import HostStack, dying


def expected(name: str) -> Outcome:
    settings = Settings(data_path=SAMPLE, replay="once", strategy=f"{PLACE}:{name}", **HARD)
    found = of_backtest(backtest.run(settings, open_feed(settings)))
    assert len(found.orders) > 1000
    assert {order.code for order in found.orders} == {0, 206}
    assert any(0 < order.filled_qty < order.qty for order in found.orders)
    return found


@pytest.mark.medium
@pytest.mark.parametrize("pace", ["max", "20000/s"])
def test_the_four_processes_trade_like_the_backtest(tmp_path: Path, pace: str) -> None:
    run = {"data_path": SAMPLE, "pace": pace, "strategy": f"{PLACE}:Everything", **HARD}
    with HostStack(tmp_path / "run", **run) as stack:
        if pace != "max":
            stack.wait_until(
                "tick 8000", lambda: stack.counter("strategy", "ticks_consumed") >= 8000, 60
            )
            assert stack.signal("strategy", signal.SIGKILL)
        assert stack.wait(120) == 0, stack.tail()
        assert first_difference(stack.outcome(), expected("Everything")) is None
        log = stack.log_path.read_text()
    assert log.count("process_died process=strategy") == (pace != "max")
    assert "text=started seq=0 span=8" in log


@pytest.mark.medium
def test_the_same_trades_after_kills_of_strategy_and_order_manager(tmp_path: Path) -> None:
    kills = (5000, 12_000, 20_000)
    strategy = dying(tmp_path, f"from {PLACE} import Everything", "Everything", kills)
    log = check_killed_run(tmp_path, strategy, HARD, expected("Everything"))
    # What a restart repeats is not said again; a tick that was not consumed may be shown twice.
    said = Counter(re.findall(r"strategy_says .*?text=minute seq=(\d+)", log))
    assert len(said) > 20
    assert sum(said.values()) - len(said) <= len(kills)


STOPPING = """
from app.strategy import Strategy

class Stopping(Strategy):
    history_ticks = 12

    def on_tick(self, tick):
        held, paid = self.position(tick.symbol), self.average_price(tick.symbol)
        if held and (tick.price / paid - 1) * held < -0.0005 * abs(held):
            return "FLAT"
        prices = self.history(tick.symbol, 12)
        away = tick.price / prices.mean() - 1
        return "SELL" if away > 0.0006 else "BUY" if away < -0.0006 else "HOLD"
"""


@pytest.mark.medium
def test_live_a_restart_takes_the_account_from_the_order_manager(tmp_path: Path) -> None:
    """Nothing is repeated, and no fill is told twice: prices and account are what it needs."""
    kills = (9000, 15_000, 21_000)
    strategy = dying(tmp_path, STOPPING, "Stopping", kills)
    settings = Settings(
        data_path=SAMPLE, replay="once", strategy=f"{tmp_path}/dying.py:Stopping", order_qty=7
    )
    undisturbed = of_backtest(backtest.run(settings, open_feed(settings)))
    assert len(undisturbed.orders) > 500
    run = {"data_path": SAMPLE, "pace": "10000/s", "trading_mode": "live", "order_qty": 7}
    with HostStack(tmp_path / "run", strategy=strategy, **run) as stack:
        assert stack.wait(120) == 0, stack.tail()
        assert first_difference(stack.outcome(), undisturbed) is None
        log = stack.log_path.read_text()
    assert log.count("process_died process=strategy") >= 2
