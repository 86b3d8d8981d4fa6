"""The gateway on live sockets, with clients that use only the wire protocol."""

import socket
import time

import pytest

from app.market_data.feed import Feed
from tests.support.feed_helpers import (
    SYMBOLS_FRAME,
    WireClient,
    all_ticks,
    make_settings,
    running,
    ticks_bytes,
    wait_until,
)

COUNT = 300


class TestPlainClient:
    """A client that knows only SYMBOLS and ticks."""

    @pytest.mark.parametrize("pace", ["max", "2000/s", "500x"])
    def test_gets_symbols_and_every_tick(self, feed: Feed, pace: str) -> None:
        settings = make_settings(pace=pace)
        with running(feed, settings) as gateway, WireClient(gateway.price_port) as client:
            assert client.read_to_end() == SYMBOLS_FRAME + all_ticks(feed)

    def test_pace_is_kept(self, feed: Feed) -> None:
        with (
            running(feed, make_settings(pace="600/s")) as gateway,
            WireClient(gateway.price_port) as client,
        ):
            client.read_until(lambda data: len(data) > len(SYMBOLS_FRAME))
            begun = time.monotonic()
            client.read_to_end()
            # 299 ticks remain; a loaded machine may be late, but never early.
            assert time.monotonic() - begun > 0.4

    def test_many_at_once(self, feed: Feed) -> None:
        with running(feed, make_settings(price_subscribers=16)) as gateway:
            clients = [WireClient(gateway.price_port) for _ in range(16)]
            for client in clients:
                with client:
                    assert client.read_to_end() == SYMBOLS_FRAME + all_ticks(feed)

    def test_may_close_its_sending_side(self, feed: Feed) -> None:
        with (
            running(feed, make_settings(pace="1000/s")) as gateway,
            WireClient(gateway.price_port) as client,
        ):
            client.read_until(lambda data: len(data) > len(SYMBOLS_FRAME))
            client.socket.shutdown(socket.SHUT_WR)
            assert client.read_to_end() == SYMBOLS_FRAME + all_ticks(feed)

    def test_late_joiner_gets_the_last_prices_first(self, feed: Feed) -> None:
        with (
            running(feed, make_settings(pace="400/s")) as gateway,
            WireClient(gateway.price_port) as first,
        ):
            first.read_until(lambda data: data.count(b"*") > 3 * 40)
            with WireClient(gateway.price_port) as late:
                data = late.read_to_end().removeprefix(SYMBOLS_FRAME)
            assert first.read_to_end() == SYMBOLS_FRAME + all_ticks(feed)
        expected = {seq: feed.snapshot(seq) + ticks_bytes(feed, seq, COUNT) for seq in range(COUNT)}
        assert data in [expected[seq] for seq in range(40, COUNT)]

    @pytest.mark.parametrize("count", [0, 1])
    def test_stream_waits_for_subscribers(self, feed: Feed, count: int) -> None:
        settings = make_settings(price_subscribers=2, sentiment_subscribers=count)
        with running(feed, settings) as gateway, WireClient(gateway.price_port) as first:
            wait_until(lambda: len(gateway.server.prices.subscribers) == 1, "first subscriber")
            with WireClient(gateway.price_port) as second:
                wait_until(
                    lambda: len(gateway.server.prices.subscribers) == 2 or not count, "second"
                )
                if count:
                    assert gateway.server.prices.released == 0
                    with WireClient(gateway.sentiment_port) as sentiment:
                        assert sentiment.read_to_end() == feed.sentiments(0, COUNT)
                stream = SYMBOLS_FRAME + all_ticks(feed)
                assert first.read_to_end() == second.read_to_end() == stream

    def test_no_subscribers_required(self, feed: Feed) -> None:
        settings = make_settings(price_subscribers=0, pace="100000/s")
        with running(feed, settings) as gateway:
            wait_until(lambda: gateway.server.prices.position == COUNT, "end of the run")
            with WireClient(gateway.price_port) as client:
                assert client.read_to_end() == SYMBOLS_FRAME + feed.snapshot(COUNT)


def test_stop_is_prompt(feed: Feed) -> None:
    with running(feed, make_settings()) as gateway, WireClient(gateway.price_port):
        wait_until(lambda: len(gateway.server.sessions) == 1, "one client")
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
