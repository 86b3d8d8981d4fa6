"""The shared copy of the ticks has the batches of a backtest, and nobody can change it."""

import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from app.backtest.feed_reader import FeedReader
from app.backtest.sweep.shared_ticks import SharedReader, TickMemory
from app.config.settings import Settings
from app.market_data.feed import Feed
from app.market_data.sources.loader import open_feed
from app.market_data.storage import place
from app.market_data.storage.place import NoRoom, Storage
from tests.support.paths import ROOT

SAMPLE = str(ROOT / "data" / "market_data.csv")


def read(reader: FeedReader | SharedReader) -> list[tuple[bytes, list[int]]]:
    """Every batch as bytes, with its sentiment."""
    found = []
    for batch in reader.batches():
        sentiment = np.zeros(len(batch), np.int16)
        reader.join(batch, sentiment)
        found.append((batch.tobytes(), sentiment.tolist()))
    return found


def feed_of(**changes: object) -> Feed:
    return open_feed(Settings(**{"data_path": SAMPLE, "replay": "once", **changes}))  # type: ignore[arg-type]


@pytest.mark.parametrize("replay", ["once", "walk", "loop"])
@pytest.mark.parametrize("total", [1, 8192, 30_000, 70_000])
def test_batches_are_those_of_a_backtest(replay: str, total: int) -> None:
    feed = feed_of(replay=replay)
    total = min(total, feed.total)
    with TickMemory(feed, total) as memory:
        reader = SharedReader(memory.shared)
        expected = read(FeedReader(feed, total))
        assert read(reader) == expected
        assert read(reader) == expected, "it can be read again"


def test_a_strategy_that_writes_into_its_batch_changes_nothing_else() -> None:
    feed = feed_of()
    with TickMemory(feed, 30_000) as memory:
        reader = SharedReader(memory.shared)
        for batch in reader.batches():
            batch["price"] = 0
        assert read(reader) == read(FeedReader(feed, 30_000))


def test_the_memory_cannot_be_written() -> None:
    with TickMemory(feed_of(), 100) as memory:
        path = memory.shared.path
        descriptor = os.open(path, os.O_RDWR)
        try:
            with pytest.raises(PermissionError):
                os.write(descriptor, b"x")
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, 0)
            with pytest.raises(PermissionError):
                mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
    assert not Path(path).exists()


def test_many_ticks_are_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same batches; the file has no name, and a worker gets the right to read it."""
    feed = feed_of(data_memory_bytes_max=0, data_spill_dir=str(tmp_path))
    with TickMemory(feed, 30_000, Storage(0, str(tmp_path), free_bytes_min=0)) as memory:
        assert not list(tmp_path.iterdir())
        found = os.stat(memory.shared.path)
        assert found.st_size == 30_000 * 34
        assert found.st_dev == tmp_path.stat().st_dev
        assert found.st_mode & 0o777 == 0o400
        reader = SharedReader(memory.shared)
        assert read(reader) == read(FeedReader(feed_of(), 30_000))
        with pytest.raises(ValueError, match="read-only"):
            reader._ticks["price"] = 0
    monkeypatch.setattr(place, "free_bytes_of", lambda _folder: 10 << 20)
    with pytest.raises(NoRoom, match=f"{tmp_path}: no room for 0 MB of data: 10 MB are free"):
        TickMemory(feed, 30_000, Storage(0, str(tmp_path), free_bytes_min=10 << 20))


def test_days_are_found_however_batches_are_cut(tmp_path: Path) -> None:
    for days in (1, 2, 30):
        rows = ["timestamp,symbol,price"]
        rows += [f"2025-01-{day:02d} {hour:02d}:00:00,X,5" for day in range(1, days + 1) for hour in
                 (0, 12, 23)]  # fmt: skip
        path = tmp_path / f"{days}.csv"
        path.write_text("\n".join(rows) + "\n")
        with TickMemory(feed_of(data_path=str(path)), 3 * days) as memory:
            first = 20_089  # 2025-01-01
            assert memory.days == list(range(first, first + days))
