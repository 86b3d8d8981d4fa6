"""Daily closes of a backtest against pandas, however the ticks are cut; the table of measures."""

from pathlib import Path

import numpy as np
import pandas
import pytest

from app.backtest import replay as backtest
from app.backtest import report as backtest_report
from app.backtest.performance.summary import CapitalLost, benchmark_returns, strategy_returns
from app.backtest.result import Curve, Fill, Result
from app.backtest.watch.rerun import facts_of, rows
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.model.tick import TICK_DTYPE
from app.runtime.metrics.tables import plain_text
from tests.support.paths import SHARED_DATA

CAPITAL = 10_000.0


def days_file(folder: Path, days: int) -> Path:
    """Two symbols, three ticks a day; B begins on the second day."""
    rng, lines, price = (
        np.random.default_rng(3),
        ["timestamp,symbol,price"],
        {"A": 100.0, "B": 50.0},
    )
    for day in pandas.date_range("2024-01-01", periods=days, freq="B"):
        for hour, symbol in ((0, "A"), (12, "B"), (23, "A")):
            if symbol == "B" and day.day == 1 and day.month == 1:
                continue
            price[symbol] = round(price[symbol] * (1 + rng.normal(0, 0.02)), 2)
            lines.append(f"{day + pandas.Timedelta(hours=hour)},{symbol},{price[symbol]}")
    path = folder / "days.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(path: Path) -> Result:
    settings = Settings(
        data_path=str(path), replay="once", short_window_ticks=2, long_window_ticks=5
    )
    return backtest.run(settings, open_feed(settings))


def independent(path: Path, result: Result) -> pandas.DataFrame:
    """Profit and benchmark at each day's end, from the file and the orders, by pandas."""
    ticks = pandas.read_csv(path, parse_dates=["timestamp"])
    days = ticks["timestamp"].dt.date
    last = ticks.groupby([days, "symbol"])["price"].last().unstack().ffill()
    orders = pandas.DataFrame(
        {
            "day": pandas.to_datetime([order.at_ns for order in result.orders]).date,
            "symbol": [order.symbol for order in result.orders],
            "qty": [order.side * order.filled_qty for order in result.orders],
            "cash": [-order.side * order.filled_notional / 1e9 for order in result.orders],
        }
    )
    qty = orders.groupby(["day", "symbol"])["qty"].sum().unstack().reindex(last.index).fillna(0)
    cash = orders.groupby("day")["cash"].sum().reindex(last.index).fillna(0)
    held = qty.cumsum().reindex(columns=last.columns).fillna(0)
    first = ticks.groupby("symbol")["price"].first()
    benchmark = (last / first).fillna(1).mean(axis="columns")
    profit = cash.cumsum() + (held * last.fillna(0)).sum(axis="columns")
    return pandas.DataFrame({"profit": profit, "benchmark": benchmark})


def check(path: Path) -> None:
    result = run(path)
    daily, expected = result.curve.daily, independent(path, result)
    assert len(result.orders) > 10
    assert len(daily.profit) == len(expected)
    np.testing.assert_allclose(daily.profit, expected["profit"], rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(daily.benchmark, expected["benchmark"], rtol=1e-12)
    equity = pandas.Series([CAPITAL, *(CAPITAL + expected["profit"])])
    np.testing.assert_allclose(
        strategy_returns(daily, CAPITAL), equity.pct_change()[1:], rtol=1e-9, atol=1e-12
    )
    held = pandas.Series([1.0, *expected["benchmark"]]).pct_change()[1:]
    np.testing.assert_allclose(benchmark_returns(daily), held, rtol=1e-9, atol=1e-12)


def test_days_are_those_of_pandas(tmp_path: Path) -> None:
    check(days_file(tmp_path, 90))


def test_days_of_real_data_are_those_of_pandas() -> None:
    path = SHARED_DATA / "wiki_daily_5sym_2000_2013.csv"
    if not path.exists():
        pytest.skip("no real data here")
    check(path)


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 64])
def test_days_do_not_depend_on_how_ticks_are_cut(cut: int) -> None:
    rng = np.random.default_rng(5)
    ticks = np.zeros(64, TICK_DTYPE)
    ticks["seq"] = np.arange(64)
    ticks["event_ns"] = np.sort(rng.integers(0, 9 * 86_400 * 10**9, 64))
    ticks["symbol"] = rng.integers(0, 3, 64)
    ticks["price"] = rng.uniform(50, 150, 64)
    fills = [
        Fill(seq, int(ticks["symbol"][seq]), 10, 100.0, signed_units=10) for seq in (0, 9, 30, 63)
    ]

    def closes(size: int) -> tuple[list[int], list[float], list[float]]:
        curve = Curve(3, 64)
        for start in range(0, 64, size):
            stop = start + size
            curve.take(ticks[start:stop], [f for f in fills if start <= f.seq < stop])
        curve.close()
        return curve.daily.event_ns, curve.daily.profit, curve.daily.benchmark

    whole = closes(64)
    days = np.unique(ticks["event_ns"] // (86_400 * 10**9))
    assert len(whole[0]) == len(days) > 5
    assert closes(cut) == whole


def test_the_table_names_days_capital_and_measures(tmp_path: Path) -> None:
    text = plain_text(*backtest_report.blocks(run(days_file(tmp_path, 90)), "x", CAPITAL))
    head = next(line for line in text.splitlines() if "buy and hold" in line)
    assert head.startswith("90 days, 252 a year, on 10,000")
    sharpe = next(line.split() for line in text.splitlines() if line.startswith("sharpe"))
    assert all(float(cell) for cell in sharpe[1:])


def test_few_days_tell_nothing_about_a_year(tmp_path: Path) -> None:
    text = plain_text(*backtest_report.blocks(run(days_file(tmp_path, 19)), "x", CAPITAL))
    rows = {line[:13].strip(): line.split()[-2:] for line in text.splitlines()}
    assert rows["annual return"] == rows["sharpe"] == rows["calmar"] == ["-", "-"]
    assert "%" in rows["total return"]


@pytest.mark.parametrize(("days", "told"), [(1, False), (2, True)])
def test_a_drawdown_between_ends_of_days_needs_two(tmp_path: Path, days: int, told: bool) -> None:
    result = run(days_file(tmp_path, days))
    text = plain_text(*backtest_report.blocks(result, "x", CAPITAL))
    name = "largest drawdown, ends of days "
    (row,) = [line.removeprefix(name) for line in text.splitlines() if line.startswith(name)]
    assert row.count("%") == (2 if told else 0)
    assert row.split().count("-") == (0 if told else 2)
    found = facts_of(result, CAPITAL)
    assert (found.max_drawdown is not None) == told
    shown = {cells[0]: cells[1] for cells in rows(found, None)}
    assert shown[name.strip()].endswith("%" if told else "-")


def test_capital_that_is_lost_is_said(tmp_path: Path) -> None:
    result = run(days_file(tmp_path, 90))
    lost = -min(result.curve.daily.profit)
    assert lost > 0
    with pytest.raises(CapitalLost, match=r"at the end of day .* all of the capital"):
        strategy_returns(result.curve.daily, lost / 2)
    text = plain_text(*backtest_report.blocks(result, "x", lost / 2))
    assert "measure with more (--capital)" in text
