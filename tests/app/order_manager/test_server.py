"""The order port over live sockets: the contract, framing, bad input, neighbours, the end."""

import json
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.model.wire.order_json import decode
from app.order_manager import server as order_manager
from app.order_manager.server import MESSAGE_DELIMITER, OrderManagerServer
from tests.support.orders.process import Client, OrderManagerProcess
from tests.support.orders.server import RunningServer, running

ORDER: dict[str, Any] = {"side": "BUY", "symbol": "AAPL", "qty": 10, "price": 173.20}


def frame(**changes: Any) -> bytes:
    return json.dumps({**ORDER, **changes}).replace("*", "\\u002a").encode() + b"*"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running(tmp_path) as started:
        yield started


def test_delimiter() -> None:
    assert MESSAGE_DELIMITER == b"*"


def test_plain_order_is_acknowledged(server: RunningServer) -> None:
    with server.client() as client:
        answer = client.ask(ORDER)
    assert answer["ok"] is True
    order = answer["order"]
    assert {key: order[key] for key in ORDER} == ORDER
    assert (order["status"], order["filled_qty"], order["avg_price"]) == ("Filled", 10, 173.2)
    assert isinstance(order["id"], int)


def test_optional_members_come_back(server: RunningServer) -> None:
    asked = {**ORDER, "ts": "2025-10-01 09:30:00", "id": 12, "client": "desk"}
    with server.client() as client:
        order = client.ask(asked)["order"]
    assert {key: order[key] for key in asked} == asked


def test_server_without_settings_keeps_orders_in_memory() -> None:
    server = OrderManagerServer("127.0.0.1", 0)
    thread = threading.Thread(target=server.start, daemon=True)
    thread.start()
    try:
        with Client(server.port) as client:
            assert client.ask({**ORDER, "id": 1})["ok"] is True
    finally:
        server.stop()
        thread.join(5)
    assert not thread.is_alive()


def test_stop_before_and_twice(tmp_path: Path) -> None:
    server = OrderManagerServer("127.0.0.1", 0)
    server.stop()
    server.start()
    server.stop()


def test_server_ids_are_unique_and_rise_across_clients(server: RunningServer) -> None:
    ids = []
    with server.client() as one, server.client() as two:
        for n in range(5):
            ids.append(one.ask({**ORDER, "client": "one"})["order"]["id"])
            ids.append(two.ask({**ORDER, "client": "two"})["order"]["id"])
            ids.append(two.ask({**ORDER, "client": "three", "id": 1000 * n})["order"]["order_no"])
    assert ids == sorted(set(ids))


def test_assigned_id_avoids_one_that_the_client_chose(server: RunningServer) -> None:
    with server.client() as client:
        chosen = client.ask({**ORDER, "id": 2})["order"]
        assigned = [client.ask({**ORDER, "qty": 1})["order"]["id"] for _ in range(3)]
    assert chosen["id"] == 2
    assert len({2, *assigned}) == 4


@pytest.mark.parametrize("name", ["side", "symbol", "qty", "price"])
def test_missing_field_is_named(server: RunningServer, name: str) -> None:
    asked = {key: value for key, value in ORDER.items() if key != name}
    with server.client() as client:
        answer = client.ask({**asked, "id": 5})
        assert answer["ok"] is False
        assert name in answer["msg"]
        assert (answer["code"], answer["field"], answer["id"]) == ("MISSING_FIELD", name, 5)
        assert client.ask(ORDER)["ok"] is True


@pytest.mark.parametrize("text", [b"hello", b"", b"{", b"nul", b'{"side":', b"\x00", b"'BUY'"])
def test_not_json(server: RunningServer, text: bytes) -> None:
    with server.client() as client:
        answer = client.ask(text + b"*")
        assert (answer["ok"], answer["msg"]) == (False, "bad_json")
        assert client.ask(ORDER)["ok"] is True, "the connection is kept"


@pytest.mark.parametrize("text", [b"null", b"[1]", b"7", b'"BUY"', b"true"])
def test_json_that_is_no_object(server: RunningServer, text: bytes) -> None:
    with server.client() as client:
        assert client.ask(text + b"*")["msg"] == "expected a JSON object"


