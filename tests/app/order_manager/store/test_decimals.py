"""A store of fractional quantities: exact through restarts, queries, log and exports."""

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.__main__ import main
from app.model.money import Scale
from app.order_manager.order_log import OrderLog
from app.order_manager.store.schema import APPLICATION_ID, MIGRATIONS, StoreError, scale_of
from app.order_manager.store.store import OrderStore
from app.order_manager.store.tools import reading, verify
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager

COIN: dict[str, Any] = {**ORDER, "symbol": "BTCUSDT", "qty": "0.00150001", "price": 60000.123456789}


def test_a_store_with_orders_is_refused_with_other_decimals(path: Path) -> None:
    manager = Manager(path, qty_decimals=8)
    manager.ask(COIN)
    manager.close()
    with pytest.raises(StoreError) as refused:
        OrderStore.open(str(path), qty_decimals=2)
    assert str(refused.value) == (
        f"{path}: its quantities have 8 decimals, and QTY_DECIMALS=2: set QTY_DECIMALS=8 to go on "
        "with it, or another ORDER_STORE_PATH"
    )
    with pytest.raises(StoreError, match="QTY_DECIMALS=0"):
        OrderStore.open(str(path))
    OrderStore.open(str(path), qty_decimals=8).close()


def test_a_store_without_orders_takes_the_decimals_it_is_opened_with(path: Path) -> None:
    for decimals in (0, 8, 3):
        OrderStore.open(str(path), qty_decimals=decimals).close()
        with reading(str(path)) as connection:
            assert scale_of(connection).decimals == decimals


def test_an_older_store_has_whole_quantities(path: Path) -> None:
    connection = apsw.Connection(str(path))
    for script in MIGRATIONS[:5]:
        connection.execute(script)
    connection.pragma("user_version", 5)
    connection.pragma("application_id", APPLICATION_ID)
    connection.execute("INSERT INTO clients VALUES(1, '', 'desk')")
    connection.close()
    with pytest.raises(StoreError, match="its quantities have 0 decimals"):
        OrderStore.open(str(path), qty_decimals=8)
    OrderStore.open(str(path)).close()


def test_answers_and_queries_are_exact_and_the_same_after_a_restart(path: Path) -> None:
    manager = Manager(path, qty_decimals=8, risk_client_exposure_max=1e6, paper_fee_bps=1.0)
    sent = {**COIN, "id": 1}
    first = manager.ask(sent, {**COIN, "id": 2, "side": "SELL", "qty": 0.0004})
    order = first[0]["order"]
    assert (order["qty"], order["filled_qty"]) == (0.00150001, 0.00150001)
    assert order["avg_price"] == 60000.123456789
    rest = {"type": "LIMIT", "price": 50, "id": 3}
    manager.ask({**COIN, **rest})
    asked = [{"op": "positions"}, {"op": "orders", "open": False}, {"op": "status", "id": 1}]
    before = manager.ask(*asked)
    (held,) = before[0]["positions"]
    assert (held["qty"], held["open_buy"], held["open_sell"]) == (0.00110001, 0.00150001, 0)
    assert held["mark"] == 60000.123456789
    assert before[0]["total"]["qty"] == {"BTCUSDT": 0.00110001}
    assert before[0]["total"]["exposure"] == pytest.approx(0.00110001 * 60000.123456789)
    assert before[1]["orders"][0]["qty"] == 0.00150001
    assert before[2]["fills"][0]["qty"] == 0.00150001
    limits = manager.ask({"op": "limits", "client": "default"})[0]["limits"]
    assert (limits["qty_max"], limits["exposure_max"]) == (10**9, 1e6)
    manager.close()
    manager = Manager(path, qty_decimals=8, risk_client_exposure_max=1e6, paper_fee_bps=1.0)
    assert manager.ask(sent)[0] == {**first[0], "duplicate": True}
    assert manager.ask(*asked) == before
    assert manager.ask({**sent, "qty": 0.0015})[0]["msg"] == (
        "id 1 of client default is another order: BUY 0.00150001 BTCUSDT @ 60000.123456789"
    )
    manager.close()
    assert verify(str(path)) == []


