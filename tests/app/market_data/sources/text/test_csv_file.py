"""CSV files: the loaded rows and their form; rejected rows and their messages."""

import gzip
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import load_prices, load_sentiments
from app.market_data.sources.text import csv_reader as csv_rows
from app.market_data.tick_table import Columns, Rows
from app.model.timestamps import format_timestamp, parse_timestamp
from tests.support.paths import ROOT, SHARED_DATA

HEADER = "timestamp,symbol,price\n"
ROWS = "2025-10-01 09:30:00,AAPL,173.20\n2025-10-01 09:30:01,MSFT,402.1\n"
FRAMES = [b"2025-10-01 09:30:00*AAPL*173.20*", b"2025-10-01 09:30:01*MSFT*402.1*"]

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(content: str | bytes) -> Path:
        path = tmp_path / "feed.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def frames_of(rows: Rows) -> list[bytes]:
    return [rows.frame(row) for row in range(len(rows))]


def check(rows: Rows) -> None:
    """Invariants of loaded rows."""
    for row, frame in enumerate(frames_of(rows)):
        time_text, symbol, _, rest = frame.split(b"*")
        assert rest == b""
        assert parse_timestamp(time_text)[0] == rows.event_ns[row]
        assert rows.symbols[rows.symbol_index[row]].encode() == symbol
    assert (np.diff(rows.event_ns) >= 0).all()
    assert rows.offsets[-1] == len(rows.frames)


class TestForms:
    """The same two ticks in every form of a file."""

    @pytest.mark.parametrize(
        "content",
        [
            HEADER + ROWS,
            (HEADER + ROWS).rstrip("\n"),
            (HEADER + ROWS).replace("\n", "\r\n"),
            "\ufeff" + HEADER + ROWS,
            (HEADER + ROWS).replace("\n", "\n\n"),
            HEADER + ROWS.replace("AAPL", '"AAPL"'),
            '"timestamp","symbol","price"\n' + ROWS,
            HEADER + ROWS.replace("AAPL", " AAPL ").replace("402.1", " 402.1"),
            gzip.compress((HEADER + ROWS).encode(), mtime=0),
        ],
        ids=["lf", "no end", "crlf", "bom", "blank lines", "quotes", "header", "blanks", "gzip"],
    )
    def test_same_frames(self, write: Write, content: str | bytes) -> None:
        rows = load_prices(write(content), Columns())
        assert frames_of(rows) == FRAMES
        assert rows.symbols == ["AAPL", "MSFT"]
        assert rows.event_ns.tolist() == [1759311000 * 10**9, 1759311001 * 10**9]
        assert rows.values is None
        check(rows)

    def test_columns_by_name(self, write: Write) -> None:
        path = write(
            "note,px,when,ticker\n"
            "a,173.20,2025-10-01 09:30:00,AAPL\n"
            '"b, c\nd",402.1,2025-10-01 09:30:01,MSFT\n'
        )
        rows = load_prices(path, Columns(timestamp="when", symbol="ticker", price="px"))
        assert frames_of(rows) == FRAMES

    def test_sentiment_column(self, write: Write) -> None:
        path = write(
            "timestamp,symbol,price,sentiment\n"
            "2025-10-01 09:30:00,AAPL,173.20,55\n"
            "2025-10-01 09:30:01,MSFT,402.1,\n"
            "2025-10-01 09:30:02,MSFT,402.2, 7.0\n"
        )
        rows = load_prices(path, Columns())
        assert frames_of(rows)[:2] == FRAMES
        assert rows.values is not None
        assert rows.values.tolist() == [55, -1, 7]

    def test_timestamps_are_normalized_to_utc(self, write: Write) -> None:
        path = write(
            HEADER
            + "2025-10-01,A,1\n2025-10-01T09:30:00.5Z,A,1e0\n"
            + "2025-10-01 11:30:01+02:00,A,1\n1759311002000,A,.5\n"
        )
        rows = load_prices(path, Columns())
        assert frames_of(rows) == [
            b"2025-10-01 00:00:00*A*1*",
            b"2025-10-01T09:30:00.5Z*A*1*",
            b"2025-10-01 09:30:01*A*1*",
            b"2025-10-01 09:30:02*A*0.5*",
        ]
        check(rows)

    def test_symbols_of_every_length(self, write: Write) -> None:
        symbols = ["A" * length for length in range(1, 11)] + ["^GSPC", "BRK.B", "A=X", "A.B-C/D_E"]
        body = "".join(f"2025-10-01 09:30:00,{symbol},1\n" for symbol in symbols * 3)
        rows = load_prices(write(HEADER + body), Columns())
        assert rows.symbols == symbols
        assert rows.symbol_index.tolist() == list(range(len(symbols))) * 3
        check(rows)

    def test_many_symbols(self, write: Write) -> None:
        symbols = [f"S{number:04}" for number in range(10_000)]
        body = "".join(f"2025-10-01 09:30:00,{symbol},1\n" for symbol in symbols + symbols[::-1])
        rows = load_prices(write(HEADER + body), Columns())
        assert rows.symbols == symbols
        assert rows.symbol_index[10_000:].tolist() == list(range(10_000))[::-1]

    def test_sorting_is_stable(self, write: Write) -> None:
        path = write(HEADER + "2025-10-01 09:30:01,B,2\n2025-10-01,A,1\n2025-10-01 09:30:01,A,3\n")
        rows = load_prices(path, Columns(sort_rows=True))
        assert frames_of(rows) == [
            b"2025-10-01 00:00:00*A*1*",
            b"2025-10-01 09:30:01*B*2*",
            b"2025-10-01 09:30:01*A*3*",
        ]
        assert rows.symbols == ["B", "A"]
        check(rows)

    @pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 1000])
    def test_chunk_size_does_not_change_the_result(
        self, write: Write, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
    ) -> None:
        body = "".join(
            f"2025-10-01 09:{second // 60:02}:{second % 60:02},S{second % 3},{second + 1}.5\n"
            for second in range(90)
        )
        for content in (HEADER + body, (HEADER + body).replace("\n", "\r\n"), HEADER + body + '"'):
            whole = load_prices(write(content), Columns(skip_bad_rows=True))
            monkeypatch.setattr(csv_rows, "CHUNK_BYTES", chunk_bytes)
            rows = load_prices(write(content), Columns(skip_bad_rows=True))
            monkeypatch.undo()
            assert frames_of(rows) == frames_of(whole)
            assert len(rows) == 90


