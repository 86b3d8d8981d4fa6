"""What survives a restart: answers, ids, positions, modes, limits; how fast a start is."""

import json
import shutil
import time
from pathlib import Path

import apsw
import pytest

from app.model.wire.order_json import decode
from app.order_manager.store.loading import ROWS_TOGETHER
from app.order_manager.store.positions import rebuild_positions
from app.order_manager.store.tools import verify
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager
from tests.support.orders.process import OrderManagerProcess


def test_an_ack_shows_the_order_before_later_requests_of_its_batch(path: Path) -> None:
    manager = Manager(path)
    resting = {**ORDER, "id": 1, "type": "LIMIT", "tif": "GTC", "client": "c"}
    cancel = {"op": "cancel", "id": 1, "client": "c"}
    placed, canceled, again = manager.ask(resting, cancel, resting)
    assert placed["order"]["status"] == "New"
    assert canceled["order"]["status"] == "Canceled"
    assert again == {**placed, "duplicate": True}
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


@pytest.mark.parametrize("count", [2, ROWS_TOGETHER - 1, ROWS_TOGETHER, 2 * ROWS_TOGETHER + 5])
def test_every_order_of_a_batch_survives_a_restart(path: Path, count: int) -> None:
    asked = [{**ORDER, "id": n, "client": f"c{n % 3}", "qty": n + 1} for n in range(count)]
    first = Manager(path)
    answers = first.ask(*asked)
    assert [answer["order"]["order_no"] for answer in answers] == list(range(1, count + 1))
    first.close()
    second = Manager(path)
    assert second.ask(*asked) == [{**answer, "duplicate": True} for answer in answers]
    second.close()
    assert verify(str(path)) == []


@pytest.mark.parametrize("place", [0, ROWS_TOGETHER, 2 * ROWS_TOGETHER])
def test_a_batch_of_which_a_row_cannot_be_stored_leaves_none(path: Path, place: int) -> None:
    manager = Manager(path)
    assert manager.ask({**ORDER, "id": 1000})[0]["ok"]
    manager.service.begin()
    for number in range(2 * ROWS_TOGETHER + 1):
        manager.service.handle(0, decode(json.dumps({**ORDER, "id": 1001 + number}).encode()))
    manager.store.pending.orders[place].id = 1000
    answers = [json.loads(answer[:-1]) for _, answer in manager.service.finish()]
    assert {answer["code"] for answer in answers} == {"STORE_UNAVAILABLE"}
    manager.close()
    with apsw.Connection(str(path)) as connection:
        assert connection.execute("SELECT id FROM orders").fetchall() == [(1000,)]


def test_ids_rise_across_restarts(path: Path) -> None:
    seen: list[int] = []
    for _ in range(4):
        manager = Manager(path)
        seen += [answer["order"]["id"] for answer in manager.ask(*[ORDER] * 5)]
        manager.close()
    assert seen == sorted(set(seen))
    assert len(seen) == 20


def test_run_ids_are_separate(path: Path) -> None:
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


@pytest.mark.parametrize(
    "orders",
    [
        pytest.param(100_000, marks=pytest.mark.medium),
        pytest.param(1_000_000, marks=pytest.mark.slow),
    ],
)
def test_a_large_store_starts_in_five_seconds(tmp_path: Path, orders: int) -> None:
    path = tmp_path / "orders.sqlite3"
    manager = Manager(path)
    service = manager.service
    for start in range(0, orders, 5000):
        service.begin()
        for n in range(start, start + 5000):
            frame = b'{"side":"%s","symbol":"S%d","qty":10,"price":173.2,"id":%d,"client":"c%d"}'
            values = (b"BUY" if n % 3 else b"SELL", n % 10, n, n % 20)
            service.handle(0, decode(frame % values))
        service.finish()
        service.counts.clear()
        manager.store.end_batch()
        manager.store.maintain(idle=False)
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
