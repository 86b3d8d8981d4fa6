"""Parquet and Arrow files: the same ticks as the CSV file with the same rows."""

import io
from collections.abc import Callable
from datetime import date, datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import load_files, load_prices, load_sentiments
from app.market_data.tick_table import Columns, Rows
from app.model.timestamps import format_timestamp
from tests.support.paths import SHARED_DATA

pa: Any = pytest.importorskip("pyarrow")
pq: Any = pytest.importorskip("pyarrow.parquet")

START_NS = 1_759_311_000_000_000_000
Save = Callable[..., Path]


def as_parquet(table: Any, file: Any) -> None:
    pq.write_table(table, file, row_group_size=700, compression="zstd")


def as_arrow(table: Any, file: Any) -> None:
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=700)


def as_lz4_arrow(table: Any, file: Any) -> None:
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table)


def as_stream(table: Any, file: Any) -> None:
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=700)


WRITERS = [as_parquet, as_arrow, as_lz4_arrow, as_stream]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(table: Any, writer: Any = as_parquet, name: str = "ticks.bin") -> Path:
        path = tmp_path / name
        with path.open("wb") as file:
            writer(table, file)
        return path

    return write


def ticks(count: int, seed: int = 1) -> tuple[list[int], list[str], list[float]]:
    rng = np.random.default_rng(seed)
    times = (START_NS + np.cumsum(rng.integers(0, 2_000_000, count))).tolist()
    symbols = rng.choice(["MSFT", "AAPL", "X"], count).tolist()
    prices = np.round(rng.uniform(0.01, 1000, count), 3).tolist()
    return times, symbols, prices


