"""The control port: who may ask, who may command, and what happens to everything else."""

import json
import secrets
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.config.settings import Settings, SettingsError
from app.market_data.feed import Feed
from app.model.wire.control_json import BadRequest, parse_request
from app.model.wire.feed_protocol import answer_who, encode_auth
from app.model.wire.frames import json_frame
from app.runtime.control.client import ControlClient, ControlError
from app.runtime.net.strangers import REFUSALS_LOGGED
from tests.support.certificates import make_certificate
from tests.support.feed_helpers import (
    PROOF,
    PROVEN,
    Running,
    WireClient,
    all_ticks,
    make_settings,
    running,
    wait_until,
)

pytestmark = pytest.mark.medium

OPERATOR, DESK = "operator-0123456789abcdef", "desk*-0123456789abcdef"
COMMANDS = (
    {"op": "pause"},
    {"op": "resume"},
    {"op": "step"},
    {"op": "speed", "pace": "5x"},
    {"op": "seek", "tick": 3},
)


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "tokens"
    path.write_text(f"{OPERATOR} role=operator\n{DESK} client=desk\n")
    return str(path)


@pytest.fixture
def market(feed: Feed) -> Iterator[Running]:
    """Stands still at tick 0, and waits for nobody."""
    with running(feed, make_settings(price_subscribers=0, start_paused=True, pace="9/s")) as found:
        yield found


class Client(WireClient):
    """Sends requests, and reads one answer after the other."""

    def ask(self, request: dict[str, Any] | bytes) -> dict[str, Any]:
        if isinstance(request, dict):
            request = json_frame(json.dumps(request).encode())
        self.socket.sendall(request)
        text, _, self.data = self.read_until(lambda data: b"*" in data).partition(b"*")
        return dict(json.loads(text))


def auth(token: str) -> dict[str, str]:
    return {"op": "auth", "token": token}


# ---- Who may


def test_everybody_may_ask_but_not_command(market: Running) -> None:
    with Client(market.control_port) as client, capture_logs() as logs:
        before = client.ask({"op": "status"})
        assert before["ok"]
        for command in COMMANDS:
            answer = client.ask(command)
            assert (answer["ok"], answer["code"]) == (False, "NOT_ALLOWED"), command
        assert client.ask({"op": "status"}) == before
    assert [line["event"] for line in logs] == ["command_refused"] * REFUSALS_LOGGED


def test_a_process_of_the_stack_commands(market: Running) -> None:
    with Client(market.control_port, PROVEN) as client, capture_logs() as logs:
        assert client.ask({"op": "step", "ticks": 7})["market"]["tick"] == 7
    (told,) = [line for line in logs if line["event"] == "market_told"]
    assert (told["op"], told["paused"], told["pace"]) == ("step", True, "9/s")


@pytest.mark.parametrize("shown", [b"PROOF|*", f"PROOF|{PROOF[::-1]}*".encode()])
def test_a_wrong_proof_is_worth_nothing(market: Running, shown: bytes) -> None:
    with Client(market.control_port, shown) as client:
        assert client.ask({"op": "pause"})["code"] == "NOT_ALLOWED"


def test_the_gateway_shows_that_it_knows_the_proof(market: Running) -> None:
    with WireClient(market.control_port, b"WHO|12345*") as client:
        shown = client.read_until(lambda data: b"*" in data)
    assert shown == answer_who(b"WHO|12345", PROOF)
    assert PROOF.encode() not in shown


@pytest.mark.parametrize("form", ["json", "feed"])
def test_a_token_gives_its_role(feed: Feed, token_file: str, form: str) -> None:
    settings = make_settings(order_token_file=token_file, price_subscribers=0, start_paused=True)
    with running(feed, settings) as market:
        for token, may in ((OPERATOR, True), (DESK, False)):
            with Client(market.control_port) as client:
                if form == "json":
                    assert client.ask(auth(token))["role"] == ("operator" if may else "client")
                else:
                    client.socket.sendall(encode_auth(token.encode()))
                assert client.ask({"op": "status"})["ok"]
                assert client.ask({"op": "step"})["ok"] == may


def test_a_token_in_the_form_of_the_feed_counts_where_none_is_needed(
    feed: Feed, token_file: str
) -> None:
    settings = make_settings(
        order_token_file=token_file, publish_feed_open=True, price_subscribers=0, start_paused=True
    )
    with running(feed, settings) as market:
        for token, may in (("wrong-0123456789", False), (DESK, False), (OPERATOR, True)):
            with Client(market.control_port, encode_auth(token.encode())) as client:
                assert client.ask({"op": "step"})["ok"] == may, token


def test_no_token_is_none(market: Running) -> None:
    with Client(market.control_port) as client:
        assert client.ask(auth(""))["code"] == "NOT_ALLOWED"


