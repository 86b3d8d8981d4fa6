"""The recording: what a kill leaves, what damage does, and the feed that is made of it."""

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.backtest.results.finished_run import data_facts
from app.config.settings import Settings
from app.market_data.live.exchange.receiver import TRADES_PER_SEND
from app.market_data.live.exchange.supervised import PACKETS_MAX
from app.market_data.live.live_feed import LiveFeed
from app.market_data.live.parquet import parts as parquet_parts
from app.market_data.live.records import NO_ID, TICK, Records
from app.market_data.live.tick_log import RecordingFull, TickLog
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import columns_of, describe, load_files, open_feed

SYMBOLS = ["BTCUSDT", "ETHUSDT", "NEVER"]
NOW = 1_700_000_000 * 10**9
LIVE = Settings(data_path="ws://exchange/ws", live_symbols="X", replay="walk", seed=7)


def some_ticks(count: int, seed: int = 1) -> Records:
    rng = np.random.default_rng(seed)
    ticks = np.zeros(count, TICK)
    ticks["event_ns"] = NOW + np.cumsum(rng.integers(0, 3, count)) * 500_000
    ticks["exchange_ns"] = ticks["event_ns"] - rng.integers(0, 2, count)
    ticks["receive_ns"] = ticks["event_ns"] + 25_000_000
    ticks["price"] = rng.integers(1, 9 * 10**18, count)
    ticks["price"][::3] = 10**9
    ticks["trade_id"] = np.arange(count)
    ticks["trade_id"][::5] = NO_ID
    ticks["qty"] = rng.random(count)
    ticks["qty"][::7] = np.nan
    ticks["symbol"] = rng.integers(0, 2, count)
    return ticks


def record(path: Path, ticks: Records) -> TickLog:
    log, _ = TickLog.append(path, SYMBOLS, "ws://exchange/ws")
    log.write(ticks)
    return log


def test_a_kill_in_a_write_loses_no_tick_that_was_sent(tmp_path: Path) -> None:
    """Cut at every byte of the last tick: the ticks before it are whole, and recording goes on."""
    path, ticks = tmp_path / "run.ticks", some_ticks(20)
    record(path, ticks).close()
    whole = path.read_bytes()
    for cut in range(1, 65):
        path.write_bytes(whole[:-cut])
        log, lost = TickLog.append(path, SYMBOLS, "")
        assert log.count == 19
        assert lost == (64 - cut) % 64
        log.write(ticks[19:].copy())
        assert log.ticks(0, 20).tobytes() == whole[-20 * 64 :]
        log.close()


def test_pages_that_never_came_to_the_disk_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "run.ticks"
    record(path, some_ticks(20)).close()
    with path.open("r+b") as file:
        file.seek(-5 * 64, os.SEEK_END)
        file.write(bytes(5 * 64))
    log, lost = TickLog.append(path, SYMBOLS, "")
    assert (log.count, lost) == (15, 5 * 64)


def test_the_largest_write_is_cut_off_whole(tmp_path: Path) -> None:
    path, largest = tmp_path / "run.ticks", PACKETS_MAX * TRADES_PER_SEND
    record(path, some_ticks(largest + 10)).close()
    with path.open("r+b") as file:
        file.seek(-largest * 64, os.SEEK_END)
        file.write(bytes(largest * 64))
    log, lost = TickLog.append(path, SYMBOLS, "")
    assert (log.count, lost) == (10, largest * 64)


def test_a_header_that_is_written_in_parts_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda to, data, at: write(to, data[:7], at))
    log, _ = TickLog.append(tmp_path / "run.ticks", SYMBOLS, "ws://exchange/ws")
    assert (log.symbols, log.count) == (SYMBOLS, 0)


@pytest.mark.parametrize("room", [0, 5, 16, 17, 60])
def test_a_disk_that_is_full_at_the_begin_ends_no_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    path, write = tmp_path / "run.ticks", os.pwrite

    def full(descriptor: int, data: Any, at: int) -> int:
        if at >= room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: room - at], at)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(DataError, match="No space left"):
            TickLog.append(path, SYMBOLS, "")
    assert path.stat().st_size == room
    log, _ = TickLog.append(path, SYMBOLS, "")
    assert log.count == 0


def test_a_header_whose_size_is_damaged_costs_no_ticks(tmp_path: Path) -> None:
    path = tmp_path / "run.ticks"
    record(path, some_ticks(3)).close()
    data = bytearray(path.read_bytes())
    data[9] ^= 0x7F  # longer than the file
    path.write_bytes(data)
    with pytest.raises(DataError, match="header is damaged"):
        TickLog.append(path, SYMBOLS, "")
    assert path.read_bytes() == data


def test_the_recording_is_on_the_disk_before_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "run.ticks", []
    record(path, some_ticks(3))

    def sync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        assert not list((tmp_path / "run").glob("*.parquet"))

    monkeypatch.setattr(os, "fdatasync", sync)
    parquet_parts.write_parts(path)
    assert synced == [path.stat().st_ino]