@pytest.mark.parametrize("decimals", [3, 8, 9])
def test_the_largest_orders_are_stored_and_exported_exactly(
    path: Path, tmp_path: Path, decimals: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quantity times a price has up to 37 digits, twice what SQLite's integers hold."""
    scale = Scale(decimals)
    unlimited = {"qty_decimals": decimals, "risk_client_qty_max": 0, "paper_fee_bps": 0.1}
    manager = Manager(path, **unlimited)
    huge = {**ORDER, "qty": scale.qty_text(scale.qty_max - 1), "price": 9_000_000_000}
    first = manager.ask({**huge, "id": 1}, {**huge, "id": 2, "side": "SELL", "price": 1e-9})
    assert all(answer["ok"] for answer in first)
    manager.ask(*({**huge, "id": number} for number in range(3, 15)))
    positions = manager.ask({"op": "positions"})
    manager.close()
    manager = Manager(path, **unlimited)
    assert manager.ask({**huge, "id": 1})[0] == {**first[0], "duplicate": True}
    assert manager.ask({"op": "positions"}) == positions
    manager.close()
    assert verify(str(path)) == []
    assert main(["store", "--store", str(path), "export", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "fills.csv").open(newline="") as file:
        fills = list(csv.DictReader(file))
    qty = Decimal(scale.qty_max - 1).scaleb(-decimals)
    assert {Decimal(fill["qty"]) for fill in fills} == {qty}
    assert Decimal(fills[0]["fee"]) == qty * 9_000_000_000 / 100_000
    with (tmp_path / "out" / "positions.csv").open(newline="") as file:
        (held,) = csv.DictReader(file)
    assert Decimal(held["qty"]) == 12 * qty
    parquet = ["export", str(tmp_path / "out"), "--format", "parquet"]
    assert main(["store", "--store", str(path), *parquet]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert f"positions.turnover: {held['turnover']} has more than 38 digits" in line
    assert "--format csv" in line
    names = {file.name for file in (tmp_path / "out").glob("*.parquet")}
    assert names == {"orders.parquet", "fills.parquet"}


@settings(max_examples=20)
@given(
    st.integers(1, 9),
    # With one decimal, no more than RISK_CLIENT_QTY_MAX allows.
    st.lists(st.integers(1, 10**10), min_size=1, max_size=8),
)
def test_quantities_come_back_from_order_to_export(
    tmp_path_factory: pytest.TempPathFactory, decimals: int, quantities: list[int]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path_factory.mktemp("export")
    store, scale = folder / "orders.sqlite3", Scale(decimals)
    manager = Manager(store, qty_decimals=decimals)
    texts = [scale.qty_text(units) for units in quantities]
    answers = manager.ask(*({**ORDER, "qty": text} for text in texts))
    assert [answer["order"]["qty"] for answer in answers] == [float(text) for text in texts]
    manager.close()
    exact = [Decimal(text) for text in texts]
    for form in ("csv", "parquet"):
        arguments = ["export", str(folder), "--format", form]
        assert main(["store", "--store", str(store), *arguments]) == 0
    for name, column in (("orders", "qty"), ("orders", "filled_qty"), ("fills", "qty")):
        with (folder / f"{name}.csv").open(newline="") as file:
            assert [row[column] for row in csv.DictReader(file)] == texts
        found = parquet.read_table(folder / f"{name}.parquet")
        assert found.column(column).to_pylist() == exact
        assert found.schema.field(column).type.scale == decimals
    held = parquet.read_table(folder / "positions.parquet")
    assert held.schema.field("turnover").type.scale == 9 + decimals
    assert held.column("turnover").to_pylist() == [sum(exact) * Decimal("173.2")]


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_log_has_the_decimals(path: Path, tmp_path: Path, form: str) -> None:
    manager = Manager(path, qty_decimals=8)
    manager.ask(COIN)
    with (tmp_path / "log").open("wb+") as file:
        log = OrderLog(form, descriptor=file.fileno(), scale=manager.service.core.scale)
        log.write(manager.service.events, 0)
        log.drain()
        file.seek(0)
        line = file.read().decode()
    manager.close()
    if form == "json":
        assert json.loads(line)["qty"] == json.loads(line)["filled_qty"] == 0.00150001
    else:
        assert "Received Order 1: BUY 0.00150001 BTCUSDT @ 60000.123456789" in line


@pytest.mark.parametrize(
    ("limit", "value", "changes", "message"),
    [
        ("risk_lot_size", "0.05", {"qty": 0.125}, "qty 0.125 is not a multiple of the lot 0.05"),
        ("risk_client_qty_max", "0.5", {"qty": 0.501},
         "qty 0.501 above the limit 0.5 of client default"),
        ("risk_client_notional_max", 20.0, {"qty": 0.201, "price": 100},
         "notional 20.10 above the limit 20.00 of client default"),
        ("risk_client_position_qty_max", "0.5", {"qty": 0.501},
         "position of client default in AAPL would be 0.501, at most 0.5 either way"),
        ("risk_client_exposure_max", 20.0, {"qty": 0.201, "price": 100},
         "gross exposure of client default would be 20.10, at most 20.00"),
    ],
)  # fmt: skip
def test_limits_count_the_decimals(
    path: Path, limit: str, value: Any, changes: dict[str, Any], message: str
) -> None:
    number = Decimal(value) if isinstance(value, str) else value
    manager = Manager(path, qty_decimals=3, **{limit: number})
    refused, passed = manager.ask({**ORDER, **changes}, {**ORDER, **changes, "qty": 0.2})
    manager.close()
    assert refused["msg"] == message
    assert passed["ok"] is True