class TestRejected:
    """Every malformed row is named with file, line, value and reason; a setting skips them."""

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ("yesterday,A,1", "timestamp='yesterday': not a timestamp"),
            (",A,1", "timestamp='': missing"),
            ("2025-02-30,A,1", "timestamp='2025-02-30': not a timestamp: day is out of range"),
            ("20251001,A,1", "timestamp='20251001': ambiguous: write the date as YYYY-MM-DD"),
            ("2025-10-01,,1", "symbol='': empty symbol"),
            (f"2025-10-01,{'A' * 33},1", "symbol of 33 bytes"),
            ("2025-10-01,A*B,1", "symbol='A*B': symbol with a delimiter"),
            ("2025-10-01,A|B,1", "symbol='A|B': symbol with a delimiter"),
            ('2025-10-01,"A,B",1', "symbol='A,B': symbol with a delimiter"),
            ('2025-10-01,"A\nB",1', "symbol='A\\nB': symbol with a delimiter"),
            ("2025-10-01,A\0B,1", "symbol='A\\x00B': symbol with a delimiter"),
            ("2025-10-01,A\x07,1", "symbol='A\\x07': symbol with a delimiter"),
            ("2025-10-01,A,", "price='': missing"),
            ("2025-10-01,A,abc", "price='abc': not a number"),
            ("2025-10-01,A,nan", "price='nan': not finite"),
            ("2025-10-01,A,inf", "price='inf': not finite"),
            ("2025-10-01,A,1e999", "price='1e999': above 9000000000"),
            ("2025-10-01,A,0", "price='0': not positive"),
            ("2025-10-01,A,-0.0", "price='-0.0': not positive"),
            ("2025-10-01,A,-5", "price='-5': not positive"),
            ("2025-10-01,A,9000000001", "price='9000000001': above 9000000000"),
            ("2025-10-01,A,1\0", "price='1\\x00': not a number"),
            ("2025-10-01,A," + "9" * 500, "(500 bytes): not a number"),
            ("2025-10-01,A", "2 fields, the header has 3"),
            ("2025-10-01,A,1,2", "4 fields, the header has 3"),
        ],
    )
    def test_row(self, write: Write, row: str, reason: str) -> None:
        good = "2025-10-01,A,1\n"
        path = write(HEADER + good + row + "\n" + good)
        with pytest.raises(DataError) as reject:
            load_prices(path, Columns())
        line = 3 + row.count("\n")
        assert f"{path}:{line}: " in str(reject.value)
        assert reason in str(reject.value)
        assert "1 row malformed; SKIP_BAD_ROWS=true skips such rows" in str(reject.value)
        with pytest.raises(DataError) as nothing_left:
            load_prices(write(HEADER + row + "\n"), Columns())
        assert "; no row is good\n" in str(nothing_left.value)
        assert "SKIP_BAD_ROWS" not in str(nothing_left.value)
        path = write(HEADER + good + row + "\n" + good)
        rows = load_prices(path, Columns(skip_bad_rows=True))
        assert (len(rows), rows.skipped, rows.symbols) == (2, 1, ["A"])
        check(rows)

    @pytest.mark.parametrize("symbol", ["Ä", "BRK B", "=A1", "+A", "-A", "@A", "A\x7f", "\xff"])
    def test_symbol_that_a_log_or_a_spreadsheet_misreads(self, write: Write, symbol: str) -> None:
        row = symbol.encode("latin-1")
        data = HEADER.encode() + b"2025-10-01," + row + b",1\n2025-10-01,A,1\n"
        with pytest.raises(DataError, match=r":2: symbol=.*: symbol (with|that begins)"):
            load_prices(write(data), Columns())
        assert load_prices(write(data), Columns(skip_bad_rows=True)).symbols == ["A"]

    def test_many_malformed_rows_are_counted(self, write: Write) -> None:
        path = write(HEADER + "2025-10-01,A,1\n" * 5 + "2025-10-01,A,x\n" * 1000)
        with pytest.raises(DataError) as reject:
            load_prices(path, Columns())
        lines = str(reject.value).splitlines()
        assert "1000 rows malformed" in lines[0]
        assert [line.split(":")[1] for line in lines[1:11]] == [str(n) for n in range(7, 17)]
        assert lines[11] == "... and 990 more"
        assert len(lines) == 12

    @pytest.mark.parametrize("skip", [False, True])
    def test_rows_out_of_order(self, write: Write, skip: bool) -> None:
        path = write(HEADER + "2025-10-02,A,1\n2025-10-01,A,1\n2025-10-03,A,1\n")
        with pytest.raises(DataError) as reject:
            load_prices(path, Columns(skip_bad_rows=skip))
        assert f"{path}:3: 2025-10-01 00:00:00 comes after 2025-10-02" in str(reject.value)
        assert "SORT_ROWS" in str(reject.value)

    def test_order_is_checked_across_chunks(
        self, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(csv_rows, "CHUNK_BYTES", 64)
        path = write(HEADER + "2025-10-02,A,1\n" * 20 + "2025-10-01,A,1\n")
        with pytest.raises(DataError, match=":22: 2025-10-01 00:00:00 comes after 2025-10-02"):
            load_prices(path, Columns())

    def test_malformed_sentiment_in_its_column(self, write: Write) -> None:
        path = write(
            "timestamp,symbol,price,sentiment\n2025-10-01,A,1,5\n2025-10-01,A,2,101\n"
            "2025-10-01,A,x,good\n"
        )
        with pytest.raises(DataError, match="sentiment='101': not an integer from 0 to 100"):
            load_prices(path, Columns())
        rows = load_prices(path, Columns(skip_bad_rows=True))
        assert (len(rows), rows.skipped) == (1, 2)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("", "empty"),
            ("\n\n", "empty"),
            (HEADER, "no rows below the header"),
            (
                "time,symbol,price\n" + ROWS,
                "no column 'timestamp'; the header has time, symbol, price: "
                "set TIMESTAMP_COLUMN=time",
            ),
            ("a:b:c\n", "no column 'timestamp', 'symbol', 'price'; the header has a:b:c: "),
            (
                "Date,Open,Close,Ticker\n" + ROWS,
                "no column 'timestamp', 'symbol', 'price'; "
                "the header has Date, Open, Close, Ticker: "
                "set TIMESTAMP_COLUMN=Date, set SYMBOL_COLUMN=Ticker, set PRICE_COLUMN=Close",
            ),
            ("timestamp,symbol,prise\n" + ROWS, "prise: set PRICE_COLUMN=prise"),
            ("timestamp,symbol,x\n" + ROWS, "symbol, x: set PRICE_COLUMN to its name"),
            (
                ",".join(f"column_{n}" for n in range(90)) + "\n",
                f"has {', '.join(f'column_{n}' for n in range(90))[:200]}... (90 columns): set ",
            ),
            ("timestamp,symbol,price,price\n", "names column price twice"),
            ((HEADER + ROWS).encode("utf-16-le"), "not a text file in UTF-8, or in UTF-16 with"),
            ((HEADER + ROWS).encode("utf-16")[:-1], "damaged UTF-16 text"),
            (gzip.compress((HEADER + ROWS).encode(), mtime=0)[:-9], "damaged gzip file"),
            (gzip.compress(HEADER.encode(), mtime=0) + b"junk", "damaged gzip file"),
            (HEADER + "x" * 3_000_000, "a line is longer than 1048576 bytes"),
            (HEADER + '"' + "x" * 300_000 + "\n", "field larger than field limit"),
            (HEADER + '"' + "x" * 3_000_000, "a line is longer than 1048576 bytes"),
        ],
    )
    def test_file(self, write: Write, content: str | bytes, reason: str) -> None:
        path = write(content)
        for skip in (False, True):
            with pytest.raises(DataError) as reject:
                load_prices(path, Columns(skip_bad_rows=skip))
            assert str(path) in str(reject.value)
            assert reason in str(reject.value)

    def test_nothing_left_after_skipping(self, write: Write) -> None:
        with pytest.raises(DataError, match=r"no rows .* \(1 malformed rows skipped\)"):
            load_prices(write(HEADER + "x,y,z\n"), Columns(skip_bad_rows=True))

    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="No such file"):
            load_prices(tmp_path / "none.csv", Columns())
        with pytest.raises(DataError, match="Is a directory"):
            load_prices(tmp_path, Columns())

    def test_symbol_list_too_long_for_a_frame(self, write: Write) -> None:
        body = "".join(f"2025-10-01,SYM{number:07},1\n" for number in range(7000))
        with pytest.raises(DataError, match="7000 symbols make a symbol list of 77008 bytes"):
            load_prices(write(HEADER + body), Columns())


