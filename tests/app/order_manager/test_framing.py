"""Bytes on the order port: split frames, bad input, frames that are too long."""

import json
import socket

import pytest

from tests.support.orders.frames import ORDER, frame
from tests.support.orders.server import RunningServer


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
def test_json_that_is_not_an_object(server: RunningServer, text: bytes) -> None:
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


def test_answers_reach_a_client_that_has_shut_down_its_sending_side(server: RunningServer) -> None:
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


def test_a_utf8_character_split_between_packets_is_accepted(
    server: RunningServer,
) -> None:
    data = json.dumps({**ORDER, "client": "na\u00efve"}, ensure_ascii=False).encode() + b"*"
    cut = data.index("\u00ef".encode()) + 1
    with server.client() as client:
        client.send(data[:cut])
        client.send(data[cut:])
        assert client.read()["order"]["client"] == "na\u00efve"
