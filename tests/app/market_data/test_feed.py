"""The feed as a pure function: file, loop and walk, prices and sentiment."""

import bisect
import hashlib
import itertools
import re
import subprocess
import sys
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.market_data.feed import Feed
from app.market_data.generated.counter_rng import NORMAL_SD, CounterRng
from app.market_data.generated.random_walk import exponential
from app.market_data.sentiment import repeats_time
from app.market_data.tick_table import Rows
from tests.support.feed_helpers import Tick, make_feed, parse_ticks, ticks_bytes, write_ticks
from tests.support.paths import ROOT

COUNT = 300

SOURCES = ["seeded", "column", "file"]


def sentiment_rule(feed: Feed, source: str, end: int) -> list[dict[str, str]]:
    """For each tick below ``end``, the sentiment of each symbol that it may see: the slow way.

    The walk has one tick at a time, so time alone tells; so it does for a file of its own.
    """
    every = {"seeded": 4, "column": 5, "file": 0}[source]
    events = parse_ticks(feed.sentiments(0, feed.total if feed.total < 10**6 else end + 5000))
    assert [e.event_ns for e in events] == sorted(e.event_ns for e in events)
    latest: dict[str, str] = {}
    seen = []
    ticks = parse_ticks(ticks_bytes(feed, 0, end))
    for seq, tick in enumerate(ticks):
        if every and tick.event_ns in (ticks[seq - 1].event_ns, ticks[(seq + 1) % end].event_ns):
            own = seq % every == (source == "column")
            due = events[: int(own)]
            assert [e[:2] for e in due] == [tick[:2]] * own
        else:
            due = [e for e in events if e.event_ns <= tick.event_ns]
        latest.update({e.symbol: e.value for e in due})
        del events[: len(due)]
        seen.append(dict(latest))
    return seen


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path, source: str) -> Path:
    column = (lambda row: str(row % 101) if row % 5 == 1 else "") if source == "column" else None
    return write_ticks(tmp_path / "feed.csv", COUNT, sentiment=column)


def settings_of(source: str, tmp_path: Path) -> dict[str, object]:
    if source != "file":
        return {"sentiment_every_ticks": 4}
    sentiments = tmp_path / "sentiment.csv"
    sentiments.write_text(
        "timestamp,symbol,sentiment\n"
        "2025-09-30 10:00:00,AAPL,1\n2025-09-30 11:00:00,AAPL,2\n2025-09-30 11:00:00,NONE,3\n"
        "2025-10-01 09:30:10,F,40\n2025-10-01 09:30:10,F,41\n2025-10-01 09:30:10.5,AAPL,42\n"
        "2025-10-01 09:32:29,MSFT,43\n2025-10-02 09:30:00,MSFT,99\n"
    )
    return {"sentiment_path": str(sentiments)}


@pytest.fixture(params=["once", "loop", "walk"])
def feed(request: pytest.FixtureRequest, path: Path, source: str, tmp_path: Path) -> Feed:
    return make_feed(path, replay=request.param, **settings_of(source, tmp_path))


def end_of(feed: Feed) -> int:
    return min(feed.total, 5 * COUNT)


def test_the_file_comes_first_unchanged(feed: Feed, path: Path) -> None:
    lines = path.read_text().splitlines()[1:]
    frames = [("*".join(line.split(",")[:3]) + "*").encode() for line in lines]
    assert ticks_bytes(feed, 0, COUNT) == b"".join(frames)
    assert feed.frame(7) == frames[7]


def test_event_time_never_decreases(feed: Feed) -> None:
    ticks = parse_ticks(ticks_bytes(feed, 0, end_of(feed)))
    times = [tick.event_ns for tick in ticks]
    assert times == sorted(times)
    for first in range(0, end_of(feed), 97):
        block = feed.block_at(first)
        at = first - block.first
        assert block.event_ns[at] == times[first]
    assert {tick.symbol for tick in ticks} == set(feed.symbols)


