"""Subscribers that stall, reset or leave: the others lose nothing."""

import socket
import struct
import time
from pathlib import Path

import pytest

from app.gateway.sessions import send_symbol_list
from app.market_data.feed import Feed
from app.model.wire.frames import DELIMITER
from tests.support.feed_helpers import (
    PROVEN,
    SYMBOLS_FRAME,
    WireClient,
    all_ticks,
    make_feed,
    make_settings,
    running,
    wait_until,
    write_ticks,
)


def close_with_reset(client: WireClient) -> None:
    linger = struct.pack("ii", 1, 0)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.socket.close()


def test_send_symbol_list() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            assert send_symbol_list(ours, ["AAPL", "MSFT"], DELIMITER)
            assert theirs.recv(100) == b"SYMBOLS|AAPL,MSFT*"
        assert not send_symbol_list(ours, ["AAPL"], DELIMITER)


def test_send_symbol_list_to_a_client_that_left() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        assert not send_symbol_list(ours, ["AAPL"], DELIMITER)


class TestNeighbors:
    """What one client does must not affect another."""

    @pytest.mark.medium
    def test_stalled_client_is_dropped_and_the_other_loses_nothing(self, tmp_path: Path) -> None:
        feed = make_feed(write_ticks(tmp_path / "big.csv", 200_000))
        settings = make_settings(
            price_subscribers=2, client_buffer_limit_bytes=100_000, client_stall_timeout_s=0.2
        )
        with running(feed, settings) as gateway:
            stalled = WireClient(gateway.price_port, receive_buffer=4096)
            with stalled, WireClient(gateway.price_port) as reader:
                assert reader.read_to_end() == SYMBOLS_FRAME + all_ticks(feed)
                wait_until(lambda: gateway.server.sessions.dropped == 1, "one client dropped")
                with pytest.raises(ConnectionResetError):
                    stalled.read_to_end()
                assert len(stalled.data) < len(all_ticks(feed)) - 100_000

    def test_resets_and_departures(self, feed: Feed) -> None:
        settings = make_settings(pace="1000/s")
        with running(feed, settings) as gateway, WireClient(gateway.price_port) as reader:
            reader.read_frames(10)
            for hello in (b"", b"RESUME|0*", b"RUN", b"PING*"):
                for port in (gateway.price_port, gateway.sentiment_port):
                    WireClient(port, hello).socket.close()
                    close_with_reset(WireClient(port, hello))
                leaving = WireClient(gateway.price_port, hello)
                leaving.read_frames(1)
                close_with_reset(leaving)
            assert reader.read_to_end() == SYMBOLS_FRAME + all_ticks(feed)

    def test_client_that_leaves_at_once_is_not_a_subscriber(self, feed: Feed) -> None:
        with running(feed, make_settings()) as gateway:
            WireClient(gateway.price_port).socket.close()
            wait_until(lambda: len(gateway.server.sessions) == 0, "client gone")
            assert gateway.server.prices.released == 0

    def test_connection_limit(self, feed: Feed) -> None:
        settings = make_settings(gateway_clients_max=2, price_subscribers=5)
        with running(feed, settings) as gateway:
            with WireClient(gateway.price_port) as a, WireClient(gateway.sentiment_port):
                a.read_frames(1)
                wait_until(lambda: len(gateway.server.sessions) == 2, "two clients")
                with WireClient(gateway.price_port) as third:
                    assert third.read_to_end() == b""
            wait_until(lambda: len(gateway.server.sessions) == 0, "both gone")
            with WireClient(gateway.price_port) as again:
                assert again.read_frames(1) == [SYMBOLS_FRAME[:-1]]

    def test_slow_history_reader_does_not_delay_the_stream(self, tmp_path: Path) -> None:
        feed = make_feed(write_ticks(tmp_path / "big.csv", 100_000), replay="walk")
        settings = make_settings(pace="500/s", replay="walk")
        with (
            running(feed, settings) as gateway,
            WireClient(gateway.price_port, PROVEN + b"RESUME|100000*") as live,
        ):
            live.read_frames(5)
            with WireClient(gateway.price_port, b"RESUME|0*", receive_buffer=4096):
                begun = time.monotonic()
                live.read_until(lambda data: data.count(b"*") >= 3 * 200)
                assert time.monotonic() - begun < 5
