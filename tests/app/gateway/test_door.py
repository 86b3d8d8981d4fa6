"""Clients that have to show a token before they get anything; those of the stack show a proof."""

import hmac
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.gateway import door
from app.market_data.feed import Feed
from app.model.wire.feed_protocol import AUTH, encode_auth
from app.runtime.container import health
from app.runtime.net.strangers import FREE, REFUSALS_LOGGED, STRANGERS_OF_HOST_MAX
from tests.support.feed_helpers import (
    PROOF,
    PROVEN,
    SYMBOLS_FRAME,
    Running,
    WireClient,
    all_ticks,
    make_settings,
    running,
    wait_until,
)

TOKEN = "correct-horse*battery-staple"
SHOWN = encode_auth(TOKEN.encode())
PORTS = pytest.mark.parametrize("port", ["price_port", "sentiment_port"])
OTHER_HOST = "127.0.0.2"


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return str(path)


@pytest.fixture
def guarded(feed: Feed, token_file: str):
    """A gateway that needs a token, and waits for nobody."""
    settings = make_settings(order_token_file=token_file, price_subscribers=0, pace="1/s")
    with running(feed, settings) as gateway:
        yield gateway


def answer(port: int, *hello: bytes, source: str = "127.0.0.1") -> bytes:
    """Everything that the gateway says to a client that it closes."""
    with WireClient(port, b"".join(hello), source=source) as client:
        return client.read_to_end()


@pytest.mark.parametrize("hello", [b"", b"RUN*BEAT*RESUME|0*"])
def test_with_the_token_a_client_gets_what_any_client_gets(
    feed: Feed, token_file: str, hello: bytes
) -> None:
    settings = make_settings(order_token_file=token_file)
    with (
        running(feed, settings) as gateway,
        WireClient(gateway.price_port, SHOWN + hello) as client,
    ):
        data = client.read_to_end()
    assert data.startswith(SYMBOLS_FRAME)
    assert all_ticks(feed) in data


def test_the_token_arrives_in_any_pieces(guarded: Running) -> None:
    hello = SHOWN + b"RUN*RESUME|0*"
    for cut in (1, 4, 5, 10, len(SHOWN) - 1, len(SHOWN), len(SHOWN) + 2):
        with WireClient(guarded.price_port, hello[:cut]) as client:
            time.sleep(0.02)
            client.socket.sendall(hello[cut:])
            client.read_until(lambda data: b"SEQ|0*" in data)


@PORTS
@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (b"AUTH|wrong-horse-battery-staple*", b"wrong token"),
        (b"AUTH|*", b"wrong token"),
        (b"AUTH|\xff\xfe*", b"wrong token"),
        (SHOWN[:-1] + b"x*", b"wrong token"),
        (f"AUTH|{PROOF}*".encode(), b"wrong token"),
        (b"RESUME|0*", b"the first frame must be AUTH|token"),
        (b"RUN*" + SHOWN, b"the first frame must be AUTH|token"),
        (b"BEAT*", b"the first frame must be AUTH|token"),
        (b"PROOF|*RESUME|0*", b"the first frame must be AUTH|token"),
        (f"PROOF|{PROOF[::-1]}*RUN*".encode(), b"the first frame must be AUTH|token"),
        (b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", b"not the feed protocol"),
        (b"\x16\x03\x01\x02\x00", b"TLS, which this gateway does not speak"),
        (b"x" * 5000, b"frame of over 4096 bytes"),
    ],
)
def test_without_the_token_a_client_gets_one_frame_with_the_reason(
    guarded: Running, port: str, hello: bytes, reason: bytes
) -> None:
    said = answer(getattr(guarded, port), hello)
    assert said.startswith(b"REFUSED|" + reason), said
    assert said.count(b"*") == 1


@PORTS
def test_a_silent_client_gets_nothing_and_is_closed_in_time(
    guarded: Running, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "TOKEN_S", 0.3)
    begun_s = time.monotonic()
    assert answer(getattr(guarded, port)) == b"REFUSED|no token within 0.3 s*"
    assert 0.25 < time.monotonic() - begun_s < 3


