"""Heartbeats on both feeds: their place and number, and what a client does without them."""

import re
import time
from pathlib import Path

import pytest

from app.model.wire.feed_protocol import encode_mark, parse_mark
from app.runtime.net.feed_client import FeedClosed, FeedConnection, MalformedTicks
from tests.support.fake_servers import Connection, FakeServer
from tests.support.feed_helpers import (
    WireClient,
    make_feed,
    make_settings,
    running,
    ticks_bytes,
)

BEAT = re.compile(rb"BEAT\|(\d+)\*")


def without_heartbeats(stream: bytes) -> bytes:
    """The stream without heartbeats; checks that each is between two ticks and counts them."""
    out = b""
    for part in re.split(rb"(BEAT\|\d+\*)", stream):
        found = BEAT.fullmatch(part)
        if found:
            assert out.count(b"*") % 3 == 0, "in the middle of a tick"
            assert int(found[1]) == out.count(b"*") // 3
        else:
            out += part
    return out


@pytest.mark.medium
@pytest.mark.parametrize("pace", ["100/s", "1000/s", "20000/s"])
def test_heartbeats_count_the_ticks_sent(path: Path, pace: str) -> None:
    feed = make_feed(path, replay="loop")
    settings = make_settings(pace=pace, replay="loop")
    with (
        running(feed, settings) as gateway,
        WireClient(gateway.price_port, b"BEAT*RESUME|0*") as client,
    ):
        data = client.read_until(lambda data: len(BEAT.findall(data)) >= 3)
    stream = data[data.index(b"SEQ|0*") + 6 :]
    stream = stream[: stream.rindex(b"*") + 1]
    ticks = without_heartbeats(stream)
    whole = ticks.count(b"*") // 3
    assert ticks.startswith(ticks_bytes(feed, 0, whole))


@pytest.mark.medium
def test_slow_reader_at_full_pace_gets_heartbeats_between_whole_ticks(path: Path) -> None:
    feed = make_feed(path, replay="loop")
    with (
        running(feed, make_settings(replay="loop")) as gateway,
        WireClient(gateway.price_port, b"BEAT*RESUME|0*", 8192) as client,
    ):
        deadline = time.monotonic() + 20
        while len(BEAT.findall(client.data)) < 3:
            assert time.monotonic() < deadline
            client.data += client.socket.recv(20_000)
            time.sleep(0.0005)  # slower than the gateway sends
    stream = client.data[client.data.index(b"SEQ|0*") + 6 :]
    without_heartbeats(stream[: stream.rindex(b"*") + 1])


@pytest.mark.medium
def test_client_that_does_not_ask_gets_no_heartbeats(path: Path) -> None:
    feed = make_feed(path, replay="loop")
    settings = make_settings(pace="1000/s", replay="loop", price_subscribers=0)
    with running(feed, settings) as gateway:
        for hello in (b"RESUME|0*", b""):
            with WireClient(gateway.price_port, hello) as client:
                assert b"BEAT" not in client.read_until(lambda data: data.count(b"*") > 3000)


def test_sentiment_heartbeats_are_between_frames(path: Path) -> None:
    """Also where marks stand between the frames: two ticks have the same time."""
    feed = make_feed(path, sentiment_every_ticks=1)
    settings = make_settings(price_subscribers=2)  # nothing starts
    with (
        running(feed, settings) as gateway,
        WireClient(gateway.sentiment_port, b"BEAT*RESUME|300*") as ended,
        WireClient(gateway.sentiment_port, b"BEAT*RESUME|0*") as client,
    ):
        assert ended.read_to_end().endswith(b"END|300*")
        client.read_to_end()
    stream = b"SEQ|0*" + feed.marked_sentiments(0, 300) + b"SEQ|300*END|300*"
    assert stream.count(b"SEQ|") > 40
    assert BEAT.sub(b"", client.data) == stream


def silent(hello: bytes) -> FakeServer:
    """A gateway that answers the hello and then sends nothing."""

    def handle(connection: Connection) -> None:
        connection.resume()
        connection.send(hello)
        connection.sock.settimeout(30)
        connection.sock.recv(1)

    return FakeServer(handle)


def connect(server: FakeServer, **keywords: object) -> FeedConnection:
    """A connection that tolerates half a second of silence."""
    return FeedConnection(
        "127.0.0.1", server.port, 0, has_symbols=True, silent_s_max=0.5, **keywords
    )  # type: ignore[arg-type]


def test_silent_sequenced_feed_is_closed() -> None:
    with silent(b"SYMBOLS|A*RUN|r*SEQ|0*") as server:
        feed = connect(server)
        started_s = time.monotonic()
        with pytest.raises(FeedClosed, match="silent"):
            [feed.receive() for _ in range(20)]
        assert 0.4 < time.monotonic() - started_s < 10
        feed.close()


def test_plain_feed_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.runtime.net.feed_client.HELLO_TIMEOUT_S", 0.3)
    with silent(b"SYMBOLS|A*") as server:
        feed = connect(server)
        assert not feed.sequenced
        assert [feed.receive() for _ in range(5)] == [0] * 5
        feed.close()


def test_gateway_silent_in_the_hello_is_not_taken_as_a_plain_feed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.runtime.net.feed_client.HELLO_TIMEOUT_S", 0.3)
    with silent(b"SYMBOLS|A*") as server, pytest.raises(FeedClosed, match="no answer"):
        connect(server, must_be_sequenced=True)


def test_tick_malformed_three_times_in_the_same_way_is_blamed_on_the_source() -> None:
    malformed = MalformedTicks()
    assert [malformed.is_from_source(7, b"x") for _ in range(3)] == [False, False, True]
    assert [malformed.is_from_source(8, field) for field in (b"x", b"y", b"x", b"x")] == [False] * 4
    assert malformed.is_from_source(8, b"x")


def test_heartbeat_is_a_mark() -> None:
    assert parse_mark(encode_mark("BEAT", 12)[:-1], "BEAT") == 12