def test_loop_repeats_symbols_and_prices(path: Path) -> None:
    feed = make_feed(path, replay="loop")
    ticks = parse_ticks(ticks_bytes(feed, 0, 3 * COUNT))
    for round_no in (1, 2):
        for tick, first in zip(ticks[round_no * COUNT :], ticks[:COUNT], strict=False):
            assert tick[1:] == first[1:]
    shift = ticks[COUNT].event_ns - ticks[0].event_ns
    assert shift > ticks[COUNT - 1].event_ns - ticks[0].event_ns
    assert ticks[2 * COUNT + 5].event_ns == ticks[5].event_ns + 2 * shift


def test_walk_continues_from_the_last_prices(path: Path) -> None:
    feed = make_feed(path, replay="walk")
    ticks = parse_ticks(ticks_bytes(feed, 0, 30_000))
    last = {tick.symbol: Decimal(tick.value) for tick in ticks[:COUNT]}
    before = dict(last)
    for tick in ticks[COUNT:]:
        price = Decimal(tick.value)
        assert price.as_tuple().exponent == -2
        assert Decimal("0.01") <= price
        assert abs(price / before[tick.symbol] - 1) < Decimal("0.12")
        assert last[tick.symbol] / 8 < price < last[tick.symbol] * 8
        before[tick.symbol] = price
    steps = {b.event_ns - a.event_ns for a, b in itertools.pairwise(ticks[COUNT:])}
    assert len(steps) == 1