class TestSentimentFile:
    """``timestamp,symbol,sentiment``."""

    def test_loaded(self, write: Write) -> None:
        path = write("timestamp,symbol,sentiment\n2025-10-01,A,5\n2025-10-02,B,100.0\n")
        rows = load_sentiments(path, Columns())
        assert frames_of(rows) == [b"2025-10-01 00:00:00*A*5*", b"2025-10-02 00:00:00*B*100*"]

    def test_order_and_range(self, write: Write) -> None:
        path = write("timestamp,symbol,sentiment\n2025-10-02,A,5\n2025-10-01,B,100\n")
        with pytest.raises(DataError, match="SORT_ROWS"):
            load_sentiments(path, Columns())
        assert load_sentiments(path, Columns(sort_rows=True)).symbols == ["A", "B"]
        with pytest.raises(DataError, match="sentiment='-1': not an integer from 0 to 100"):
            load_sentiments(write("timestamp,symbol,sentiment\n2025-10-01,A,-1\n"), Columns())


TIMES = st.integers(0, 2**61).map(lambda ns: format_timestamp(ns).decode()) | st.integers(
    0, 2**31
).map(lambda seconds: format_timestamp(seconds * 10**9).decode())
SYMBOLS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="*|,"),
    min_size=1,
    max_size=4,
).filter(lambda text: text[0] not in "=+-@")
PRICES = st.decimals(Decimal("1e-9"), Decimal("9e9"), places=9).map(
    lambda price: f"{price:f}".rstrip("0").rstrip(".")
)