@pytest.mark.parametrize(
    ("request_text", "code"),
    [
        (b'{"op":"buy_everything"}', "UNKNOWN_OP"),
        (b'{"op":7}', "UNKNOWN_OP"),
        (b'{"op":"cancel"}', "MISSING_FIELD"),
        (b'{"op":"cancel","id":1,"why":2}', "UNKNOWN_FIELD"),
        (b'{"op":"cancel","id":1}', "UNKNOWN_ORDER"),
        (b'{"op":"cancel","id":-1}', "BAD_FIELD"),
        (b'{"op":"orders","limit":100000}', "BAD_FIELD"),
        (b'{"op":"orders","client":"nobody"}', "UNKNOWN_CLIENT"),
        (b'{"op":"halt","client":"nobody"}', "UNKNOWN_CLIENT"),
        (b'{"op":"ping","op":"ping"}', "DUPLICATE_KEY"),
        (b'{"side":"BUY","symbol":"A","qty":1,"price":1,"urgent":true}', "UNKNOWN_FIELD"),
        (b'{"side":"HOLD","symbol":"A","qty":1,"price":1}', "BAD_FIELD"),
    ],
)
def test_unknown_request_or_field(server: RunningServer, request_text: bytes, code: str) -> None:
    with server.client() as client:
        answer = client.ask(request_text + b"*")
        assert (answer["ok"], answer["code"]) == (False, code)
        assert client.ask(ORDER)["ok"] is True, "the connection is kept"


def test_frames_split_at_every_byte(server: RunningServer) -> None:
    data = frame(id=1) + b'{"op":"ping"}*' + b"x*" + frame(id=2, client="\u00e9*")
    expected = [True, True, False, True]
    for at in range(1, len(data)):
        with server.client() as client:
            client.send(data[:at])
            client.send(data[at:])
            assert [client.read()["ok"] for _ in expected] == expected, at


def test_byte_by_byte(server: RunningServer) -> None:
    with server.client() as client:
        for byte in frame(id=1):
            client.send(bytes([byte]))
        assert client.read()["ok"] is True


def test_many_in_flight_are_answered_in_order(server: RunningServer) -> None:
    with server.client() as client:
        client.send(b"".join(frame(id=n) if n % 7 else b"no json*" for n in range(1, 3001)))
        for n in range(1, 3001):
            answer = client.read()
            assert answer["order"]["id"] == n if n % 7 else answer["msg"] == "bad_json"


def test_answers_reach_a_client_that_has_shut_its_side(server: RunningServer) -> None:
    with server.client() as client:
        client.send(b"".join(frame(id=n) for n in range(1000)))
        client.sock.shutdown(socket.SHUT_WR)
        assert [client.read()["order"]["id"] for _ in range(1000)] == list(range(1000))
        assert client.closed()


def test_blank_space_between_frames(server: RunningServer) -> None:
    with server.client() as client:
        client.send(b"\n" + frame() + b"\r\n" + frame() + b"\n")
        assert client.read()["ok"]
        assert client.read()["ok"]


@pytest.mark.parametrize("size", [65537, 70_000, 1_000_000])
def test_frame_over_64_kib_is_answered_once_and_closed(server: RunningServer, size: int) -> None:
    with server.client() as other, server.client() as client:
        client.send(frame(id=1))
        client.send(b'{"side":"' + b"A" * size)
        assert client.read()["order"]["id"] == 1, "what came before is answered"
        assert client.read()["code"] == "FRAME_TOO_LONG"
        assert client.closed()
        assert other.ask(ORDER)["ok"] is True
    assert server.count("connections_dropped") >= 0


def test_frame_of_64_kib_is_not_too_long(server: RunningServer) -> None:
    with server.client() as client:
        text = frame(id=1)[:-1]
        client.send(text + b" " * (65536 - len(text)) + b"*")
        assert client.read()["ok"] is True


def test_bad_utf8_is_answered_once_and_closed(server: RunningServer) -> None:
    with server.client() as other, server.client() as client:
        client.send(
            frame(id=1) + b'{"side":"BUY","symbol":"A\xc3","qty":1,"price":1}*' + frame(id=2)
        )
        assert client.read()["order"]["id"] == 1
        assert client.read()["code"] == "BAD_UTF8"
        assert client.closed()
        assert other.ask(ORDER)["ok"] is True


def test_half_a_utf8_character_at_a_frame_border_is_only_cut_by_the_network(
    server: RunningServer,
) -> None:
    data = json.dumps({**ORDER, "client": "na\u00efve"}, ensure_ascii=False).encode() + b"*"
    cut = data.index("\u00ef".encode()) + 1
    with server.client() as client:
        client.send(data[:cut])
        client.send(data[cut:])
        assert client.read()["order"]["client"] == "na\u00efve"


def test_repeated_order_gets_the_same_answer(server: RunningServer) -> None:
    with server.client() as client:
        first = client.ask({**ORDER, "id": 9, "client": "desk"})
        again = client.ask({**ORDER, "id": 9, "client": "desk"})
        other = client.ask({**ORDER, "id": 9, "client": "desk", "qty": 11})
    assert again == {**first, "duplicate": True}
    assert (other["ok"], other["code"], other["retryable"]) == (False, "DUPLICATE_ID", False)
    assert server.count("orders_duplicate") == 1
    assert server.count("fills") == 1


