"""A connection may ask that its clients' open orders do not outlive it."""

import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from app.order_manager.store.store import StoreUnavailableError
from tests.support.children import eventually
from tests.support.orders.frames import ORDER
from tests.support.orders.process import Client, OrderManagerProcess
from tests.support.orders.server import RunningServer, running

LIMIT = {**ORDER, "type": "LIMIT", "tif": "GTC", "price": 1.0}
HELLO = {"op": "hello", "cancel_on_disconnect": True}


def status(server: RunningServer | OrderManagerProcess, client: str, order_id: int) -> str:
    """An order's status, as the stack sees it."""
    with server.client() as stack:
        answer = stack.ask({"op": "status", "client": client, "id": order_id})
        return str(answer["order"]["status"])


def close(client: Client) -> None:
    client.close()


def reset(client: Client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def half_close(client: Client) -> None:
    client.sock.shutdown(socket.SHUT_WR)


def misbehave(client: Client) -> None:
    client.send(b"\xff\xfe*")


@pytest.mark.parametrize("end", [close, reset, half_close, misbehave])
def test_its_open_orders_are_canceled_however_it_ends(
    server: RunningServer, end: Callable[[Client], None]
) -> None:
    with server.stranger() as other:
        assert other.ask({**LIMIT, "client": "other", "id": 1})["ok"]
        client = server.stranger()
        assert client.ask({**LIMIT, "client": "before", "id": 1})["ok"]
        assert client.ask(HELLO) == {"ok": True, "cancel_on_disconnect": True}
        for name, order_id in (("me", 75), ("me", 76), ("desk", 1), ("me", 77)):
            assert client.ask({**LIMIT, "client": name, "id": order_id})["ok"]
        end(client)
        eventually(lambda: status(server, "me", 77) == "Canceled", "canceled")
        assert status(server, "desk", 1) == "Canceled"
        with server.client() as stack:
            orders = stack.ask({"op": "orders"})["orders"]
        assert {(order["client"], order["id"]) for order in orders} == {
            ("other", 1),
            ("before", 1),
        }
        client.close()


def test_by_default_orders_outlive_their_connection(server: RunningServer) -> None:
    with server.client() as strategy:
        assert strategy.ask({**LIMIT, "client": "strategy@1", "id": 1})["ok"]
    with server.stranger() as client:
        assert client.ask(HELLO)["ok"]
        assert client.ask({"op": "hello"}) == {"ok": True, "cancel_on_disconnect": False}
        assert client.ask({**LIMIT, "client": "me", "id": 1})["ok"]
    server.count("connections")
    assert status(server, "strategy@1", 1) == status(server, "me", 1) == "New"


def test_hello_and_orders_in_one_packet_also_of_the_stack(server: RunningServer) -> None:
    frame = b'{"side":"BUY","symbol":"AAPL","qty":1,"price":1,"type":"LIMIT","id":%d}*'
    with server.client() as client:
        client.send(b'{"op":"hello","cancel_on_disconnect":true}*' + frame % 1 + frame % 2)
        assert [client.read()["ok"] for _ in range(3)] == [True] * 3
    eventually(lambda: status(server, "default", 2) == "Canceled", "canceled")
    assert status(server, "default", 1) == "Canceled"


def test_the_last_order_before_the_end_is_canceled_too(server: RunningServer) -> None:
    client = server.stranger()
    client.ask(HELLO)
    client.send({**LIMIT, "client": "me", "id": 5})
    client.close()
    with server.client() as stack:
        eventually(
            lambda: (
                stack.ask({"op": "status", "client": "me", "id": 5}).get("order", {}).get("status")
                == "Canceled"
            ),
            "canceled",
        )


def test_a_peer_that_vanishes_is_noticed(server: RunningServer) -> None:
    """The kernel asks a silent peer whether it is there."""
    with server.stranger() as client, server.stranger() as other:
        client.ask(HELLO)
        other.ask({"op": "ping"})
        found = {
            session.peer.rpartition(":")[2]: session.sock.getsockopt(
                socket.SOL_SOCKET, socket.SO_KEEPALIVE
            )
            for session in server.server._sessions
        }
        assert found[str(client.sock.getsockname()[1])] == 1
        assert found[str(other.sock.getsockname()[1])] == 0


def test_its_names_are_bounded(server: RunningServer) -> None:
    with server.stranger() as client:
        client.ask(HELLO)
        answers = [client.ask({**LIMIT, "client": f"c{n}"}) for n in range(70)]
        assert [answer["ok"] for answer in answers] == [True] * 64 + [False] * 6
        assert "at most 64 clients" in answers[-1]["msg"]
        assert client.ask({**LIMIT, "client": "c3"})["ok"]


def test_a_cancel_that_the_disk_refuses_is_done_later(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = server.server._store
    failures = 3
    commit = store.commit

    def failing() -> bool:
        nonlocal failures
        if failures and store.pending.states:
            failures -= 1
            raise StoreUnavailableError("disk full")
        return commit()

    with server.stranger() as client:
        client.ask(HELLO)
        assert client.ask({**LIMIT, "client": "me", "id": 1})["ok"]
        monkeypatch.setattr(store, "commit", failing)
    eventually(lambda: failures == 0, "failed commits")
    with server.client() as stack:
        eventually(
            lambda: (
                stack.ask({"op": "status", "client": "me", "id": 1})["order"]["status"]
                == "Canceled"
            ),
            "canceled",
        )


def test_it_is_durable_and_logged(tmp_path: Path) -> None:
    with OrderManagerProcess(tmp_path) as manager:
        client = manager.stranger()
        client.ask(HELLO)
        assert client.ask({**LIMIT, "client": "me", "id": 1})["ok"]
        client.close()
        eventually(lambda: status(manager, "me", 1) == "Canceled", "canceled")
        line = "Canceled Order 1 client=me id=1 reason=connection_ended"
        eventually(lambda: manager.log().count(line) == 1, "logged")
        manager.kill()
        manager.start()
        assert status(manager, "me", 1) == "Canceled"


@pytest.mark.medium
def test_an_order_manager_that_stops_cancels_nothing(tmp_path: Path) -> None:
    """Its clients are still there, and connect again."""
    with OrderManagerProcess(tmp_path) as manager:
        with manager.stranger() as client:
            client.ask(HELLO)
            assert client.ask({**LIMIT, "client": "me", "id": 1})["ok"]
            assert manager.stop() == 0
        manager.start()
        assert status(manager, "me", 1) == "New"


def test_a_token_comes_first(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t" * 32)
    with (
        running(tmp_path, order_token_file=str(tmp_path / "token")) as server,
        server.stranger() as client,
    ):
        assert client.ask(HELLO)["code"] == "AUTH_REQUIRED"
