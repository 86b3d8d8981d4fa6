"""What clients send: ``PING``, ``RUN``, ``RESUME|n``, and frames that are refused."""

import time
from contextlib import suppress
from pathlib import Path

import pytest

from app.market_data.feed import Feed
from tests.support.feed_helpers import (
    PROVEN,
    SYMBOLS_FRAME,
    WireClient,
    all_ticks,
    make_feed,
    make_settings,
    parse_ticks,
    running,
    ticks_bytes,
    wait_until,
    write_ticks,
)

COUNT = 300


class TestResume:
    """``RESUME|n``: the stream from tick n, byte for byte, after any interruption."""

    @pytest.mark.parametrize("seq", [0, 1, 150, COUNT - 1, COUNT])
    def test_from_any_tick_to_the_end(self, feed: Feed, seq: int) -> None:
        with (
            running(feed, make_settings()) as gateway,
            WireClient(gateway.price_port, b"RESUME|%d*" % seq) as client,
        ):
            expected = b"SEQ|%d*" % seq + ticks_bytes(feed, seq, COUNT) + b"END|%d*" % COUNT
            assert client.read_to_end() == SYMBOLS_FRAME + expected

    def test_feed_id(self, feed: Feed) -> None:
        with (
            running(feed, make_settings()) as gateway,
            WireClient(gateway.price_port, b"RUN*RESUME|299*") as client,
        ):
            frames = client.read_frames(3)
            assert frames == [SYMBOLS_FRAME[:-1], f"RUN|{feed.feed_id}".encode(), b"SEQ|299"]

    def test_hello_split_at_every_byte(self, feed: Feed) -> None:
        hello = b"RUN*RESUME|298*"
        with running(feed, make_settings()) as gateway:
            for cut in range(1, len(hello)):
                with WireClient(gateway.price_port, hello[:cut]) as client:
                    client.read_frames(1)
                    client.socket.sendall(hello[cut:])
                    data = client.read_to_end()
                assert data.endswith(b"SEQ|298*" + ticks_bytes(feed, 298, COUNT) + b"END|300*")

    @pytest.mark.parametrize("port", ["price_port", "sentiment_port"])
    def test_hello_that_comes_late(self, path: Path, port: str) -> None:
        """First a plain client: whole frames up to SEQ, then the stream from the requested tick."""
        feed = make_feed(path, replay="loop", sentiment_every_ticks=1)
        settings = make_settings(pace="2000/s", replay="loop", price_subscribers=0)
        with running(feed, settings) as gateway, WireClient(getattr(gateway, port)) as client:
            client.read_until(lambda data: data.count(b"*") > 100)
            client.socket.sendall(b"RESUME|7*")
            client.read_until(lambda data: b"SEQ|" in data)
            data = client.read_until(lambda data: data.count(b"*", data.index(b"SEQ|")) > 200)
        before, after = data.split(b"SEQ|7*")
        assert parse_ticks(before.removeprefix(SYMBOLS_FRAME))
        if port == "price_port":
            end = after.count(b"*") // 3
            assert after.startswith(ticks_bytes(feed, 7, 7 + end))

    @pytest.mark.parametrize("replay", ["loop", "walk"])
    def test_restarted_gateway_continues_at_the_tick_of_the_client(
        self, path: Path, replay: str
    ) -> None:
        settings = make_settings(pace="20000/s", replay=replay)
        received, seq = b"", 0
        for _ in range(3):
            feed = make_feed(path, replay=replay)
            with (
                running(feed, settings) as gateway,
                WireClient(gateway.price_port, PROVEN + b"RESUME|%d*" % seq) as client,
            ):
                client.read_until(lambda data: data.count(b"*") > 3000)
                ticks = client.data.partition(b"SEQ|%d*" % seq)[2].split(b"*")
            whole = len(ticks) // 3
            received += b"".join(part + b"*" for part in ticks[: 3 * whole])
            seq += whole
            assert received == ticks_bytes(make_feed(path, replay=replay), 0, seq)

    def test_schedule_follows_and_history_does_not_wait(self, path: Path) -> None:
        feed = make_feed(path, replay="loop")
        settings = make_settings(pace="1/s", replay="loop")
        with (
            running(feed, settings) as gateway,
            WireClient(gateway.price_port, PROVEN + b"RESUME|5000*") as client,
        ):
            client.read_frames(5)
            assert 5000 < gateway.server.prices.position < 5020
            with WireClient(gateway.price_port, b"RESUME|0*") as history:
                data = history.read_until(lambda data: data.count(b"*") >= 3 * 5000 + 2)
            assert data.startswith(SYMBOLS_FRAME + b"SEQ|0*" + ticks_bytes(feed, 0, 5000))
            assert 5000 < gateway.server.prices.position < 5020
            with WireClient(gateway.price_port) as plain:
                data = plain.read_until(lambda data: data.count(b"*") >= 1 + 3 * 4)
            assert data.removeprefix(SYMBOLS_FRAME).startswith(feed.snapshot(5001)[:30])

    @pytest.mark.medium
    def test_slow_reader_loses_nothing_and_is_not_dropped(self, tmp_path: Path) -> None:
        feed = make_feed(write_ticks(tmp_path / "big.csv", 200_000))
        settings = make_settings(client_buffer_limit_bytes=1000, client_stall_timeout_s=0.1)
        with running(feed, settings) as gateway:
            slow = WireClient(gateway.price_port, b"RESUME|0*", receive_buffer=4096)
            with slow, WireClient(gateway.price_port) as fast:
                assert fast.read_to_end().endswith(ticks_bytes(feed, 100_000, 200_000))
                time.sleep(0.8)
                data = slow.read_to_end()
            assert data == SYMBOLS_FRAME + b"SEQ|0*" + all_ticks(feed) + b"END|200000*"


