"""SIGKILL at random moments under load: no ACK is lost, nothing executes twice."""

import json
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from app.order_manager.store.positions import rebuild_positions
from app.order_manager.store.tools import verify
from tests.support.orders.process import Client, OrderManagerProcess

pytestmark = pytest.mark.medium

SEED = int(os.environ.get("ORDER_KILL_SEED", "20251001"))
CLIENTS = 3
WINDOW = 64
READY_S = 5.0


class Up:
    """The port of the running order manager, 0 while it is down."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._port = 0

    def set(self, port: int) -> None:
        """Set the port and wake all waiting clients; 0 means down."""
        with self._changed:
            self._port = port
            self._changed.notify_all()

    def wait(self) -> int:
        """Wait until the order manager is up; returns its port."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._port, timeout=60)
            return self._port


class Load(threading.Thread):
    """One client that sends orders, resends those without an answer, and keeps every answer."""

    def __init__(self, name: str, seed: int, up: Up) -> None:
        super().__init__(name=name, daemon=True)
        self.acked: dict[int, dict[str, Any]] = {}
        self.resent = self.repeated = 0
        self.failure: BaseException | None = None
        self.finish = False
        self._rng = random.Random(seed)
        self._up = up
        self._next = 1
        self._unanswered: list[dict[str, Any]] = []

    def _order(self) -> dict[str, Any]:
        rng = self._rng
        order = {
            "id": self._next,
            "client": self.name,
            "side": rng.choice(("BUY", "SELL")),
            "symbol": rng.choice(("AAPL", "MSFT", "NVDA")),
            "qty": rng.randint(1, 50),
            "price": round(rng.uniform(1, 500), 2),
        }
        if rng.random() < 0.05:
            order["qty"] = 10**12
        if rng.random() < 0.1:
            order |= {"type": "LIMIT", "tif": "GTC"}
        self._next += 1
        return order

    def run(self) -> None:
        try:
            while not (self.finish and not self._unanswered):
                try:
                    with Client(self._up.wait()) as client:
                        self._talk(client)
                except (OSError, EOFError):
                    self.resent += len(self._unanswered)
        except BaseException as error:
            self.failure = error

    def _talk(self, client: Client) -> None:
        while True:
            for order in self._unanswered:
                client.send(order)
            fresh = 0 if self.finish else self._rng.randint(1, WINDOW)
            for _ in range(fresh):
                order = self._order()
                self._unanswered.append(order)
                client.send(order)
            while self._unanswered:
                self._keep(self._unanswered[0], client.read())
                del self._unanswered[0]
            if self.finish:
                return

    def _keep(self, asked: dict[str, Any], answer: dict[str, Any]) -> None:
        assert "order" in answer, answer
        order = answer["order"]
        assert {key: order[key] for key in ("id", "client", "side", "symbol", "qty")} == {
            key: asked[key] for key in ("id", "client", "side", "symbol", "qty")
        }
        assert answer["ok"] is (asked["qty"] < 10**12)
        self.repeated += bool(answer.get("duplicate"))
        self.acked[order["id"]] = order


def _stored(path: Path) -> Iterator[tuple[str, int, int, int, int, int]]:
    connection = apsw.Connection(str(path))
    yield from connection.execute(
        "SELECT c.name, o.id, o.order_no, o.qty, o.exec_first, o.exec_count FROM orders o "
        "JOIN clients c USING(client_no)"
    )
    connection.close()


def _run_kills(folder: Path, kills: int, seed: int, **settings: object) -> None:
    print(f"{kills} kills; repeat with: ORDER_KILL_SEED={seed}")
    rng = random.Random(seed)
    up = Up()
    loads = [Load(f"c{n}", rng.getrandbits(32), up) for n in range(CLIENTS)]
    slowest_s = 0.0
    with OrderManagerProcess(folder, **settings) as manager:
        up.set(manager.port)
        for load in loads:
            load.start()
        for _ in range(kills):
            # A random moment for the kill, not a synchronization.
            time.sleep(rng.uniform(0.0, 0.08))
            up.set(0)
            manager.kill()
            begin = time.monotonic()
            manager.start()
            slowest_s = max(slowest_s, time.monotonic() - begin)
            up.set(manager.port)
        for load in loads:
            load.finish = True
        for load in loads:
            load.join(60)
            assert not load.is_alive()
            assert load.failure is None, load.failure
        with manager.client() as client:
            told = client.ask({"op": "positions"})["positions"]
        assert manager.stop() == 0
    assert slowest_s < READY_S
    _check(manager.store_path, loads, told)
    orders = sum(len(load.acked) for load in loads)
    resent, repeated = (sum(getattr(x, n) for x in loads) for n in ("resent", "repeated"))
    print(
        f"{orders} orders, {resent} sent again, {repeated} of them answered from the store; "
        f"slowest start {slowest_s:.2f} s"
    )
    assert orders > kills


