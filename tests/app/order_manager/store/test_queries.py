"""Pages of orders and positions: complete, in order, and as fast in a large store as in a small."""

import os
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from app.order_manager import queries
from app.order_manager.store import store as order_store
from app.order_manager.store.store import OrderStore
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager
from tests.support.orders.process import OrderManagerProcess

STORE_ORDERS = int(os.environ.get("STORE_ORDERS", "1000000"))
"""STORE_ORDERS=10000000 takes two minutes and 1 GB."""
QUERY_MS_MAX = 50.0


def pages(manager: Manager, **query: Any) -> list[list[int]]:
    """The order numbers of all pages."""
    found, before = [], {}
    while True:
        (answer,) = manager.ask({"op": "orders", **query, **before})
        found.append([order["order_no"] for order in answer["orders"]])
        if not answer["more"]:
            assert "before" not in answer
            return found
        before = {"before": answer["before"]}


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("client", [None, "often", "seldom", "once"])
def test_pages_have_each_order_once_newest_first(
    path: Path, monkeypatch: pytest.MonkeyPatch, client: str | None, is_open: bool
) -> None:
    """Also of a client whose orders are far apart, and where orders of another run lie between."""
    for module in (order_store, queries):
        monkeypatch.setattr(module, "SCAN_ORDERS", 7)
    monkeypatch.setattr(order_store, "FEW_ORDERS", 3)
    other = Manager(path, "another run")
    other.ask(*[{**ORDER, "client": "often"}] * 5)
    other.close()
    manager = Manager(path, "run")
    resting = {**ORDER, "type": "LIMIT", "tif": "GTC"}
    expected: list[int] = []
    for n in range(120):
        name = "once" if n == 3 else "seldom" if n % 20 == 5 else "often"
        (answer,) = manager.ask({**(resting if n % 3 else ORDER), "client": name})
        assert answer["ok"]
        if client in (None, name) and (n % 3 or not is_open):
            expected.insert(0, answer["order"]["order_no"])
    query: dict[str, Any] = {"open": is_open, "limit": 4}
    if client is not None:
        query["client"] = client
    found = pages(manager, **query)
    assert [number for page in found for number in page] == expected
    assert max(map(len, found)) <= 4
    manager.close()


def test_a_page_that_fills_a_frame_continues_after_its_last_row(path: Path) -> None:
    manager = Manager(path)
    long = {**ORDER, "client": "*" * 64, "ts": "*" * 10}
    manager.ask(*[long] * 300)
    found = pages(manager, open=False, limit=200)
    assert len(found[0]) < 200
    assert [number for page in found for number in page] == list(range(300, 0, -1))
    manager.close()


def positions_of(manager: Manager, **query: Any) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    after = ""
    while True:
        (answer,) = manager.ask({"op": "positions", "after": after, **query})
        found += [(row["client"], row["symbol"]) for row in answer["positions"]]
        if not answer["more"]:
            return found
        after = answer["after"]


def test_pages_of_positions_have_each_once_whatever_the_names(path: Path) -> None:
    """Names that a text of client and symbol would mix up, and positions that come in between."""
    manager = Manager(path)
    keys = [(c, s) for c in ("a", "a!", "a/b", "a b", "b") for s in ("c", "b/c", "B", "!")]
    for count in (len(keys) // 2, len(keys)):
        manager.ask(*({**ORDER, "client": c, "symbol": s} for c, s in reversed(keys[:count])))
        for limit in (1, 3, 200):
            assert positions_of(manager, limit=limit) == sorted(keys[:count])
    assert positions_of(manager, limit=2, client="a/b") == sorted(k for k in keys if k[0] == "a/b")
    assert positions_of(manager, limit=2, symbol="c") == sorted(k for k in keys if k[1] == "c")
    assert positions_of(manager, client="nobody") == []
    manager.service.queries.forget()
    assert positions_of(manager, limit=7) == sorted(keys)
    manager.close()


def test_totals_of_many_positions_are_not_computed_for_each_page(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "TOTAL_QUICK_NS", -1)
    monkeypatch.setattr(queries, "TOTAL_REST", 10**6)
    counted: list[str | None] = []
    total = queries.OrderQueries._total

    def counting(self: queries.OrderQueries, symbol: str | None) -> dict[str, Any]:
        counted.append(symbol)
        return total(self, symbol)

    monkeypatch.setattr(queries.OrderQueries, "_total", counting)
    manager = Manager(path)
    manager.ask(*({**ORDER, "symbol": f"S{n}"} for n in range(30)))
    assert len(positions_of(manager, limit=1)) == 30
    assert counted == [None]
    assert positions_of(manager, symbol="S3") == [("default", "S3")]
    assert counted == [None, "S3"]
    manager.close()


def large_store(path: Path, orders: int) -> None:
    """A store with that many filled orders of one client, made in SQL."""
    OrderStore.open(str(path)).close()
    connection = apsw.Connection(str(path))
    connection.pragma("synchronous", "OFF")
    with connection:
        connection.execute("INSERT INTO clients VALUES(1, '', 'big'), (2, '', 'small')")
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO orders SELECT i, CASE WHEN i > 5 THEN 1 ELSE 2 END, i, "
            "1764000000000000000 + i, 1, 'S' || (i % 10), 10, 173200000000, 0, 0, '1759311000.5', "
            "3, 10, 1732000000000, i, 1, 173200000000, 0, NULL, 0, 0, 0, 0, NULL FROM n",
            (orders,),
        )
        connection.execute(
            "INSERT INTO positions SELECT client_no, symbol, sum(filled_qty), "
            "sum(filled_notional), 0, 173200000000, max(exec_first), 0, 0, 0, 0, "
            "sum(filled_notional), NULL FROM orders GROUP BY 1, 2"
        )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


@pytest.mark.medium
@pytest.mark.timeout(600)
def test_a_client_with_millions_of_orders_has_a_quick_start_and_quick_queries(
    tmp_path: Path,
) -> None:
    large_store(tmp_path / "orders.sqlite3", STORE_ORDERS)
    manager = OrderManagerProcess(tmp_path)
    begin = time.monotonic()
    with manager, manager.client(60) as client:
        seconds = time.monotonic() - begin
        taken: dict[str, float] = {}
        for name, query in {
            "newest": {"op": "orders", "open": False, "client": "big", "limit": 200},
            "old": {"op": "orders", "open": False, "client": "big", "before": STORE_ORDERS // 2},
            "few": {"op": "orders", "open": False, "client": "small"},
            "open": {"op": "orders", "client": "big"},
            "status": {"op": "status", "client": "big", "id": STORE_ORDERS // 3},
            "positions": {"op": "positions", "client": "big"},
        }.items():
            times = []
            for _ in range(5):
                begin = time.perf_counter()
                assert client.ask(query)["ok"] is True
                times.append((time.perf_counter() - begin) * 1e3)
            taken[name] = min(times)
        memory = manager.resident_bytes()
    print(f"start {seconds:.2f} s, {memory >> 20} MiB, {taken} ms")
    assert seconds < 5
    assert memory < 80 * 2**20
    assert max(taken.values()) < QUERY_MS_MAX