def test_where_a_token_is_needed_nothing_is_said_without(feed: Feed, token_file: str) -> None:
    settings = make_settings(order_token_file=token_file, price_subscribers=0, start_paused=True)
    frames = (b'{"op":"status"}*', b'{"op":"pause"}*', b'{"op":"auth","token":"wrong"}*', b"x*")
    with running(feed, settings) as market:
        for frame in frames:
            with WireClient(market.control_port, frame) as client:
                assert client.read_to_end().startswith(b"REFUSED|"), frame
        with Client(market.control_port, PROVEN) as stack:
            assert stack.ask({"op": "status"})["market"]["tick"] == 0


def test_an_open_feed_does_not_open_the_market(feed: Feed, token_file: str) -> None:
    settings = make_settings(
        order_token_file=token_file, publish_feed_open=True, price_subscribers=0, start_paused=True
    )
    with running(feed, settings) as market, Client(market.control_port) as client:
        assert client.ask({"op": "status"})["ok"]
        assert client.ask({"op": "step"})["code"] == "NOT_ALLOWED"
        assert client.ask(auth("wrong-0123456789abcdef"))["code"] == "NOT_ALLOWED"
        assert client.ask({"op": "step"})["code"] == "NOT_ALLOWED"
        assert client.ask(auth(OPERATOR))["role"] == "operator"
        assert client.ask({"op": "step"})["market"]["tick"] == 1


def test_guesses_have_an_end(feed: Feed, token_file: str) -> None:
    settings = make_settings(
        order_token_file=token_file, publish_feed_open=True, price_subscribers=0, start_paused=True
    )
    with running(feed, settings) as market, Client(market.control_port) as client:
        answers = [client.ask(auth(secrets.token_hex(12))) for _ in range(150)]
        assert "try again later" in answers[-1]["msg"]
        # Also with the right one; but not the stack.
        assert "try again later" in client.ask(auth(OPERATOR))["msg"]
        with Client(market.control_port, PROVEN) as stack:
            assert stack.ask({"op": "step"})["ok"]


@pytest.mark.parametrize("is_open", [True, False])
def test_a_token_that_is_taken_away_commands_no_more(
    feed: Feed, token_file: str, is_open: bool
) -> None:
    settings = make_settings(
        order_token_file=token_file,
        publish_feed_open=is_open,
        price_subscribers=0,
        start_paused=True,
    )
    with running(feed, settings) as market, Client(market.control_port) as client:
        assert client.ask(auth(OPERATOR))["ok"]
        Path(token_file).write_text(f"{DESK} client=desk\n")

        def has_lost_it() -> bool:
            try:
                return client.ask({"op": "step"}).get("code") == "NOT_ALLOWED"
            except (OSError, AssertionError):
                return True  # closed

        wait_until(has_lost_it, "the right is gone")


# ---- TLS


def test_with_tls_the_token_is_not_taken_in_the_clear(
    feed: Feed, token_file: str, tmp_path: Path
) -> None:
    made = make_certificate(tmp_path)
    for is_open in (False, True):
        settings = make_settings(
            order_token_file=token_file,
            order_tls_cert_file=made.cert,
            order_tls_key_file=made.key,
            publish_feed_open=is_open,
            price_subscribers=0,
            start_paused=True,
        )
        with running(feed, settings) as market:
            with WireClient(market.control_port, json.dumps(auth(OPERATOR)).encode() + b"*") as c:
                refused = c.read_until(lambda data: b"*" in data)
                assert b"TLS is needed" in refused
            with Client(market.control_port, trusted=made.cert) as client:
                assert client.ask(auth(OPERATOR))["role"] == "operator"
                assert client.ask({"op": "step"})["market"]["tick"] == 1
            with Client(market.control_port, PROVEN) as stack:
                assert stack.ask({"op": "step"})["market"]["tick"] == 2


# ---- What is no request

BAD = (
    b"*",
    b"hello*",
    b"{}*",
    b"[]*",
    b"null*",
    b'{"op":"explode"}*',
    b'{"op":"step","ticks":0}*',
    b'{"op":"step","ticks":-1}*',
    b'{"op":"step","ticks":1e99}*',
    b'{"op":"step","ticks":"1"}*',
    b'{"op":"step","tick":1}*',
    b'{"op":"pause","now":true}*',
    b'{"op":"speed"}*',
    b'{"op":"speed","pace":"fast"}*',
    b'{"op":"speed","pace":"0/s"}*',
    b'{"op":"speed","pace":"1000/s\\n"}*',
    b'{"op":"speed","pace":"0.0000001/s"}*',
    b'{"op":"seek"}*',
    b'{"op":"seek","tick":1,"time":"2025-10-01"}*',
    b'{"op":"seek","tick":-1}*',
    b'{"op":"seek","time":"yesterday"}*',
    b'{"op":"seek","time":"9999-01-01"}*',
    b'\xff\xfe{"op":"pause"}*',
    b'{"op":"pause"*',
    b'{"x":' + b"[" * 3000 + b"*",
    b'{"x":' * 700 + b"*",
)


@pytest.mark.parametrize("frame", BAD)
def test_a_bad_request_changes_nothing(market: Running, frame: bytes) -> None:
    with Client(market.control_port, PROVEN) as client:
        before = client.ask({"op": "status"})
        answer = client.ask(frame)
        assert (answer["ok"], answer["code"]) == (False, "BAD_REQUEST"), answer
        assert answer["msg"]
        assert client.ask({"op": "status"}) == before


