"""What a feed reads and encodes of its recording, when it is opened and for a client."""

from pathlib import Path
from typing import Any

import pytest

from app.market_data.live import segment
from app.market_data.live.live_feed import LiveFeed
from app.market_data.live.segment import BLOCK_TICKS
from app.market_data.live.tick_log import TickLog
from tests.app.market_data.live.test_recording import LIVE, grown, record, some_ticks


@pytest.mark.parametrize("count", [1, BLOCK_TICKS, BLOCK_TICKS + 1, 2 * BLOCK_TICKS, 5000])
def test_only_the_last_block_is_encoded_when_a_recording_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    path, ticks = tmp_path / "run.ticks", some_ticks(count + 3000)
    record(path, ticks[:count].copy()).close()
    encoded, encode = [], segment.price_frames

    def counted(event_ns: Any, *rest: Any) -> Any:
        encoded.append(len(event_ns))
        return encode(event_ns, *rest)

    monkeypatch.setattr(segment, "price_frames", counted)
    log = TickLog.append(path, ["BTCUSDT", "ETHUSDT", "NEVER"], "")[0]
    opened = LiveFeed(log, LIVE)
    assert opened.available == count
    assert sum(encoded) < BLOCK_TICKS
    log.write(later := ticks[count:].copy())
    opened.grow(later)
    whole = grown(tmp_path / "whole.ticks", ticks, [])
    for seq in range(opened.available):
        assert opened.block_at(seq).frame(seq) == whole.block_at(seq).frame(seq)
    for seq in (0, count - 1, count, count + 1, count + 3000):
        assert opened.snapshot(seq) == whole.snapshot(seq)
        assert opened.sentiment_snapshot(seq) == whole.sentiment_snapshot(seq)
    assert opened.live.last_ids.tolist() == whole.live.last_ids.tolist()


def test_a_snapshot_and_a_jump_read_single_ticks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = some_ticks(9000)
    ticks["symbol"][100:] = 0  # the last tick of the other symbol is old
    feed = grown(tmp_path / "run.ticks", ticks, [])
    expected = [feed.block_at(seq).frame(seq) for seq in range(9000)]
    other = max(seq for seq in range(100) if ticks["symbol"][seq] == 1)
    feed._cache.clear()
    read, ticks_of = [], feed.log.ticks

    def counted(first: int, end: int) -> Any:
        read.append(end - first)
        return ticks_of(first, end)

    monkeypatch.setattr(feed.log, "ticks", counted)
    assert [feed.frame(seq) for seq in (0, 5, 4000, 8999)] == [
        expected[seq] for seq in (0, 5, 4000, 8999)
    ]
    assert feed.snapshot(9000) == expected[other] + expected[8999]
    at = feed.tick_at(int(ticks["event_ns"][2500]))
    assert ticks["event_ns"][at] == ticks["event_ns"][2500]
    assert set(read) == {1}