@pytest.mark.medium
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(TIMES, SYMBOLS, PRICES), min_size=1, max_size=30),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["{0},{1},{2}", '{0},"{1}",{2}', "{2},x,{1},{0}"]),
)
def test_any_rows_come_back(
    write: Write, rows: list[tuple[str, str, str]], newline: str, layout: str
) -> None:
    assume('"' in layout or not any('"' in symbol for _, symbol, _ in rows))
    header = layout.replace('"', "").format("timestamp", "symbol", "price")
    lines = [header, *(layout.format(t, s.replace('"', '""'), p) for t, s, p in rows)]
    path = write(newline.join([*lines, ""]))
    loaded = load_prices(path, Columns(sort_rows=True))
    ordered = sorted(rows, key=lambda row: parse_timestamp(row[0].encode())[0])
    assert frames_of(loaded) == ["*".join([*row, ""]).encode() for row in ordered]
    assert loaded.symbols == list(dict.fromkeys(symbol for _, symbol, _ in rows))
    check(loaded)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_load_or_are_rejected(write: Write, content: bytes) -> None:
    path = write(HEADER.encode() + b"2025-10-01,A,1\n" + content)
    reject = ""
    try:
        check(load_prices(path, Columns(skip_bad_rows=True, sort_rows=True)))
    except DataError as error:
        reject = str(error)
    assert not reject or str(path) in reject


def test_committed_file_equals_its_generators_output() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "data" / "make_market_data.py"], capture_output=True, check=True
    ).stdout
    assert made == (ROOT / "data" / "market_data.csv").read_bytes()
    rows = load_prices(ROOT / "data" / "market_data.csv", Columns())
    assert (len(rows), len(rows.symbols)) == (30_000, 10)


@pytest.mark.parametrize(
    ("name", "count", "symbols"),
    [
        ("equity_1min_3sym_utc.csv", 6253, 3),
        ("binance_spot_2sym_epoch_ns.csv", 15_863, 2),
        ("binance_spot_2sym_iso_ms_Z.csv", 15_863, 2),
        ("tsla_ticks_us_utc.csv", 2465, 1),
        ("wiki_daily_5sym_2000_2013.csv", 12_154, 5),
    ],
)
def test_real_files(name: str, count: int, symbols: int) -> None:
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"no {path}; TRADING_SHARED_DATA names the folder")
    rows = load_prices(path, Columns())
    assert (len(rows), len(rows.symbols), rows.skipped) == (count, symbols, 0)
    check(rows)
