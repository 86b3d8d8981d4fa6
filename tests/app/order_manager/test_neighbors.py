"""A slow, idle, fast or broken client does not harm the others."""

import select
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from app.model.wire.order_json import decode
from app.order_manager.access.turn import TAKEN_BYTES_MAX, Turn
from app.order_manager.queries import OrderQueries
from app.order_manager.server import OrderManagerServer
from app.order_manager.session import Session
from tests.support.children import eventually
from tests.support.orders.frames import ORDER, frame
from tests.support.orders.instead import Instead
from tests.support.orders.server import RunningServer, running


def test_client_that_never_reads_is_dropped_and_does_not_delay_others(tmp_path: Path) -> None:
    with running(tmp_path, client_stall_timeout_s=0.3, order_unsent_bytes_max=10_000) as server:
        with server.client() as lazy, server.client() as other:
            lazy.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.sock.settimeout(0.05)
            data = b"".join(frame(id=n) for n in range(2000))
            deadline, dropped, waits = time.monotonic() + 20, False, []
            while not dropped and time.monotonic() < deadline:
                try:
                    lazy.sock.send(data)
                except TimeoutError:
                    pass
                except OSError:
                    dropped = True
                start = time.monotonic()
                assert other.ask({**ORDER, "client": "other"})["ok"] is True
                waits.append(time.monotonic() - start)
            assert dropped
            assert sorted(waits)[len(waits) // 2] < 0.1
        deadline = time.monotonic() + 5
        while server.count("connections_dropped") < 1 and time.monotonic() < deadline:
            pass
        assert server.count("connections_dropped") == 1


def test_idle_client_is_closed_and_a_busy_one_is_not(tmp_path: Path) -> None:
    with (
        running(tmp_path, order_idle_timeout_s=0.6) as server,
        server.client() as idle,
        server.client() as busy,
    ):
        while not select.select([idle.sock], [], [], 0.1)[0]:
            busy.ask({"op": "ping"})
        assert idle.closed()
        assert busy.ask(ORDER)["ok"] is True


def test_queries_wait_for_the_orders_of_others_and_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second of queries delays an order by one of them, and a second crowd gets its turns."""
    limits = OrderQueries._limits

    def slow(self: OrderQueries, client: str | None) -> bytes:
        time.sleep(0.01)
        return limits(self, client)

    monkeypatch.setattr(OrderQueries, "_limits", slow)
    ask_limits = b'{"op":"limits"}*'
    with (
        running(tmp_path) as server,
        server.client() as crowd,
        server.client() as few,
        server.client() as trader,
    ):
        crowd.send(ask_limits * 100 + b'{"op":"ping"}*' + frame(id=1))
        assert "limits" in crowd.read()
        begin = time.monotonic()
        assert trader.ask({**ORDER, "client": "trader"})["ok"] is True
        order_s = time.monotonic() - begin
        few.send(ask_limits * 3)
        for _ in range(3):
            assert "limits" in few.read()
        few_s = time.monotonic() - begin
        assert all("limits" in crowd.read() for _ in range(99))
        assert crowd.read() == {"ok": True}
        assert crowd.read()["order"]["id"] == 1
        all_s = time.monotonic() - begin
    assert all_s > 0.9
    assert order_s < 0.3
    assert few_s < 0.6


def test_queries_whose_sender_is_gone_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for their turn, and their connection ends first."""
    limits = OrderQueries._limits

    def slow(self: OrderQueries, client: str | None) -> bytes:
        time.sleep(0.005)
        return limits(self, client)

    monkeypatch.setattr(OrderQueries, "_limits", slow)
    with running(tmp_path) as server, server.client() as other:
        crowd = [server.client() for _ in range(8)]
        for client in crowd:
            client.send(b'{"op":"limits"}*' * 200)
        for client in crowd:
            client.read()
            client.reset()
        eventually(lambda: len(server.server._sessions) == 1, "the crowd is gone")
        assert other.ask(ORDER)["ok"] is True
        assert not server.server._waiting


def test_a_stranger_is_refused_before_its_query_waits(tmp_path: Path) -> None:
    class Waiting(Turn):
        def query_waits(self) -> bool:
            return True

    (tmp_path / "token").write_text("t" * 32)
    with running(tmp_path, order_token_file=str(tmp_path / "token")) as server:
        server.server._turn = Waiting(server.server._turn.batch_ns_max)
        client = server.stranger()
        client.sock.settimeout(3)
        assert client.ask({"op": "orders"})["code"] == "AUTH_REQUIRED"
        assert client.closed()
        client.close()


def test_long_frames_of_one_client_do_not_make_one_long_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []

    class Counted(OrderManagerServer):
        def _handle(self, session: Session, frames: list[bytes]) -> None:
            batches.append(sum(map(len, frames)))
            super()._handle(session, frames)

    monkeypatch.setattr("tests.support.orders.server.OrderManagerServer", Counted)
    long = b'{"op":"ping","x":"' + b"y" * 60_000 + b'"}*'
    with running(tmp_path) as server, server.client() as client:
        client.send(long * 40)
        assert {client.read()["code"] for _ in range(40)} == {"UNKNOWN_FIELD"}
    assert max(batches) <= TAKEN_BYTES_MAX
    assert sum(batches) >= 40 * 60_000


def test_frames_per_second_of_a_connection(tmp_path: Path) -> None:
    with running(tmp_path, order_frames_per_s_max=10) as server, server.client() as client:
        answers = [client.ask({**ORDER, "id": n}) for n in range(12)]
        refused = [a for a in answers if not a["ok"]]
        assert refused
        assert all((a["code"], a["retryable"]) == ("FRAME_RATE", True) for a in refused)
        with server.client() as other:
            assert other.ask(ORDER)["ok"] is True, "each connection has its own rate"


def test_connections_above_the_limit_wait_in_the_backlog(tmp_path: Path) -> None:
    with running(tmp_path, order_connections_max=2) as server:
        one, two = server.client(), server.client()
        assert one.ask(ORDER)["ok"]
        assert two.ask(ORDER)["ok"]
        three = server.stranger()
        three.send({"op": "ping"})
        assert not select.select([three.sock], [], [], 0.2)[0]
        one.close()
        assert three.read()["ok"] is True
        two.close()
        three.close()


def test_thousand_clients(server: RunningServer) -> None:
    clients = [server.client() for _ in range(1000)]
    try:
        for n, client in enumerate(clients):
            client.send({**ORDER, "client": f"c{n}"})
        assert all(client.read()["ok"] for client in clients)
    finally:
        for client in clients:
            client.close()
    assert server.count("orders_acked") == 1000


def test_a_bug_in_one_request_ends_one_connection(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = server.server._service
    core, submit = service.core, service.core.submit

    def broken(request: Any, now_ns: int, marks: Any) -> Any:
        answer = submit(request, now_ns, marks)
        if request.symbol == "BUG":
            raise ZeroDivisionError("on purpose")
        return answer

    monkeypatch.setattr(service, "core", Instead(core, submit=broken))
    with server.client() as victim, server.client() as other:
        assert other.ask({**ORDER, "id": 1})["ok"] is True
        assert victim.ask({**ORDER, "symbol": "BUG"})["code"] == "INTERNAL"
        assert victim.closed()
        answer = other.ask({**ORDER, "id": 2})
        while not answer["ok"]:
            assert answer["code"] == "STORE_UNAVAILABLE"
            answer = other.ask({**ORDER, "id": 2})
        assert [o["id"] for o in other.ask({"op": "orders", "open": False})["orders"]] == [2, 1]
        assert other.ask({"op": "positions"})["positions"][0]["qty"] == 20


def test_an_error_in_the_decoder_ends_one_connection(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(frames: list[bytes], requests: list[Any]) -> None:
        for each in frames:
            if b"BOOM" in each:
                raise ZeroDivisionError("on purpose")
            requests.append(decode(each))

    monkeypatch.setattr(server.server._service, "decode_all", broken)
    with server.client() as victim, server.client() as other:
        frames = [frame(id=n, client="v") for n in range(3)]
        victim.send(b"".join(frames) + frame(symbol="BOOM") + frame(id=9, client="v"))
        assert [victim.read()["order"]["id"] for _ in range(3)] == [0, 1, 2]
        assert victim.read()["code"] == "INTERNAL"
        assert victim.closed()
        assert other.ask({**ORDER, "id": 1})["ok"] is True
        assert len(other.ask({"op": "orders", "client": "v", "open": False})["orders"]) == 3
