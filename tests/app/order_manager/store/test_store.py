"""The store: what survives, what is refused, faults of the disk, copies, damage."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from app.__main__ import main
from app.config import Settings
from app.execution.prices import NoPrices
from app.model.wire.order_json import decode
from app.order_manager import service as order_service
from app.order_manager.pipeline import build_service
from app.order_manager.service import OrderService
from app.order_manager.store.positions import position_rows, read_positions, rebuild_positions
from app.order_manager.store.schema import APPLICATION_ID, MIGRATIONS, VERSION, StoreError
from app.order_manager.store.store import OrderStore, StoreUnavailableError
from app.order_manager.store.tools import verify
from tests.support.faulty_disk import FaultyDisk, faulty_disk
from tests.support.orders.process import OrderManagerProcess
from tests.support.orders.server import running
from tests.support.paths import ROOT

ORDER: dict[str, Any] = {"side": "BUY", "symbol": "AAPL", "qty": 10, "price": 173.2}


class Manager:
    """The service on a store, without sockets: one request is one turn."""

    def __init__(self, path: Path | str, run_id: str = "", **settings: Any) -> None:
        self.store = OrderStore.open(str(path), run_id=run_id)
        self.service: OrderService[int] = build_service(  # type: ignore[assignment]
            Settings(**settings), self.store, NoPrices()
        )

    def ask(self, *requests: dict[str, Any]) -> list[dict[str, Any]]:
        """One turn."""
        self.service.begin()
        for request in requests:
            self.service.handle(0, decode(json.dumps(request).encode()))
        answers = self.service.finish()
        self.service.counts.clear()
        self.store.prepare()
        return [json.loads(answer[:-1]) for _, answer in answers]

    def close(self) -> None:
        self.store.close()

    def crash(self) -> None:
        """As a killed process leaves it: positions are as they were last written down."""
        self.store._unwritten.clear()
        self.store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.sqlite3"


def test_an_order_is_acknowledged_as_it_stood_whatever_came_in_the_same_turn(path: Path) -> None:
    manager = Manager(path)
    resting = {**ORDER, "id": 1, "type": "LIMIT", "tif": "GTC", "client": "c"}
    cancel = {"op": "cancel", "id": 1, "client": "c"}
    placed, canceled, again = manager.ask(resting, cancel, resting)
    assert placed["order"]["status"] == "New"
    assert canceled["order"]["status"] == "Canceled"
    assert again == {**placed, "duplicate": True}
    manager.close()


def test_an_answer_that_cannot_be_written_gives_the_turn_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager(path)

    def broken(*_acked: object) -> bytes:
        raise ZeroDivisionError("on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(order_service, "encode_ack", broken)
        first, pong = manager.ask({**ORDER, "id": 1}, {"op": "ping"})
        assert (first["ok"], first["code"], first["retryable"]) == (
            False,
            "STORE_UNAVAILABLE",
            True,
        )
        assert pong["ok"] is True
    answer = manager.ask({**ORDER, "id": 1})[0]
    while not answer["ok"]:
        time.sleep(0.02)
        answer = manager.ask({**ORDER, "id": 1})[0]
    assert "duplicate" not in answer, "nothing of the turn was kept"
    manager.close()


def test_answers_survive_a_restart(path: Path) -> None:
    asked = [{**ORDER, "id": n, "client": f"c{n % 3}", "ts": f"t{n}"} for n in range(50)]
    asked.append({**ORDER, "id": 7, "client": "d", "qty": 10**12})
    asked.append({**ORDER, "id": 8, "client": "d", "type": "LIMIT", "tif": "GTC"})
    asked.append({**ORDER, "id": 9, "client": "d", "type": "MARKET"})
    first = Manager(path)
    answers = [first.ask(request)[0] for request in asked]
    positions = first.ask({"op": "positions"})
    first.close()
    second = Manager(path)
    assert second.ask(*asked) == [{**answer, "duplicate": True} for answer in answers]
    assert second.ask({"op": "positions"}) == positions
    assert [o["id"] for o in second.ask({"op": "orders"})[0]["orders"]] == [8]
    assert second.ask({**ORDER, "id": 7, "client": "d"})[0]["code"] == "DUPLICATE_ID"
    assert second.ask({"op": "cancel", "id": 8, "client": "d"})[0]["ok"] is True
    second.close()
    assert verify(str(path)) == []


def test_ids_rise_across_restarts(path: Path) -> None:
    seen: list[int] = []
    for _ in range(4):
        manager = Manager(path)
        seen += [answer["order"]["id"] for answer in manager.ask(*[ORDER] * 5)]
        manager.close()
    assert seen == sorted(set(seen))
    assert len(seen) == 20


def test_run_ids_are_worlds_of_their_own(path: Path) -> None:
    for run_id in ("monday", "tuesday", ""):
        manager = Manager(path, run_id)
        answer = manager.ask({**ORDER, "id": 1, "client": "desk", "qty": 3})[0]
        assert "duplicate" not in answer
        assert manager.ask({"op": "positions"})[0]["total"]["qty"] == {"AAPL": 3}
        assert len(manager.ask({"op": "orders", "open": False})[0]["orders"]) == 1
        manager.close()
    again = Manager(path, "monday")
    assert again.ask({**ORDER, "id": 1, "client": "desk", "qty": 3})[0]["duplicate"] is True
    again.close()
    assert verify(str(path)) == []


def test_modes_survive_a_restart_until_a_human_resumes(path: Path) -> None:
    manager = Manager(path)
    manager.ask(
        {**ORDER, "client": "desk"},
        {"op": "halt", "kill": True},
        {"op": "reduce", "client": "desk"},
    )
    manager.close()
    manager = Manager(path)
    assert manager.ask(ORDER)[0]["code"] == "KILL_SWITCH"
    manager.ask({"op": "resume"})
    manager.close()
    manager = Manager(path)
    assert manager.ask(ORDER)[0]["ok"] is True
    assert manager.ask({**ORDER, "client": "desk"})[0]["code"] == "REDUCE_ONLY"
    manager.close()


def test_daily_loss_survives_a_restart(path: Path) -> None:
    limit = {"risk_client_daily_loss_max": 100.0}
    losing = [
        {**ORDER, "ts": "2025-10-01"},
        {**ORDER, "ts": "2025-10-01", "side": "SELL", "price": 160},
    ]
    manager = Manager(path, **limit)
    manager.ask(*losing)
    manager.close()
    manager = Manager(path, **limit)
    assert manager.ask({**ORDER, "ts": "2025-10-01"})[0]["code"] == "DAILY_LOSS"
    assert manager.ask({**ORDER, "ts": "2025-10-02"})[0]["code"] == "KILL_SWITCH", "until resumed"
    manager.ask({"op": "resume", "client": "default"})
    assert manager.ask({**ORDER, "ts": "2025-10-02"})[0]["ok"] is True
    manager.close()


def test_amounts_beyond_64_bits(path: Path) -> None:
    huge = {**ORDER, "qty": 10**9, "price": 9_000_000_000, "id": 1}
    manager = Manager(path)
    first = manager.ask(huge, {**huge, "id": 2})
    positions = manager.ask({"op": "positions"})
    manager.close()
    manager = Manager(path)
    assert manager.ask(huge)[0] == {**first[0], "duplicate": True}
    assert manager.ask({"op": "positions"}) == positions
    manager.close()
    assert verify(str(path)) == []


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
    assert manager.ask({**ORDER, "client": "desk", "type": "LIMIT"})[0]["ok"] is True
    manager.close()
    old = apsw.Connection(f"{path}.schema1")
    assert old.pragma("user_version") == 1
    assert old.execute("SELECT count(*) FROM orders").get == 1
    old.close()
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


@pytest.mark.parametrize("damage", ["head", "middle", "cut", "text"])
def test_a_damaged_file_is_refused_kept_and_the_way_out_named(tmp_path: Path, damage: str) -> None:
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


# Faults of the disk


@pytest.fixture
def disk() -> Any:
    with faulty_disk() as made:
        yield made


FAULTS = [
    (apsw.FullError, ("write",), 0),
    (apsw.FullError, ("write",), 1),
    (apsw.FullError, ("write",), 3),
    (apsw.IOError, ("write",), 0),
    (apsw.IOError, ("sync",), 0),
]


@pytest.mark.parametrize(("error", "operations", "after"), FAULTS)
def test_nothing_is_acknowledged_while_the_disk_fails_and_it_goes_on_by_itself(
    path: Path,
    disk: FaultyDisk,
    error: type[apsw.Error],
    operations: tuple[str, ...],
    after: int,
) -> None:
    manager = Manager(path, trading_mode="live")
    kept = manager.ask({**ORDER, "id": 1})[0]
    disk.failing, disk.operations, disk.after = error, operations, after
    for n in range(2, 40):
        lost = manager.ask({**ORDER, "id": n}, {**ORDER, "id": n + 100}, {"op": "ping"})
        assert [a.get("code") for a in lost[:2]] == ["STORE_UNAVAILABLE"] * 2
        assert all(a["retryable"] for a in lost[:2])
        assert [a["id"] for a in lost[:2]] == [n, n + 100]
        time.sleep(0.005)
    assert disk.faults > 0
    assert manager.ask({"op": "ping"})[0]["ok"] is False
    disk.failing = None
    deadline = time.monotonic() + 5
    while not manager.ask({"op": "ping"})[0]["ok"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert manager.ask({**ORDER, "id": 1})[0] == {**kept, "duplicate": True}
    assert "duplicate" not in manager.ask({**ORDER, "id": 2})[0]
    assert manager.ask({"op": "positions"})[0]["positions"][0]["qty"] == 20
    manager.close()
    assert verify(str(path)) == []


def test_a_fault_that_comes_and_goes_at_random_moments(path: Path, disk: FaultyDisk) -> None:
    import random

    rng = random.Random(7)
    manager = Manager(path, trading_mode="live")
    acked: dict[int, dict[str, Any]] = {}
    for n in range(400):
        if rng.random() < 0.2:
            disk.failing = rng.choice((None, apsw.FullError, apsw.IOError))
            disk.operations = rng.choice((("write",), ("sync",), ("write", "sync")))
            disk.after = rng.randint(0, 6)
        answers = manager.ask(*({**ORDER, "id": i, "client": "c"} for i in (n, n // 2)))
        for order_id, answer in zip((n, n // 2), answers, strict=True):
            if answer["ok"]:
                order = answer["order"]
                assert acked.setdefault(order_id, order) == order
        # Let the next turn try again at once.
        manager.service._retry_ns = 0
    disk.failing = None
    manager.close()
    manager = Manager(path)
    assert len(acked) > 50
    for order_id, order in acked.items():
        again = manager.ask({**ORDER, "id": order_id, "client": "c"})[0]
        assert (again["order"], again["duplicate"]) == (order, True)
    manager.close()
    assert verify(str(path)) == []


def test_server_stays_up_on_a_full_volume(tmp_path: Path) -> None:
    """A real full file system, where this machine lets us mount one."""
    mount = tmp_path / "volume"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a tmpfs")
    try:
        with (
            OrderManagerProcess(tmp_path / "log", output_dir=mount, trading_mode="live") as manager,
            manager.client(30) as client,
        ):
            assert client.ask({**ORDER, "id": 1})["ok"] is True
            filler = mount / "filler"
            with filler.open("wb") as file:
                try:
                    while True:
                        file.write(b"x" * 65536)
                        file.flush()
                except OSError:
                    pass
            answers = []
            for n in range(2, 30_000):
                answers.append(client.ask({**ORDER, "id": n, "ts": "x" * 60}))
                if not answers[-1]["ok"]:
                    break
            assert answers[-1]["code"] == "STORE_UNAVAILABLE"
            assert answers[-1]["retryable"] is True
            filler.unlink()
            deadline = time.monotonic() + 10
            while not client.ask({"op": "ping"})["ok"]:
                assert time.monotonic() < deadline
            assert client.ask({**ORDER, "id": 1_000_000})["ok"] is True
            acked = sum(1 for answer in answers if answer["ok"]) + 2
            position = client.ask({"op": "positions"})["positions"][0]
            assert position["qty"] == 10 * acked
            assert manager.stop() == 0
        assert verify(str(mount / "orders.sqlite3")) == []
    finally:
        subprocess.run(["umount", str(mount)], check=False)


def test_a_store_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((StoreUnavailableError, StoreError)):
        OrderStore.open(str(tmp_path / "file" / "orders.sqlite3"))


# Tools


def tool(words: list[str]) -> int:
    return main(["store", *words])


def _some_orders(path: Path) -> None:
    manager = Manager(path, "run1", paper_fill_percent=100)
    for n in range(20):
        manager.ask({**ORDER, "id": n, "client": f"c{n % 2}", "side": ("BUY", "SELL")[n % 3 == 0]})
    manager.ask({**ORDER, "client": "c0", "qty": 10**12}, {**ORDER, "type": "LIMIT", "ts": "a,*"})
    manager.close()


def test_backup_of_a_running_store_and_restore(tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite3"
    with running(tmp_path) as server, server.client() as client:
        client.send(b"".join(json.dumps({**ORDER, "id": n}).encode() + b"*" for n in range(5000)))
        for _ in range(100):
            client.read()
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        store = str(tmp_path / "orders.sqlite3")
        command = [sys.executable, "-m", "app", "store", "--store", store]
        run = [*command, "backup", str(copy)]
        done = subprocess.run(run, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for _ in range(4900):
            assert client.read()["ok"]
        refused = subprocess.run(
            [*command, "restore", str(copy)],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode == 1
        assert "stop it" in refused.stderr
    assert verify(str(copy)) == []
    assert tool(["--store", store, "restore", str(copy)]) == 0
    assert verify(store) == []
    kept = [p for p in tmp_path.iterdir() if ".replaced-" in p.name and not p.name.endswith("-wal")]
    assert len(kept) == 1
    manager = Manager(store)
    answer = manager.ask({**ORDER, "id": 0})[0]
    assert answer["duplicate"] is True
    manager.close()


def test_backup_and_restore_through_a_pipe(path: Path, tmp_path: Path) -> None:
    _some_orders(path)
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "app", "store", "--store"]
    run = [*command, str(path), "backup", "-"]
    copy = subprocess.run(run, env=environ, capture_output=True, check=True).stdout
    other = tmp_path / "other" / "orders.sqlite3"
    run = [*command, str(other), "restore", "-"]
    subprocess.run(run, env=environ, input=copy, capture_output=True, check=True)
    assert verify(str(other)) == []
    assert len(rebuild_positions(apsw.Connection(str(other)))) == 2
    done = subprocess.run(run, env=environ, input=copy[:5000], capture_output=True, check=False)
    assert done.returncode == 1
    assert verify(str(other)) == []
    assert not [p for p in tmp_path.iterdir() if "streamed" in p.name]


def test_backup_refuses_to_overwrite_and_restore_checks_first(path: Path, tmp_path: Path) -> None:
    _some_orders(path)
    target = tmp_path / "b"
    target.write_text("precious")
    assert tool(["--store", str(path), "backup", str(target)]) == 1
    assert target.read_text() == "precious"
    before = path.read_bytes()
    assert tool(["--store", str(path), "restore", str(target)]) == 1
    assert path.read_bytes() == before
    assert tool(["--store", str(tmp_path / "none"), "backup"]) == 1
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name]


def test_export_csv(path: Path, tmp_path: Path) -> None:
    _some_orders(path)
    assert tool(["--store", str(path), "export", str(tmp_path / "out")]) == 0
    tables = {}
    for name in ("orders", "fills", "positions"):
        with (tmp_path / "out" / f"{name}.csv").open(newline="") as file:
            tables[name] = list(csv.DictReader(file))
    assert len(tables["orders"]) == 22
    assert len(tables["fills"]) == 20
    first = tables["orders"][0]
    assert (first["side"], first["price"], first["status"]) == ("SELL", "173.20", "Filled")
    assert tables["orders"][20]["code"] == "QTY_MAX"
    assert (tables["orders"][21]["ts"], tables["orders"][21]["status"]) == ("a,*", "New")
    assert {row["client"] for row in tables["positions"]} == {"c0", "c1"}
    assert tool(["--store", str(path), "export", str(tmp_path / "no"), "--run-id", "other"]) == 0
    assert len((tmp_path / "no" / "orders.csv").read_text().splitlines()) == 1


def test_export_parquet(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _some_orders(path)
    code = tool(["--store", str(path), "export", str(tmp_path / "out"), "--format", "parquet"])
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        assert code == 1
        assert "pip install pyarrow" in capsys.readouterr().err
        return
    assert code == 0
    table = parquet.read_table(tmp_path / "out" / "orders.parquet")
    assert table.num_rows == 22
    assert str(table.column("price")[0].as_py()) == "173.200000000"


def test_verify_finds_what_is_wrong_and_rebuild_mends_positions(path: Path) -> None:
    _some_orders(path)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE positions SET qty = qty + 1 WHERE client_no = 1")
    connection.close()
    assert tool(["--store", str(path), "verify"]) == 1
    assert len(verify(str(path))) == 1
    assert tool(["--store", str(path), "rebuild"]) == 0
    assert verify(str(path)) == []
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE orders SET filled_qty = 9 WHERE order_no = 3")
    connection.execute("UPDATE orders SET exec_first = 5 WHERE order_no = 6")
    connection.close()
    problems = verify(str(path))
    assert any("twice" in problem for problem in problems)


def test_positions_ahead_of_the_fills_are_refused(path: Path) -> None:
    _some_orders(path)
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
    assert tool(["--store", str(path), "rebuild"]) == 0
    Manager(path).close()


def _table(path: Path) -> list[Any]:
    connection = apsw.Connection(str(path))
    rows = connection.execute("SELECT * FROM positions ORDER BY client_no, symbol").fetchall()
    connection.close()
    return rows


def _now(path: Path) -> list[Any]:
    """Positions as a reader of the file gets them; the same as those of all fills."""
    connection = apsw.Connection(str(path))
    found, _ = read_positions(connection)
    rows = position_rows(found)
    assert rows == position_rows(rebuild_positions(connection))
    connection.close()
    return [row for _, row in sorted(rows.items())]


class TestPositionsAreWrittenDownNowAndThen:
    """Not with each order; whoever reads them applies the fills since."""

    @pytest.fixture(autouse=True)
    def at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.order_manager.store.store.POSITIONS_IDLE_S", 0.0)

    def test_a_commit_writes_none_and_idleness_does(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manager = Manager(path)
        manager.ask({**ORDER, "id": 1})
        assert (_table(path), len(_now(path))) == ([], 1)
        manager.store.tend(idle=False)
        assert _table(path) == []
        manager.store.tend(idle=True)
        assert _table(path) == _now(path)
        manager.ask({**ORDER, "id": 2, "side": "SELL"}, {**ORDER, "id": 3, "symbol": "MSFT"})
        monkeypatch.setattr("app.order_manager.store.store.POSITIONS_IDLE_S", 3600.0)
        manager.store.tend(idle=True)
        # It was a short idleness.
        assert (len(_table(path)), len(_now(path))) == (1, 2)
        manager.close()
        assert _table(path) == _now(path)

    def test_a_killed_process_finds_them_again(self, path: Path) -> None:
        before: list[Any] = []
        for n in range(20):
            manager = Manager(path, trading_mode="live")
            assert manager.ask({"op": "positions", "limit": 200})[0]["positions"] == before
            manager.ask(
                {**ORDER, "id": n, "client": f"c{n % 3}", "side": ("BUY", "SELL")[n % 4 == 0]},
                {**ORDER, "id": n, "client": f"d{n % 2}", "symbol": "MSFT", "qty": n + 1},
            )
            if n % 5 == 4:
                manager.store.tend(idle=True)
            before = manager.ask({"op": "positions", "limit": 200})[0]["positions"]
            _now(path)
            manager.crash()
        assert verify(str(path)) == []

    def test_a_run_does_not_lose_what_another_run_found(self, path: Path) -> None:
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
        manager.store.tend(idle=True)
        manager.crash()
        connection = apsw.Connection(str(path))
        # An order of two executions, with one in between that its order carries.
        row = connection.execute("SELECT * FROM orders").get
        values = ",".join("?" * len(row))
        several = (2, *row[1:2], 2, *row[3:12], 4, 4 * 10**9, 2, 2, 0, *row[17:])
        connection.execute(f"INSERT INTO orders VALUES({values})", several)
        connection.execute(f"INSERT INTO executions VALUES(2, 2, 0, 3, {10**9})")
        # One of an order from before the snapshot.
        connection.execute(f"INSERT INTO executions VALUES(5, 1, 0, 6, {10**9})")
        connection.execute(f"INSERT INTO executions VALUES(4, 2, 0, 1, {2 * 10**9})")
        single = (3, *row[1:2], 3, *row[3:14], 3, *row[15:])
        connection.execute(f"INSERT INTO orders VALUES({values})", single)
        connection.close()
        assert _now(path)[0][-1] == 5
        manager = Manager(path)
        assert manager.ask({"op": "positions"})[0]["positions"][0]["qty"] == 30
        manager.close()

    def test_a_disk_that_fails_leaves_them_for_later(self, path: Path, disk: FaultyDisk) -> None:
        manager = Manager(path, trading_mode="live")
        manager.ask({**ORDER, "id": 1})
        disk.failing, disk.operations, disk.after = apsw.FullError, ("write",), 0
        manager.store.tend(idle=True)
        assert disk.faults > 0
        disk.failing = None
        assert _table(path) == []
        assert manager.ask({**ORDER, "id": 2, "symbol": "MSFT"})[0]["ok"]
        manager.close()
        assert _table(path) == _now(path)
        assert [row[1:3] for row in _now(path)] == [("AAPL", 10), ("MSFT", 10)]

    def test_a_full_disk_is_no_reason_not_to_checkpoint(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise apsw.FullError("on purpose")

        manager = Manager(path)
        manager.ask({**ORDER, "id": 1})
        manager.store.wal_pages = 9000
        with monkeypatch.context() as disk:
            disk.setattr("app.order_manager.store.store.write_positions", full)
            manager.store.tend(idle=False)
        assert (manager.store.wal_pages, _table(path)) == (0, [])
        assert manager.ask({**ORDER, "id": 2, "symbol": "MSFT"})[0]["ok"]
        manager.close()
        assert _table(path) == _now(path)
        assert len(_now(path)) == 2

    def test_what_no_commit_kept_is_not_written_down(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A bug ends the process in the middle of a turn."""
        manager = Manager(path)
        manager.ask({**ORDER, "id": 1})
        manager.service.begin()
        request = decode(json.dumps({**ORDER, "id": 2}).encode())
        manager.service.handle(0, request)
        manager.store.tend(idle=True)
        assert _table(path) == _now(path)
        manager.close()
        assert _table(path) == _now(path)
        assert _now(path)[0][2] == 10

    def test_a_transaction_that_was_open_ahead_is_open_again(self, path: Path) -> None:
        manager = Manager(path)
        manager.ask({**ORDER, "id": 1})
        for idle in (True, False):
            manager.store.wal_pages = 9000
            manager.store.tend(idle=idle)
            with pytest.raises(apsw.SQLError, match="within a transaction"):
                manager.store._cursor.execute("BEGIN")
        assert manager.ask({**ORDER, "id": 2})[0]["ok"]
        manager.close()


