"""No header, two or three header rows: told by content, or refused with a mend that works."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config.settings import Settings
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import columns_of, describe, load_prices, load_sentiments
from app.market_data.tick_table import Rows
from tests.app.market_data.sources.text.test_shapes import frames_of, load, mends, refusal
from tests.support.paths import ROOT

KLINE = "1735689600000000,93576.00,93702.15,93489.03,93656.18,8.3,1735689659999999,1e0,1,1,1,0\n"


def mended(path: Path, environ: dict[str, str], steps: int = 3) -> tuple[Rows, dict[str, str]]:
    """Load a file with the settings that its refusals suggest, one after the other."""
    for _ in range(steps):
        try:
            return load_prices(path, columns_of(Settings.from_environ(environ))), environ
        except DataError as error:
            environ = environ | mends(str(error))[0]
    raise AssertionError(f"still refused with {environ}")


class TestNoHeader:
    @pytest.mark.parametrize(
        ("rows", "frame"),
        [
            # One-minute klines of January 2025 (spot, microseconds) and 2024 (milliseconds).
            (
                "1735689600000000,93576.00,93702.15,93489.03,93656.18,8.31,1735689659999999,"
                "778105.1,1520,4.02,376600.7,0\n",
                b"2025-01-01 00:00:00*BTCUSDT*93656.18*",
            ),
            (
                "1704067200000,42283.58,42298.62,42261.02,42298.61,35.92,1704067259999,"
                "1518817.8,1327,21.9,927000.1,0\n",
                b"2024-01-01 00:00:00*BTCUSDT*42298.61*",
            ),
            (
                "3358122474,93548.80,0.00005,4359423870,4359423870,1735689600010866,True,True\n",
                b"2025-01-01 00:00:00.010866*BTCUSDT*93548.80*",
            ),
            (
                "2031117110,42314.0,0.118,4404444,4404445,1704067200043,true\n",
                b"2024-01-01 00:00:00.043*BTCUSDT*42314.0*",
            ),
            (
                "4359423870,93548.8,0.00005,4.67744,1735689600010866,True,True\n",
                b"2025-01-01 00:00:00.010866*BTCUSDT*93548.8*",
            ),
            (
                "4404444,42314.0,0.118,4993.05,1704067200043,true\n",
                b"2024-01-01 00:00:00.043*BTCUSDT*42314.0*",
            ),
        ],
        ids=[
            "klines us",
            "klines ms",
            "aggTrades",
            "aggTrades futures",
            "trades",
            "trades futures",
        ],
    )
    def test_binance(self, tmp_path: Path, rows: str, frame: bytes) -> None:
        message = refusal(tmp_path, rows, "BTCUSDT-1m-2025-01.csv")
        assert "do not say their symbol: set DATA_SYMBOL=BTCUSDT, if that is" in message
        loaded, environ = mended(tmp_path / "BTCUSDT-1m-2025-01.csv", {})
        assert environ == {"DATA_SYMBOL": "BTCUSDT"}
        assert frames_of(loaded) == [frame]

    def test_a_kline_as_four_ticks(self, tmp_path: Path) -> None:
        rows = load(
            tmp_path, KLINE + KLINE.replace("17356896", "17356897"), data_symbol="B",
            bars_as="ohlc", sort_rows=True,
        )  # fmt: skip
        assert [frame.split(b"*")[2] for frame in frames_of(rows)[:4]] == [
            b"93576.00", b"93489.03", b"93702.15", b"93656.18",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("rows", "frame", "settings"),
        [
            (
                "20251001 093000;1.306600;1.306700;1.306560;1.306590;0\n",
                b"2025-10-01 09:30:00*EURUSD*1.306590*",
                {"DATA_HEADER": "timestamp,open,high,low,close,column_6", "DATA_SYMBOL": "EURUSD",
                 "TIMESTAMP_FORMAT": "%Y%m%d %H%M%S"},
            ),
            (
                "2025.10.01,09:30,1.3066,1.3067,1.3065,1.3066,4\n",
                b"2025-10-01 09:30:00*EURUSD*1.3066*",
                {"DATA_HEADER": "date,time,open,high,low,close,column_7", "DATA_SYMBOL": "EURUSD",
                 "TIMESTAMP_COLUMN": "date+time", "TIMESTAMP_FORMAT": "%Y.%m.%d %H:%M"},
            ),
            (
                "AAPL\t2025-10-01 09:30:00\t173.20\n",
                b"2025-10-01 09:30:00*AAPL*173.20*",
                {"DATA_HEADER": "symbol,timestamp,price"},
            ),
            (
                "31/12/2025 09:30,AAPL,100,173.20\n",
                b"2025-12-31 09:30:00*AAPL*100*",
                {"DATA_HEADER": "timestamp,symbol,price,column_4",
                 "TIMESTAMP_FORMAT": "%d/%m/%Y %H:%M"},
            ),
        ],
        ids=["HistData", "MetaTrader", "tabs", "day first"],
    )  # fmt: skip
    def test_others_are_guessed(
        self, tmp_path: Path, rows: str, frame: bytes, settings: dict[str, str]
    ) -> None:
        message = refusal(tmp_path, rows, "eurusd_m1.csv")
        assert "no header; the first line is" in message
        loaded, environ = mended(tmp_path / "eurusd_m1.csv", {})
        assert environ == settings
        assert frames_of(loaded) == [frame]

    def test_too_few_names(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, "2025-10-01,A,1\n", data_header="timestamp,price")
        assert "DATA_HEADER='timestamp,price' names 2 columns, the first line has 3" in message

    def test_the_first_row_counts_from_line_1(self, tmp_path: Path) -> None:
        message = refusal(
            tmp_path, "2025-10-01,A,x\n2025-10-01,A,1\n", data_header="timestamp,symbol,price"
        )
        assert ":1: price='x': not a number" in message

    def test_a_header_with_a_number_in_it_is_a_header(self, tmp_path: Path) -> None:
        rows = load(tmp_path, "timestamp,symbol,price,2025\n2025-10-01,A,1,2\n")
        assert frames_of(rows) == [b"2025-10-01 00:00:00*A*1*"]


FIELDS = ["Adj Close", "Close", "High", "Low", "Open", "Volume"]
VALUES = {"Adj Close": "5", "Close": "2.5", "High": "4", "Low": "1", "Open": "2", "Volume": "9"}


def wide(tickers: list[str], form: str) -> str:
    """What yfinance's table gives as CSV, with ``form`` of its header."""
    pairs = [(field, ticker) for field in FIELDS for ticker in tickers]
    names, symbols = (",".join(part) for part in zip(*pairs, strict=True))
    head = {
        "columns": f"Price,{names}\nTicker,{symbols}\nDate{',' * len(pairs)}\n",
        "by ticker": f"Ticker,{symbols}\nPrice,{names}\nDate{',' * len(pairs)}\n",
        "unnamed": f",{names}\n,{symbols}\nDate{',' * len(pairs)}\n",
        "two rows": f"Date,{symbols}\n,{names}\n",
    }[form]
    rows = [
        ",".join([day, *(VALUES[field] for field, _ in pairs)])
        for day in ("2025-10-01", "2025-10-02")
    ]
    return head + "\n".join(rows) + "\n"


