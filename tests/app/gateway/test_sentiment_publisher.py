"""The sentiment port: plain clients, and clients that resume and are ahead of the prices."""

import contextlib
import re
import time
from pathlib import Path

import pytest

from app.gateway import sentiment_publisher
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
    wait_until,
    write_ticks,
)

COUNT = 300


class TestSentiment:
    """Plain clients get it with the ticks, clients that resume ahead of them."""

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

    def test_plain_client_gets_no_marks(self, path: Path) -> None:
        """Also where a client that resumes needs them: several ticks have the same time."""
        feed = make_feed(path, sentiment_every_ticks=1)
        assert feed.marked_sentiments(0, COUNT).count(b"SEQ|") > 40
        settings = make_settings(pace="1000/s", sentiment_subscribers=2)
        with (
            running(feed, settings) as gateway,
            WireClient(gateway.sentiment_port) as silent,
            WireClient(gateway.sentiment_port, b"RUN*") as asking,
            WireClient(gateway.price_port),
        ):
            assert silent.read_to_end() == feed.sentiments(0, COUNT)
            named = f"RUN|{feed.feed_id}*".encode()
            assert asking.read_to_end() == named + feed.sentiments(0, COUNT)

    @pytest.mark.parametrize("pace", ["max", "1/s"])
    @pytest.mark.parametrize("seq", [0, 1, 133, COUNT])
    def test_resuming_client_gets_everything_ahead(self, feed: Feed, pace: str, seq: int) -> None:
        settings = make_settings(pace=pace, price_subscribers=1)
        with (
            running(feed, settings) as gateway,
            WireClient(gateway.sentiment_port, b"RUN*RESUME|%d*" % seq) as client,
        ):
            data = client.read_to_end()
        expected = f"RUN|{feed.feed_id}*SEQ|{seq}*".encode() + feed.sentiment_snapshot(seq)
        if seq < COUNT:
            expected += feed.marked_sentiments(seq, COUNT) + b"SEQ|300*"
        assert data == expected + b"END|300*"

    def test_each_client_gets_its_own_part_of_what_is_made_once(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two from the start, one from a later tick, one without marks, in pieces of few blocks."""
        monkeypatch.setattr(sentiment_publisher, "BLOCK_TICKS", 16)
        monkeypatch.setattr(sentiment_publisher, "PIECE_BYTES", 300)
        feed = make_feed(path, sentiment_every_ticks=2)
        settings = make_settings(pace="2000/s", sentiment_subscribers=4)
        starts = (0, 0, 133)
        with (
            running(feed, settings) as gateway,
            contextlib.ExitStack() as clients,
            WireClient(gateway.price_port),
        ):
            resuming = [
                clients.enter_context(WireClient(gateway.sentiment_port, b"RESUME|%d*" % seq))
                for seq in starts
            ]
            plain = clients.enter_context(WireClient(gateway.sentiment_port))
            assert plain.read_to_end() == feed.sentiments(0, COUNT)
            for seq, client in zip(starts, resuming, strict=True):
                expected = feed.sentiment_snapshot(seq) + feed.sentiments(seq, COUNT)
                data = client.read_to_end()
                marks = re.findall(rb"SEQ\|(\d+)\*", data)
                assert re.sub(rb"(SEQ|END)\|\d+\*", b"", data) == expected
                assert marks == sorted(marks, key=int)
                assert marks[-1] == b"%d" % COUNT

    @pytest.mark.parametrize("first", [0, 1, 5000, 6001])
    def test_join_by_the_marks_is_the_rule(self, tmp_path: Path, first: int) -> None:
        """Joined by the marks, every tick sees the latest sentiment up to its own row."""
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
        # Event i comes with tick 7 * i, which is not the last of its second.
        latest, expected = {}, []
        for seq in range(12_000):
            if seq % 7 == 0:
                latest[events[seq // 7].symbol] = events[seq // 7].value
            if seq >= first:
                expected.append(latest.get(ticks[seq - first].symbol))
        assert len(ticks) == 12_000 - first
        assert joined == expected

    @pytest.mark.medium
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
                assert prices.read_to_end() == SYMBOLS_FRAME + all_ticks(feed)

    @pytest.mark.parametrize("shown", [PROVEN, b""], ids=["of the stack", "stranger"])
    def test_a_link_that_breaks_before_the_run_begins(self, path: Path, shown: bytes) -> None:
        """The strategy comes again only for what it lacks: nobody waits for it meanwhile."""
        feed = make_feed(path, replay="walk")
        settings = make_settings(replay="walk", pace="2000/s", sentiment_subscribers=1)
        with running(feed, settings) as gateway:
            with WireClient(gateway.sentiment_port, shown + b"RESUME|0*") as sentiment:
                sentiment.read_until(lambda data: b"SEQ|4096*" in data)
            wait_until(lambda: len(gateway.server.sessions) == 0, "the client has left")
            with WireClient(gateway.price_port) as prices:
                if shown:
                    prices.read_until(lambda data: data.count(b"*") > 30)
                else:
                    time.sleep(0.2)
                    assert gateway.server.prices.position == 0

    @pytest.mark.parametrize("second", ["127.0.0.2", "127.0.0.3"])
    def test_a_strategy_that_comes_again_counts_once(
        self, path: Path, second: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By its host; another strategy counts, while the first one's link is broken."""
        monkeypatch.setattr(sentiment_publisher, "is_loopback", lambda host: host == "127.0.0.1")
        feed = make_feed(path, replay="walk")
        settings = make_settings(replay="walk", pace="2000/s", sentiment_subscribers=2)
        hello = PROVEN + b"RESUME|0*"
        with (
            running(feed, settings) as gateway,
            WireClient(gateway.price_port) as prices,
        ):
            with WireClient(gateway.sentiment_port, hello, source="127.0.0.2") as sentiment:
                sentiment.read_until(lambda data: b"SEQ|4096*" in data)
            wait_until(lambda: len(gateway.server.sessions) == 1, "the strategy has left")
            with WireClient(gateway.sentiment_port, hello, source=second) as sentiment:
                sentiment.read_until(lambda data: b"SEQ|4096*" in data)
                if second == "127.0.0.2":
                    time.sleep(0.2)
                    assert gateway.server.prices.position == 0
                    with WireClient(gateway.sentiment_port, hello, source="127.0.0.3"):
                        prices.read_until(lambda data: data.count(b"*") > 30)
                else:
                    prices.read_until(lambda data: data.count(b"*") > 30)

    def test_missing_sentiment_client_does_not_delay_a_resumed_run(self, feed: Feed) -> None:
        with (
            running(feed, make_settings(sentiment_subscribers=1)) as gateway,
            WireClient(gateway.price_port, PROVEN + b"RESUME|20*") as prices,
        ):
            assert prices.read_to_end().endswith(b"END|300*")


def _last_mark(data: bytes) -> int:
    marks = re.findall(rb"(?:^|\*)SEQ\|(\d+)(?=\*)", data)
    return int(marks[-1]) if marks else -1


def _join(stream: bytes, ticks: list[tuple[int, str]], first: int) -> list[str | None]:
    """The sentiment each tick sees, using only what the marks guarantee."""
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
                waiting += [(mark, tick) for tick in parse_ticks(event)]
        while waiting and waiting[0][0] <= seq and waiting[0][1].event_ns <= event_ns:
            event = waiting.pop(0)[1]
            latest[event.symbol] = event.value
        seen.append(latest.get(symbol))
    return seen