@pytest.mark.parametrize(
    "where", [{"tick": 301}, {"time": "2025-10-01 23:00:00"}, {"tick": 10**15}]
)
def test_a_place_after_the_end_is_refused(market: Running, where: dict[str, Any]) -> None:
    with Client(market.control_port, PROVEN) as client:
        answer = client.ask({"op": "seek", **where})
    assert answer["code"] == "NO_SUCH_TICK"
    assert "300 ticks" in answer["msg"]


def test_a_jump_to_a_time(market: Running) -> None:
    """Two ticks have the same second; the jump ends before the first of them."""
    with Client(market.control_port, PROVEN) as client:
        found = client.ask({"op": "seek", "time": "2025-10-01T09:30:10Z"})["market"]
        assert (found["tick"], found["event_time"]) == (20, "2025-10-01 09:30:09")


def test_after_the_end_there_is_no_step(market: Running) -> None:
    with Client(market.control_port, PROVEN) as client:
        assert client.ask({"op": "seek", "tick": 300})["market"]["finished"]
        for command in ({"op": "step"}, {"op": "seek", "tick": 3}):
            assert client.ask(command)["code"] == "RUN_OVER"


@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=80) | st.text(max_size=60).map(lambda text: text.encode()))
def test_any_bytes_are_a_request_or_refused(frame: bytes) -> None:
    with suppress(BadRequest):
        parse_request(frame)


def test_a_frame_without_an_end_closes_the_connection(market: Running) -> None:
    with WireClient(market.control_port, PROVEN) as client, capture_logs() as logs:
        with suppress(OSError):
            client.socket.sendall(b"x" * 100_000)
            client.read_to_end()
        wait_until(lambda: any(line["event"] == "client_refused" for line in logs), "a line")


def test_bad_frames_are_few_lines(market: Running) -> None:
    with capture_logs() as logs, Client(market.control_port) as client:
        for _ in range(100):
            client.ask(b"nonsense*")
    counts = Counter(line["event"] for line in logs)
    assert counts["command_refused"] == REFUSALS_LOGGED


def test_who_does_not_read_its_answers_is_closed(market: Running) -> None:
    with Client(market.control_port) as client, capture_logs() as logs:
        client.socket.settimeout(0.2)
        with suppress(OSError):
            for _ in range(2000):
                client.socket.sendall(b'{"op":"status"}*' * 100)
        wait_until(lambda: any("not read" in str(each.get("reason")) for each in logs), "a line")


def test_nothing_on_the_control_port_disturbs_the_feed(feed: Feed) -> None:
    with (
        running(feed, make_settings(pace="600/s")) as market,
        WireClient(market.price_port, b"RESUME|0*") as reader,
    ):
        for frame in (*BAD, b"RESUME|5*", b"BEAT*RESUME|0*", b"RUN*", b"PING*", b"GET / *"):
            with WireClient(market.control_port, frame) as client, suppress(OSError):
                client.socket.settimeout(0.01)
                client.socket.recv(100)
        data = reader.read_to_end()
    assert all_ticks(feed) in data


def test_ping(market: Running) -> None:
    with WireClient(market.control_port, b"PING*") as client:
        assert client.read_to_end() == b"PONG*"
    with Client(market.control_port) as client:
        assert client.ask({"op": "ping"})["ok"]


# ---- The client of other machines; that of the stack is in test_stack.py


def stranger(market: Running, **changes: object) -> ControlClient:
    return ControlClient(
        make_settings(
            **{
                "control_port": market.control_port,
                "gateway_host": "localhost",
                "shm_metrics": f"absent_{secrets.token_hex(4)}",
                **changes,
            }
        )
    )


def test_the_client_shows_its_token_over_tls(feed: Feed, token_file: str, tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    tls = {"order_tls_cert_file": made.cert, "order_tls_key_file": made.key}
    settings = make_settings(
        order_token_file=token_file, price_subscribers=0, start_paused=True, **tls
    )
    desk = tmp_path / "desk"
    desk.write_text(f"{DESK} client=desk")
    with running(feed, settings) as market:
        trusting = {"order_token_file": token_file, "order_tls_ca_file": made.cert}
        assert stranger(market, **trusting).request({"op": "step"})["market"]["tick"] == 1
        other = stranger(market, **{**trusting, "order_token_file": str(desk)})
        assert other.request({"op": "step"})["code"] == "NOT_ALLOWED"
        with pytest.raises(ControlError, match="TLS is needed"):
            stranger(market, order_token_file=token_file).request({"op": "step"})
        with pytest.raises(SettingsError, match="no/such"):
            stranger(market, order_token_file="no/such").request({"op": "step"})


def test_the_client_says_who_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    client = ControlClient(Settings(control_port=port, shm_metrics="absent_segment"))
    with pytest.raises(ConnectionRefusedError):
        client.request({"op": "status"})
