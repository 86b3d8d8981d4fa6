"""A backtest with all costs on is that of an independent computation, to the last unit."""

from decimal import Decimal
from typing import Any

import numpy as np
import pandas
import pytest

from app.backtest import replay as backtest
from app.backtest import report as backtest_report
from app.backtest.feed_reader import FeedReader
from app.backtest.result import Result
from app.backtest.results.entry import run
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.model.position import RunCosts
from app.runtime.metrics.tables import plain_text
from tests.app.backtest.costs.independent import Outcome, Trade, settings_of, trade, trade_late
from tests.support.paths import ROOT

SAMPLE = ROOT / "data" / "market_data.csv"
PLACE = "tests.app.backtest.costs.independent"
KINDS = {"fees": "fee", "slippage": "slippage", "impact": "impact", "borrow": "borrow"}


def money(units: int, decimals: int = 0) -> Decimal:
    return Decimal(units).scaleb(-9 - decimals)


def ticks_of_file() -> pandas.DataFrame:
    """The sample, read by pandas."""
    ticks = pandas.read_csv(SAMPLE)
    event_ns = pandas.to_datetime(ticks.timestamp).astype("datetime64[ns]").astype(np.int64)
    return ticks.assign(seq=range(len(ticks)), event_ns=event_ns)


def ticks_of_walk(settings: Settings, total: int) -> pandas.DataFrame:
    """A random walk, which is ours: it is data here."""
    feed = open_feed(settings)
    batches = [pandas.DataFrame(batch.copy()) for batch in FeedReader(feed, total).batches()]
    ticks = pandas.concat(batches, ignore_index=True)
    return ticks.assign(symbol=ticks.symbol.map(dict(enumerate(feed.symbols))))


def trades_of(result: Result, decimals: int = 0) -> list[Trade]:
    return [
        Trade(
            (order.id - 1) % 2**40, order.symbol, order.side,
            Decimal(order.qty).scaleb(-decimals), money(order.price or 0),
            Decimal(order.filled_qty).scaleb(-decimals), money(order.exec_price),
            *(money(cost, decimals) for cost in
              (order.fee, order.slippage, order.impact, order.borrow)),
            (order.id - 1) // 2**40,
        )
        for order in result.orders
    ]  # fmt: skip


def check(result: Result, expected: Outcome, decimals: int = 0) -> None:
    """Orders, executions, positions, costs and profit are equal."""
    # An order's cost of latency is in the tables and in the sum, not in the order.
    assert trades_of(result, decimals) == [
        each._replace(latency=Decimal(0)) for each in expected.trades
    ]
    assert result.positions.keys() == expected.books.keys()
    for symbol, position in result.positions.items():
        book = expected.books[symbol]
        held = Decimal(position.qty).scaleb(-decimals)
        assert (held, position.since_ns) == (book.qty, book.since_ns)
        assert money(position.cost, decimals) == book.cost
        assert money(position.realized, decimals) == book.realised
        for name, kind in {**KINDS, "turnover": "turnover"}.items():
            assert money(getattr(position, name), decimals) == book.costs[kind], (symbol, name)
        assert money(result.accrued.get(symbol, 0), decimals) == expected.owed[symbol]
    assert result.curve.equity[-1] == pytest.approx(float(expected.profit), rel=1e-12, abs=1e-6)
    assert result.curve.daily.profit[-1] == result.curve.equity[-1]
    _check_breakdown(result, expected, 2e-9 if decimals else 0.0)


def _check_breakdown(result: Result, expected: Outcome, rounded: float) -> None:
    """``rounded``: the breakdown is in units of 1e-9, whatever the decimals of quantities."""
    costs = {
        name: sum((getattr(trade, kind) for trade in expected.trades), Decimal(0))
        for name, kind in {**KINDS, "latency": "latency"}.items()
    }
    costs["borrow"] += sum(expected.owed.values())
    costs["total"] = sum(costs.values(), Decimal(0))
    turnover = sum((t.filled * t.price for t in expected.trades), Decimal(0))
    figures = result.costs.figures()
    assert figures["turnover"] == pytest.approx(float(turnover), rel=1e-15, abs=rounded)
    text = plain_text(*backtest_report.blocks(result, "x", 100_000))
    lines = text.splitlines()
    kinds = ("fees", "slippage", "impact", "latency", "borrow", "total")
    rows = dict(zip(kinds, result.costs.rows(), strict=True))
    for name, cost in costs.items():
        bps = float(cost * 10_000 / turnover)
        assert figures[name] == pytest.approx(float(cost), rel=1e-15, abs=rounded)
        off = rounded * 20_000 / float(turnover)
        assert figures[f"{name}_bps"] == pytest.approx(bps, rel=1e-14, abs=off)
        shown, *numbers = rows[name]
        assert numbers == [figures[name], figures[f"{name}_bps"]]
        row = next(line for line in lines if line.startswith(f"{shown} "))
        assert row.removeprefix(shown).split() == [
            f"{figures[name]:,.2f}",
            f"{figures[f'{name}_bps']:,.3f}",
        ]


@pytest.mark.parametrize("strategy", ["Swing", "Told"])
@pytest.mark.parametrize("replay", ["once", "walk"])
def test_all_costs_are_those_of_an_independent_computation(strategy: str, replay: str) -> None:
    costs: dict[str, Any] = settings_of()
    settings = Settings(
        data_path=str(SAMPLE), replay=replay, strategy=f"{PLACE}:{strategy}", **costs
    )
    total = 30_000 if replay == "once" else 60_000
    result = backtest.run(settings, open_feed(settings), total)
    ticks = ticks_of_file() if replay == "once" else ticks_of_walk(settings, total)
    expected = trade(ticks, costs)
    assert len(expected.trades) > 1000
    assert sum(1 for each in expected.trades if each.borrow) > 300
    assert any(each.filled < each.qty for each in expected.trades)
    assert any(expected.owed.values())
    check(result, expected)