def as_csv(path: Path, columns: dict[str, list[Any]], **options: Any) -> Rows:
    lines = [",".join(columns)]
    lines += [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return load_prices(path, Columns(**options))


def plain(rows: Rows) -> list[tuple[bytes, ...]]:
    """Each frame with its price as a number's text, without zeros at the end."""
    found = []
    for row in range(len(rows)):
        time, symbol, value, _ = rows.frame(row).split(b"*")
        found.append((time, symbol, value.rstrip(b"0").rstrip(b".") if b"." in value else value))
    return found


def same(ours: Rows, theirs: Rows) -> None:
    assert plain(ours) == plain(theirs)
    assert ours.symbols == theirs.symbols
    assert ours.event_ns.tolist() == theirs.event_ns.tolist()
    assert ours.symbol_index.tolist() == theirs.symbol_index.tolist()
    assert (ours.values is None) == (theirs.values is None)
    if ours.values is not None and theirs.values is not None:
        assert ours.values.tolist() == theirs.values.tolist()


@pytest.mark.parametrize("writer", WRITERS)
def test_the_rows_are_those_of_the_csv_file(tmp_path: Path, save: Save, writer: Any) -> None:
    times, symbols, prices = ticks(2500)
    table = pa.table(
        {
            "size": list(range(len(times))),
            "price": prices,
            "timestamp": pa.array(times, pa.timestamp("ns", "Europe/Berlin")),
            "symbol": pa.array(symbols).dictionary_encode(),
            "sentiment": pa.array([row % 102 - 1 if row % 102 else None for row in range(2500)]),
        }
    )
    values = ["" if value is None else value for value in table["sentiment"].to_pylist()]
    texts = [format_timestamp(ns).decode() for ns in times]
    theirs = as_csv(
        tmp_path / "ticks.csv",
        {"timestamp": texts, "symbol": symbols, "price": prices, "sentiment": values},
    )
    calls: list[tuple[int, int]] = []
    path = save(table, writer)
    same(load_prices(path, Columns(), lambda *at: calls.append(at)), theirs)
    assert calls
    assert {total for _, total in calls} == {path.stat().st_size}


def test_more_rows_than_a_batch_has_and_many_symbols(tmp_path: Path, save: Save) -> None:
    count = 150_000
    times = list(range(START_NS, START_NS + count * 1000, 1000))
    symbols = [f"S{row // 100}" for row in range(count)]
    table = pa.table({"timestamp": times, "symbol": symbols, "price": [1.5] * count})
    rows = load_prices(save(table), Columns())
    assert rows.event_ns.tolist() == times
    assert rows.symbols == list(dict.fromkeys(symbols))
    assert [rows.symbols[at] for at in rows.symbol_index[::999]] == symbols[::999]
    assert rows.frame(count - 1) == b"2025-10-01 09:30:00.149999*S1499*1.5*"


def test_other_names_in_any_case_and_one_symbol(tmp_path: Path, save: Save) -> None:
    times, _, prices = ticks(50)
    path = save(pa.table({"T": pa.array(times, pa.timestamp("ns")), "Last Px": prices}))
    rows = load_prices(path, Columns(timestamp="t", price="last px", data_symbol="ES"))
    assert rows.symbols == ["ES"]
    assert len(rows) == 50


def test_a_missing_column_is_named_with_what_there_is(save: Save) -> None:
    path = save(pa.table({"Date": [START_NS], "ticker": ["A"], "px": [1.0]}))
    with pytest.raises(DataError) as error:
        load_prices(path, Columns())
    text = str(error.value)
    assert "Date, ticker, px" in text
    assert "TIMESTAMP_COLUMN=Date" in text
    assert "SYMBOL_COLUMN=ticker" in text
    assert "PRICE_COLUMN" in text
    assert "\n" not in text
    rows = load_prices(path, Columns("Date", "ticker", "px"))
    assert rows.frame(0) == b"2025-10-01 09:30:00*A*1*"


def test_a_column_of_the_wrong_type_is_named(save: Save) -> None:
    path = save(pa.table({"timestamp": [START_NS], "symbol": [7], "price": [1.0]}))
    with pytest.raises(DataError, match="column 'symbol' is of type Int64, not text"):
        load_prices(path, Columns())


def test_bad_rows_are_named_by_number_or_skipped(save: Save) -> None:
    table = pa.table(
        {
            "timestamp": pa.array([START_NS, None, START_NS, START_NS, START_NS], pa.int64()),
            "symbol": ["A", "A", "A*", "A", "A"],
            "price": [1.0, 2.0, 3.0, float("nan"), -1.0],
        }
    )
    path = save(table)
    with pytest.raises(DataError) as error:
        load_prices(path, Columns())
    first, *lines = str(error.value).splitlines()
    assert first.endswith("4 rows malformed; SKIP_BAD_ROWS=true skips such rows")
    assert [line.removeprefix(f"{path}:") for line in lines] == [
        "2: timestamp='': missing",
        "3: symbol='A*': symbol with a delimiter (* | ,), a space, or anything but printable ASCII",
        "4: price='nan': not finite",
        "5: price='-1.0': not positive",
    ]
    rows = load_prices(path, Columns(skip_bad_rows=True))
    assert (len(rows), rows.skipped) == (1, 4)


def test_rows_out_of_order_are_refused_or_sorted(save: Save) -> None:
    times = [START_NS + 2, START_NS, START_NS + 1]
    path = save(pa.table({"timestamp": times, "symbol": ["C", "A", "B"], "price": [3, 1, 2]}))
    with pytest.raises(DataError, match="SORT_ROWS=true"):
        load_prices(path, Columns())
    rows = load_prices(path, Columns(sort_rows=True))
    assert [rows.frame(row).split(b"*")[1:3] for row in range(3)] == [
        [b"A", b"1"],
        [b"B", b"2"],
        [b"C", b"3"],
    ]


BAR = {"Date": [START_NS, START_NS + 60 * 10**9], "Open": [10.0, 12.0], "High": [13.0, 12.5]}
BAR |= {"Low": [9.0, 8.0], "Close": [12.0, 8.5], "Volume": [1, 2]}


def test_bars_give_their_close_or_four_ticks(save: Save) -> None:
    path = save(pa.table(BAR))
    rows = load_prices(path, Columns(data_symbol="A"))
    assert [value for _, _, value in plain(rows)] == [b"12", b"8.5"]
    rows = load_prices(path, Columns(data_symbol="A", bars_as="ohlc"))
    assert [value for _, _, value in plain(rows)] == [
        *(b"10", b"9", b"13", b"12"),
        *(b"12", b"12.5", b"8", b"8.5"),
    ]
    quarter_ns = 15 * 10**9
    assert rows.event_ns.tolist() == [START_NS + quarter_ns * tick for tick in range(8)]
    bad = pa.table(BAR | {"Low": [None, 8.0]})
    rows = load_prices(save(bad), Columns(data_symbol="A", bars_as="ohlc", skip_bad_rows=True))
    assert (len(rows), rows.skipped) == (4, 1)


def test_quotes_give_the_middle_or_the_last_price(save: Save) -> None:
    quotes = {"ts": [START_NS], "sym": ["A"], "bid_px_00": [1.25], "ask_px_00": [1.26]}
    rows = load_prices(save(pa.table(quotes)), Columns())
    assert plain(rows) == [(b"2025-10-01 09:30:00", b"A", b"1.255")]
    path = save(pa.table(quotes | {"last": [1.2]}))
    rows = load_prices(path, Columns(data_kind="quotes", quotes_as="last"))
    assert plain(rows)[0][2] == b"1.2"
    with pytest.raises(DataError, match="no column 'ask'"):
        load_prices(
            save(pa.table({"ts": [1], "bid": [1.0]})),
            Columns(data_kind="quotes", timestamp="ts", data_symbol="A"),
        )


def test_a_sentiment_file(save: Save) -> None:
    table = pa.table({"timestamp": [START_NS] * 2, "symbol": ["A", "B"], "sentiment": [7, None]})
    with pytest.raises(DataError, match="sentiment='': missing"):
        load_sentiments(save(table), Columns())
    rows = load_sentiments(save(table), Columns(skip_bad_rows=True))
    assert rows.frame(0) == b"2025-10-01 09:30:00*A*7*"


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_without_rows(save: Save, writer: Any) -> None:
    table = pa.table({"timestamp": [1], "symbol": ["A"], "price": [1.0]}).slice(0, 0)
    with pytest.raises(DataError, match="no rows"):
        load_prices(save(table, writer), Columns())


def test_what_it_is_is_told_by_content(save: Save) -> None:
    times, symbols, prices = ticks(10)
    table = pa.table({"timestamp": times, "symbol": symbols, "price": prices})
    for writer in WRITERS:
        assert len(load_prices(save(table, writer, "ticks.csv"), Columns())) == 10


def test_files_that_are_named_for_what_they_are(tmp_path: Path, save: Save) -> None:
    whole = io.BytesIO()
    as_parquet(pa.table({"timestamp": [START_NS], "symbol": ["A"], "price": [1.0]}), whole)
    path = tmp_path / "file"
    for content, reason in (
        (whole.getvalue()[:-9], "truncated Parquet file"),
        (whole.getvalue()[:-4] + b"PARE", "encrypted Parquet file: write it without encryption"),
        (b"PAR1", "damaged Parquet file"),
        (b"ARROW1\0\0" + bytes(100), "truncated Arrow file"),
        (b"FEA1" + bytes(100), "Feather version 1"),
        (b"\xff\xff\xff\xff\x10\0\0\0" + bytes(100), "damaged Arrow stream file"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=reason) as error:
            load_prices(path, Columns())
        assert "\n" not in str(error.value)


def test_times_as_text_in_another_form(save: Save) -> None:
    texts = ["01/10/2025 09:30:00", "01/10/2025 09:30:00.5"]
    path = save(pa.table({"timestamp": texts, "symbol": ["A", "A"], "price": [1.0, 2.0]}))
    with pytest.raises(DataError, match="set TIMESTAMP_FORMAT="):
        load_prices(path, Columns())
    rows = load_prices(path, Columns(timestamp_format="%d/%m/%Y %H:%M:%S.%f"))
    assert rows.event_ns.tolist() == [START_NS, START_NS + 500_000_000]
    with pytest.raises(DataError, match="TIMESTAMP_FORMAT=%Q: %Q is unknown"):
        load_prices(path, Columns(timestamp_format="%Q"))


@pytest.mark.parametrize(
    ("date", "time", "form"),
    [
        (["2025-10-01"] * 2, ["09:30:00", "09:30:00.5"], ""),
        ([date(2025, 10, 1)] * 2, [time_of_day(9, 30), time_of_day(9, 30, 0, 500_000)], ""),
        ([datetime(2025, 10, 1)] * 2, pa.array([34_200_000, 34_200_500], pa.time32("ms")), ""),
        (["2025-10-01"] * 2, pa.array([34_200_000_000, 34_200_500_000], pa.time64("us")), ""),
        (["01/10/2025"] * 2, ["09:30:00.0", "09:30:00.5"], "%d/%m/%Y %H:%M:%S.%f"),
        ([20251001] * 2, ["093000", "093000.5"], "%Y%m%d %H%M%S.%f"),
    ],
)  # fmt: skip
def test_date_and_time_in_two_columns(save: Save, date: Any, time: Any, form: str) -> None:
    path = save(pa.table({"d": date, "t": time, "price": [1.0, 2.0]}))
    columns = Columns(timestamp="d+t", data_symbol="A", timestamp_format=form)
    assert load_prices(path, columns).event_ns.tolist() == [START_NS, START_NS + 500_000_000]


def test_a_date_without_a_time_is_a_wrong_row(save: Save) -> None:
    for time in (pa.array([None, 34_200], pa.time32("s")), [None, "09:30:00"]):
        path = save(pa.table({"d": ["2025-10-01"] * 2, "t": time, "price": [1.0, 2.0]}))
        columns = Columns(timestamp="d+t", data_symbol="A", skip_bad_rows=True)
        assert load_prices(path, columns).event_ns.tolist() == [START_NS]
        with pytest.raises(DataError, match=":1: d='': missing"):
            load_prices(path, Columns(timestamp="d+t", data_symbol="A"))
    path = save(pa.table({"d": ["2025-10-01"], "t": [0.5], "price": [1.0]}))
    with pytest.raises(DataError, match="is of type Float64, not a date and a time"):
        load_prices(path, Columns(timestamp="d+t", data_symbol="A"))


REAL = ["equity_1min_3sym_utc.csv", "binance_spot_2sym_epoch_ns.csv", "tsla_ticks_us_utc.csv"]


@pytest.mark.medium
@pytest.mark.parametrize("name", [*REAL, "wiki_daily_5sym_2000_2013.csv"])
@pytest.mark.parametrize("writer", [as_parquet, as_stream])
def test_real_data_is_the_same_in_both_forms(save: Save, name: str, writer: Any) -> None:
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here; TRADING_SHARED_DATA names its folder")
    theirs = load_prices(path, Columns(sort_rows=True))
    frames = [theirs.frame(row).split(b"*") for row in range(len(theirs))]
    table = pa.table(
        {
            "timestamp": pa.array(theirs.event_ns, pa.timestamp("ns")),
            "symbol": [symbol.decode() for _, symbol, _, _ in frames],
            "price": [float(price) for _, _, price, _ in frames],
        }
    )
    ours = load_prices(save(table, writer), Columns())
    assert ours.symbols == theirs.symbols
    assert ours.event_ns.tolist() == theirs.event_ns.tolist()
    assert [row[1:] for row in plain(ours)] == [row[1:] for row in plain(theirs)]


def test_files_of_several_formats_are_merged_by_time(tmp_path: Path) -> None:
    folder = tmp_path / "days"
    folder.mkdir()
    (folder / "a.csv").write_text("timestamp,symbol,price\n2025-10-01 09:30:01,A,1\n")
    for name, writer, offset in (("b.parquet", as_parquet, 0), ("c.arrow", as_arrow, 2)):
        at = START_NS + offset * 10**9
        with (folder / name).open("wb") as file:
            writer(pa.table({"timestamp": [at], "symbol": [name[0]], "price": [2.5]}), file)
    rows = load_files(str(folder), Columns())
    assert [symbol for _, symbol, _ in plain(rows)] == [b"b", b"A", b"c"]
