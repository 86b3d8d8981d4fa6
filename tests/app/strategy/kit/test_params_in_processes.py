"""STRATEGY_PARAMS in the commands and in the four processes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.backtest.compare import Comparer
from tests.chaos.host import HostStack
from tests.support.environ import default_environ
from tests.support.paths import ROOT

SAMPLE = str(ROOT / "data/market_data.csv")
TUNED = """
from app.strategy import Param, Strategy

class Tuned(Strategy):
    above = Param(100.0, low=0)

    def on_tick(self, tick):
        return "BUY" if tick.price > self.above else "SELL"
"""


def backtest(*arguments: str, **environ: str) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "app", "backtest", "--no-plot", "--ticks", "500", *arguments],
        cwd=ROOT,
        env={**default_environ(), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.medium
def test_the_backtest_shows_the_parameters_and_refuses_wrong_ones(tmp_path: Path) -> None:
    out = ("--out", str(tmp_path))
    done = backtest(*out, "--params", "short=8 long=40", STRATEGY_PARAMS="short=6")
    assert done.returncode == 0, done.stderr
    assert "short=8 long=40 bullish=50 bearish=50" in done.stdout
    done = backtest(*out, STRATEGY_PARAMS="shrot=8 long=1")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "backtest: invalid settings:",
        "STRATEGY_PARAMS: CrossCheck has no parameter shrot; did you mean short? It has short, "
        "long, bullish, bearish",
        "STRATEGY_PARAMS: long=1: must be a whole number, at least 2",
    ]


@pytest.mark.medium
def test_four_processes_trade_with_the_parameters_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "tuned.py").write_text(TUNED)
    params = tmp_path / "tuned.toml"
    params.write_text("above = 250\n")
    run = {"data_path": SAMPLE, "pace": "max", "strategy": f"{tmp_path}/tuned.py:Tuned"}
    with HostStack(tmp_path / "run", strategy_params=params, **run) as stack:
        assert stack.wait(60) == 0, stack.tail()
        log = stack.log_path.read_text()
        (found,) = Comparer(stack.settings()).compare(str(tmp_path / "run/orders.sqlite3"))
    assert found.difference is None
    assert found.stored.orders
    assert "params=" in next(line for line in log.splitlines() if " attached " in line)
    assert "above=250.0" in log
    assert "| parameters | above=250 |" in (tmp_path / "run/performance_report.md").read_text()


@pytest.mark.medium
def test_wrong_parameters_end_the_run_as_wrong_settings(tmp_path: Path) -> None:
    with HostStack(tmp_path / "run", data_path=SAMPLE, strategy_params="short=0") as stack:
        assert stack.wait(60) == 2
        assert "STRATEGY_PARAMS: short=0: must be a whole number, at least 1" in stack.tail()
