"""Refused requests: each is in the log, with the mend, within bounds, and counted."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.model.reject_codes import RejectCode
from app.model.requests import OrderRequest, Reject
from app.model.wire.order_answers import encode_reject
from app.model.wire.order_json import decode
from app.order_manager import held_orders, sessions
from app.order_manager.access import refusals
from app.order_manager.access.refusals import RefusalLog
from app.order_manager.held_orders import HeldOrders
from app.order_manager.session import Session
from app.runtime.net.strangers import (
    REFUSAL_KINDS_MAX,
    REFUSALS_LOGGED,
    REFUSALS_WINDOW_S,
    STRANGER_FRAME_BYTES_MAX,
)
from tests.support.children import eventually
from tests.support.orders.frames import ORDER, frame
from tests.support.orders.process import OrderManagerProcess
from tests.support.orders.server import RunningServer, running

REFUSED: dict[bytes, str] = {
    b"nonsense*": "code=BAD_JSON reason=bad_json",
    b"[1,2]*": 'code=BAD_FIELD reason="expected a JSON object"',
    b'{"side":"BUY","symbol":"AAPL","quantity":10,"price":1}*': (
        "code=UNKNOWN_FIELD reason=\"unknown field 'quantity': the field is 'qty'\""
    ),
    frame(colour="red"): "code=UNKNOWN_FIELD reason=\"unknown field 'colour': the fields are side,",
    b'{"op":"cancle","id":1}*': (
        "code=UNKNOWN_OP reason=\"unknown op 'cancle': the op is 'cancel'\""
    ),
    b'{"op":"cancel","id":404}*': 'code=UNKNOWN_ORDER reason="no order 404 of client default"',
    frame(qty="10"): 'code=BAD_FIELD reason="bad field qty: a whole number from 1 to',
    frame(price=-1): 'code=BAD_FIELD reason="bad field price: a number above 0',
    frame(side="HOLD"): 'code=BAD_FIELD reason="bad field side: \\"BUY\\" or \\"SELL\\", got',
    b'{"side":"BUY","symbol":"AAPL","price":1}*': 'code=MISSING_FIELD reason="missing field: qty"',
    b'{"side":"BUY","side":"BUY","symbol":"A","qty":1,"price":1}*': (
        'code=DUPLICATE_KEY reason="repeated key: side"'
    ),
}


def test_each_refused_frame_is_one_warning_that_names_the_mend(tmp_path: Path) -> None:
    with OrderManagerProcess(tmp_path) as process:
        with process.client() as client:
            peer = ":".join(map(str, client.sock.getsockname()))
            assert client.ask(ORDER)["ok"]
            for refused in REFUSED:
                assert not client.ask(refused)["ok"]
        process.stop()
        lines = [line for line in process.log().splitlines() if "request_refused" in line]
    assert len(lines) == len(REFUSED)
    for line, expected in zip(lines, REFUSED.values(), strict=True):
        assert f" WARNING order_manager request_refused peer={peer} {expected}" in line


def test_refusals_are_counted(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        with server.client() as client:
            for refused in REFUSED:
                client.ask(refused)
            client.ask(ORDER)
            denied = client.ask({**ORDER, "qty": 10**12})
            assert "order" in denied, "recorded, with a line of its own"
            assert not denied["ok"]
        assert server.count("requests_refused") == len(REFUSED)


class Clock:
    """The log's clock and its lines."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.lines: list[dict[str, Any]] = []

    def monotonic(self) -> float:
        """Seconds."""
        return self.now_s

    def warning(self, event: str, **pairs: Any) -> None:
        """One line."""
        self.lines.append({"event": event, **pairs})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(refusals, "time", clock)
    monkeypatch.setattr(refusals, "log", clock)
    return clock


def refuse(log: RefusalLog, peer: str, code: RejectCode, msg: str = "no") -> int:
    """One refused request."""
    session = Session.__new__(Session)
    session.peer = peer
    return log.note([(session, encode_reject(Reject(code, msg)))])


def test_repeated_refusals_of_a_host_become_one_line_with_their_number(clock: Clock) -> None:
    log = RefusalLog()
    for port in range(1000):
        assert refuse(log, f"10.0.0.1:{port}", RejectCode.BAD_FIELD) == 1
    assert [line["peer"] for line in clock.lines] == [f"10.0.0.1:{p}" for p in range(5)]
    refuse(log, "10.0.0.1:7", RejectCode.BAD_JSON)
    refuse(log, "10.0.0.2:7", RejectCode.BAD_FIELD)
    assert len(clock.lines) == REFUSALS_LOGGED + 2, "another mistake, and another host, show"
    log.flush()
    assert len(clock.lines) == REFUSALS_LOGGED + 2, "within the window"
    clock.now_s += REFUSALS_WINDOW_S
    log.flush()
    log.flush(end=True)
    more = {"event": "requests_refused", "peer": "10.0.0.1", "code": "BAD_FIELD", "more": 995}
    assert clock.lines[REFUSALS_LOGGED + 2 :] == [more]
    refuse(log, "10.0.0.1:7", RejectCode.BAD_FIELD)
    assert clock.lines[-1]["event"] == "request_refused", "a new window"


def test_the_log_of_refusals_is_bounded(clock: Clock) -> None:
    log = RefusalLog()
    for host in range(5000):
        refuse(log, f"10.0.{host >> 8}.{host & 255}:1", RejectCode.BAD_FIELD, "x" * 60_000)
    log.flush(end=True)
    assert len(clock.lines) <= REFUSAL_KINDS_MAX + REFUSALS_LOGGED + 1
    assert sum(len(str(line)) for line in clock.lines) < 120_000
    assert clock.lines[-1]["more"] > 4000


