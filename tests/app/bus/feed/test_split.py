"""A shard's stream is a pure function of feed and map history, wherever its sequencer stopped."""

from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.bus.feed import split
from app.bus.feed.split import Change, Cursor, SplitError, Splitter
from app.bus.shard_map import ShardMap
from app.config.settings import Settings
from app.market_data.feed import Feed
from app.market_data.live.bus.batch import BatchReader, Kind, Message
from app.market_data.sources.loader import open_feed

SYMBOLS = ("AA", "B", "CCC", "D")


class Case(NamedTuple):
    """A feed, and how its symbols are on shards."""

    feed: Feed
    changes: list[Change]


class Seen(NamedTuple):
    """What a shard sees: ticks, sentiments with the tick they are due with, and marks."""

    ticks: list[bytes]
    sentiments: list[tuple[int, bytes]]
    marks: list[tuple[str, int, int]]


def seen(messages: list[Message]) -> Seen:
    """What the messages say; they follow each other."""
    found = Seen([], [], [])
    reader = BatchReader(sorted(SYMBOLS))
    next_seq = 0
    for message in messages:
        assert message.seq_first == next_seq
        next_seq = message.seq_end
        if message.kind is not Kind.TICKS:
            found.marks.append((message.kind.value, message.seq_first, message.map_version))
            continue
        assert len(reader.ticks(message)) == message.ticks
        fields = message.body[: message.price_bytes].split(b"*")
        found.ticks.extend(b"*".join(fields[n : n + 3]) for n in range(0, 3 * message.ticks, 3))
        sentiments = reader.sentiments(message)
        frames = sentiments.frames.split(b"*")
        for n, due in enumerate(sentiments.ticks["seq"].tolist()):
            found.sentiments.append((due, b"*".join(frames[3 * n : 3 * n + 3])))
    return found


def after(shard: str, message: Message | None) -> Cursor:
    """The cursor of a sequencer that finds this message at the end of the stream."""
    if message is None:
        return Cursor(shard, 0, 0, 1)
    cursor = Cursor(shard, message.seq_end, message.source_next, message.map_version)
    cursor.ended = message.kind is Kind.END
    return cursor


def all_of(case: Case, shard: str) -> list[Message]:
    splitter = Splitter(case.feed, "run", case.changes)
    return list(splitter.messages(after(shard, None), case.feed.total))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("split")


@st.composite
def cases(draw: st.DrawFn, folder: Path) -> Case:
    """Up to 40 ticks in time order, sentiments in a file of their own or in the rows."""
    count = draw(st.integers(1, 40))
    steps = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    symbols = draw(st.lists(st.sampled_from(SYMBOLS), min_size=count, max_size=count))
    second, lines, sentiments = 0, ["timestamp,symbol,price"], ["timestamp,symbol,sentiment"]
    for row, (step, symbol) in enumerate(zip(steps, symbols, strict=True)):
        second += step
        lines.append(f"2025-10-01 09:{second // 60:02}:{second % 60:02},{symbol},{row + 1}.5")
    for _ in range(draw(st.integers(1, 12))):
        at, symbol = draw(st.integers(0, second)), draw(st.sampled_from(sorted(set(symbols))))
        sentiments.append(
            f"2025-10-01 09:{at // 60:02}:{at % 60:02},{symbol},{draw(st.integers(0, 100))}"
        )
    (folder / "ticks.csv").write_text("\n".join(lines) + "\n")
    (folder / "sentiments.csv").write_text(
        "\n".join([sentiments[0], *sorted(sentiments[1:])]) + "\n"
    )
    values = {"data_path": str(folder / "ticks.csv"), "replay": "once"}
    if draw(st.booleans()):
        values["sentiment_path"] = str(folder / "sentiments.csv")
    else:
        values["sentiment_every_ticks"] = draw(st.integers(1, 5))  # type: ignore[assignment]
    changes = [
        Change(0, ShardMap.of({"version": 1, "shards": {"a": [*SYMBOLS[:2]], "b": [*SYMBOLS[2:]]}}))
    ]
    for _ in range(draw(st.integers(0, 3))):
        now = changes[-1].map
        name = draw(st.sampled_from(SYMBOLS))
        to = "b" if now.shard_of(name) == "a" else "a"
        at = draw(st.integers(changes[-1].at, count))
        changes.append(Change(at, now.moved(name, to)))
    return Case(open_feed(Settings(**values)), changes)  # type: ignore[arg-type]


many = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "CHUNK_TICKS", 8)
    monkeypatch.setattr(split, "CACHED_CHUNKS", 2)
    monkeypatch.setattr(split, "TICKS_MAX", 3)


@many
@given(st.data())
def test_every_tick_is_on_the_shard_that_has_its_symbol_then(
    folder: Path, data: st.DataObject
) -> None:
    case = data.draw(cases(folder))
    wanted: dict[str, list[bytes]] = {"a": [], "b": []}
    for seq in range(case.feed.total):
        frame = case.feed.frame(seq).rstrip(b"*")
        holds = [each.map for each in case.changes if each.at <= seq][-1]
        wanted[holds.shard_of(frame.split(b"*")[1].decode())].append(frame)
    for shard, ticks in wanted.items():
        found = seen(all_of(case, shard))
        assert found.ticks == ticks
        # Every change is marked once, and the end is the last message.
        kinds = [(kind, version) for kind, _, version in found.marks]
        versions = [each.map.version for each in case.changes[1:]]
        assert kinds == [
            *(("map", each) for each in versions),
            ("end", case.changes[-1].map.version),
        ]


@many
@given(st.data())
def test_a_tick_sees_the_sentiments_that_it_sees_in_the_whole_feed(
    folder: Path, data: st.DataObject
) -> None:
    """Of its symbol, the latest that is due: also after the symbol has moved."""
    case = data.draw(cases(folder))
    whole: dict[bytes, bytes | None] = {}
    latest: dict[bytes, bytes] = {}
    for seq in range(case.feed.total):
        frames = case.feed.sentiments(seq, seq + 1).split(b"*")
        for n in range(0, len(frames) - 1, 3):
            latest[frames[n + 1]] = frames[n + 2]
        frame = case.feed.frame(seq)
        whole[frame] = latest.get(frame.split(b"*")[1])
    for shard in "ab":
        found, latest = seen(all_of(case, shard)), {}
        for seq, frame in enumerate(found.ticks):
            for due, sentiment in found.sentiments:
                if due == seq:
                    latest[sentiment.split(b"*")[1]] = sentiment.split(b"*")[2]
            assert latest.get(frame.split(b"*")[1]) == whole[frame + b"*"]


@many
@given(st.data())
def test_wherever_a_sequencer_stops_the_next_one_goes_on_with_the_same(
    folder: Path, data: st.DataObject
) -> None:
    case = data.draw(cases(folder))
    for shard in "ab":
        wanted, published = seen(all_of(case, shard)), []
        while not published or published[-1].kind is not Kind.END:
            # A new process: it knows what is at the end of the stream, and the map history.
            splitter = Splitter(case.feed, "run", case.changes)
            cursor = after(shard, published[-1] if published else None)
            stored = data.draw(st.integers(1, 4), "messages until it dies")
            released = cursor.scan
            while stored and not cursor.ended:
                released = min(released + data.draw(st.integers(1, 9)), case.feed.total)
                for message in splitter.messages(cursor, released):
                    published.append(message)
                    stored -= 1
                    if not stored:
                        break
        assert seen(published) == wanted


def test_a_symbol_on_no_shard_is_named(folder: Path) -> None:
    path = folder / "other.csv"
    path.write_text("timestamp,symbol,price\n2025-10-01 09:30:00,IBM,1\n2025-10-01 09:30:00,X,1\n")
    feed = open_feed(Settings(data_path=str(path), replay="once"))
    found = ShardMap.of({"version": 1, "shards": {"a": ["AA"]}})
    with pytest.raises(
        SplitError, match="IBM and 1 more: in the data, on no shard: add it to SHAR"
    ):
        Splitter(feed, "run", [Change(0, found)])