def test_a_killed_begin_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "run.ticks"
    path.write_bytes(b"TRD")
    log, _ = TickLog.append(path, SYMBOLS, "")
    assert log.count == 0


def test_damage_in_the_middle_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "run.ticks"
    record(path, some_ticks(20)).close()
    with path.open("r+b") as file:
        file.seek(-10 * 64, os.SEEK_END)
        file.write(b"\xff")
    with pytest.raises(DataError, match=r"run\.ticks: damaged recording: tick 10 "):
        TickLog.append(path, SYMBOLS, "")
    with pytest.raises(DataError, match="tick 10 "):
        load_files(str(path), columns_of(Settings()))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 20 * 64 - 1), st.integers(1, 255))
def test_no_flipped_byte_becomes_a_tick(tmp_path_factory: Any, at: int, flip: int) -> None:
    path = tmp_path_factory.mktemp("flip") / "run.ticks"
    record(path, some_ticks(20)).close()
    data = bytearray(path.read_bytes())
    data[len(data) - 20 * 64 + at] ^= flip
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"tick {at // 64} "):
        TickLog.read(path).ticks(0, 20)


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_damaged_header_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "run.ticks"
    record(path, some_ticks(3)).close()
    data = bytearray(path.read_bytes())
    data[cut] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError):
        TickLog.read(path)


def test_other_symbols_and_a_second_writer_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.ticks"
    log = record(path, some_ticks(3))
    with pytest.raises(DataError, match="another process records there"):
        TickLog.append(path, SYMBOLS, "")
    log.close()
    with pytest.raises(DataError, match="LIVE_SYMBOLS=BTCUSDT,ETHUSDT,NEVER: set these"):
        TickLog.append(path, ["BTCUSDT"], "")


def test_a_full_disk_leaves_the_ticks_of_before_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ticks = tmp_path / "run.ticks", some_ticks(20)
    log = record(path, ticks[:10].copy())
    write = os.pwrite
    left = [100]

    def full(descriptor: int, data: Any, at: int) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = min(left[0], len(data))
        left[0] -= part
        return write(descriptor, data[:part], at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(RecordingFull):
        log.write(ticks[10:].copy())
    assert TickLog.read(path).count == log.count == 10
    left[0] = 1 << 20
    log.write(ticks[10:].copy())
    assert TickLog.read(path).ticks(0, 20)["price"].tolist() == ticks["price"].tolist()


# ---- the feed of a recording


def grown(path: Path, ticks: Records, steps: list[int]) -> LiveFeed:
    """A feed that has grown in these steps."""
    log, _ = TickLog.append(path, SYMBOLS, "")
    feed = LiveFeed(log, LIVE)
    done = 0
    for step in [*steps, len(ticks)]:
        part = ticks[done : done + step].copy()
        if len(part):
            log.write(part)
            feed.grow(part)
        done += len(part)
    return feed


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 900), max_size=12), st.integers(1, 3), st.data())
def test_a_growing_feed_is_the_replay_of_its_recording(
    tmp_path_factory: Any, steps: list[int], seed: int, data: st.DataObject
) -> None:
    """Frame by frame, with its times, its snapshots and its sentiment."""
    path = tmp_path_factory.mktemp("feed") / "run.ticks"
    ticks = some_ticks(5000, seed)
    feed = grown(path, ticks, steps)
    replay = Settings(data_path=str(path), replay="once", seed=7)
    file = open_feed(replay)
    total = file.total
    assert feed.available == total == 5000
    frames = [file.frame(seq) for seq in range(total)]
    assert [feed.block_at(seq).frame(seq) for seq in range(total)] == frames
    assert [feed.frame(seq) for seq in range(0, total, 97)] == frames[::97]
    assert [feed.event_ns(n) for n in range(0, total, 97)] == ticks["event_ns"][::97].tolist()
    for seq in data.draw(st.lists(st.integers(0, total), min_size=3, max_size=6)):
        assert feed.snapshot(seq) == file.snapshot(seq)
        assert feed.sentiment_snapshot(seq) == file.sentiment_snapshot(seq)
        assert feed.sentiment_count(seq) == file.sentiment_count(seq)
        end = min(seq + 333, total)
        assert feed.sentiments(seq, end) == file.sentiments(seq, end)
        if seq < total:
            assert feed.tick_at(int(ticks["event_ns"][seq])) <= seq


def test_who_follows_sees_what_is_written(tmp_path: Path) -> None:
    path, ticks = tmp_path / "run.ticks", some_ticks(5000)
    log, _ = TickLog.append(path, SYMBOLS, "")
    follower = LiveFeed(TickLog.read(path), LIVE, follows=True)
    assert follower.available == 0
    for first in range(0, 5000, 700):
        log.write(ticks[first : first + 700].copy())
        end = min(first + 700, 5000)
        assert follower.block_at(end - 1).end == end
    assert follower.feed_id == LiveFeed(log, LIVE).feed_id


