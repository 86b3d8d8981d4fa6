"""The backtest alone, and against the four processes: the same orders, fills, positions and PnL."""

import csv
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from app.__main__ import main
from app.backtest import replay as backtest
from app.backtest import report as backtest_report
from app.backtest.outcome import Outcome, first_difference, of_backtest
from app.backtest.result import EQUITY_POINTS, Result
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.runtime.metrics.tables import plain_text
from app.strategy.base import BUY, SELL, Strategy
from app.strategy.engine import Engine
from app.strategy.reference import (
    MarketDataPoint,
    SentimentDataPoint,
    SentimentStrategy,
    WindowedMovingAverageStrategy,
    cross_check,
)
from tests.chaos.host import HostStack
from tests.support.paths import ROOT, SHARED_DATA

DATA_FILES = (
    "equity_1min_3sym_utc.csv",
    "binance_spot_2sym_epoch_ns.csv",
    "binance_spot_2sym_iso_ms_Z.csv",
    "tsla_ticks_us_utc.csv",
    "wiki_daily_5sym_2000_2013.csv",
)
SAMPLE = ROOT / "data" / "market_data.csv"


def run(**changes: Any) -> Result:
    """A backtest of the committed sample, with ``changes`` to the settings."""
    settings = Settings(**{"data_path": str(SAMPLE), "replay": "once", **changes})
    return backtest.run(settings, open_feed(settings))


def expected(**changes: Any) -> Outcome:
    """The outcome of a run according to the backtest."""
    return of_backtest(run(**changes))


class Plain(Strategy):
    """The built-in strategy tick by tick, from the plain classes."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._average = WindowedMovingAverageStrategy(5, 20)
        self._sentiment = SentimentStrategy()

    def on_tick(self, tick: Any) -> str:
        """BUY, SELL or HOLD."""
        average = self._average.on_tick(MarketDataPoint(tick.event_ns, tick.symbol, tick.price))
        if tick.sentiment < 0:
            return "HOLD"
        point = SentimentDataPoint(tick.event_ns, tick.symbol, tick.sentiment)
        return cross_check(average, self._sentiment.on_sentiment(point))


class BuyAbove(Strategy):
    """Longs above 100, shorts below."""

    def on_tick(self, tick: Any) -> str:
        """BUY or SELL."""
        return BUY if tick.price > 100 else SELL


def test_trades_like_the_plain_classes() -> None:
    ours = expected()
    plain = expected(strategy=f"{__name__}:Plain")
    assert len(ours.orders) > 500
    assert first_difference(ours, plain) is None


def test_profit_is_the_cash_and_the_holdings() -> None:
    result = run()
    outcome = of_backtest(result)
    cash = sum(
        -line.filled_notional if line.side == "BUY" else line.filled_notional
        for line in outcome.orders
    )
    held = sum(p.qty * p.mark for p in outcome.positions)
    assert outcome.profit == cash + held
    at_last_prices = cash / 1e9 + sum(
        p.qty * result.last_price[p.symbol] for p in outcome.positions
    )
    assert result.curve.equity[-1] == pytest.approx(at_last_prices)


@pytest.mark.parametrize("ticks", [1, 2, 499, 500, 501, 8191, 8192, 8193, 20_000])
def test_curve_ends_at_the_last_tick(ticks: int) -> None:
    settings = Settings(data_path=str(SAMPLE), replay="once")
    feed = open_feed(settings)
    result = backtest.run(settings, feed, ticks)
    assert result.ticks == ticks
    assert 1 <= len(result.curve.equity) <= EQUITY_POINTS + 1
    assert result.curve.event_ns[-1] == feed.file.rows.event_ns[ticks - 1]
    assert result.curve.event_ns == sorted(result.curve.event_ns)


def test_curve_values_a_holding_at_every_point(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    prices = [101, 102, 103, 90, 80, 95]
    rows = [f"2025-01-01 00:00:{i:02d},X,{price}" for i, price in enumerate(prices)]
    path.write_text("timestamp,symbol,price\n" + "\n".join(rows) + "\n")
    result = run(data_path=str(path), strategy=f"{__name__}:BuyAbove", order_qty=2)
    # Long 2 at 101; at 90 one order for 4 reverses the position.
    assert [(o.id - 1, o.side, o.qty) for o in result.orders] == [(0, 1, 2), (3, -1, 4)]
    assert np.allclose(result.curve.equity, [0, 2, 4, -22, -2, -32])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"order_mode": "every"},
        {"paper_fill_percent": 30, "risk_client_notional_max": 1500.0},
        {"paper_borrow_bps_year": 300.0, "paper_fee_bps": 1.0, "paper_slippage_bps": 2.0},
        {"qty_decimals": 8, "order_qty": 0.0015, "paper_fill_percent": 50, "paper_fee_bps": 1.0},
    ],
)
def test_orders_that_are_not_encoded_are_those_of_their_frames(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = run(**changes)
    monkeypatch.setattr(Engine, "one_by_one", lambda *_batch: None)
    framed = run(**changes)
    assert len(direct.orders) > 100
    assert direct.orders == framed.orders
    assert of_backtest(direct) == of_backtest(framed)
    assert direct.curve.equity == framed.curve.equity
    assert (direct.accrued, direct.signals) == (framed.accrued, framed.signals)


def test_limits_deny_orders_as_the_order_manager_does() -> None:
    result = run(risk_client_notional_max=1500.0)
    denied = [order for order in result.orders if order.code]
    assert denied
    assert all(order.qty * order.price > 1500 * 10**9 for order in denied if order.price)
    assert "above the limit" in plain_text(*backtest_report.blocks(result, "x", 100_000))


def test_more_ticks_than_the_file_has_follow_the_replay_setting() -> None:
    for replay in ("walk", "loop"):
        settings = Settings(data_path=str(SAMPLE), replay=replay)
        feed = open_feed(settings)
        short = of_backtest(backtest.run(settings, feed, 40_000))
        longer = of_backtest(backtest.run(settings, feed, 60_000)).up_to(40_000)
        assert longer.orders == short.orders
        assert len(short.orders) > len(expected().orders)


def test_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path / "out"))
    arguments = ["--data", str(SAMPLE), "--out", str(tmp_path / "bt"), "--no-plot"]
    assert main(["backtest", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "30,000" in shown
    with (tmp_path / "bt" / "orders.csv").open() as file:
        rows = list(csv.DictReader(file))
    outcome = expected()
    assert [(int(r["tick"]), r["side"], r["symbol"], int(r["qty"])) for r in rows] == [
        (line.tick, line.side, line.symbol, line.qty) for line in outcome.orders
    ]
    assert main(["backtest", "--data", str(tmp_path / "absent.csv")]) == 1
    assert main(["backtest", "--data", str(SAMPLE), "--strategy", "nowhere:Nothing"]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_equity_curve_is_drawn_or_the_missing_package_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(backtest_report.PlotUnavailable, match="matplotlib"):
            backtest_report.write_equity(result, tmp_path)
    pytest.importorskip("matplotlib")
    assert "<svg" in backtest_report.write_equity(result, tmp_path).read_text()


def test_a_difference_is_shown_in_one_line() -> None:
    one = expected()
    assert first_difference(one, one) is None
    orders = [*one.orders]
    orders[7] = orders[7]._replace(qty=11)
    difference = first_difference(one, one._replace(orders=orders))
    assert difference is not None
    assert difference.startswith("order 8: ")
    assert "\n" not in difference
    shorter = first_difference(one, one._replace(fills=one.fills[:-1]))
    assert shorter is not None
    assert shorter.endswith("| nothing")


# ---- The four processes


def host_outcome(folder: Path, **settings: object) -> Outcome:
    """Run the stack to its end."""
    with HostStack(folder, **settings) as stack:
        code = stack.wait(60)
        assert code == 0, stack.tail(60)
        return stack.outcome()


@pytest.mark.medium
@pytest.mark.parametrize("pace", ["max", "20000/s", "5000/s"])
def test_host_processes_trade_like_the_backtest(tmp_path: Path, pace: str) -> None:
    ours = host_outcome(tmp_path, data_path=SAMPLE, pace=pace)
    assert first_difference(ours, expected()) is None, pace


@pytest.mark.medium
def test_every_agreement_sends_an_order(tmp_path: Path) -> None:
    ours = host_outcome(tmp_path, data_path=SAMPLE, pace="max", order_mode="every")
    assert len(ours.orders) > 5000
    assert first_difference(ours, expected(order_mode="every")) is None


@pytest.mark.medium
def test_limits_deny_the_same_orders(tmp_path: Path) -> None:
    limits = {"risk_client_notional_max": 1500.0, "risk_client_exposure_max": 2400.0}
    ours = host_outcome(tmp_path, data_path=SAMPLE, pace="max", **limits)
    theirs = expected(**limits)
    assert {line.code for line in theirs.orders} >= {0, 206, 210}
    assert first_difference(ours, theirs) is None


def table(path: Path) -> dict[str, list[str]]:
    """A CSV file by column."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return {name: list(values) for name, *values in zip(header, *rows, strict=True)}


