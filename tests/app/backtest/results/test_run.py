"""``run()`` of notebooks: every way to give data, strategy, parameters and settings; its tables."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from app.__main__ import main
from app.backtest import BacktestResult, replay, run
from app.backtest.results.parquet import PackageMissing
from app.config.settings import Settings, SettingsError
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import open_feed
from app.runtime.run.strategy_params import ParamError
from app.strategy.base import Strategy
from app.strategy.cross_check import CrossCheck
from app.strategy.failure import StrategyError
from app.strategy.kit.params import Param
from tests.app.backtest.performance.test_daily import days_file
from tests.chaos.host import HostStack
from tests.support.paths import ROOT

SAMPLE = ROOT / "data" / "market_data.csv"
BREAKOUT = f"{ROOT}/data/strategies/breakout.py:Breakout"
COSTS = {"paper_half_spread_bps": 2.0, "paper_slippage_bps": 3.0, "paper_fee_bps": 1.0}


class TakeAndQuote(Strategy):
    """Buys at once at the first tick, and sells by a limit order that waits above its price."""

    def on_tick(self, tick: Any) -> None:
        if tick.seq == 0:
            self.buy(tick.symbol, 10)
            self.sell(tick.symbol, 10, limit=round(tick.price * 1.001, 2))


class Nothing(Strategy):
    """Never trades."""

    def on_tick(self, tick: Any) -> str:
        return "HOLD"


class Above(Strategy):
    """Long above a level, short below; a class as a notebook has it."""

    level = Param(100.0, low=0)
    note = Param("plain")
    long_only = Param(False)

    def on_tick(self, tick: Any) -> str:
        if tick.price > self.level:
            return "BUY"
        return "FLAT" if self.long_only else "SELL"


@pytest.fixture(autouse=True)
def _no_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plain(**changes: Any) -> str:
    """The trades hash without run()."""
    settings = Settings(data_path=str(SAMPLE), **changes)
    return replay.run(settings, open_feed(settings)).trades_hash


# ---- What it is given


def test_a_path_a_class_and_a_dict() -> None:
    result = run(data=SAMPLE, strategy=BREAKOUT, params={"window": 20})
    assert isinstance(result, BacktestResult)
    assert result.trades_hash == plain(strategy=BREAKOUT, strategy_params="window=20")
    assert result.params == "window=20"
    assert run(str(SAMPLE), CrossCheck).trades_hash == plain()
    assert run(SAMPLE, CrossCheck, "short=3 long=9").trades_hash == plain(
        strategy_params="short=3 long=9"
    )
    ours = run(SAMPLE, Above, {"level": 120.5, "note": 'it\'s a "text"\t<b>', "long_only": True})
    assert ours.trades_hash == plain(
        strategy=f"{__name__}:Above", strategy_params="level=120.5 long_only=true"
    )
    assert ours.settings.strategy == f"{__name__}:Above"


def test_a_class_that_no_module_has() -> None:
    """As in a notebook, or in a function."""

    class Local(Above):
        level = Param(110.0)

    assert len(run(SAMPLE, Local).trades) == len(run(SAMPLE, Above, {"level": 110}).trades) == 10


@pytest.mark.parametrize("index", ["none", "timestamp", "unnamed", "two"])
def test_a_data_frame_is_what_its_file_would_be(index: str) -> None:
    frame = pandas.read_csv(SAMPLE, parse_dates=["timestamp"])
    if index == "timestamp":
        frame = frame.set_index("timestamp")
    elif index == "unnamed":
        frame = frame.set_index("timestamp").rename_axis(None)
    elif index == "two":
        frame = frame.set_index(["symbol", "timestamp"])
    before = frame.copy()
    result = run(frame, order_qty=3)
    assert result.trades_hash == plain(order_qty=3)
    assert result.data.name == "a DataFrame"
    assert result.data.sha256 == ""
    pandas.testing.assert_frame_equal(frame, before)


def test_a_data_frame_of_bars_in_one_symbol() -> None:
    frame = pandas.DataFrame(
        {"Open": [1.0, 2], "High": [2.0, 3], "Low": [1.0, 2], "Close": [1.5, 2.5]},
        index=pandas.date_range("2025-01-01", periods=2, tz="UTC"),
    )
    result = run(frame, Above, {"level": 2}, data_symbol="X", price_column="Close")
    assert result.trades[["side", "price"]].to_numpy().tolist() == [["SELL", 1.5], ["BUY", 2.5]]
    with pytest.raises(DataError, match=r"frame\.csv"):
        run(frame.rename(columns={"Close": "c", "High": "h"}), data_symbol="X")


def test_settings_are_those_of_the_environment_and_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("ORDER_QTY=4\nLONG_WINDOW_TICKS=30\n")
    monkeypatch.setenv("ORDER_QTY", "6")
    assert run(SAMPLE).trades_hash == plain(order_qty=6, long_window_ticks=30)
    again = run(SAMPLE, order_qty=7, risk_known_symbols=False)
    assert again.trades_hash == plain(order_qty=7, long_window_ticks=30)
    assert again.changed_settings == {
        "ORDER_QTY": "7",
        "LONG_WINDOW_TICKS": "30",
        "RISK_KNOWN_SYMBOLS": "false",
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"order_quantity": 3},
            "order_quantity: run() has no such setting; did you mean order_qty?",
        ),
        ({"ORDER_QTY": 3}, "ORDER_QTY: run() has no such setting; did you mean order_qty?"),
        ({"captal": 3}, "captal: run() has no such setting; did you mean capital?"),
        ({"param": "a=1"}, "param: run() has no such setting; did you mean params?"),
        ({"data_path": "x"}, "data_path: give it as data=..."),
        ({"zzz": 1, "order_qtty": 1}, "zzz: run() has no such setting; its name is that of .env"),
        ({"order_qty": 0}, "ORDER_QTY=0:"),
        ({"paper_fee_bps": float("nan")}, "PAPER_FEE_BPS=nan"),
        ({"replay": "never"}, "REPLAY=never: must be one of once, loop, walk"),
        ({"ticks": 0}, "ticks=0: must be at least 1"),
        ({"capital": 0}, "capital=0: must be above 0"),
        ({"equity_rows": 0}, "equity_rows=0: must be at least 1"),
        ({"strategy": int}, "strategy=int: no subclass of Strategy"),
        ({"data": [1, 2]}, "data=list: give a path or a pandas DataFrame"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        run(**{"data": SAMPLE, **given})


def test_wrong_parameters_data_and_strategies_are_those_of_the_command() -> None:
    with pytest.raises(ParamError, match="did you mean level"):
        run(SAMPLE, Above, {"levl": 3})
    with pytest.raises(ParamError, match=r"level=-1\.0: must be a number, at least 0"):
        run(SAMPLE, Above, {"level": -1.0})
    with pytest.raises(DataError, match=r"absent\.csv"):
        run("absent.csv")
    with pytest.raises(StrategyError, match="no file"):
        run(SAMPLE, "absent.py:Nothing")


# ---- What it returns


@pytest.fixture(scope="module")
def costly() -> BacktestResult:
    return run(data=SAMPLE, **COSTS)


def test_trades_are_the_filled_orders(costly: BacktestResult) -> None:
    trades, orders = costly.trades, costly.orders
    filled = orders[orders["filled_qty"] > 0].reset_index(drop=True)
    assert len(trades) == len(filled) > 500
    for ours, theirs in (("tick", "tick"), ("symbol", "symbol"), ("side", "side"),
                         ("qty", "filled_qty"), ("time_utc", "time_utc")):  # fmt: skip
        assert trades[ours].tolist() == filled[theirs].tolist(), ours
    np.testing.assert_allclose(trades["price"], filled["avg_price"], rtol=1e-12)
    assert (orders["id"] == orders["tick"] + 1).all()


def test_columns_against_the_data_file(costly: BacktestResult) -> None:
    """By pandas, from the prices in the file and what each row of trades says."""
    ticks = pandas.read_csv(SAMPLE, parse_dates=["timestamp"])
    trades, equity = costly.trades, costly.equity
    assert len(equity) == len(ticks) == costly.metrics["ticks"]
    at = ticks.loc[trades["tick"]].reset_index(drop=True)
    assert trades["market_price"].tolist() == at["price"].tolist()
    assert trades["time_utc"].tolist() == at["timestamp"].dt.tz_localize("UTC").tolist()
    sign = np.where(trades["side"] == "BUY", 1, -1)
    np.testing.assert_allclose(trades["price"], at["price"] * (1 + sign * 5e-4), atol=1e-8)
    np.testing.assert_allclose(trades["half_spread"], trades["qty"] * at["price"] * 2e-4)
    np.testing.assert_allclose(trades["slippage"], trades["qty"] * at["price"] * 5e-4, atol=1e-6)
    worse = (trades["qty"] * at["price"] * 5e-4).sum()
    assert costly.metrics["all_costs"] == pytest.approx(worse + trades["fee"].sum(), abs=1e-4)
    np.testing.assert_allclose(trades["fee"], trades["notional"] * 1e-4, atol=1e-8)
    signed = sign * trades["qty"]
    held = signed.groupby(trades["symbol"]).cumsum()
    assert trades["position_qty"].tolist() == held.tolist()
    prices = ticks.pivot_table(index=ticks.index, columns="symbol", values="price").ffill()
    qty = (
        pandas.DataFrame({"tick": trades["tick"], "symbol": trades["symbol"], "qty": signed})
        .pivot_table(index="tick", columns="symbol", values="qty", aggfunc="sum")
        .reindex(ticks.index)
        .fillna(0)
        .cumsum()
    )
    cash = -(signed * trades["price"] + trades["fee"]).groupby(trades["tick"]).sum()
    profit = cash.reindex(ticks.index).fillna(0).cumsum() + (qty * prices).sum(axis=1)
    np.testing.assert_allclose(equity["profit"], profit, atol=1e-6)
    np.testing.assert_allclose(equity["exposure_gross"], (qty.abs() * prices).sum(axis=1))
    np.testing.assert_allclose(equity["exposure_net"], (qty * prices).sum(axis=1), atol=1e-6)
    total = costly.capital + profit
    peak = total.cummax().clip(lower=costly.capital)
    np.testing.assert_allclose(equity["drawdown_pct"], 100 * (total / peak - 1), atol=1e-9)
    first = ticks.groupby("symbol")["price"].first()
    benchmark = (prices / first).fillna(1).mean(axis=1) * costly.capital
    np.testing.assert_allclose(equity["benchmark_equity"], benchmark)
    ends = costly.positions.set_index("symbol")
    assert ends["qty"].to_dict() == {k: v for k, v in qty.iloc[-1].items() if k in ends.index}
    assert ends["profit"].sum() == pytest.approx(profit.iloc[-1])
    by_symbol = trades.groupby("symbol")["realised_profit"].sum()
    np.testing.assert_allclose(by_symbol, ends["realised_profit"].loc[by_symbol.index], atol=1e-6)


@pytest.mark.parametrize(("decimals", "kind"), [(0, np.int64), (2, np.float64)])
@pytest.mark.parametrize("strategy", [CrossCheck, Nothing])
def test_the_type_of_quantities_follows_the_setting(
    decimals: int, kind: type, strategy: type[Strategy]
) -> None:
    """Not the values, which are whole here, or none."""
    result = run(SAMPLE, strategy, qty_decimals=decimals, order_qty=10)
    assert bool(len(result.trades)) == (strategy is CrossCheck)
    columns = (result.trades["qty"], result.trades["position_qty"], result.positions["qty"])
    assert {column.dtype for column in (*columns, result.orders["qty"])} == {np.dtype(kind)}


def test_a_maker_pays_no_spread_and_no_slippage() -> None:
    result = run(SAMPLE, TakeAndQuote, **COSTS)
    taken, made = result.trades.to_dict("records")
    paid = taken["qty"] * taken["market_price"]
    assert taken["side"] == "BUY"
    assert taken["half_spread"] == pytest.approx(paid * 2e-4)
    assert taken["slippage"] == pytest.approx(paid * 5e-4)
    assert made["side"] == "SELL"
    assert made["fee"] > 0
    assert made["half_spread"] == made["slippage"] == 0
    assert result.metrics["half_spread"] == taken["half_spread"]


def test_measures_are_those_of_the_command_and_of_pandas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = days_file(tmp_path, 90)
    result = run(path, params="short=2 long=5", capital=10_000)
    of, daily = result.metrics, result.daily
    returns = (10_000 + daily["profit"]).pct_change().fillna(daily["profit"][0] / 10_000)
    np.testing.assert_allclose(daily["return_pct"], 100 * returns, atol=1e-9)
    assert of["sharpe"] == pytest.approx(returns.mean() / returns.std() * 252**0.5)
    wealth = (1 + returns).cumprod()
    assert of["total_return_pct"] == pytest.approx(100 * (wealth.iloc[-1] - 1))
    peak = wealth.cummax().clip(lower=1)
    assert of["max_drawdown_pct"] == pytest.approx(100 * (wealth / peak - 1).min())
    assert daily["trades"].sum() == len(result.trades) == of["trades"]
    assert daily["turnover"].sum() == pytest.approx(result.trades["notional"].sum())
    arguments = ["--params", "short=2 long=5", "--capital", "10000", "--no-plot", "--out", "out"]
    assert main(["backtest", "--data", str(path), *arguments]) == 0
    shown = capsys.readouterr().out
    assert result.trades_hash in shown
    for name in ("total_return_pct", "max_drawdown_pct", "benchmark_total_return_pct"):
        assert f"{of[name]:,.2f} %" in shown
    assert f"{of['sharpe']:,.2f}" in shown


def test_a_lost_capital_leaves_measures_undefined(tmp_path: Path) -> None:
    result = run(days_file(tmp_path, 90), params="short=2 long=5", capital=20)
    assert result.metrics["sharpe"] is result.metrics["total_return_pct"] is None
    assert result.metrics["benchmark_sharpe"] is not None
    assert result.daily["return_pct"].isna().any()
    assert result.metrics["profit"] == pytest.approx(result.daily["profit"].iloc[-1])


def test_a_long_run_has_bounded_rows_and_all_days(tmp_path: Path) -> None:
    path = days_file(tmp_path, 90)
    short = run(path, params="short=2 long=5", equity_rows=7)
    full = run(path, params="short=2 long=5")
    assert len(short.equity) <= 7 + 90 < len(full.equity)
    pandas.testing.assert_frame_equal(short.daily, full.daily)
    assert short.metrics["sharpe"] == full.metrics["sharpe"]


def test_a_run_without_orders() -> None:
    result = run(SAMPLE, Above, {"level": 0, "long_only": True}, ticks=5, risk_client_qty_max=1)
    assert result.metrics["trades"] == 0
    assert result.metrics["refused_orders"] == len(result.orders) > 0
    assert result.trades.empty
    assert list(result.trades) == list(run(SAMPLE).trades)
    assert result.metrics["profit"] == 0


def test_without_pandas_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(SAMPLE, ticks=100)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PackageMissing, match="pip install pandas"):
        _ = result.trades
    assert result.metrics["ticks"] == 100


def test_importing_it_brings_no_pandas() -> None:
    """The containers have none, and a start stays fast."""
    code = "import sys; from app.backtest import run; print({'pandas', 'arro3'} & set(sys.modules))"
    assert python(code) == "set()"


def test_the_names_are_there_and_no_others() -> None:
    """They are imported when asked for, so that a worker of a sweep starts without them."""
    code = (
        "import sys, app.backtest; from app.backtest.replay import replay;"
        "print([n for n in sys.modules if n.startswith('app.backtest.results')],"
        " {'run', 'BacktestResult'} <= set(dir(app.backtest)), callable(app.backtest.run),"
        " hasattr(app.backtest, 'walk'))"
    )
    assert python(code) == "[] True True False"


def python(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return done.stdout.strip()


@pytest.mark.medium
def test_the_trades_hash_is_that_of_the_four_processes(tmp_path: Path) -> None:
    with HostStack(
        tmp_path / "stack", data_path=SAMPLE, pace="max", strategy=BREAKOUT,
        strategy_params="window=20", **COSTS,
    ) as stack:  # fmt: skip
        assert stack.wait(60) == 0, stack.tail(60)
    report = next((tmp_path / "stack").rglob("performance_report.md")).read_text()
    result = run(data=SAMPLE, strategy=BREAKOUT, params={"window": 20}, **COSTS)
    assert result.trades_hash in report