def test_walk_of_tiny_and_huge_prices(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    rows = "".join(
        f"2025-10-01 09:30:{second:02},TINY,0.00000000{1 + second % 2}\n"
        f"2025-10-01 09:30:{second:02},HUGE,{8_999_999_999 - second % 3 * 10**9}\n"
        for second in range(50)
    )
    path.write_text("timestamp,symbol,price\n" + rows)
    for tick in parse_ticks(ticks_bytes(make_feed(path, replay="walk"), 0, 20_000)):
        assert 0 < Decimal(tick.value) <= 9_000_000_000


@pytest.mark.parametrize("replay", ["once", "loop", "walk"])
@pytest.mark.parametrize("count", [1, 2])
def test_shortest_files(tmp_path: Path, replay: str, count: int) -> None:
    feed = make_feed(write_ticks(tmp_path / "feed.csv", count), replay=replay)
    end = min(feed.total, 5000)
    assert len(parse_ticks(ticks_bytes(feed, 0, end))) == end
    assert parse_ticks(feed.sentiments(0, end))
    assert len(parse_ticks(feed.snapshot(end))) == len(feed.symbols)


def test_run_ends_where_event_time_ends(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    path.write_text("timestamp,symbol,price\n2261-12-31 23:59:57,A,1\n2261-12-31 23:59:58,A,2\n")
    assert make_feed(path, replay="walk").total == 3
    assert make_feed(path, replay="loop").total == 2
    feed = make_feed(path, replay="walk")
    assert feed.frame(2).startswith(b"2261-12-31 23:59:59*A*")
    assert feed.block_at(2).end == 3


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_position_gives_the_same_bytes(
    path: Path, source: str, tmp_path: Path, data: st.DataObject
) -> None:
    """A fresh feed (a restarted gateway) sends the same bytes from any position."""
    replay = data.draw(st.sampled_from(["once", "loop", "walk"]))
    choices = settings_of(source, tmp_path)
    feed = make_feed(path, replay=replay, **choices)
    end = end_of(feed)
    seq = data.draw(st.integers(0, end))
    fresh = make_feed(path, replay=replay, **choices)
    assert (
        ticks_bytes(fresh, seq, end) == ticks_bytes(feed, 0, end)[len(ticks_bytes(feed, 0, seq)) :]
    )
    middle = data.draw(st.integers(seq, end))
    whole = feed.sentiments(0, end)
    assert (
        feed.sentiments(0, seq) + fresh.sentiments(seq, middle) + fresh.sentiments(middle, end)
        == whole
    )
    assert fresh.sentiment_count(seq) == feed.sentiments(0, seq).count(b"*") // 3


@pytest.mark.parametrize("replay", ["loop", "walk"])
def test_distant_positions_need_no_history(path: Path, replay: str) -> None:
    feed = make_feed(path, replay=replay, sentiment_every_ticks=4)
    seq = feed.total - 10_000
    far = ticks_bytes(feed, seq, feed.total)
    assert len(parse_ticks(far)) == 10_000
    assert ticks_bytes(make_feed(path, replay=replay), seq + 5000, feed.total) in far
    assert len(parse_ticks(feed.snapshot(seq))) == len(feed.symbols)
    assert parse_ticks(feed.sentiment_snapshot(seq))


def test_snapshot_is_the_last_tick_of_each_symbol(feed: Feed) -> None:
    end = end_of(feed)
    ticks = parse_ticks(ticks_bytes(feed, 0, end))
    for seq in [0, 1, 2, 3, COUNT - 1, COUNT, *range(COUNT + 1, end + 1, 13), end]:
        if seq > end:
            continue
        last = {tick.symbol: tick for tick in ticks[:seq]}
        found = parse_ticks(feed.snapshot(seq))
        assert {tick.symbol: tick for tick in found} == last
        assert [tick.event_ns for tick in found] == sorted(tick.event_ns for tick in found)


def test_sentiment_is_due_with_the_first_tick_that_may_see_it(feed: Feed, source: str) -> None:
    end = end_of(feed)
    expected = sentiment_rule(feed, source, end)
    seen: dict[str, str] = {}
    for seq in range(end):
        for event in parse_ticks(feed.sentiments(seq, seq + 1)):
            seen[event.symbol] = event.value
        assert seen == expected[seq], seq


@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_marks_hide_sentiment_from_earlier_ticks_of_its_time(
    feed: Feed, source: str, piece: int
) -> None:
    """Time and the marks before a sentiment together give the first tick of its symbol to see it.

    Without one of the marks inside a piece, they would give an earlier tick.
    """
    end = end_of(feed)
    own: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for seq, tick in enumerate(parse_ticks(ticks_bytes(feed, 0, end))):
        own[tick.symbol].append((tick.event_ns, seq))

    def first_to_see(event: Tick, mark: int) -> int:
        """The first tick of the symbol that is neither before the event's time nor the mark."""
        ticks = own[event.symbol]
        in_time = itertools.islice(ticks, bisect.bisect(ticks, (event.event_ns, -1)), None)
        return next((seq for _, seq in in_time if seq >= mark), end)

    frames, due_seqs = feed.sentiments_due(0, end)
    stream = b""
    for first in range(0, end, piece):
        stream += b"SEQ|%d*" % first + feed.marked_sentiments(first, min(first + piece, end))
    mark, before, found, without = -1, -1, [], []
    for frame in re.findall(rb"SEQ\|\d+\*|[^*]*\*[^*]*\*[^*]*\*", stream):
        if frame.startswith(b"SEQ"):
            assert int(frame[4:-1]) > mark
            before, mark = mark, int(frame[4:-1])
            continue
        event = parse_ticks(frame)[0]
        found.append(first_to_see(event, mark))
        if mark % piece and before >= 0:
            without.append(first_to_see(event, before) < found[-1])
        before = -1
    due = zip(parse_ticks(frames), due_seqs.tolist(), strict=True)
    assert found == [
        next((seq for _, seq in own[event.symbol] if seq >= due_seq), end) for event, due_seq in due
    ]
    assert all(without)
    assert bool(without) == (source == "column" and piece > 1)
    assert re.sub(rb"SEQ\|\d+\*", b"", stream) == frames == feed.sentiments(0, end)


def test_no_marks_where_each_symbol_has_one_tick_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    rows = ((second, symbol) for second in range(50) for symbol in ("AAPL", "MSFT", "F"))
    lines = (f"2025-10-01 09:30:{second:02d},{symbol},100,7\n" for second, symbol in rows)
    path.write_text("timestamp,symbol,price,sentiment\n" + "".join(lines))
    feed = make_feed(path, replay="loop")
    assert feed.marked_sentiments(0, 450) == feed.sentiments(0, 450) != b""


def test_ticks_that_repeat_their_symbols_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a plain loop finds them, also where chunks meet."""
    monkeypatch.setattr("app.market_data.storage.pieces.PIECE_ROWS", 16)
    random = np.random.default_rng(1)
    event_ns = np.cumsum(random.integers(0, 2, 500)) // 4 * 10**9
    symbol_index = random.integers(0, 5, 500).astype(np.int32)
    offsets = np.zeros(501, np.int64)
    rows = Rows(b"", offsets, event_ns, symbol_index, None, list("ABCDE"))
    seen: set[tuple[int, int]] = set()
    expected = []
    for key in zip(symbol_index.tolist(), event_ns.tolist(), strict=True):
        expected.append(key in seen)
        seen.add(key)
    assert np.concatenate([*repeats_time(rows)]).tolist() == expected
    assert 0 < sum(expected) < 500


def test_sentiment_snapshot_equals_reading_from_the_start(feed: Feed, source: str) -> None:
    end = end_of(feed)
    expected = sentiment_rule(feed, source, end)
    for seq in range(1, end, 37):
        snapshot = parse_ticks(feed.sentiment_snapshot(seq))
        assert {event.symbol: event.value for event in snapshot} == expected[seq - 1]


def test_sentiment_sources(path: Path, source: str, tmp_path: Path) -> None:
    feed = make_feed(path, **settings_of(source, tmp_path))
    events = parse_ticks(feed.sentiments(0, feed.total))
    if source == "seeded":
        assert len(events) == COUNT / 4
        assert all(0 <= int(event.value) <= 100 for event in events)
        assert feed.sentiments(0, 1) != make_feed(path, sentiment_every_ticks=4, seed=7).sentiments(
            0, 1
        )
    elif source == "column":
        assert [event.value for event in events] == [str(row % 101) for row in range(1, COUNT, 5)]
    else:
        assert [event.value for event in events] == ["1", "2", "40", "41", "42", "43"]


def test_feed_id_identifies_the_stream(path: Path, tmp_path: Path) -> None:
    feed_id = make_feed(path).feed_id
    assert make_feed(path).feed_id == feed_id
    other = write_ticks(tmp_path / "other.csv", COUNT + 1)
    assert len({feed_id, make_feed(other).feed_id, make_feed(path, replay="loop").feed_id}) == 3
    assert make_feed(path, pace="5/s").feed_id == feed_id


@pytest.mark.parametrize("replay", ["loop", "walk"])
def test_two_processes_produce_the_same_bytes(path: Path, replay: str) -> None:
    code = (
        "import sys, hashlib; from pathlib import Path;"
        "from tests.support.feed_helpers import make_feed, ticks_bytes;"
        f"f = make_feed(Path(sys.argv[1]), replay={replay!r});"
        "print(hashlib.sha256(ticks_bytes(f, 0, 20000) + f.sentiments(0, 20000)).hexdigest())"
    )
    feed = make_feed(path, replay=replay)
    here = hashlib.sha256(ticks_bytes(feed, 0, 20_000) + feed.sentiments(0, 20_000)).hexdigest()
    command = [sys.executable, "-c", code, str(path)]
    there = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    assert there.decode().strip() == here


def test_walk_bytes_are_pinned() -> None:
    """The bytes of a seed do not depend on library version or machine."""
    feed = make_feed(ROOT / "data" / "market_data.csv", replay="walk")
    stream = ticks_bytes(feed, 30_000, 130_000) + feed.sentiments(0, 130_000)
    assert hashlib.sha256(stream).hexdigest() == PINNED


PINNED = "e62bde59382117e34bb5e38e95d91cd862dd08dbcc3f0d56bc36104151bf6ef6"


def test_seeded_numbers_are_spread() -> None:
    index = np.arange(200_000)
    for name in ("a", "b"):
        normals = CounterRng(1, name).normals(index) / NORMAL_SD
        assert abs(normals.mean()) < 0.02
        assert abs(normals.std() - 1) < 0.02
        assert abs(np.corrcoef(normals[1:], normals[:-1])[0, 1]) < 0.02
        counts = np.bincount(CounterRng(1, name).below(101, index), minlength=101)
        assert len(counts) == 101
        assert counts.min() > 1700
    a, b = (CounterRng(1, name).normals(index) for name in ("a", "b"))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.02


def test_exponential_is_exact_enough() -> None:
    x = np.linspace(-2, 2, 10_001)
    assert np.allclose(exponential(x), np.exp(x), rtol=1e-12)