def _check(path: Path, loads: list[Load], told: list[dict[str, Any]]) -> None:
    assert verify(str(path)) == []
    stored: dict[tuple[str, int], tuple[int, ...]] = {}
    for name, order_id, *rest in _stored(path):
        assert (name, order_id) not in stored, "an order is stored twice"
        stored[name, order_id] = tuple(rest)
    for load in loads:
        for order_id, order in load.acked.items():
            order_no, qty, exec_first, exec_count = stored.pop((load.name, order_id))
            assert (order["order_no"], order["qty"]) == (order_no, qty)
            assert order.get("exec_ids", []) == list(range(exec_first, exec_first + exec_count))
    assert not stored, "stored orders without an ACK"
    connection = apsw.Connection(str(path))
    names = dict(connection.execute("SELECT client_no, name FROM clients").fetchall())
    rebuilt = {
        (names[client_no], symbol): position.qty
        for (client_no, symbol), position in rebuild_positions(connection).items()
    }
    connection.close()
    assert {(p["client"], p["symbol"]): p["qty"] for p in told if p["qty"]} == {
        key: qty for key, qty in rebuilt.items() if qty
    }


def test_twenty_kills_under_load(tmp_path: Path) -> None:
    _run_kills(tmp_path, 20, SEED)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_kills_under_load(tmp_path: Path) -> None:
    _run_kills(tmp_path, 200, SEED + 1)


@pytest.mark.timeout(300)
def test_kills_with_relaxed_sync(tmp_path: Path) -> None:
    """A killed process loses nothing with NORMAL either: the kernel already has the bytes."""
    _run_kills(tmp_path, 10, SEED + 2, order_store_synchronous="NORMAL")


def test_same_id_a_thousand_times_over_fifty_connections_across_a_restart(tmp_path: Path) -> None:
    order = b'{"side":"BUY","symbol":"AAPL","qty":10,"price":173.2,"id":7,"client":"desk"}*'
    answers: list[dict[str, Any]] = []
    with OrderManagerProcess(tmp_path) as manager:
        for _ in range(2):
            clients = [manager.client() for _ in range(50)]
            for client in clients:
                client.send(order * 10)
            for client in clients:
                answers += [client.read() for _ in range(10)]
                client.close()
            manager.kill()
            manager.start()
        with manager.client() as client:
            held = client.ask({"op": "positions"})["positions"]
    assert len(answers) == 1000
    assert sum("duplicate" not in answer for answer in answers) == 1
    assert {json.dumps(answer["order"]) for answer in answers} == {json.dumps(answers[0]["order"])}
    assert all(answer["ok"] for answer in answers)
    assert [position["qty"] for position in held] == [10]
    assert len(list(_stored(manager.store_path))) == 1


def test_a_client_gets_an_unread_answer_after_the_restart(tmp_path: Path) -> None:
    order = {"side": "BUY", "symbol": "AAPL", "qty": 10, "price": 173.2, "id": 7}
    with OrderManagerProcess(tmp_path) as manager:
        with manager.client() as client, manager.client() as other:
            client.send(order)
            # It is committed, because a later order is; its answer stays unread in the socket.
            assert other.ask({**order, "id": 8})["ok"] is True
            manager.kill()
        manager.start()
        with manager.client() as client:
            answer = client.ask(order)
            assert (answer["ok"], answer["duplicate"]) == (True, True)
            assert client.ask({"op": "positions"})["positions"][0]["qty"] == 20