@pytest.mark.slow
def test_a_million_orders_start_in_five_seconds(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite3"
    manager = Manager(path)
    service = manager.service
    for start in range(0, 1_000_000, 5000):
        service.begin()
        for n in range(start, start + 5000):
            frame = b'{"side":"%s","symbol":"S%d","qty":10,"price":173.2,"id":%d,"client":"c%d"}'
            values = (b"BUY" if n % 3 else b"SELL", n % 10, n, n % 20)
            service.handle(0, decode(frame % values))
        service.finish()
        service.counts.clear()
        manager.store.prepare()
        manager.store.tend(idle=False)
    manager.crash()
    with OrderManagerProcess(tmp_path) as started:
        started.kill()
        begin = time.monotonic()
        started.start()
        seconds = time.monotonic() - begin
        with started.client() as client:
            answer = client.ask(
                b'{"side":"SELL","symbol":"S0","qty":10,"price":173.2,"id":0,"client":"c0"}*'
            )
            assert answer["duplicate"] is True
        memory = started.resident_bytes()
    print(f"ready on {path.stat().st_size >> 20} MiB in {seconds:.2f} s, {memory >> 20} MiB")
    assert seconds < 5
    assert memory < 80 * 2**20
    connection = apsw.Connection(str(path))
    assert len(rebuild_positions(connection)) == 20
    connection.close()
    shutil.rmtree(tmp_path, ignore_errors=True)