class TestWide:
    @pytest.mark.parametrize("form", ["columns", "by ticker", "unnamed", "two rows"])
    @pytest.mark.parametrize("tickers", [["AAPL"], ["AAPL", "BRK-B", "^GSPC"]])
    def test_each_ticker_is_a_symbol(self, tmp_path: Path, form: str, tickers: list[str]) -> None:
        rows = load(tmp_path, wide(tickers, form))
        assert rows.symbols == tickers
        assert frames_of(rows) == [
            f"{day} 00:00:00*{ticker}*2.5*".encode()
            for day in ("2025-10-01", "2025-10-02")
            for ticker in tickers
        ]

    def test_another_value(self, tmp_path: Path) -> None:
        rows = load(tmp_path, wide(["A", "B"], "columns"), price="adj close")
        assert {frame.split(b"*")[2] for frame in frames_of(rows)} == {b"5"}

    def test_four_ticks(self, tmp_path: Path) -> None:
        rows = load(tmp_path, wide(["A", "B"], "by ticker"), bars_as="ohlc")
        assert len(rows) == 16
        assert [frame.split(b"*", 1)[1] for frame in frames_of(rows)[:8]] == [
            b"A*2*", b"B*2*", b"A*1*", b"B*1*", b"A*4*", b"B*4*", b"A*2.5*", b"B*2.5*",
        ]  # fmt: skip

    def test_an_empty_cell_is_no_tick(self, tmp_path: Path) -> None:
        text = "Price,Close,Close\nTicker,A,B\nDate,,\n2025-10-01,,2\n2025-10-02,1,\n2025-10-03,,\n"
        rows = load(tmp_path, text)
        assert frames_of(rows) == [b"2025-10-01 00:00:00*B*2*", b"2025-10-02 00:00:00*A*1*"]

    def test_a_bad_cell_names_its_column(self, tmp_path: Path) -> None:
        text = "Price,Close,Close\nTicker,A,B\nDate,,\n2025-10-01,1,x\n2025-10-02,1,2\n"
        message = refusal(tmp_path, text)
        assert ":4: Close B='x': not a number" in message
        assert len(load(tmp_path, text, skip_bad_rows=True)) == 2

    def test_no_such_value(self, tmp_path: Path) -> None:
        text = "Price,High,Close\nTicker,A,A\nDate,,\n2025-10-01,1,2\n"
        message = refusal(tmp_path, text, bars_as="ohlc")
        assert "no column 'open', 'high', 'low', 'close' for any symbol" in message
        rows, _ = mended(tmp_path / "feed.csv", {"BARS_AS": "ohlc"})
        assert len(rows) == 1

    def test_a_symbol_that_is_none(self, tmp_path: Path) -> None:
        text = f"Price,Close\nTicker,{'A' * 33}\nDate,\n2025-10-01,1\n"
        assert f"symbol='{'A' * 33}': symbol of 33 bytes" in refusal(tmp_path, text)