class TestBrokenHello:
    """The connection is reset; the other clients lose nothing."""

    @pytest.mark.parametrize("port", ["price_port", "sentiment_port"])
    @pytest.mark.parametrize(
        "hello",
        [
            b"HELLO*",
            b"*",
            b"RESUME|*",
            b"RESUME|-1*",
            b"RESUME|1e3*",
            b"RESUME|301*",
            b"RESUME|9999999999999999999*",
            b"RESUME|\xd9\xa3*",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
            b"\x16\x03\x01\x02\x00" + bytes(200),
            b"x" * 129,
            b"x" * 1_000_000,
        ],
    )
    def test_broken_hello(self, feed: Feed, port: str, hello: bytes) -> None:
        settings = make_settings(pace="1000/s")
        with running(feed, settings) as gateway, WireClient(gateway.price_port) as reader:
            reader.read_frames(4)
            with WireClient(getattr(gateway, port)) as broken, suppress(ConnectionError):
                broken.socket.sendall(hello)
                broken.read_to_end()
            wait_until(lambda: gateway.server.sessions.dropped == 1, "one client dropped")
            assert reader.read_to_end() == SYMBOLS_FRAME + all_ticks(feed)

    def test_second_resume(self, feed: Feed) -> None:
        with (
            running(feed, make_settings(pace="10/s")) as gateway,
            WireClient(gateway.price_port, b"RESUME|0*RESUME|0*") as client,
        ):
            with suppress(ConnectionError):
                client.read_to_end()
            wait_until(lambda: gateway.server.sessions.dropped == 1, "client dropped")


class TestPing:
    """Sent by health checks."""

    def test_answered_and_not_counted(self, feed: Feed) -> None:
        with running(feed, make_settings(sentiment_subscribers=1)) as gateway:
            for port, first in ((gateway.price_port, SYMBOLS_FRAME), (gateway.sentiment_port, b"")):
                with WireClient(port, b"PING*") as client:
                    assert client.read_to_end() == first + b"PONG*"
            wait_until(lambda: len(gateway.server.sessions) == 0, "both gone")
            assert gateway.server.prices.released == 0
            assert gateway.server.sessions.dropped == 0