def test_a_block_that_someone_holds_shows_the_ticks_that_come(tmp_path: Path) -> None:
    ticks = some_ticks(10)
    log, _ = TickLog.append(tmp_path / "run.ticks", SYMBOLS, "")
    feed = LiveFeed(log, LIVE)
    held = feed.block_at(0)
    assert (held.end, held.seq_at(0)) == (0, 0)
    for seq in range(10):
        part = ticks[seq : seq + 1].copy()
        log.write(part)
        feed.grow(part)
        assert held.end == seq + 1
        assert held.frame(seq) == feed.frame(seq)
        assert held.seq_at(held.offsets[seq + 1]) == seq + 1


def test_what_a_backtest_says_of_its_data_has_no_secret(tmp_path: Path) -> None:
    address = "wss://me:SECRET@host/ws?token=SECRET"
    log = record(tmp_path / "live.ticks", some_ticks(10))
    live = Settings(data_path=address, live_symbols="X", live_record=str(tmp_path))
    facts = data_facts(live, open_feed(live))
    assert (facts.name, facts.sha256) == ("wss://host/ws", "")
    log.close()


def test_a_replay_has_the_symbols_that_traded_in_the_order_of_the_live_session(
    tmp_path: Path,
) -> None:
    path, ticks = tmp_path / "run.ticks", some_ticks(6)
    ticks["symbol"] = [2, 2, 0, 2, 0, 0]
    live = LiveFeed(record(path, ticks), LIVE)
    assert live.symbols == ["BTCUSDT", "ETHUSDT", "NEVER"]
    replay = open_feed(Settings(data_path=str(path), replay="once", seed=7))
    assert replay.symbols == ["BTCUSDT", "NEVER"]
    assert [replay.frame(seq) for seq in range(6)] == [live.frame(seq) for seq in range(6)]
    assert replay.snapshot(5) == live.snapshot(5)


# ---- Parquet


def test_parquet_has_every_value_exactly(tmp_path: Path) -> None:
    path, ticks = tmp_path / "run.ticks", some_ticks(3000)
    record(path, ticks)
    (part,) = parquet_parts.write_parts(path)
    table = pq.read_table(part)
    assert str(table.schema.field("price").type) == "decimal128(19, 9)"
    assert [int(each.scaleb(9)) for each in table["price"].to_pylist()] == ticks["price"].tolist()
    assert table["symbol"].to_pylist() == [SYMBOLS[at] for at in ticks["symbol"]]
    for column, field in (
        ("timestamp", "event_ns"),
        ("exchange_time", "exchange_ns"),
        ("receive_time", "receive_ns"),
    ):
        assert table[column].cast("int64").to_pylist() == ticks[field].tolist()
        assert str(table.schema.field(column).type) == "timestamp[ns, tz=UTC]"
    ids = [None if each == NO_ID else each for each in ticks["trade_id"].tolist()]
    assert table["trade_id"].to_pylist() == ids
    found = table["quantity"].to_pylist()
    for each, wanted in zip(found, ticks["qty"].tolist(), strict=True):
        assert each == wanted or (each is None and wanted != wanted)


def test_parts_grow_with_the_recording_and_replay_as_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_parts, "PART_TICKS", 1000)
    path, ticks = tmp_path / "run.ticks", some_ticks(2600)
    log = record(path, ticks[:1500].copy())
    assert [part.name for part in parquet_parts.write_parts(path)] == [
        "part-000000.parquet",
        "part-000001.parquet",
    ]
    assert parquet_parts.write_parts(path) == []
    log.write(ticks[1500:].copy())
    written = parquet_parts.write_parts(path)
    assert [part.name for part in written] == ["part-000001.parquet", "part-000002.parquet"]
    columns = columns_of(Settings())
    parts, whole = load_files(str(tmp_path / "run"), columns), load_files(str(path), columns)
    assert bytes(parts.frames) == bytes(whole.frames)
    assert parts.event_ns.tolist() == whole.event_ns.tolist()


def test_what_a_killed_writer_has_left_is_removed(tmp_path: Path) -> None:
    """A writer that still runs keeps its file; who has the number of a dead one can write."""
    path, folder = tmp_path / "run.ticks", tmp_path / "run"
    record(path, some_ticks(3))
    folder.mkdir()
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = [folder / f".part-000000.parquet.{pid}" for pid in (gone.pid, os.getpid())]
    kept = [folder / f".part-000000.parquet.{os.getppid()}", folder / ".own.parquet.notes"]
    for each in left + kept:
        each.write_bytes(b"half")
    (part,) = parquet_parts.write_parts(path)
    assert pq.read_table(part).num_rows == 3
    assert [each.exists() for each in left + kept] == [False, False, True, True]


def test_a_recording_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "run.ticks"
    record(path, some_ticks(3))
    found = dict(describe(path, columns_of(Settings())))
    assert found == {"format": "recording of a live feed", "recorded": "ws://exchange/ws"}
