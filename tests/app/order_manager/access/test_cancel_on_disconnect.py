"""A connection may ask that its clients' open orders do not outlive it."""

import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from app.order_manager.service import CANCELS_MAX
from app.order_manager.store.store import StoreUnavailableError
from tests.support.children import eventually
from tests.support.orders.frames import ORDER
from tests.support.orders.instead import Instead
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
    client.reset()


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
    """The kernel asks a silent peer whether it is there; one that owes ACKs has as long."""
    with server.stranger() as client, server.stranger() as other:
        client.ask(HELLO)
        other.ask({"op": "ping"})
        found = {int(s.peer.rpartition(":")[2]): s.sock for s in server.server._sessions}
        watched, plain = (found[one.sock.getsockname()[1]] for one in (client, other))
        tcp = socket.IPPROTO_TCP
        assert watched.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle_s = watched.getsockopt(tcp, socket.TCP_KEEPIDLE)
        interval_s = watched.getsockopt(tcp, socket.TCP_KEEPINTVL)
        probes = watched.getsockopt(tcp, socket.TCP_KEEPCNT)
        assert idle_s + interval_s * probes == 11
        assert watched.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == 11_000
        assert plain.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        assert plain.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == 0


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
    service, store = server.server._service, server.server._store
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
        monkeypatch.setattr(service, "store", Instead(store, commit=failing))
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


def test_a_crowd_that_leaves_is_canceled_in_bounded_batches(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the disk fails in the middle; what its clients place afterwards stays."""
    service, store = server.server._service, server.server._store
    core, passes, batches = service.core, 0, list[int]()
    open_of, commit = core.open_of, store.commit
    with server.stranger() as crowd:
        crowd.ask(HELLO)
        for n in range(2 * CANCELS_MAX + 100):
            assert crowd.ask({**LIMIT, "client": f"c{n % 50}", "id": n})["ok"]

        def counted(names: Iterable[str]) -> list[tuple[int, int]]:
            nonlocal passes
            passes += 1
            return open_of(names)

        def failing() -> bool:
            batches.append(len(store.pending.states))
            if len(batches) == 2:
                raise StoreUnavailableError("disk full")
            return commit()

        monkeypatch.setattr(service, "core", Instead(core, open_of=counted))
        monkeypatch.setattr(service, "store", Instead(store, commit=failing))
        crowd.reset()
    with server.client() as stack:
        eventually(lambda: sum(batches) > 0, "the first cancels")
        again = {**LIMIT, "client": "c0", "id": 10_000}
        eventually(lambda: stack.ask(again)["ok"], "an order after the end")

        def left() -> list[int]:
            return [order["id"] for order in stack.ask({"op": "orders"})["orders"]]

        eventually(lambda: left() == [10_000], "all others canceled")
    assert passes == 1
    # One batch may also have the new order.
    assert [count // 100 for count in batches if count > 1] == [CANCELS_MAX // 100] * 3 + [1]


def test_cancels_do_not_wait_for_the_next_event(server: RunningServer) -> None:
    loop = server.server
    assert loop._timeout_s() > 0
    try:
        loop._sessions.left.add("nobody")
        assert loop._timeout_s() == 0
    finally:
        loop._sessions.left.clear()


def test_names_that_a_connection_loses_are_not_canceled(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    first, second, boss = "f" * 32, "s" * 32, "b" * 32
    lines = (f"{first} client=lost,kept", f"{second} client=kept", f"{boss} role=operator")
    tokens.write_text("\n".join(lines))
    with running(tmp_path, order_token_file=str(tokens)) as server:
        with server.stranger() as client:
            client.ask({"op": "auth", "token": first})
            client.ask(HELLO)
            for name in ("lost", "kept"):
                assert client.ask({**LIMIT, "client": name, "id": 1})["ok"]
            client.ask({"op": "auth", "token": second})
        with server.stranger() as operator:
            operator.ask({"op": "auth", "token": boss})

            def status_of(name: str) -> str:
                answer = operator.ask({"op": "status", "client": name, "id": 1})
                return str(answer["order"]["status"])

            eventually(lambda: status_of("kept") == "Canceled", "canceled")
            assert status_of("lost") == "New"


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
