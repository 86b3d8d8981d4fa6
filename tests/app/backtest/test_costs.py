"""What trading cost, by kind: recomputed by pandas and decimals, with none of our code."""

from decimal import Decimal
from typing import Any

import pandas
import pytest

from app.backtest import replay as backtest
from app.backtest import report as backtest_report
from app.backtest.result import Result
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.runtime.metrics.tables import plain_text
from tests.app.backtest.test_profit import COSTS, IN_PART, SAMPLE, independent_fee


def table_of(result: Result) -> pandas.DataFrame:
    """The orders that were executed, money as decimals."""
    rows = [
        (order.side, order.filled_qty, Decimal(order.price or 0), Decimal(order.filled_notional))
        for order in result.orders
        if order.filled_qty
    ]
    names = ["side", "qty", "price", "notional"]
    return pandas.DataFrame(rows, columns=names).assign(
        price=lambda t: t.price / 10**9, notional=lambda t: t.notional / 10**9
    )


@pytest.mark.parametrize("settings", [{}, {**IN_PART, **COSTS}], ids=["free", "costs"])
def test_the_breakdown_is_that_of_the_orders(settings: dict[str, Any]) -> None:
    chosen = Settings(data_path=str(SAMPLE), replay="once", **settings)
    result = backtest.run(chosen, open_feed(chosen))
    orders = table_of(result)
    worse = (orders.side * (orders.notional - orders.qty * orders.price)).sum()
    fees = sum(independent_fee(int(o.qty), o.notional, settings) for o in orders.itertuples())
    turnover = orders.notional.sum()
    found = result.costs.figures()
    assert turnover > 0
    assert found["turnover"] == pytest.approx(float(turnover), abs=0)
    for name, money in (("fees", fees), ("slippage", worse), ("total", fees + worse)):
        assert found[name] == pytest.approx(float(money), abs=0)
        assert found[f"{name}_bps"] == pytest.approx(float(money * 10_000 / turnover), abs=1e-12)
        assert bool(money) == bool(settings)
    text = plain_text(*backtest_report.blocks(result, "x", 100_000))
    if not settings:
        assert "cost, in profit" not in text
        return
    shown = next(line for line in text.splitlines() if line.startswith("all costs")).split()
    assert shown[2] == f"{float(fees + worse):,.2f}"
    assert float(shown[3]) == pytest.approx(found["total_bps"], abs=0.0006)
