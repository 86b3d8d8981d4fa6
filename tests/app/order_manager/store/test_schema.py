"""Which files a store opens: migrated, refused, damaged, in use."""

import os
from pathlib import Path

import apsw
import pytest

from app.order_manager.store import soundness
from app.order_manager.store.schema import (
    APPLICATION_ID,
    MIGRATIONS,
    VERSION,
    StoreError,
    schema_version,
)
from app.order_manager.store.store import OrderStore, StoreUnavailableError
from app.order_manager.store.tools import verify
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager, some_orders
from tests.support.orders.process import OrderManagerProcess


def test_second_process_on_one_store_is_refused(path: Path) -> None:
    manager = Manager(path)
    with pytest.raises(StoreError, match="another order manager"):
        OrderStore.open(str(path))
    manager.close()
    OrderStore.open(str(path)).close()


def test_an_older_schema_is_migrated_and_kept(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(MIGRATIONS[0])
    connection.pragma("user_version", 1)
    connection.pragma("application_id", APPLICATION_ID)
    connection.execute("INSERT INTO clients VALUES(1, '', 'desk')")
    row = (1, 1, 5, 0, 1, "AAPL", 10, 10**9, 0, 0, None, 3, 10, 10**10, 1, 1, 10**9, 0, None)
    connection.execute(f"INSERT INTO orders VALUES({','.join('?' * len(row))})", row)
    connection.execute(f"INSERT INTO positions VALUES(1, 'AAPL', 10, {10**10}, 0, {10**9}, 1)")
    connection.close()
    manager = Manager(path)
    answer = manager.ask({**ORDER, "id": 5, "client": "desk", "price": 1})[0]
    assert answer["duplicate"] is True
    assert "fee" not in answer["order"]
    assert manager.ask({"op": "positions"})[0]["positions"][0]["fees"] == 0
    assert manager.ask({**ORDER, "client": "desk", "type": "LIMIT"})[0]["ok"] is True
    manager.close()
    old = apsw.Connection(f"{path}.schema1")
    assert old.pragma("user_version") == 1
    assert old.execute("SELECT count(*) FROM orders").get == 1
    old.close()
    assert verify(str(path)) == []


def test_positions_of_a_schema_without_turnover_are_made_again(path: Path) -> None:
    """A store of version 4, with orders as it was written: fees, one resting order in two parts."""
    connection = apsw.Connection(str(path))
    for script in MIGRATIONS[:4]:
        connection.execute(script)
    connection.pragma("user_version", 4)
    connection.pragma("application_id", APPLICATION_ID)
    connection.execute("INSERT INTO clients VALUES(1, '', 'desk')")
    sold = (1, 1, 5, 0, -1, "AAPL", 10, 10**9, 0, 0, None, 3, 10, 10**10, 1, 1, 10**9, 0, None, 7)
    rests = (2, 1, 6, 0, 1, "AAPL", 4, 10**9, 2, 1, None, 1, 0, 0, 0, 0, 0, 0, None, 0)
    for row in (sold, rests):
        connection.execute(f"INSERT INTO orders VALUES({','.join('?' * len(row))})", row)
    connection.execute("INSERT INTO executions VALUES(2, 2, 5, 1, 1000000000, 2)")
    connection.execute("INSERT INTO executions VALUES(3, 2, 6, 3, 500000000, 1)")
    connection.execute("INSERT INTO order_state VALUES(2, 3, 4, 2500000000, 6, NULL)")
    # As of fill 2, as a killed order manager leaves it.
    values = f"1, 'AAPL', -9, {-9 * 10**9}, -9, {10**9}, 2, 9"
    connection.execute(f"INSERT INTO positions VALUES({values})")
    connection.close()
    manager = Manager(path, paper_borrow_bps_year=365.0)
    row = manager.ask({"op": "positions"})[0]["positions"][0]
    assert (row["qty"], row["fees"], row["turnover"], row["borrow"]) == (-6, 1e-8, 12.5, 0)
    assert row["realised"] == pytest.approx(1.5 - 1e-8)
    assert row["accrued"] == 0, "nobody knows since when it is short"
    order = manager.ask({**ORDER, "client": "desk", "id": 7, "side": "SELL"})[0]["order"]
    assert "borrow" not in order
    assert manager.ask({"op": "positions"})[0]["positions"][0]["turnover"] > 12.5
    manager.close()
    assert verify(str(path)) == []


def test_a_later_schema_is_refused_and_kept(path: Path) -> None:
    Manager(path).close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", VERSION + 1)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=f"schema {VERSION + 1}"):
        OrderStore.open(str(path))
    assert path.read_bytes() == before


def test_another_programs_database_is_refused(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE recipes(name)")
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        OrderStore.open(str(path))


@pytest.mark.medium
@pytest.mark.parametrize("damage", ["head", "middle", "cut", "text"])
def test_a_damaged_file_is_refused_and_kept_and_the_error_names_the_remedy(
    tmp_path: Path, damage: str
) -> None:
    with OrderManagerProcess(tmp_path) as manager, manager.client() as client:
        for n in range(300):
            client.ask({**ORDER, "id": n})
        assert manager.stop() == 0
        store = manager.store_path
        data = bytearray(store.read_bytes())
        pages = apsw.Connection(str(store))
        root = pages.execute("SELECT rootpage FROM sqlite_schema WHERE name='orders'").get
        pages.close()
        if damage == "head":
            data[:64] = os.urandom(64)
        elif damage == "middle":
            data[(root - 1) * 1024 : root * 1024] = os.urandom(1024)
        elif damage == "cut":
            data = data[: len(data) // 3]
        else:
            data = bytearray(b"these are no orders\n" * 1000)
        store.write_bytes(data)
        manager.start(wait=False)
        assert manager.process is not None
        assert manager.process.wait(timeout=20) == 1
        assert bytes(data) == store.read_bytes()
        log = manager.log()
        assert str(store) in log
        assert "restore" in log
        assert "ORDER_STORE_PATH" in log
        assert "Traceback" not in log


def test_a_large_file_is_checked_beside_the_first_orders(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soundness, "CHECK_AT_ONCE_BYTES", 0)
    some_orders(path)
    manager = Manager(path, "run1")
    assert manager.ask({**ORDER, "id": 100})[0]["ok"]
    manager.store._soundness._thread.join(20)  # type: ignore[union-attr]
    manager.store.maintain(idle=True)
    root = manager.store._connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name='executions'"
    ).get
    manager.close()
    data = bytearray(path.read_bytes())
    data[(root - 1) * 1024 : root * 1024] = b"\x99" * 1024
    path.write_bytes(data)
    store = OrderStore.open(str(path))
    store._soundness._thread.join(20)  # type: ignore[union-attr]
    with pytest.raises(StoreError, match=r"(?s)damaged .* store restore BACKUP"):
        store.maintain(idle=False)
    store.close()


def test_a_store_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((StoreUnavailableError, StoreError)):
        OrderStore.open(str(tmp_path / "file" / "orders.sqlite3"))


def test_changes_of_orders_before_their_table_are_there_once_and_numbers_go_on(path: Path) -> None:
    """A store of version 6: one order that rests, one that was canceled, one filled at once."""
    connection = apsw.Connection(str(path))
    for script in MIGRATIONS[:6]:
        connection.execute(script)
    connection.pragma("user_version", 6)
    connection.pragma("application_id", APPLICATION_ID)
    connection.execute("INSERT INTO clients VALUES(1, '', 'desk')")
    for number, status, filled in ((1, 1, 0), (2, 1, 0), (3, 3, 4)):
        row = (number, 1, number, 5, 1, "AAPL", 4, 10**9, 2, 1, None, status, filled, 0, 0, 0, 0, 0)
        connection.execute(
            f"INSERT INTO orders VALUES({','.join('?' * 24)})", (*row, None, 0, 0, 0, 0, None)
        )
    connection.execute("INSERT INTO order_state VALUES(1, 1, 0, 0, 5, NULL)")
    connection.execute("INSERT INTO order_state VALUES(2, 4, 0, 0, 7, 'canceled by request')")
    connection.close()
    manager = Manager(path)
    manager.ask({"op": "cancel", "id": 1, "client": "desk"})
    manager.close()
    connection = apsw.Connection(str(path))
    changes = connection.execute(
        "SELECT change_no, order_no, status, reason FROM order_changes"
    ).fetchall()
    identity = connection.execute("SELECT store_id FROM identity").fetchall()
    connection.close()
    why = "canceled by request"
    assert changes == [(1, 2, 4, why), (2, 1, 4, why)]
    assert len(identity) == 1
    assert len(identity[0][0]) == 16


def test_an_order_that_begins_to_rest_has_no_change_yet(path: Path) -> None:
    manager = Manager(path)
    manager.ask({**ORDER, "type": "LIMIT", "id": 1, "client": "desk"})
    manager.ask(
        {**ORDER, "type": "LIMIT", "id": 2, "client": "desk"},
        {"op": "cancel", "id": 2, "client": "desk"},
    )
    manager.close()
    connection = apsw.Connection(str(path))
    changes = connection.execute("SELECT order_no, status FROM order_changes").fetchall()
    stored = connection.execute("SELECT order_no, status FROM orders").fetchall()
    connection.close()
    assert stored == [(1, 1), (2, 1)]
    assert changes == [(2, 4)], "also within the batch that acknowledged it"


def test_a_store_that_is_made_while_its_version_is_read_is_none_yet(tmp_path: Path) -> None:
    """Version, application and tables are of one moment: a reader may come at any."""
    path = str(tmp_path / "orders.sqlite3")
    apsw.Connection(path).pragma("journal_mode", "WAL")
    reader = apsw.Connection(path)

    def make_it(_cursor: apsw.Cursor, statement: str, _values: object) -> bool:
        if "sqlite_schema" in statement:
            reader.exec_trace = None
            OrderStore.open(path).close()
        return True

    reader.exec_trace = make_it
    assert schema_version(reader) == 0
    assert schema_version(reader) == VERSION
    reader.close()
