"""Each surface calls what trading costs by the names of the documented list, and by no other."""

import re
from collections.abc import Iterable
from pathlib import Path

import apsw
import pytest

from app.backtest import run
from app.model.position import COST_NAMES, Costs, RunCosts
from app.order_manager.store.export import COLUMNS
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager
from tests.support.paths import ROOT

PAGE = (ROOT / "app/execution/costs/README.md").read_text()
ROWS = [row.strip("|").split("|") for row in re.findall(r"^\| `.*\|$", PAGE, re.M)]
LIKE_A_COST = re.compile(
    r"cost|spread|slip|fee|impact|latency|borrow|accrue|turnover|notional|^total$"
)
NO_COSTS = {"avg_cost", "filled_notional"}
"""The price that was paid for what is held, and the executed part of an order."""


def names(column: int) -> set[str]:
    return {name for row in ROWS for name in re.findall(r"`(\w+)`", row[column])}


OF_ONE, SUMS = names(2), names(3)


def of_costs(found: Iterable[str]) -> set[str]:
    """Those of some columns that name a cost; ``_bps`` of a cost counts as it."""
    names = {name.removesuffix("_bps") for name in found} - NO_COSTS
    return {name for name in names if LIKE_A_COST.search(name)}


def test_the_list_is_that_of_the_code() -> None:
    assert {"fee", "slippage", "impact", "borrow"} < OF_ONE
    assert {*COST_NAMES, *Costs._fields} < SUMS
    assert of_costs(Costs().of_run().figures()) == {*COST_NAMES, "turnover"}
    assert {*RunCosts._fields} == {*Costs._fields, "latency"}


def test_the_store_and_its_export(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "orders.db")
    manager.ask({**ORDER, "client": "desk", "id": 7})
    manager.close()
    connection = apsw.Connection(str(tmp_path / "orders.db"))
    columns = {
        table: {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        for table in ("executions", "fills")
    }
    each = {"fee", "slippage", "impact", "borrow"}
    assert of_costs(COLUMNS["fills"]) == each < OF_ONE
    assert of_costs(columns["executions"]) == of_costs(columns["fills"]) == each
    sums = {"fees", "slippage", "impact", "borrow", "accrued", "turnover"}
    assert of_costs(COLUMNS["positions"]) == sums < SUMS


def test_the_answers_of_the_order_port(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "orders.db")
    manager.ask({**ORDER, "client": "desk", "id": 7})
    answer = manager.ask({"op": "positions"})[0]
    manager.close()
    sums = {"fees", "slippage", "impact", "borrow", "accrued", "turnover"}
    assert of_costs(answer["positions"][0]) == of_costs(answer["total"]) == sums < SUMS


@pytest.mark.parametrize("short_costs", [0.0, 365.0])
def test_the_tables_and_measures_of_a_backtest(short_costs: float) -> None:
    sample = ROOT / "data" / "market_data.csv"
    result = run(sample, ticks=2000, replay="once", paper_borrow_bps_year=short_costs)
    each = {"fee", "slippage", "half_spread", "impact", "latency", "borrow", "notional"}
    assert of_costs(result.trades) == each == OF_ONE
    sums = {"fees", "borrow", "turnover"}
    for table in (result.equity, result.daily, result.positions):
        assert of_costs(table) == sums < SUMS
    assert of_costs(result.metrics) == SUMS - {"accrued", "total"}