def test_a_denial_is_final(server: RunningServer) -> None:
    with server.client() as client:
        first = client.ask({**ORDER, "id": 9, "qty": 10**12})
        again = client.ask({**ORDER, "id": 9, "qty": 10**12})
    assert (first["ok"], first["code"], first["retryable"]) == (False, "QTY_MAX", False)
    assert "1000000000000" in first["msg"]
    assert again == {**first, "duplicate": True}


def test_counts(server: RunningServer) -> None:
    with server.client() as client:
        client.send(frame(id=1) + frame(id=2) + frame(id=2) + frame(qty=0) + b"junk*")
        for _ in range(5):
            client.read()
        names = "received", "acked", "rejected", "duplicate"
        assert [server.count(f"orders_{name}") for name in names] == [4, 2, 1, 1]
        assert server.count("frames_bad") == 1
        assert server.count("commits") >= 1


def test_resting_order_lives_is_listed_and_is_canceled(server: RunningServer) -> None:
    with server.client() as client:
        placed = client.ask({**ORDER, "id": 3, "type": "LIMIT", "tif": "GTC"})
        assert placed["order"]["status"] == "New"
        assert [o["id"] for o in client.ask({"op": "orders"})["orders"]] == [3]
        canceled = client.ask({"op": "cancel", "id": 3})
        assert canceled["order"]["status"] == "Canceled"
        assert client.ask({"op": "cancel", "id": 3})["code"] == "NOT_OPEN"
        assert client.ask({"op": "status", "id": 3})["order"]["status"] == "Canceled"
        assert client.ask({"op": "orders"})["orders"] == []
        assert len(client.ask({"op": "orders", "open": False})["orders"]) == 1
        again = client.ask({**ORDER, "id": 3, "type": "LIMIT", "tif": "GTC"})
        assert again == {**placed, "duplicate": True}, "the original answer, not today's state"


def test_positions_and_profit(server: RunningServer) -> None:
    with server.client() as client:
        client.ask({**ORDER, "client": "ann"})
        client.ask({**ORDER, "client": "ann", "side": "SELL", "qty": 4, "price": 180.2})
        client.ask({**ORDER, "client": "bob", "side": "SELL", "qty": 1, "price": 200})
        answer = client.ask({"op": "positions"})
        only = client.ask({"op": "positions", "client": "bob"})
    ann, bob = answer["positions"]
    assert (ann["qty"], ann["avg_cost"], ann["realised"]) == (6, 173.2, 28.0)
    assert ann["unrealised"] == 42.0
    assert (bob["qty"], bob["avg_cost"], bob["realised"]) == (-1, 200.0, 0.0)
    assert answer["total"]["realised"] == 28.0
    assert answer["total"]["qty"] == {"AAPL": 5}
    assert [p["client"] for p in only["positions"]] == ["bob"]


def test_pages_of_positions(server: RunningServer) -> None:
    with server.client() as client:
        client.send(b"".join(frame(symbol=f"S{n}", client=f"c{n % 3}") for n in range(40)))
        for _ in range(40):
            client.read()
        seen, after, more = [], "", True
        while more:
            answer = client.ask({"op": "positions", "limit": 7, "after": after})
            seen += [(p["client"], p["symbol"]) for p in answer["positions"]]
            after, more = answer["after"], answer["more"]
    assert len(seen) == len(set(seen)) == 40


def test_longest_answers_fit_a_frame(server: RunningServer) -> None:
    long: dict[str, Any] = {"client": "*" * 64, "ts": "*" * 10}
    with server.client() as client:
        client.send(b"".join(frame(symbol=f"S{n}", **long) for n in range(200)))
        for _ in range(200):
            assert client.read()["ok"]
        for request in (
            {"op": "positions", "limit": 200},
            {"op": "orders", "open": False, "limit": 200},
        ):
            client.send(request)
            assert 40_000 < len(client.read_frame()) <= 65536


def test_halt_reduce_resume(server: RunningServer) -> None:
    with server.client() as client:
        client.ask({**ORDER, "client": "desk"})
        client.ask({**ORDER, "client": "desk", "id": 50, "type": "LIMIT", "price": 1})
        assert client.ask({"op": "reduce"})["mode"] == "reduce"
        assert client.ask({**ORDER, "client": "desk"})["code"] == "REDUCE_ONLY"
        assert client.ask({**ORDER, "client": "desk", "side": "SELL", "qty": 4})["ok"] is True
        assert client.ask({"op": "halt", "client": "desk"})["mode"] == "halted"
        refused = client.ask({**ORDER, "client": "desk", "id": 90})
        assert (refused["code"], refused["retryable"]) == ("HALTED", True)
        killed = client.ask({"op": "halt", "kill": True})
        assert (killed["mode"], killed["canceled"]) == ("killed", 1)
        assert client.ask({"op": "resume"})["mode"] == "active"
        assert client.ask({"op": "resume", "client": "desk"})["mode"] == "active"
        assert client.ask({**ORDER, "client": "desk", "id": 90})["ok"] is True, "same id, now taken"


