"""The four processes with all costs on: what the backtest has, also after kills."""

import csv
import json
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.__main__ import main
from app.backtest import replay as backtest
from app.backtest.outcome import first_difference, of_backtest
from app.backtest.result import Result
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from tests.app.backtest.costs.independent import settings_of
from tests.app.backtest.costs.test_costs import KINDS, PLACE, SAMPLE, money
from tests.chaos.host import HostStack


@pytest.mark.medium
@pytest.mark.parametrize(
    "kills", [(), ("order_manager", "order_manager", "strategy")], ids=["calm", "kills"]
)
def test_the_stack_costs_what_the_backtest_costs(tmp_path: Path, kills: tuple[str, ...]) -> None:
    costs: dict[str, Any] = settings_of()
    run: dict[str, Any] = {"data_path": str(SAMPLE), "strategy": f"{PLACE}:Told", **costs}
    with HostStack(tmp_path, pace="20000/s" if kills else "max", **run) as stack:
        for number, service in enumerate(kills, 1):
            stack.wait_until(
                "ticks",
                lambda n=number: stack.counter("strategy", "ticks_consumed") > 6000 * n,
                60,
            )
            assert stack.signal(service, signal.SIGKILL)
        assert stack.wait(100) == 0, stack.tail(60)
        settings = Settings(replay="once", **run)
        result = backtest.run(settings, open_feed(settings))
        assert len(result.orders) > 1000
        assert result.accrued
        # Fills with their costs, positions with theirs and the time from which shorts cost.
        assert first_difference(stack.outcome(), of_backtest(result)) is None
    _check_report(tmp_path, result)
    _check_export(tmp_path, result)


def _check_report(folder: Path, result: Result) -> None:
    found = json.loads((folder / "report.json").read_text())["profit"]
    assert found["costs"] == pytest.approx(result.costs.figures(), rel=1e-12)
    assert found["realized"] + found["unrealized"] == pytest.approx(result.curve.equity[-1])
    text = (folder / "performance_report.md").read_text()
    for name, cost, bps in result.costs.rows():
        assert f"| {name} | {cost:,.2f} | {bps:,.3f} |" in text


def _check_export(folder: Path, result: Result) -> None:
    store = str(folder / "orders.sqlite3")
    assert main(["store", "--store", store, "export", str(folder / "export")]) == 0
    with (folder / "export" / "fills.csv").open(newline="") as file:
        fills = list(csv.DictReader(file))
    for kind in KINDS.values():
        expected = [money(getattr(order, kind)) for order in result.orders if order.filled_qty]
        assert [Decimal(fill[kind]) for fill in fills] == expected
    with (folder / "export" / "positions.csv").open(newline="") as file:
        positions = {row["symbol"]: row for row in csv.DictReader(file)}
    assert positions.keys() == result.positions.keys()
    for symbol, position in result.positions.items():
        row = {name: Decimal(text) for name, text in positions[symbol].items() if name in NUMBERS}
        owed = money(result.accrued.get(symbol, 0))
        last = Decimal(str(result.last_price[symbol]))
        assert row["accrued"] == owed
        assert row["realised"] == money(position.realized)
        assert row["unrealised"] == position.qty * last - money(position.cost) - owed
        for name in (*KINDS, "turnover"):
            assert row[name] == money(getattr(position, name))


NUMBERS = {*KINDS, "turnover", "accrued", "realised", "unrealised"}
