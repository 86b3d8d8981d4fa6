"""Data in files, read a few rows at a time, is the same feed as data in memory."""

import datetime as dt
import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.backtest import replay as backtest
from app.backtest.outcome import first_difference, of_backtest
from app.market_data.feed import Feed
from app.market_data.sources import rows as row_order
from app.market_data.sources.columnar import row_builder
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import open_feed
from app.market_data.sources.progress import LoadInterrupted
from app.market_data.sources.rows import by_time
from app.market_data.sources.text import csv_reader
from app.market_data.storage import pieces
from app.market_data.storage.place import Storage
from app.market_data.tick_table import Rows
from tests.app.market_data.sources.dbn.test_file import head, mapping, trade
from tests.support.feed_helpers import (
    PROVEN,
    SYMBOLS_FRAME,
    WireClient,
    all_ticks,
    make_feed,
    make_settings,
    running,
    ticks_bytes,
    write_ticks,
)
from tests.support.paths import ROOT

pa: Any = pytest.importorskip("pyarrow")
pq: Any = pytest.importorskip("pyarrow.parquet")

QUIET = [HealthCheck.function_scoped_fixture]
START_US = 1_759_311_000_000_000


class Tick(NamedTuple):
    """A row: time in steps of half a second, symbol, price in cents, sentiment."""

    time: int
    symbol: str
    cents: int
    sentiment: int | None


TICKS = st.lists(
    st.builds(
        Tick,
        st.integers(0, 12),
        st.sampled_from(["A", "BB", "CCC"]),
        st.integers(1, 99_999),
        st.one_of(st.none(), st.integers(0, 100)),
    ),
    min_size=1,
    max_size=24,
)


def text_time(tick: Tick) -> str:
    return f"2025-10-01 09:30:{tick.time // 2:02}" + (".500" if tick.time % 2 else "")


def write_csv(path: Path, ticks: list[Tick]) -> None:
    lines = ["timestamp,symbol,price,sentiment"]
    for tick in ticks:
        price = f"{tick.cents / 100:.2f}"  # with zeros at its end
        sentiment = "" if tick.sentiment is None else tick.sentiment
        lines.append(f"{text_time(tick)},{tick.symbol},{price},{sentiment}")
    path.write_text("\n".join(lines) + "\n")


def write_json(path: Path, ticks: list[Tick]) -> None:
    lines = []
    for tick in ticks:
        row = {"timestamp": text_time(tick), "symbol": tick.symbol, "price": tick.cents / 100}
        lines.append(json.dumps(row | {"sentiment": tick.sentiment}))
    path.write_text("\n".join(lines) + "\n")


def table_of(ticks: list[Tick]) -> Any:
    times = [START_US + tick.time * 500_000 for tick in ticks]
    return pa.table(
        {
            "timestamp": pa.array(times, pa.timestamp("us")),
            "symbol": [tick.symbol for tick in ticks],
            "price": [tick.cents / 100 for tick in ticks],
            "sentiment": pa.array([tick.sentiment for tick in ticks], pa.int16()),
        }
    )


def write_parquet(path: Path, ticks: list[Tick]) -> None:
    pq.write_table(table_of(ticks), path, row_group_size=5)