def test_what_has_its_own_line_gets_no_second_one(clock: Clock) -> None:
    log = RefusalLog()
    assert refuse(log, "10.0.0.1:1", RejectCode.BAD_TOKEN) == 0
    assert clock.lines == []


# ---- Before the token

TOKEN = "correct-horse-battery-staple"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RunningServer]:
    (tmp_path / "token").write_text(TOKEN)
    with running(tmp_path, order_token_file=str(tmp_path / "token")) as server:
        yield server


def test_silent_connections_of_a_host_lock_nobody_out(
    guarded: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few of one host wait for their token, and not for long; those with one do not count."""
    monkeypatch.setattr(sessions, "TOKEN_S", 0.5)
    friend = guarded.client()
    assert friend.ask({"op": "auth", "token": TOKEN})["ok"]
    with capture_logs() as lines:
        silent = [guarded.client() for _ in range(sessions.STRANGERS_OF_HOST_MAX)]
        late = [guarded.client() for _ in range(20)]
        assert all(client.closed() for client in silent[:20]), "the oldest give way"
        with guarded.client() as another:
            assert another.ask({"op": "auth", "token": TOKEN})["ok"]
        assert friend.ask(ORDER)["ok"]
        assert all(client.closed() for client in (*silent, *late))
    with guarded.client() as again:
        assert again.ask({"op": "auth", "token": TOKEN})["ok"]
        assert again.ask(ORDER)["ok"]
    assert friend.ask(ORDER)["ok"], "no deadline with the token"
    seen = Counter(line["event"] for line in lines)
    assert seen["client_refused"] == REFUSALS_LOGGED
    assert seen["client_dropped"] == REFUSALS_LOGGED
    for client in (*silent, *late, friend):
        client.close()


def test_a_frame_before_the_token_is_short(guarded: RunningServer) -> None:
    with guarded.client() as stranger:
        stranger.send(b"x" * (STRANGER_FRAME_BYTES_MAX + 1))
        refused = stranger.read()
        assert refused["code"] == "FRAME_TOO_LONG"
        assert "before the token" in refused["msg"]
    with guarded.client() as friend:
        assert friend.ask({"op": "auth", "token": TOKEN})["ok"]
        assert friend.ask(b'{"op":"ping","x":"' + b"y" * 60_000 + b'"}*')["code"] == "UNKNOWN_FIELD"


def test_unfinished_frames_of_a_crowd_are_bounded_and_the_others_are_served(
    tmp_path: Path,
) -> None:
    bound = 1024 * 1024
    with running(tmp_path, order_input_bytes_max=bound) as server:
        crowd = [server.client() for _ in range(60)]
        with server.client() as trader:
            trader.send(frame(id=1)[:-1])  # unfinished, too, but short
            for client in crowd:
                with contextlib.suppress(OSError):
                    client.send(b"z" * 60_000)
            trader.send(b"*")
            assert trader.read()["order"]["id"] == 1
            held = sum(session.held_bytes for session in server.server._sessions)
            assert held <= bound
            assert all(trader.ask({**ORDER, "id": n})["ok"] for n in range(2, 200))
            assert sum(s.held_bytes for s in server.server._sessions if not s.rest) == 0
        eventually(lambda: server.count("connections_dropped") > 30, "drops are counted")
        for client in crowd:
            client.close()


def test_wrong_tokens_are_logged_within_bounds(guarded: RunningServer) -> None:
    with capture_logs() as lines:
        for _ in range(30):
            with guarded.client() as client:
                assert client.ask({"op": "auth", "token": "x" * 2000})["code"] == "BAD_TOKEN"
        guarded.server._sessions._flush_refusals(end=True)
    assert [line["event"] for line in lines] == ["client_refused"] * 5 + ["clients_refused"]
    assert lines[-1]["more"] == 25
    assert max(len(str(line)) for line in lines) < 1000


def test_a_bad_frame_logs_a_bounded_number_of_bytes(tmp_path: Path) -> None:
    long = "\U0001f600" * 4_000
    frames = [
        json.dumps({"side": long, "symbol": long, long: 1}, ensure_ascii=False).encode() + b"*",
        json.dumps({"op": long}, ensure_ascii=False).encode() + b"*",
        json.dumps({**ORDER, "ts": [long]}, ensure_ascii=False).encode() + b"*",
        json.dumps({**ORDER, "client": long}, ensure_ascii=False).encode() + b"*",
        long.encode() + b"*",
    ]
    with OrderManagerProcess(tmp_path) as process:
        with process.client() as client:
            for each in frames:
                assert len(each) > 16_000
                assert client.ask(each)["ok"] is False
        process.stop()
    lines = [line for line in process.log().splitlines() if "request_refused" in line]
    assert len(lines) == len(frames)
    assert max(map(len, lines)) < 4000


def test_held_orders_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_orders, "HELD_MAX", 3)
    held: HeldOrders[int] = HeldOrders(replaying=True)
    for n in range(10):
        request = decode(frame(id=5, client=f"c{n}")[:-1])
        assert isinstance(request, OrderRequest)
        held.hold(0, request)
    assert len(held._ids) == 3
    later = decode(frame(id=6, client="c0")[:-1])
    assert isinstance(later, OrderRequest)
    assert held.check(0, later) is not None
