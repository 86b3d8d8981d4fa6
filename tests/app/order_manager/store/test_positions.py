"""Positions are written in idle moments; readers apply the fills since."""

import json
from pathlib import Path
from typing import Any

import apsw
import pytest

from app.model.wire.order_json import decode
from app.order_manager.store.positions import position_rows, read_positions, rebuild_positions
from app.order_manager.store.tools import verify
from tests.support.orders.faulty_disk import FaultyDisk
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager


def _table(path: Path) -> list[Any]:
    connection = apsw.Connection(str(path))
    rows = connection.execute("SELECT * FROM positions ORDER BY client_no, symbol").fetchall()
    connection.close()
    return rows


def _now(path: Path) -> list[Any]:
    """Positions as a reader of the file computes them; checked against those of all fills."""
    connection = apsw.Connection(str(path))
    found, _ = read_positions(connection)
    rows = position_rows(found)
    assert rows == position_rows(rebuild_positions(connection))
    connection.close()
    return [row for _, row in sorted(rows.items())]


class TestPositionsAreWrittenWhenIdle:
    """Not with each order; readers apply the fills since."""

    @pytest.fixture(autouse=True)
    def at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.order_manager.store.checkpoint.POSITIONS_IDLE_S", 0.0)

    def test_a_commit_writes_no_positions_and_an_idle_moment_does(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manager = Manager(path)
        manager.ask({**ORDER, "id": 1})
        assert (_table(path), len(_now(path))) == ([], 1)
        manager.store.maintain(idle=False)
        assert _table(path) == []
        manager.store.maintain(idle=True)
        assert _table(path) == _now(path)
        manager.ask({**ORDER, "id": 2, "side": "SELL"}, {**ORDER, "id": 3, "symbol": "MSFT"})
        monkeypatch.setattr("app.order_manager.store.checkpoint.POSITIONS_IDLE_S", 3600.0)
        manager.store.maintain(idle=True)
        # Not idle for long enough.
        assert (len(_table(path)), len(_now(path))) == (1, 2)
        manager.close()
        assert _table(path) == _now(path)

    @pytest.mark.medium
    def test_positions_survive_a_kill(self, path: Path) -> None:
        before: list[Any] = []
        for n in range(20):
            manager = Manager(path, trading_mode="live")
            assert manager.ask({"op": "positions", "limit": 200})[0]["positions"] == before
            manager.ask(
                {**ORDER, "id": n, "client": f"c{n % 3}", "side": ("BUY", "SELL")[n % 4 == 0]},
                {**ORDER, "id": n, "client": f"d{n % 2}", "symbol": "MSFT", "qty": n + 1},
            )
            if n % 5 == 4:
                manager.store.maintain(idle=True)
            before = manager.ask({"op": "positions", "limit": 200})[0]["positions"]
            _now(path)
            manager.crash()
        assert verify(str(path)) == []

    def test_a_run_keeps_the_positions_of_another_run(self, path: Path) -> None:
        first = Manager(path, "one")
        first.ask({**ORDER, "id": 1, "qty": 7})
        first.crash()
        second = Manager(path, "two")
        second.ask({**ORDER, "id": 1, "qty": 5})
        second.close()
        assert len(_table(path)) == 2
        third = Manager(path, "one")
        assert third.ask({"op": "positions"})[0]["positions"][0]["qty"] == 7
        third.close()
        assert verify(str(path)) == []

    def test_executions_of_resting_orders_are_applied_too(self, path: Path) -> None:
        manager = Manager(path)
        manager.ask({**ORDER, "id": 1})
        manager.store.maintain(idle=True)
        manager.crash()
        connection = apsw.Connection(str(path))
        # An order with two executions, and between them one that is in its order's own row.
        row = connection.execute("SELECT * FROM orders").get
        values = ",".join("?" * len(row))
        several = (2, *row[1:2], 2, *row[3:12], 4, 4 * 10**9, 2, 2, 0, *row[17:])
        connection.execute(f"INSERT INTO orders VALUES({values})", several)
        connection.execute(f"INSERT INTO executions VALUES(2, 2, 0, 3, {10**9}, 0, 0, 0, 0, 9)")
        # An execution of an order from before the snapshot.
        connection.execute(f"INSERT INTO executions VALUES(5, 1, 0, 6, {10**9}, 0, 0, 0, 0, NULL)")
        connection.execute(
            f"INSERT INTO executions VALUES(4, 2, 0, 1, {2 * 10**9}, 7, 3, 2, 5, 11)"
        )
        single = (3, *row[1:2], 3, *row[3:14], 3, *row[15:])
        connection.execute(f"INSERT INTO orders VALUES({values})", single)
        connection.close()
        assert _now(path)[0][6:11] == (5, 7, 3, 2, 5)
        manager = Manager(path)
        assert manager.ask({"op": "positions"})[0]["positions"][0]["qty"] == 30
        assert manager.ask({"op": "positions"})[0]["positions"][0]["fees"] == 7e-9
        assert manager.ask({"op": "positions"})[0]["positions"][0]["borrow"] == 5e-9
        manager.close()

    def test_a_failed_write_is_repeated_later(self, path: Path, disk: FaultyDisk) -> None:
        manager = Manager(path, trading_mode="live")
        manager.ask({**ORDER, "id": 1})
        disk.failing, disk.operations, disk.after = apsw.FullError, ("write",), 0
        manager.store.maintain(idle=True)
        assert disk.faults > 0
        disk.failing = None
        assert _table(path) == []
        assert manager.ask({**ORDER, "id": 2, "symbol": "MSFT"})[0]["ok"]
        manager.close()
        assert _table(path) == _now(path)
        assert [row[1:3] for row in _now(path)] == [("AAPL", 10), ("MSFT", 10)]

    def test_a_checkpoint_follows_a_failed_write(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise apsw.FullError("on purpose")

        manager = Manager(path)
        manager.ask({**ORDER, "id": 1})
        manager.store.checkpointer.wal_pages = 9000
        with monkeypatch.context() as disk:
            disk.setattr("app.order_manager.store.checkpoint.write_positions", full)
            manager.store.maintain(idle=False)
        assert (manager.store.checkpointer.wal_pages, _table(path)) == (0, [])
        assert manager.ask({**ORDER, "id": 2, "symbol": "MSFT"})[0]["ok"]
        manager.close()
        assert _table(path) == _now(path)
        assert len(_now(path)) == 2

    def test_uncommitted_fills_are_not_written(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A bug ends the process in the middle of a batch."""
        manager = Manager(path)
        manager.ask({**ORDER, "id": 1})
        manager.service.begin()
        request = decode(json.dumps({**ORDER, "id": 2}).encode())
        manager.service.handle(0, request)
        manager.store.maintain(idle=True)
        assert _table(path) == _now(path)
        manager.close()
        assert _table(path) == _now(path)
        assert _now(path)[0][2] == 10

    def test_maintenance_reopens_the_transaction_that_was_open(self, path: Path) -> None:
        manager = Manager(path)
        manager.ask({**ORDER, "id": 1})
        for idle in (True, False):
            manager.store.checkpointer.wal_pages = 9000
            manager.store.maintain(idle=idle)
            with pytest.raises(apsw.SQLError, match="within a transaction"):
                manager.store._cursor.execute("BEGIN")
        assert manager.ask({**ORDER, "id": 2})[0]["ok"]
        manager.close()