def test_limits(tmp_path: Path) -> None:
    with (
        running(tmp_path, risk_client_qty_max=5, risk_stack_notional_max=1000.0) as server,
        server.client() as client,
    ):
        client.ask({**ORDER, "qty": 1, "client": "desk"})
        answer = client.ask({"op": "limits", "client": "desk"})
        assert answer["limits"]["qty_max"] == 5
        assert client.ask({"op": "limits"})["limits"]["notional_max"] == 1000.0
        denied = client.ask({**ORDER, "qty": 6})
    assert denied["code"] == "QTY_MAX"
    assert "6" in denied["msg"]
    assert "5" in denied["msg"]


def test_client_that_never_reads_is_dropped_and_harms_nobody(tmp_path: Path) -> None:
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


def test_frames_per_second_of_a_connection(tmp_path: Path) -> None:
    with running(tmp_path, order_frames_per_s_max=10) as server, server.client() as client:
        answers = [client.ask({**ORDER, "id": n}) for n in range(12)]
        refused = [a for a in answers if not a["ok"]]
        assert refused
        assert all((a["code"], a["retryable"]) == ("FRAME_RATE", True) for a in refused)
        with server.client() as other:
            assert other.ask(ORDER)["ok"] is True, "each connection has its own rate"


def test_more_connections_than_allowed_wait_for_a_place(tmp_path: Path) -> None:
    with running(tmp_path, order_connections_max=2) as server:
        one, two = server.client(), server.client()
        assert one.ask(ORDER)["ok"]
        assert two.ask(ORDER)["ok"]
        three = server.client()
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


def test_log_line_of_an_order(tmp_path: Path) -> None:
    with OrderManagerProcess(tmp_path) as manager, manager.client() as client:
        client.ask({**ORDER, "id": 12})
        client.ask({**ORDER, "id": 13, "side": "SELL", "price": 0.00001234})
        assert manager.stop() == 0
    log = manager.log()
    assert "Received Order 12: BUY 10 AAPL @ 173.20 " in log
    assert "Received Order 13: SELL 10 AAPL @ 0.00001234 " in log
    head = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z INFO order_manager Received Order 12"
    assert re.search(head, log, re.MULTILINE)


def test_sigterm_answers_what_has_arrived_and_exits_0(tmp_path: Path) -> None:
    with OrderManagerProcess(tmp_path) as manager, manager.client() as client:
        client.ask(ORDER)
        # More than one read of the socket takes.
        client.send(b"".join(frame(id=n, client="last") for n in range(3000)))
        assert manager.stop() == 0
        assert [client.read()["order"]["id"] for _ in range(3000)] == list(range(3000))


def test_taken_port_is_said(tmp_path: Path) -> None:
    with OrderManagerProcess(tmp_path / "one") as manager:
        other = OrderManagerProcess(tmp_path / "two", order_port=manager.port)
        other.start(wait=False)
        assert other.process is not None
        assert other.process.wait(timeout=20) == 1
        assert f"127.0.0.1:{manager.port}" in other.log()
        other.__exit__(None, None, None)


def test_a_bug_in_one_request_ends_one_connection(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = server.server._service.core
    submit = core.submit

    def broken(request: Any, now_ns: int) -> Any:
        answer = submit(request, now_ns)
        if request.symbol == "BUG":
            raise ZeroDivisionError("on purpose")
        return answer

    monkeypatch.setattr(core, "submit", broken)
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


def test_a_frame_that_breaks_the_decoder_ends_its_connection_only(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(frame: bytes) -> Any:
        if b"BOOM" in frame:
            raise ZeroDivisionError("on purpose")
        return decode(frame)

    monkeypatch.setattr(order_manager, "decode", broken)
    with server.client() as victim, server.client() as other:
        frames = [frame(id=n, client="v") for n in range(3)]
        victim.send(b"".join(frames) + frame(symbol="BOOM") + frame(id=9, client="v"))
        assert [victim.read()["order"]["id"] for _ in range(3)] == [0, 1, 2]
        assert victim.read()["code"] == "INTERNAL"
        assert victim.closed()
        assert other.ask({**ORDER, "id": 1})["ok"] is True
        assert len(other.ask({"op": "orders", "client": "v", "open": False})["orders"]) == 3