@pytest.mark.parametrize(
    ("decimals", "order_qty"), [(3, "2.125"), (8, "0.30000001"), (9, "0.000000007"), (9, "3000")]
)
def test_quantities_with_decimals_are_exact_to_the_last_unit(decimals: int, order_qty: str) -> None:
    costs: dict[str, Any] = settings_of(paper_fee_min=0.0, paper_impact_qty=0.37)
    settings = Settings(
        data_path=str(SAMPLE), replay="once", strategy=f"{PLACE}:Told",
        qty_decimals=decimals, order_qty=Decimal(order_qty), **costs,
    )  # fmt: skip
    result = backtest.run(settings, open_feed(settings), 12_000)
    expected = trade(ticks_of_file()[:12_000], costs, order_qty, decimals)
    assert len(expected.trades) > 500
    assert any(each.filled < each.qty for each in expected.trades)
    assert any(each.borrow for each in expected.trades)
    check(result, expected, decimals)


@pytest.mark.parametrize("strategy", ["Swing", "Told"])
@pytest.mark.parametrize(("replay", "latency_ms"), [("once", 1500.0), ("walk", 60_000.0)])
def test_latency_costs_what_an_independent_computation_says(
    strategy: str, replay: str, latency_ms: float
) -> None:
    """A minute is many ticks of a symbol: orders in both directions are on their way at once."""
    costs: dict[str, Any] = settings_of(paper_latency_ms=latency_ms)
    settings = Settings(
        data_path=str(SAMPLE), replay=replay, strategy=f"{PLACE}:{strategy}", **costs
    )
    total = 30_000 if replay == "once" else 40_000
    result = backtest.run(settings, open_feed(settings), total)
    ticks = ticks_of_file() if replay == "once" else ticks_of_walk(settings, total)
    expected = trade_late(ticks, costs)
    assert len(expected.trades) > 1000
    assert any(each.latency > 0 for each in expected.trades)
    assert any(each.latency < 0 for each in expected.trades)
    check(result, expected)
    assert money(result.latency_cost) == sum(each.latency for each in expected.trades)


def test_the_tables_have_the_cost_of_latency() -> None:
    costs = settings_of(paper_latency_ms=1500.0)
    result = run(data=str(SAMPLE), strategy=f"{PLACE}:Swing", replay="once", **costs)
    wanted = [float(each.latency) for each in trade_late(ticks_of_file(), costs).trades]
    np.testing.assert_allclose(result.trades.latency, wanted, atol=1e-9)
    assert result.metrics["latency"] == pytest.approx(sum(wanted))
    assert result.costs.figures()["latency"] == result.metrics["latency"]


def test_without_costs_there_is_no_breakdown() -> None:
    settings = Settings(data_path=str(SAMPLE), replay="once", strategy=f"{PLACE}:Swing")
    result = backtest.run(settings, open_feed(settings), 5000)
    turnover = sum(order.filled_notional for order in result.orders)
    assert result.costs == RunCosts(turnover=turnover)
    assert turnover > 0
    assert "cost, in the profit" not in plain_text(*backtest_report.blocks(result, "x", 1000))


def test_a_strategy_sees_what_its_shorts_have_cost() -> None:
    costs: dict[str, Any] = settings_of(paper_fee_min=0, paper_fee_bps=0, paper_fee_per_share=0)
    settings = Settings(data_path=str(SAMPLE), replay="once", strategy=f"{PLACE}:Told", **costs)
    result = backtest.run(settings, open_feed(settings), 5000)
    assert result.costs.fees == 0
    assert result.costs.borrow > sum(result.accrued.values()) > 0


def test_the_tables_of_a_run_have_the_same_costs() -> None:
    costs = settings_of()
    result = run(data=str(SAMPLE), strategy=f"{PLACE}:Swing", replay="once", **costs)
    ticks = ticks_of_file()
    expected = trade(ticks, costs)
    trades, books = result.trades, expected.books
    for column, kind in (("fee", "fee"), ("impact", "impact"), ("borrow", "borrow")):
        wanted = [float(getattr(each, kind)) for each in expected.trades]
        np.testing.assert_allclose(trades[column], wanted, rtol=1e-12, err_msg=column)
    slipped = [float(each.slippage) for each in expected.trades]
    np.testing.assert_allclose(trades.slippage, slipped, atol=1e-8)
    by_symbol = trades.groupby("symbol").realised_profit.sum()
    held = result.positions.set_index("symbol")
    for symbol, book in books.items():
        assert by_symbol[symbol] == pytest.approx(float(book.realised), abs=1e-6)
        borrow = float(book.costs["borrow"] + expected.owed[symbol])
        assert held.borrow[symbol] == pytest.approx(borrow, rel=1e-12)
    assert held.profit.sum() == pytest.approx(float(expected.profit))
    assert result.metrics["profit"] == pytest.approx(float(expected.profit))
    assert result.metrics["borrow"] == pytest.approx(held.borrow.sum())
    # After each of some ticks: as if the run had ended there.
    assert len(result.equity) == len(ticks)
    for seq in (1, 999, 7003, 20_000, len(ticks) - 1):
        until = trade(ticks[: seq + 1], costs)
        assert result.equity.profit[seq] == pytest.approx(float(until.profit), abs=1e-6)
    assert result.equity.borrow.diff().min() > -1e-9
    assert result.daily.borrow.sum() == pytest.approx(held.borrow.sum())
