"""The recording of the bus: what a crash leaves of it, and the feed that it makes."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.bus.feed.split import Change, Cursor, Splitter
from app.bus.shard_map import ShardMap
from app.config.settings import Settings
from app.market_data.live.bus import segment
from app.market_data.live.bus.batch import Begin, Kind, Message, encode_begin
from app.market_data.live.bus.batch_log import BatchLog, Record
from app.market_data.live.bus.feed import BusFeed
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import open_feed
from tests.support.feed_helpers import write_ticks

SYMBOLS = ("AAPL", "F", "MSFT")
TICKS = 300


def messages_of(folder: Path, steps: Iterator[int]) -> list[Message]:
    """A run of two shards; the messages of shard a, of as many ticks of the feed as ``steps``."""
    path = write_ticks(folder / "ticks.csv", TICKS)
    feed = open_feed(Settings(data_path=str(path), replay="once", sentiment_every_ticks=3))
    first = ShardMap.of({"version": 1, "shards": {"a": ["AAPL", "F"], "b": ["MSFT"]}})
    splitter = Splitter(feed, "run", [Change(0, first), Change(200, first.moved("MSFT", "a"))])
    begin = Begin("run", "a", list(SYMBOLS), feed.feed_id)
    found = [Message(Kind.BEGIN, "run", 1, 0, 0, 0, encode_begin(begin))]
    cursor = Cursor("a", 0, 0, 1)
    while not cursor.ended:
        found += splitter.messages(cursor, min(cursor.scan + next(steps), TICKS))
    return found


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> list[Message]:
    numbers = random.Random(7)
    return messages_of(tmp_path_factory.mktemp("run"), iter(lambda: numbers.randint(1, 40), None))


def record_all(path: Path, messages: list[Message]) -> None:
    """A recording of these messages."""
    log = BatchLog.append(path, Record(1, messages[0]))
    assert log is not None
    list(log.records())
    log.write([Record(place, each) for place, each in enumerate(messages[1:], 2)])
    log.close()


def reopened(path: Path) -> tuple[list[Message], int]:
    """What a gateway finds that starts again, and the bytes that it cuts off."""
    log = BatchLog.append(path)
    if log is None:
        return [], 0
    try:
        found = [record.message for record in log.records()]
        return found, log.cut_tail()
    finally:
        log.close()


def test_wherever_a_write_was_cut_short_the_whole_messages_are_there(
    tmp_path: Path, messages: list[Message]
) -> None:
    some = messages[:3]
    path = tmp_path / "run.batches"
    record_all(path, some)
    content = path.read_bytes()
    ends = []
    for count in range(1, len(some) + 1):
        part = tmp_path / f"{count}.batches"
        record_all(part, some[:count])
        ends.append(part.stat().st_size)
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        whole = sum(end <= size for end in ends)
        found, cut = reopened(path)
        assert found == some[:whole], size
        assert cut == (size - ends[whole - 1] if whole else 0)
        assert path.stat().st_size == (ends[whole - 1] if whole else size)


def test_a_recording_goes_on_after_what_was_cut_off(
    tmp_path: Path, messages: list[Message]
) -> None:
    path = tmp_path / "run.batches"
    record_all(path, messages[:5])
    path.write_bytes(path.read_bytes()[:-3])
    log = BatchLog.append(path)
    assert log is not None
    assert [record.place for record in log.records()] == [1, 2, 3, 4]
    assert log.cut_tail() > 0
    log.write([Record(place, each) for place, each in enumerate(messages[4:], 5)])
    log.close()
    assert reopened(path) == (messages, 0)


def test_damage_before_sound_messages_is_no_crash(tmp_path: Path, messages: list[Message]) -> None:
    path = tmp_path / "run.batches"
    record_all(path, messages)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged recording after byte"):
        reopened(path)


@pytest.mark.parametrize("content", [b"timestamp,symbol,price\n" * 9, b"TRDBATCH" + bytes(200)])
def test_a_file_of_others_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.batches"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a recording of the bus"):
        BatchLog.append(path)
    assert path.read_bytes() == content


def test_two_processes_do_not_record_into_one_file(tmp_path: Path, messages: list[Message]) -> None:
    path = tmp_path / "run.batches"
    log = BatchLog.append(path, Record(1, messages[0]))
    assert log is not None
    with pytest.raises(DataError, match="another process records there"):
        BatchLog.append(path)
    log.close()


@pytest.mark.parametrize("small", [True, False])
def test_the_feed_of_a_recording_is_that_of_its_ticks(
    tmp_path: Path, messages: list[Message], small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Followed while it grows, opened later, and computed in the plainest way."""
    if small:
        monkeypatch.setattr(segment, "BLOCK_TICKS", 16)
        monkeypatch.setattr(segment, "CHUNK_TICKS", 32)
        monkeypatch.setattr("app.market_data.live.live_feed.BLOCK_TICKS", 16)
        monkeypatch.setattr("app.market_data.live.last_ticks.CHUNK_TICKS", 32)
    path = tmp_path / "run.batches"
    log = BatchLog.append(path, Record(1, messages[0]))
    assert log is not None
    list(log.records())
    following = BusFeed(BatchLog.read(path), follows=True)
    plain: list[bytes] = []
    due: list[tuple[int, bytes]] = []
    for place, message in enumerate(messages[1:], 2):
        log.write([Record(place, message)])
        fields = message.body[: message.price_bytes].split(b"*")[:-1]
        plain += [b"*".join(fields[n : n + 3]) + b"*" for n in range(0, len(fields), 3)]
        due += sentiments_of(message)
        assert following.available == len(plain)
    log.close()
    assert following.total == len(plain) > 150
    for feed in (following, BusFeed(BatchLog.read(path))):
        check(feed, plain, due)
    assert following.feed_id == BusFeed(BatchLog.read(path)).feed_id


def sentiments_of(message: Message) -> list[tuple[int, bytes]]:
    """Read as a client of the sentiment port does."""
    found, due = [], message.seq_first
    fields = message.body[message.price_bytes :].split(b"*")[:-1]
    while fields:
        if fields[0].startswith(b"SEQ|"):
            due = int(fields.pop(0)[4:])
        else:
            found.append((due, b"*".join(fields[:3]) + b"*"))
            del fields[:3]
    return found


def check(feed: BusFeed, plain: list[bytes], due: list[tuple[int, bytes]]) -> None:
    """All that a gateway asks a feed, at many places."""
    count = len(plain)
    assert [feed.frame(seq) for seq in range(count)] == plain
    for seq in (*range(0, count, 7), count):
        latest = {frame.split(b"*")[1]: frame for frame in plain[:seq]}
        last = sorted(latest.values(), key=lambda frame: plain[:seq].index(frame))
        assert feed.snapshot(seq) == b"".join(last)
        before = [frame for tick, frame in due if tick < seq]
        assert feed.sentiment_count(seq) == len(before)
        moods: dict[bytes, bytes] = {}
        for frame in before:
            moods.pop(frame.split(b"*")[1], None)
            moods[frame.split(b"*")[1]] = frame
        assert feed.sentiment_snapshot(seq) == b"".join(moods.values())
        end = min(seq + 11, count)
        frames, ticks = feed.sentiments_due(seq, end)
        wanted = [(tick, frame) for tick, frame in due if seq <= tick < end]
        assert frames == b"".join(frame for _, frame in wanted)
        assert ticks.tolist() == [tick for tick, _ in wanted]
        times = [feed.event_ns(each) for each in range(seq, end)]
        assert times == sorted(times)
        if times:
            assert feed.tick_at(times[0]) <= seq
