"""The gateway on live sockets, played against by clients that know only the wire."""

import re
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path

import pytest

from app.gateway.process import load_data
from app.gateway.sessions import send_symbol_list
from app.market_data.feed import Feed
from app.model.wire.frames import DELIMITER
from tests.support.feed_helpers import (
    WireClient,
    make_feed,
    make_settings,
    parse_ticks,
    running,
    ticks_bytes,
    wait_until,
    write_ticks,
)

COUNT = 300
SYMBOLS = b"SYMBOLS|AAPL,MSFT,F*"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_ticks(tmp_path / "feed.csv", COUNT)


@pytest.fixture
def feed(path: Path) -> Feed:
    return make_feed(path)


def all_ticks(feed: Feed) -> bytes:
    return ticks_bytes(feed, 0, feed.total)


def close_with_reset(client: WireClient) -> None:
    linger = struct.pack("ii", 1, 0)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.socket.close()


class TestFunctions:
    """The two functions that others may call."""

    def test_load_data(self, path: Path) -> None:
        price_frames, symbols, sentiment_frames = load_data(path=path)
        lines = path.read_text().splitlines()[1:]
        assert price_frames == [("*".join(line.split(",")) + "*").encode() for line in lines]
        assert symbols == ["AAPL", "MSFT", "F"]
        assert len(sentiment_frames) == COUNT / 10
        for event in parse_ticks(b"".join(sentiment_frames)):
            assert event.symbol in symbols
            assert 0 <= int(event.value) <= 100

    def test_send_symbol_list(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            with ours:
                assert send_symbol_list(ours, ["AAPL", "MSFT"], DELIMITER)
                assert theirs.recv(100) == b"SYMBOLS|AAPL,MSFT*"
            assert not send_symbol_list(ours, ["AAPL"], DELIMITER)

    def test_send_symbol_list_to_one_who_left(self) -> None:
        ours, theirs = socket.socketpair()
        theirs.close()
        with ours:
            assert not send_symbol_list(ours, ["AAPL"], DELIMITER)


class TestPlainClient:
    """Knows SYMBOLS and frames, nothing else."""

    @pytest.mark.parametrize("pace", ["max", "2000/s", "500x"])
    def test_gets_symbols_and_every_tick(self, feed: Feed, pace: str) -> None:
        settings = make_settings(pace=pace)
        with running(feed, settings) as gateway, WireClient(gateway.price_port) as client:
            assert client.read_to_end() == SYMBOLS + all_ticks(feed)

    def test_pace_is_kept(self, feed: Feed) -> None:
        with (
            running(feed, make_settings(pace="600/s")) as gateway,
            WireClient(gateway.price_port) as client,
        ):
            client.read_until(lambda data: len(data) > len(SYMBOLS))
            begun = time.monotonic()
            client.read_to_end()
            # 299 ticks remain; a loaded machine may be late, but never early.
            assert time.monotonic() - begun > 0.4

    def test_many_at_once(self, feed: Feed) -> None:
        with running(feed, make_settings(price_subscribers=16)) as gateway:
            clients = [WireClient(gateway.price_port) for _ in range(16)]
            for client in clients:
                with client:
                    assert client.read_to_end() == SYMBOLS + all_ticks(feed)

    def test_may_close_its_sending_side(self, feed: Feed) -> None:
        with (
            running(feed, make_settings(pace="1000/s")) as gateway,
            WireClient(gateway.price_port) as client,
        ):
            client.read_until(lambda data: len(data) > len(SYMBOLS))
            client.socket.shutdown(socket.SHUT_WR)
            assert client.read_to_end() == SYMBOLS + all_ticks(feed)

    def test_late_joiner_gets_the_last_prices_first(self, feed: Feed) -> None:
        with (
            running(feed, make_settings(pace="400/s")) as gateway,
            WireClient(gateway.price_port) as first,
        ):
            first.read_until(lambda data: data.count(b"*") > 3 * 40)
            with WireClient(gateway.price_port) as late:
                data = late.read_to_end().removeprefix(SYMBOLS)
            assert first.read_to_end() == SYMBOLS + all_ticks(feed)
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
                assert first.read_to_end() == second.read_to_end() == SYMBOLS + all_ticks(feed)

    def test_no_subscribers_asked_for(self, feed: Feed) -> None:
        settings = make_settings(price_subscribers=0, pace="100000/s")
        with running(feed, settings) as gateway:
            wait_until(lambda: gateway.server.prices.position == COUNT, "end of the run")
            with WireClient(gateway.price_port) as client:
                assert client.read_to_end() == SYMBOLS + feed.snapshot(COUNT)


class TestResume:
    """``RESUME|n``: from there, byte for byte, whatever happened in between."""

    @pytest.mark.parametrize("seq", [0, 1, 150, COUNT - 1, COUNT])
    def test_from_any_tick_to_the_end(self, feed: Feed, seq: int) -> None:
        with (
            running(feed, make_settings()) as gateway,
            WireClient(gateway.price_port, b"RESUME|%d*" % seq) as client,
        ):
            expected = b"SEQ|%d*" % seq + ticks_bytes(feed, seq, COUNT) + b"END|%d*" % COUNT
            assert client.read_to_end() == SYMBOLS + expected

    def test_feed_id(self, feed: Feed) -> None:
        with (
            running(feed, make_settings()) as gateway,
            WireClient(gateway.price_port, b"RUN*RESUME|299*") as client,
        ):
            frames = client.read_frames(3)
            assert frames == [SYMBOLS[:-1], f"RUN|{feed.feed_id}".encode(), b"SEQ|299"]

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
        """Taken for a plain client at first; whole frames up to SEQ, then from the asked tick."""
        feed = make_feed(path, replay="loop", sentiment_every_ticks=1)
        settings = make_settings(pace="2000/s", replay="loop", price_subscribers=0)
        with running(feed, settings) as gateway, WireClient(getattr(gateway, port)) as client:
            client.read_until(lambda data: data.count(b"*") > 100)
            client.socket.sendall(b"RESUME|7*")
            client.read_until(lambda data: b"SEQ|" in data)
            data = client.read_until(lambda data: data.count(b"*", data.index(b"SEQ|")) > 200)
        before, after = data.split(b"SEQ|7*")
        assert parse_ticks(before.removeprefix(SYMBOLS))
        if port == "price_port":
            end = after.count(b"*") // 3
            assert after.startswith(ticks_bytes(feed, 7, 7 + end))

    @pytest.mark.parametrize("replay", ["loop", "walk"])
    def test_restarted_gateway_goes_on_where_the_client_stands(
        self, path: Path, replay: str
    ) -> None:
        settings = make_settings(pace="20000/s", replay=replay)
        received, seq = b"", 0
        for _ in range(3):
            feed = make_feed(path, replay=replay)
            with (
                running(feed, settings) as gateway,
                WireClient(gateway.price_port, b"RESUME|%d*" % seq) as client,
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
            WireClient(gateway.price_port, b"RESUME|5000*") as client,
        ):
            client.read_frames(5)
            assert 5000 < gateway.server.prices.position < 5020
            with WireClient(gateway.price_port, b"RESUME|0*") as history:
                data = history.read_until(lambda data: data.count(b"*") >= 3 * 5000 + 2)
            assert data.startswith(SYMBOLS + b"SEQ|0*" + ticks_bytes(feed, 0, 5000))
            assert 5000 < gateway.server.prices.position < 5020
            with WireClient(gateway.price_port) as plain:
                data = plain.read_until(lambda data: data.count(b"*") >= 1 + 3 * 4)
            assert data.removeprefix(SYMBOLS).startswith(feed.snapshot(5001)[:30])

    def test_slow_reader_loses_nothing_and_is_not_dropped(self, tmp_path: Path) -> None:
        feed = make_feed(write_ticks(tmp_path / "big.csv", 200_000))
        settings = make_settings(client_buffer_limit_bytes=1000, client_stall_timeout_s=0.1)
        with running(feed, settings) as gateway:
            slow = WireClient(gateway.price_port, b"RESUME|0*", receive_buffer=4096)
            with slow, WireClient(gateway.price_port) as fast:
                assert fast.read_to_end().endswith(ticks_bytes(feed, 100_000, 200_000))
                time.sleep(0.8)
                data = slow.read_to_end()
            assert data == SYMBOLS + b"SEQ|0*" + all_ticks(feed) + b"END|200000*"


class TestNeighbours:
    """What one client does must not touch another."""

    def test_stalled_client_is_dropped_and_the_other_loses_nothing(self, tmp_path: Path) -> None:
        feed = make_feed(write_ticks(tmp_path / "big.csv", 200_000))
        settings = make_settings(
            price_subscribers=2, client_buffer_limit_bytes=100_000, client_stall_timeout_s=0.2
        )
        with running(feed, settings) as gateway:
            stalled = WireClient(gateway.price_port, receive_buffer=4096)
            with stalled, WireClient(gateway.price_port) as reader:
                assert reader.read_to_end() == SYMBOLS + all_ticks(feed)
                wait_until(lambda: gateway.server.sessions.dropped == 1, "one client dropped")
                with pytest.raises(ConnectionResetError):
                    stalled.read_to_end()
                assert len(stalled.data) < len(all_ticks(feed)) - 100_000

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
            b"x" * 65,
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
            assert reader.read_to_end() == SYMBOLS + all_ticks(feed)

    def test_second_resume(self, feed: Feed) -> None:
        with (
            running(feed, make_settings(pace="10/s")) as gateway,
            WireClient(gateway.price_port, b"RESUME|0*RESUME|0*") as client,
        ):
            with suppress(ConnectionError):
                client.read_to_end()
            wait_until(lambda: gateway.server.sessions.dropped == 1, "client dropped")

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
            assert reader.read_to_end() == SYMBOLS + all_ticks(feed)

    def test_who_leaves_at_once_is_no_subscriber(self, feed: Feed) -> None:
        with running(feed, make_settings()) as gateway:
            WireClient(gateway.price_port).socket.close()
            wait_until(lambda: not len(gateway.server.sessions), "client gone")
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
                assert again.read_frames(1) == [SYMBOLS[:-1]]

    def test_slow_history_does_not_hold_up_the_stream(self, tmp_path: Path) -> None:
        feed = make_feed(write_ticks(tmp_path / "big.csv", 100_000), replay="walk")
        settings = make_settings(pace="500/s", replay="walk")
        with (
            running(feed, settings) as gateway,
            WireClient(gateway.price_port, b"RESUME|100000*") as live,
        ):
            live.read_frames(5)
            with WireClient(gateway.price_port, b"RESUME|0*", receive_buffer=4096):
                begun = time.monotonic()
                live.read_until(lambda data: data.count(b"*") >= 3 * 200)
                assert time.monotonic() - begun < 5


class TestPing:
    """What health checks ask."""

    def test_answered_and_not_counted(self, feed: Feed) -> None:
        with running(feed, make_settings(sentiment_subscribers=1)) as gateway:
            for port, first in ((gateway.price_port, SYMBOLS), (gateway.sentiment_port, b"")):
                with WireClient(port, b"PING*") as client:
                    assert client.read_to_end() == first + b"PONG*"
            wait_until(lambda: len(gateway.server.sessions) == 0, "both gone")
            assert gateway.server.prices.released == 0
            assert gateway.server.sessions.dropped == 0


class TestSentiment:
    """The sentiment port, plain and ahead of the prices."""

    def test_plain_client_sees_each_before_its_tick(self, feed: Feed) -> None:
        settings = make_settings(pace="1000/s", sentiment_subscribers=1)
        with (
            running(feed, settings) as gateway,
            WireClient(gateway.sentiment_port) as sentiment,
            WireClient(gateway.price_port) as prices,
        ):
            for upto in (40, 150, 299):
                prices.read_until(lambda data, upto=upto: data.count(b"*") > 3 * upto + 1)
                released = (prices.data.count(b"*") - 1) // 3
                due = feed.sentiments(0, released)
                sentiment.read_until(lambda data, due=due: len(data) >= len(due))
                assert sentiment.data.startswith(due)
            assert sentiment.read_to_end() == feed.sentiments(0, COUNT)

    @pytest.mark.parametrize("pace", ["max", "1/s"])
    @pytest.mark.parametrize("seq", [0, 1, 133, COUNT])
    def test_resuming_client_gets_all_of_it_ahead(self, feed: Feed, pace: str, seq: int) -> None:
        settings = make_settings(pace=pace, price_subscribers=1)
        with (
            running(feed, settings) as gateway,
            WireClient(gateway.sentiment_port, b"RUN*RESUME|%d*" % seq) as client,
        ):
            data = client.read_to_end()
        expected = f"RUN|{feed.feed_id}*SEQ|{seq}*".encode() + feed.sentiment_snapshot(seq)
        if seq < COUNT:
            expected += feed.sentiments(seq, COUNT) + b"SEQ|300*"
        assert data == expected + b"END|300*"

    @pytest.mark.parametrize("first", [0, 1, 5000, 6001])
    def test_join_by_the_marks_is_the_rule(self, tmp_path: Path, first: int) -> None:
        """A client joins as the marks allow; every tick sees what the rule says."""
        path = write_ticks(tmp_path / "feed.csv", 12_000, same_time=3)
        feed = make_feed(path, sentiment_every_ticks=7)
        with (
            running(feed, make_settings(sentiment_subscribers=1)) as gateway,
            WireClient(gateway.sentiment_port, b"RESUME|%d*" % first) as sentiment,
            WireClient(gateway.price_port, b"RESUME|%d*" % first) as prices,
        ):
            data = prices.read_to_end().partition(b"SEQ|%d*" % first)[2]
            ticks = parse_ticks(data.removesuffix(b"END|12000*"))
            stream = sentiment.read_to_end()
        joined = _join(stream, [tick[:2] for tick in ticks], first)
        events = parse_ticks(feed.sentiments(0, feed.total))
        latest, position, expected = {}, 0, []
        for tick in ticks:
            while position < len(events) and events[position].event_ns <= tick.event_ns:
                latest[events[position].symbol] = events[position].value
                position += 1
            expected.append(latest.get(tick.symbol))
        assert len(ticks) == 12_000 - first
        assert joined == expected

    def test_marks_are_kept_ahead_of_the_prices(self, path: Path) -> None:
        feed = make_feed(path, replay="walk")
        settings = make_settings(replay="walk", pace="max", sentiment_subscribers=1)
        with (
            running(feed, settings) as gateway,
            WireClient(gateway.sentiment_port, b"RESUME|0*") as sentiment,
            WireClient(gateway.price_port, b"RESUME|0*") as prices,
        ):
            for upto in (1000, 100_000, 400_000):
                prices.read_until(lambda data, upto=upto: data.count(b"*") > 3 * upto)
                seq = prices.data.count(b"*") // 3
                sentiment.read_until(lambda data, seq=seq: _last_mark(data) >= seq)
            assert _last_mark(sentiment.data) < gateway.server.prices.position + 300_000

    def test_sentiment_may_end_before_the_prices_begin(self, feed: Feed) -> None:
        with running(feed, make_settings(sentiment_subscribers=1)) as gateway:
            with WireClient(gateway.sentiment_port, b"RESUME|0*") as sentiment:
                assert sentiment.read_to_end().endswith(b"SEQ|300*END|300*")
            with WireClient(gateway.price_port) as prices:
                assert prices.read_to_end() == SYMBOLS + all_ticks(feed)

    def test_client_that_has_all_it_needs_does_not_hold_up_a_restart(self, feed: Feed) -> None:
        with (
            running(feed, make_settings(sentiment_subscribers=1)) as gateway,
            WireClient(gateway.price_port, b"RESUME|20*") as prices,
        ):
            assert prices.read_to_end().endswith(b"END|300*")


def _last_mark(data: bytes) -> int:
    marks = re.findall(rb"(?:^|\*)SEQ\|(\d+)(?=\*)", data)
    return int(marks[-1]) if marks else -1


def _join(stream: bytes, ticks: list[tuple[int, str]], first: int) -> list[str | None]:
    """What each tick sees, given only what the marks promise."""
    frames = iter(stream.removesuffix(b"*").split(b"*"))
    assert next(frames) == b"SEQ|%d" % first
    mark, waiting, latest, seen = first, [], {}, []
    for seq, (event_ns, symbol) in enumerate(ticks, first):
        while mark <= seq:
            frame = next(frames)
            if frame.startswith(b"SEQ|"):
                mark = int(frame[4:])
            else:
                event = b"*".join((frame, next(frames), next(frames), b""))
                waiting.extend(parse_ticks(event))
        while waiting and waiting[0].event_ns <= event_ns:
            event = waiting.pop(0)
            latest[event.symbol] = event.value
        seen.append(latest.get(symbol))
    return seen


def test_stop_is_prompt(feed: Feed) -> None:
    with running(feed, make_settings()) as gateway, WireClient(gateway.price_port):
        wait_until(lambda: len(gateway.server.sessions) == 1, "one client")
        begun = time.monotonic()
    assert time.monotonic() - begun < 1