PIECES = st.sampled_from(
    ["timestamp", "Date", "symbol", "Price", "Close", "open", "high", "low", "bid", "ask", "AAPL",
     "1", "1.5", "-1", "0", "true", "2025-10-01", "10/01/2025", "09:30:00", "1759311000000",
     "20251001 093000", "", " ", '"', ",", ";", "\t", "|", "\n", "\r\n", "{", "}", '"a": 1', "\0",
     "\ufeff", "Ä", "*", "price", "Ticker"]
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(PIECES, max_size=60).map("".join)
    | st.lists(st.lists(PIECES, min_size=3, max_size=5).map(",".join), max_size=6).map("\n".join),
    st.sampled_from(
        [
            {}, {"DATA_SYMBOL": "A"}, {"BARS_AS": "ohlc"}, {"DATA_KIND": "bars"},
            {"DATA_KIND": "quotes"}, {"DATA_KIND": "wide"},
            {"DATA_HEADER": "timestamp,symbol,price"},
            {"DATA_DATE": "2025-10-01"}, {"TIMESTAMP_FORMAT": "%d/%m/%Y"},
            {"DECIMAL_COMMA": "true"},
        ]
    ),
)  # fmt: skip
def test_any_text_loads_or_is_refused(tmp_path: Path, text: str, environ: dict[str, str]) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(text.encode())
    environ = {"SKIP_BAD_ROWS": "true", "SORT_ROWS": "true"} | environ
    for load_file in (load_prices, load_sentiments, describe):
        said = str(path)
        try:
            load_file(path, columns_of(Settings.from_environ(environ)))  # type: ignore[operator]
        except DataError as error:
            said = str(error)
        assert str(path) in said


def test_examples_without_their_settings_are_mended() -> None:
    """Every example that needs settings loads with those that its refusals suggest."""
    needed = 0
    steps = 4
    for path in sorted((ROOT / "data" / "examples").glob("*.[cj]s*")):
        environ = {"DATA_DATE": "2025-10-01"} if path.name == "milliseconds.csv" else {}
        rows, found = mended(path, environ, steps)
        assert len(rows) == 60, path
        needed += found != environ
    assert needed >= 6
