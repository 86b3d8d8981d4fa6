"""Verify finds inconsistencies; rebuild recomputes the positions."""

from pathlib import Path

import apsw
import pytest

from app.__main__ import main
from app.order_manager.store.schema import StoreError
from app.order_manager.store.store import OrderStore
from app.order_manager.store.tools import verify
from tests.support.orders.manager import Manager, some_orders


def test_verify_finds_inconsistencies_and_rebuild_repairs_positions(path: Path) -> None:
    some_orders(path)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE positions SET qty = qty + 1 WHERE client_no = 1")
    connection.close()
    assert main(["store", "--store", str(path), "verify"]) == 1
    assert len(verify(str(path))) == 1
    assert main(["store", "--store", str(path), "rebuild"]) == 0
    assert verify(str(path)) == []
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE orders SET filled_qty = 9 WHERE order_no = 3")
    connection.execute("UPDATE orders SET exec_first = 5 WHERE order_no = 6")
    connection.close()
    problems = verify(str(path))
    assert any("twice" in problem for problem in problems)


def test_positions_ahead_of_the_fills_are_refused(path: Path) -> None:
    some_orders(path)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE positions SET fill_no = 30 WHERE client_no = 1")
    connection.close()
    store = OrderStore.open(str(path))
    try:
        with pytest.raises(StoreError, match=r"up to 30, the log has them up to 20.*rebuild"):
            store.load()
    finally:
        store.close()
    assert len(verify(str(path))) == 1
    assert main(["store", "--store", str(path), "rebuild"]) == 0
    Manager(path).close()