@pytest.mark.medium
def test_the_file_of_orders_is_the_stacks_export(tmp_path: Path) -> None:
    """Column by column; the limit adds orders with a code and a message."""
    limit = {"risk_client_notional_max": 1500.0}
    with HostStack(tmp_path, data_path=SAMPLE, pace="max", **limit) as stack:
        assert stack.wait(60) == 0, stack.tail(60)
    store = str(tmp_path / "orders.sqlite3")
    assert main(["store", "--store", store, "export", str(tmp_path)]) == 0
    (tmp_path / "backtest").mkdir()
    ours = table(backtest_report.write_orders(run(**limit), tmp_path / "backtest"))
    theirs = table(tmp_path / "orders.csv")
    ticks = ours.pop("tick")
    assert list(ours) == list(theirs)
    assert len(ticks) > 500
    assert {"", "NOTIONAL_MAX"} == set(theirs["code"])
    # The stack's run has a name and its own clock; its client's name ends with a fingerprint.
    for name in ("client", "msg"):
        theirs[name] = [re.sub(r"strategy@\w+", "strategy", text) for text in theirs[name]]
    own = {"run_id", "at_ns", "at"}
    for name in ours.keys() - own:
        assert ours[name] == theirs[name], name
    assert set(ours["run_id"]) == {""}
    assert ours["id"] == [str(int(tick) + 1) for tick in ticks]
    assert [f"{at[:10]} {at[11:19]}" for at in ours["at"]] == [ts[:19] for ts in ours["ts"]]


@pytest.mark.medium
@pytest.mark.parametrize("name", DATA_FILES)
def test_real_data_trades_like_the_backtest(tmp_path: Path, name: str) -> None:
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here; TRADING_SHARED_DATA names its folder")
    theirs = expected(data_path=str(path))
    assert theirs.orders
    ours = host_outcome(tmp_path, data_path=path, pace="max")
    assert first_difference(ours, theirs) is None


def test_settings_of_a_backtest_are_those_of_the_stack() -> None:
    """A backtest reads the same environment as the stack."""
    settings = Settings(order_qty=3, long_window_ticks=30)
    assert msgspec.structs.asdict(Settings.from_environ(settings.to_environ())) == (
        msgspec.structs.asdict(settings)
    )
