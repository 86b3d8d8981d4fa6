"""Orders of symbols of 1 to 32 bytes, from the port to the store and out of it."""

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.__main__ import main
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager

SYMBOLS = st.lists(
    st.text("ABZ019.-:/_", min_size=1, max_size=32).filter(lambda text: text[0] != "-"),
    min_size=1,
    max_size=8,
    unique=True,
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(SYMBOLS)
def test_orders_positions_and_export(
    tmp_path_factory: pytest.TempPathFactory, symbols: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    path = folder / "orders.sqlite3"
    manager = Manager(path)
    orders = [{**ORDER, "id": n, "symbol": symbol} for n, symbol in enumerate(symbols)]
    answers = manager.ask(*orders)
    assert [answer["order"]["symbol"] for answer in answers] == symbols
    manager.crash()
    again = Manager(path)
    repeated = again.ask(*orders)
    assert [{**answer, "duplicate": True} for answer in answers] == repeated
    (page,) = again.ask({"op": "positions"})
    assert sorted(row["symbol"] for row in page["positions"]) == sorted(symbols)
    again.close()
    assert main(["store", "--store", str(path), "verify"]) == 0
    assert main(["store", "--store", str(path), "export", str(folder)]) == 0
    for table in ("orders", "fills", "positions"):
        with (folder / f"{table}.csv").open(newline="") as file:
            assert sorted(row["symbol"] for row in csv.DictReader(file)) == sorted(symbols)


def test_33_bytes_are_refused_with_the_limit(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "orders.sqlite3")
    (answer,) = manager.ask({**ORDER, "symbol": "X" * 33})
    assert answer["code"] == "BAD_FIELD"
    assert answer["msg"] == "bad field symbol: symbol of 33 characters, at most 32 bytes"
    (answer,) = manager.ask({**ORDER, "symbol": "AAPL  251219C00200000"})
    assert answer["msg"].endswith("it is called AAPL251219C00200000 here")
    manager.close()