def write_arrow(path: Path, ticks: list[Tick]) -> None:
    table = table_of(ticks)
    with path.open("wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


def write_dbn(path: Path, ticks: list[Tick]) -> None:
    names = sorted({tick.symbol for tick in ticks})
    day = dt.date(2025, 10, 1)
    mappings = [
        mapping(name, (day, day + dt.timedelta(1), f"{at}")) for at, name in enumerate(names)
    ]
    records = [
        trade(
            tick.cents * 10**7, START_US * 1000 + tick.time * 500_000_000, names.index(tick.symbol)
        )
        for tick in ticks
    ]
    path.write_bytes(head(mappings=mappings) + b"".join(records))


def write_sentiments(path: Path, ticks: list[Tick]) -> None:
    lines = ["timestamp,symbol,sentiment"]
    lines += [f"{text_time(tick)},{tick.symbol},{tick.cents % 101}" for tick in ticks]
    path.write_text("\n".join(lines) + "\n")


Write = Callable[[Path, list[Tick]], None]


class Small:
    """Makes every piece of work a few rows, and the memory that data may take nothing."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, rows: int) -> None:
        patch.setattr(pieces, "PIECE_ROWS", rows)
        patch.setattr(row_order, "RUN_ROWS", rows)
        patch.setattr(row_builder, "_ENCODE_ROWS", rows)
        patch.setattr(csv_reader, "CHUNK_BYTES", 20 * rows)
        patch.setattr("app.market_data.feed.HASHED_BYTES", 10 * rows)
        self.settings = {"data_memory_bytes_max": 0, "data_spill_dir": str(folder / "spilled")}


def whole(feed: Feed, end: int, cuts: list[int]) -> list[object]:
    """All that a feed says of its ticks below ``end``."""
    found: list[object] = [feed.feed_id, feed.symbols, feed.total, feed.rows_skipped]
    found.append(ticks_bytes(feed, 0, end))
    found.append([feed.event_ns(seq) for seq in range(end)])
    for cut in cuts:
        found += [feed.frame(cut), feed.snapshot(cut), feed.sentiment_snapshot(cut)]
        found += [feed.sentiment_count(cut), feed.tick_at(feed.event_ns(cut))]
        for first, last in ((0, cut), (cut, end)):
            found += [feed.sentiments(first, last), feed.marked_sentiments(first, last)]
            data, due = feed.sentiments_due(first, last)
            found += [data, due.tolist()]
    return found


class Case(NamedTuple):
    """What is replayed, and how."""

    files: list[list[Tick]]
    rows: int
    replay: str
    own_file: bool
    every: int


CASES = st.builds(
    Case,
    st.lists(TICKS, min_size=1, max_size=2),
    st.integers(1, 7),
    st.sampled_from(["once", "loop", "walk"]),
    st.booleans(),
    st.integers(1, 5),
)


def check(folder: Path, case: Case, write: Write) -> None:
    """Of one file or two, in order or not, with any kind of sentiment, in any kind of replay."""
    names = [f"{number}" for number in range(len(case.files))]
    for name, ticks in zip(names, case.files, strict=True):
        write(folder / name, ticks)
    changes: dict[str, object] = {
        "data_path": f"{folder}/{','.join(names)}",
        "sort_rows": True,
        "replay": case.replay,
        "sentiment_every_ticks": case.every,
        "sentiment_column": "sentiment" if case.every % 2 else "no_such_column",
    }
    if case.own_file:
        write_sentiments(folder / "mood", case.files[-1])
        changes |= {"sentiment_path": str(folder / "mood"), "sentiment_column": "sentiment"}
    expected = open_feed(make_settings(**changes))
    end = expected.file.ticks * (1 if case.replay == "once" else 3)
    cuts = sorted({0, 1 % end, end // 3, end // 2, end - 1})
    wanted = whole(expected, end, cuts)
    with pytest.MonkeyPatch.context() as patch:
        small = Small(patch, folder, case.rows)
        assert whole(open_feed(make_settings(**changes, **small.settings)), end, cuts) == wanted
    assert not list((folder / "spilled").iterdir())


@pytest.mark.parametrize("write", [write_csv, write_json, write_dbn])
@settings(deadline=None, max_examples=20, suppress_health_check=QUIET)
@given(case=CASES)
def test_a_few_rows_at_a_time_equal_the_whole(tmp_path: Path, case: Case, write: Write) -> None:
    check(tmp_path, case, write)


@pytest.mark.medium
@pytest.mark.parametrize("write", [write_parquet, write_arrow])
@settings(deadline=None, max_examples=8, suppress_health_check=QUIET)
@given(case=CASES)
def test_so_do_files_that_another_process_decodes(tmp_path: Path, case: Case, write: Write) -> None:
    check(tmp_path, case, write)


@settings(deadline=None, max_examples=200, suppress_health_check=QUIET)
@given(times=st.lists(st.integers(0, 9), max_size=60), run_rows=st.integers(1, 7))
def test_rows_are_sorted_as_python_sorts(tmp_path: Path, times: list[int], run_rows: int) -> None:
    frames = [b"%d*%d*" % (time, number) for number, time in enumerate(times)]
    lengths = [len(frame) for frame in frames]
    rows = Rows(
        b"".join(frames),
        np.array([0, *itertools.accumulate(lengths)], np.int64),
        np.array(times, np.int64),
        np.arange(len(times), dtype=np.int32),
        np.arange(len(times), dtype=np.int16),
        [f"S{number}" for number in range(len(times))],
        5,
        in_order=False,
    )
    seen: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_order, "RUN_ROWS", run_rows)
        patch.setattr(pieces, "PIECE_ROWS", 3)
        storage = Storage(0, str(tmp_path), free_bytes_min=0)
        done = by_time(rows, storage, lambda part, total: seen.append(part / total))
    assert seen == sorted(seen)
    order = sorted(range(len(times)), key=lambda number: times[number])
    assert [done.frame(row) for row in range(len(done))] == [frames[number] for number in order]
    assert done.symbol_index.tolist() == order
    assert done.values is not None
    assert done.values.tolist() == order
    assert done.event_ns.tolist() == sorted(times)
    assert (len(done.symbols), done.skipped) == (len(times), 5)


@pytest.mark.parametrize("memory_bytes_max", [0, 128 << 20])
@pytest.mark.parametrize(
    ("path", "replay", "feed_id"),
    [
        ("data/market_data.csv", "once", "7608abd8019fea9c"),
        ("data/market_data.csv", "loop", "182f4d65472470ad"),
        ("data/market_data.csv", "walk", "6979768621b0fe8d"),
        ("data/examples_binary/ticks.parquet", "once", "5380b3218b50c709"),
        ("data/examples_binary/trades.dbn.zst", "once", "5380b3218b50c709"),
        ("data/examples/lines.jsonl", "once", "206da649615c63f0"),
    ],
)
def test_a_feeds_name_is_what_it_was(
    tmp_path: Path, path: str, replay: str, feed_id: str, memory_bytes_max: int
) -> None:
    """Names that an earlier version gave: a stored run goes on under its name."""
    columns = {}
    if path.endswith("jsonl"):
        columns = {"timestamp_column": "time", "symbol_column": "trade.symbol"}
        columns["price_column"] = "trade.price"
    feed = make_feed(
        ROOT / path,
        replay=replay,
        data_memory_bytes_max=memory_bytes_max,
        data_spill_dir=str(tmp_path),
        **columns,
    )
    assert feed.feed_id == feed_id


def on_disk(folder: Path) -> dict[str, object]:
    return {"data_memory_bytes_max": 0, "data_spill_dir": str(folder / "spilled")}


def test_clients_resume_anywhere_and_the_market_goes_round(tmp_path: Path) -> None:
    path = write_ticks(tmp_path / "feed.csv", 300)
    plain = make_feed(path, replay="loop")
    choices = make_settings(data_path=str(path), replay="loop", pace="20000/s", **on_disk(tmp_path))
    draw = random.Random(1)
    with running(open_feed(choices), choices) as server:
        for seq in [0, 299, 300, 301, *(draw.randrange(2000) for _ in range(5)), 0]:
            hello = PROVEN + b"RESUME|%d*" % seq
            with WireClient(server.price_port, hello) as client:
                head = SYMBOLS_FRAME + b"SEQ|%d*" % seq
                expected = head + ticks_bytes(plain, seq, seq + 700)
                client.read_frames(3 * 702)
                assert client.data[: len(expected)] == expected


def test_a_backtest_sends_the_same_orders(tmp_path: Path) -> None:
    sample = ROOT / "data" / "market_data.csv"
    outcomes = []
    for changes in ({}, on_disk(tmp_path)):
        choices = make_settings(data_path=str(sample), **changes)
        outcomes.append(of_backtest(backtest.run(choices, open_feed(choices))))
    assert outcomes[0].orders
    assert first_difference(*outcomes) is None


def test_no_room_is_one_line_that_names_the_settings(tmp_path: Path) -> None:
    path = write_ticks(tmp_path / "feed.csv", 300)
    (tmp_path / "file").touch()
    with pytest.raises(DataError) as caught:
        make_feed(path, data_memory_bytes_max=0, data_spill_dir=str(tmp_path / "file"))
    text = str(caught.value)
    assert text.startswith(f"{path}: the data takes more than DATA_MEMORY_BYTES_MAX=0 ")
    assert "set DATA_SPILL_DIR" in text
    assert "\n" not in text


def unsorted(folder: Path) -> Path:
    path = write_ticks(folder / "feed.csv", 3000)
    head, *lines = path.read_text().splitlines(keepends=True)
    random.Random(1).shuffle(lines)
    path.write_text(head + "".join(lines))
    return path


@pytest.mark.parametrize("share", [0.1, 0.7, 0.85, 0.95])
def test_a_stop_while_it_loads_leaves_nothing(tmp_path: Path, share: float) -> None:
    """Whether it reads the file, sorts, makes sentiment or names the feed."""
    path = unsorted(tmp_path)

    def stop_at(done: int, total: int) -> None:
        if done >= share * total:
            raise LoadInterrupted

    with pytest.MonkeyPatch.context() as patch:
        small = Small(patch, tmp_path, 50)
        choices = make_settings(data_path=str(path), sort_rows=True, **small.settings)
        with pytest.raises(LoadInterrupted):
            open_feed(choices, stop_at)
    assert not list((tmp_path / "spilled").iterdir())


def test_progress_never_goes_back(tmp_path: Path) -> None:
    path = unsorted(tmp_path)
    seen: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        small = Small(patch, tmp_path, 50)
        feed = open_feed(
            make_settings(data_path=str(path), sort_rows=True, **small.settings),
            lambda done, total: seen.append(done / total),
        )
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert len({round(share, 2) for share in seen}) > 30
    assert all_ticks(feed).count(b"*") == 9000