@PORTS
def test_a_process_of_the_stack_needs_no_token(guarded: Running, port: str) -> None:
    with WireClient(getattr(guarded, port), PROVEN + b"RUN*BEAT*RESUME|0*") as ours:
        data = ours.read_until(lambda data: b"SEQ|0*" in data)
    assert data.startswith(SYMBOLS_FRAME) == (port == "price_port")


def test_the_health_check_needs_no_token(guarded: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICE_PORT", str(guarded.price_port))
    monkeypatch.setenv("SENTIMENT_PORT", str(guarded.sentiment_port))
    assert health.main(["gateway"]) == 0


@PORTS
def test_a_ping_needs_no_token_and_brings_nothing_else(guarded: Running, port: str) -> None:
    assert answer(getattr(guarded, port), b"PING*") == b"PONG*"


@pytest.mark.parametrize("port", ["price_port", "sentiment_port"])
def test_the_gateway_shows_that_it_knows_the_proof_without_telling_it(
    guarded: Running, port: str
) -> None:
    shown = hmac.digest(PROOF.encode(), b"gateway WHO|123", "sha256").hex()
    with WireClient(getattr(guarded, port), b"WHO|123*") as client:
        assert client.read_frames(1) == [b"WHO|" + shown.encode()]
        assert PROOF.encode() not in client.data
        client.socket.sendall(b"WHO|124*")
        assert b"REFUSED|the first frame must be" in client.read_to_end(), "once is enough"


def test_guesses_use_up_the_places_of_their_host_and_are_logged_within_bounds(
    guarded: Running,
) -> None:
    guess = b"AUTH|guess-guess-guess*"
    with capture_logs() as logs:
        for _ in range(FREE + 1):
            assert b"wrong token: " in answer(guarded.price_port, guess)
        with WireClient(guarded.price_port, SHOWN) as friend:
            friend.read_frames(1)  # a right token is never slowed down
        looked_at = FREE + 1
        for _ in range(3 * STRANGERS_OF_HOST_MAX):
            looked_at += b"wrong token: " in answer(guarded.price_port, guess)
        assert looked_at <= STRANGERS_OF_HOST_MAX + FREE + 5
        with WireClient(guarded.price_port, SHOWN, source=OTHER_HOST) as other:
            other.read_frames(1)
    refused = [line for line in logs if line["event"] == "client_refused"]
    assert len(refused) == REFUSALS_LOGGED
    assert not any("guess-" in str(line) or TOKEN in str(line) for line in logs)
    assert guarded.server.sessions.dropped == FREE + 1 + 3 * STRANGERS_OF_HOST_MAX


@PORTS
@pytest.mark.parametrize(
    ("hello", "first"),
    [(b"PROOF|" + PROOF.encode() + b"*RUN*RESUME|0*", b"SEQ|0*"), (b"PING*", b"PONG*")],
)
def test_guesses_of_a_host_do_not_close_the_door_to_the_stack(
    guarded: Running, port: str, hello: bytes, first: bytes
) -> None:
    """The proof and the ping of a health check arrive a while after their connection."""
    at_door = guarded.server._handshake.door
    assert at_door is not None
    for _ in range(FREE + 2 * STRANGERS_OF_HOST_MAX):
        at_door._penalties.add("127.0.0.1", time.monotonic())
    with WireClient(getattr(guarded, port)) as stack:
        time.sleep(0.05)
        stack.socket.sendall(hello)
        stack.read_until(lambda data: first in data)
    assert b"wrong tokens of this host of late" in answer(getattr(guarded, port), SHOWN)


def test_a_changed_file_holds_without_a_restart(feed: Feed, token_file: str) -> None:
    """Also for those who read already; a broken file changes nothing."""
    settings = make_settings(order_token_file=token_file, price_subscribers=0, pace="1/s")
    new = encode_auth(b"another token of some length")
    with (
        capture_logs() as logs,
        running(feed, settings) as gateway,
        WireClient(gateway.price_port, SHOWN) as old,
        WireClient(gateway.price_port, PROVEN + b"RESUME|0*") as ours,
    ):
        old.read_frames(1)
        Path(token_file).write_text("short")
        wait_until(lambda: "credentials_refused" in str(logs), "a broken file")
        with WireClient(gateway.price_port, SHOWN) as again:
            again.read_frames(1)
        Path(token_file).write_text("another token of some length")
        wait_until(lambda: "credentials_loaded" in str(logs), "a good file")
        with pytest.raises(ConnectionResetError):
            old.read_to_end()
        assert b"wrong token" in answer(gateway.price_port, SHOWN)
        with WireClient(gateway.price_port, new) as reader:
            reader.read_frames(1)
        ours.read_until(lambda data: data.count(b"*") >= 5)
        assert gateway.server.sessions.by_descriptor
    revoked = [line for line in logs if line["event"] == "credential_revoked"]
    assert [line["reason"] for line in revoked] == [
        "its token is no longer in ORDER_TOKEN_FILE"
    ] * len(revoked)
    assert 1 <= len(revoked) <= 2
    assert "horse" not in str(logs)


@PORTS
def test_a_crowd_without_the_token_does_not_take_the_stacks_places(
    guarded: Running, port: str
) -> None:
    """All of one host, which is also the stack's; none of them sends anything."""
    with ExitStack() as crowd:
        for _ in range(3 * STRANGERS_OF_HOST_MAX):
            crowd.enter_context(WireClient(getattr(guarded, port)))
        silent = guarded.server._handshake.door
        assert silent is not None
        wait_until(lambda: len(silent) == STRANGERS_OF_HOST_MAX, "few of one host")
        for shown in (PROVEN, SHOWN):
            with WireClient(getattr(guarded, port), shown + b"RESUME|0*") as ours:
                ours.read_until(lambda data: b"SEQ|0*" in data)
        with WireClient(getattr(guarded, port), SHOWN + b"RESUME|0*", source=OTHER_HOST) as other:
            other.read_until(lambda data: b"SEQ|0*" in data)


def test_a_proof_that_has_arrived_counts_before_its_client_gives_way(guarded: Running) -> None:
    """Many connect before the gateway reads anything: it is busy, or stopped."""
    gateway = guarded.server
    accept, gateway._accept = gateway._accept, lambda *_: time.sleep(0.01)  # type: ignore[method-assign]
    with ExitStack() as clients:
        ours = clients.enter_context(WireClient(guarded.price_port, PROVEN + b"RESUME|0*"))
        for _ in range(2 * STRANGERS_OF_HOST_MAX):
            clients.enter_context(WireClient(guarded.price_port))
        gateway._accept = accept  # type: ignore[method-assign]
        ours.read_until(lambda data: b"SEQ|0*" in data)


def test_strangers_do_not_start_the_stream(feed: Feed, token_file: str) -> None:
    with running(feed, make_settings(order_token_file=token_file)) as gateway:
        for hello in (b"", b"RESUME|0*", b"AUTH|no*", b"WHO|1*", b"RUN*"):
            with WireClient(gateway.price_port, hello) as stranger, suppress(OSError):
                stranger.socket.settimeout(0.15)
                assert SYMBOLS_FRAME not in stranger.read_to_end()
        assert gateway.server.prices.released == 0


def test_an_open_feed_needs_nothing_although_a_token_is_set(feed: Feed, token_file: str) -> None:
    settings = make_settings(
        order_token_file=token_file, publish_feed_open=True, order_published_host="0.0.0.0"
    )
    with running(feed, settings) as gateway:
        for hello in (b"", SHOWN, AUTH + b"x" * 120 + b"*"):
            with WireClient(gateway.price_port, hello) as client:
                assert client.read_to_end().startswith(SYMBOLS_FRAME)


def test_a_stranger_that_resets_leaves_nothing_behind(guarded: Running) -> None:
    silent = guarded.server._handshake.door
    assert silent is not None
    for hello in (b"", b"WHO|1*", b"AUT", PROVEN):
        for _ in range(5):
            client = WireClient(guarded.price_port, hello)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.socket.close()
    wait_until(lambda: len(silent) == len(guarded.server.sessions) == 0, "all gone")
    assert (silent._visitors, silent._unknown) == ({}, set())
