"""Clients that are not of the stack: they do not move the stream, nor take the stack's places."""

import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.gateway.server import GUESTS_MAX
from app.market_data.feed import Feed
from app.runtime.net.strangers import REFUSALS_LOGGED
from tests.support.feed_helpers import (
    PROOF,
    PROVEN,
    SYMBOLS_FRAME,
    WireClient,
    make_feed,
    make_settings,
    running,
    ticks_bytes,
    wait_until,
)

pytestmark = pytest.mark.medium

COUNT = 300
STRANGERS = pytest.mark.parametrize(
    "shown", [b"", b"PROOF|*", f"PROOF|{PROOF[::-1]}*".encode(), f"PROOF|{PROOF}0*".encode()]
)


@STRANGERS
def test_a_stranger_does_not_move_the_stream(path: Path, shown: bytes) -> None:
    feed = make_feed(path, replay="walk")
    settings = make_settings(pace="50/s", replay="walk")
    with (
        running(feed, settings) as gateway,
        WireClient(gateway.price_port) as plain,
        WireClient(gateway.price_port, shown + b"RESUME|100000000*") as stranger,
        WireClient(gateway.sentiment_port, shown + b"RESUME|100000000*") as other,
    ):
        assert stranger.read_frames(2) == [SYMBOLS_FRAME[:-1], b"SEQ|100000000"]
        with suppress(ConnectionError):
            assert other.read_to_end() == b""
        plain.read_until(lambda data: data.count(b"*") > 3 * 20)
        assert gateway.server.prices.position < 60
        assert gateway.server.sentiments.position < 60


@STRANGERS
def test_a_stranger_gets_its_ticks_when_the_stream_is_there(feed: Feed, shown: bytes) -> None:
    with (
        running(feed, make_settings(pace="300/s")) as gateway,
        WireClient(gateway.price_port, shown + b"BEAT*RESUME|250*") as stranger,
    ):
        data = stranger.read_to_end()
    head, _, rest = data.partition(b"SEQ|250*")
    assert head == SYMBOLS_FRAME
    beats = rest[: rest.index(b"2025")]
    assert beats.replace(b"BEAT|250*", b"") == b""
    assert beats, "a waiting client gets heartbeats, too"
    assert rest.endswith(b"END|300*")
    assert b"".join(f + b"*" for f in rest.split(b"*") if f and b"|" not in f) == ticks_bytes(
        feed, 250, COUNT
    )


def test_a_stranger_does_not_start_the_stream(feed: Feed) -> None:
    with (
        running(feed, make_settings(price_subscribers=2)) as gateway,
        WireClient(gateway.price_port, b"RESUME|10*") as stranger,
    ):
        stranger.read_frames(2)
        time.sleep(0.2)
        assert gateway.server.prices.released == 0
        with WireClient(gateway.price_port, PROVEN + b"RESUME|0*") as second:
            assert second.read_to_end().endswith(ticks_bytes(feed, 0, COUNT) + b"END|300*")
        assert stranger.read_to_end().endswith(ticks_bytes(feed, 10, COUNT) + b"END|300*")


@pytest.mark.parametrize("port", ["price_port", "sentiment_port"])
@pytest.mark.parametrize("crowd_says", [b"", b"PING*", b"RUN*"])
def test_a_crowd_does_not_take_the_stacks_places(feed: Feed, port: str, crowd_says: bytes) -> None:
    settings = make_settings(gateway_clients_max=3, price_subscribers=0, pace="1/s")
    with running(feed, settings) as gateway, ExitStack() as crowd:
        sessions = gateway.server.sessions
        for _ in range(3):
            crowd.enter_context(WireClient(gateway.price_port))
        wait_until(lambda: len(sessions) == 3, "a full gateway")
        for _ in range(GUESTS_MAX + 20):
            guest = crowd.enter_context(WireClient(getattr(gateway, port)))
            with suppress(ConnectionError):
                guest.socket.sendall(crowd_says)
        with WireClient(getattr(gateway, port), PROVEN + b"RUN*RESUME|0*") as ours:
            data = ours.read_until(lambda data: b"SEQ|0*" in data)
            assert data.startswith(SYMBOLS_FRAME) == (port == "price_port")
            assert len(sessions) <= 3 + GUESTS_MAX + 1
            # The guests leave; our client and those that were there first stay.
            # One that leaves is no guest a moment before its connection is gone.
            wait_until(lambda: not sessions.guests and len(sessions) <= 4, "no guests")
            assert len(sessions) == 4
        with WireClient(getattr(gateway, port), b"PING*") as health_check:
            assert health_check.read_until(lambda data: b"PONG*" in data)


def test_a_proof_that_has_arrived_counts_before_its_guest_gives_way(feed: Feed) -> None:
    """Many connect before the gateway reads anything: it is busy, or stopped."""
    settings = make_settings(gateway_clients_max=1, price_subscribers=0, pace="1/s")
    with running(feed, settings) as gateway, ExitStack() as crowd:
        crowd.enter_context(WireClient(gateway.price_port)).read_frames(1)
        server = gateway.server
        accept, server._accept = server._accept, lambda *_: time.sleep(0.01)  # type: ignore[method-assign]
        ours = crowd.enter_context(WireClient(gateway.price_port, PROVEN + b"RESUME|0*"))
        for _ in range(GUESTS_MAX + 20):
            crowd.enter_context(WireClient(gateway.price_port))
        server._accept = accept  # type: ignore[method-assign]
        ours.read_until(lambda data: b"SEQ|0*" in data)


def test_many_processes_of_the_stack_leave_the_strangers_their_places(feed: Feed) -> None:
    settings = make_settings(gateway_clients_max=2, price_subscribers=9)
    with running(feed, settings) as gateway, ExitStack() as clients:
        for _ in range(4):
            ours = clients.enter_context(
                WireClient(gateway.price_port, PROVEN + PROVEN + b"RESUME|0*")
            )
            ours.read_frames(2)
        for _ in range(2):
            clients.enter_context(WireClient(gateway.price_port)).read_frames(1)
        with WireClient(gateway.price_port) as third:
            assert third.read_to_end() == b""


def test_bad_hellos_are_logged_within_bounds(feed: Feed) -> None:
    with capture_logs() as lines, running(feed, make_settings()) as gateway:
        for number in range(30):
            port = (gateway.price_port, gateway.sentiment_port)[number % 2]
            with WireClient(port, b"HELLO*") as stranger, suppress(ConnectionError):
                stranger.read_to_end()
    seen = Counter(line["event"] for line in lines)
    assert seen["client_refused"] == REFUSALS_LOGGED
    (rest,) = [line for line in lines if line["event"] == "clients_refused"]
    assert (rest["peer"], rest["what"], rest["more"]) == ("127.0.0.1", "client_refused", 25)
