"""Bars as closes or four ticks, quotes as the price between, and rows that are not good."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config.settings import Settings
from app.market_data.sources.loader import columns_of, load_prices
from app.model.timestamps import format_timestamp, parse_timestamp
from tests.app.market_data.sources.text.test_shapes import frames_of, load, mends, refusal

BARS = (
    "Date,Open,High,Low,Close,Adj Close,Volume\n"
    "2025-10-01,10,12,9,11,5,100\n"
    "2025-10-02,11,13,8,8.5,5,100\n"
    "2025-10-06,8.5,9,8,8.5,5,100\n"
)


class TestBars:
    def test_the_close_at_the_bars_time(self, tmp_path: Path) -> None:
        rows = load(tmp_path, BARS, data_symbol="A")
        assert frames_of(rows) == [
            b"2025-10-01 00:00:00*A*11*", b"2025-10-02 00:00:00*A*8.5*",
            b"2025-10-06 00:00:00*A*8.5*",
        ]  # fmt: skip

    def test_another_price_column(self, tmp_path: Path) -> None:
        rows = load(tmp_path, BARS, data_symbol="A", data_kind="bars", price="adj close",
                    timestamp="Date")  # fmt: skip
        assert [frame.split(b"*")[2] for frame in frames_of(rows)] == [b"5"] * 3

    def test_four_ticks(self, tmp_path: Path) -> None:
        """The low first if the bar does not fall; a quarter of the shortest bar between them."""
        rows = load(tmp_path, BARS, data_symbol="A", bars_as="ohlc")
        assert [frame.decode() for frame in frames_of(rows)] == [
            "2025-10-01 00:00:00*A*10*", "2025-10-01 06:00:00*A*9*",
            "2025-10-01 12:00:00*A*12*", "2025-10-01 18:00:00*A*11*",
            "2025-10-02 00:00:00*A*11*", "2025-10-02 06:00:00*A*13*",
            "2025-10-02 12:00:00*A*8*", "2025-10-02 18:00:00*A*8.5*",
            "2025-10-06 00:00:00*A*8.5*", "2025-10-06 06:00:00*A*8*",
            "2025-10-06 12:00:00*A*9*", "2025-10-06 18:00:00*A*8.5*",
        ]  # fmt: skip

    def test_bars_of_several_symbols_are_interleaved(self, tmp_path: Path) -> None:
        text = "time,ticker,open,high,low,close\n" + "".join(
            f"2025-10-01 09:{minute}:00,{symbol},1,4,0.5,2\n"
            for minute in (30, 31)
            for symbol in "AB"
        )
        frames = frames_of(load(tmp_path, text, bars_as="ohlc"))
        first = [frame.split(b"*")[:2] for frame in frames[:4]]
        assert first == [
            [b"2025-10-01 09:30:00", b"A"], [b"2025-10-01 09:30:00", b"B"],
            [b"2025-10-01 09:30:15", b"A"], [b"2025-10-01 09:30:15", b"B"],
        ]  # fmt: skip
        assert len(frames) == 16

    def test_one_bar_has_no_length(self, tmp_path: Path) -> None:
        text = "".join(BARS.splitlines(keepends=True)[:2])
        rows = load(tmp_path, text, data_symbol="A", bars_as="ohlc")
        assert set(rows.event_ns.tolist()) == {parse_timestamp(b"2025-10-01")[0]}
        assert [frame.split(b"*")[2] for frame in frames_of(rows)] == [b"10", b"9", b"12", b"11"]

    def test_a_bad_bar_is_one_bad_row(self, tmp_path: Path) -> None:
        text = BARS.replace("2025-10-02,11,13", "2025-10-02,x,y")
        message = refusal(tmp_path, text, data_symbol="A", bars_as="ohlc")
        assert "1 row malformed; SKIP_BAD_ROWS=true" in message
        assert ":3: Open='x': not a number" in message
        rows = load(tmp_path, text, data_symbol="A", bars_as="ohlc", skip_bad_rows=True)
        assert (len(rows), rows.skipped) == (8, 1)

    def test_newest_first_needs_sorting(self, tmp_path: Path) -> None:
        head, *rest = BARS.splitlines(keepends=True)
        message = refusal(tmp_path, head + "".join(rest[::-1]), data_symbol="A", bars_as="ohlc")
        assert "SORT_ROWS=true sorts them" in message
        rows = load(tmp_path, head + "".join(rest[::-1]), data_symbol="A", bars_as="ohlc",
                    sort_rows=True)  # fmt: skip
        assert frames_of(rows) == frames_of(load(tmp_path, BARS, data_symbol="A", bars_as="ohlc"))

    @pytest.mark.parametrize(
        ("header", "changes", "mend"),
        [
            ("Date,Open,High,Low,Close", {}, {"DATA_SYMBOL": "FEED"}),
            ("Date,Open,Symbol,High,Close", {"data_kind": "bars", "bars_as": "ohlc"},
             {"TIMESTAMP_COLUMN": "Date", "BARS_AS": "close"}),
            ("Date,Open,Symbol,High,Close", {"data_kind": "ticks"},
             {"TIMESTAMP_COLUMN": "Date", "PRICE_COLUMN": "Close"}),
        ],
    )  # fmt: skip
    def test_what_is_missing(
        self, tmp_path: Path, header: str, changes: dict[str, str], mend: dict[str, str]
    ) -> None:
        text = header + "\n2025-10-01,1,2,3,4\n"
        (found,) = mends(refusal(tmp_path, text, **changes))
        assert found == mend
        environ = {name.upper(): value for name, value in changes.items()} | mend
        rows = load_prices(tmp_path / "feed.csv", columns_of(Settings.from_environ(environ)))
        assert len(rows) == 1


PRICES = st.decimals(Decimal("1e-9"), Decimal(9 * 10**8), places=9).map(
    lambda price: f"{price:f}".rstrip("0").rstrip(".")
)


class TestDecimalComma:
    @pytest.mark.parametrize(
        "text",
        [
            "timestamp;symbol;price\n2025-10-01;A;1.234,50\n2025-10-02;A; 1.234 \n",
            'timestamp,symbol,price\n2025-10-01,A,"1.234,50"\n2025-10-02,A,"1234,00"\n',
        ],
    )
    def test_ticks(self, tmp_path: Path, text: str) -> None:
        mend = mends(refusal(tmp_path, text))[0]
        assert mend["DECIMAL_COMMA"] == "true"
        rows = load(tmp_path, text, decimal_comma=True)
        assert [float(frame.split(b"*")[2]) for frame in frames_of(rows)] == [1234.5, 1234]

    def test_bars_and_quotes(self, tmp_path: Path) -> None:
        text = BARS.replace(",", ";").replace("8.5", "8,5")
        rows = load(tmp_path, text, data_symbol="A", bars_as="ohlc", decimal_comma=True)
        expected = load(tmp_path, BARS, data_symbol="A", bars_as="ohlc")
        assert frames_of(rows) == frames_of(expected)
        text = "timestamp;symbol;bid;ask\n2025-10-01;A;1,0;1,01\n"
        assert frames_of(load(tmp_path, text, decimal_comma=True))[0].endswith(b"*1.005*")

    def test_a_bad_value_is_named(self, tmp_path: Path) -> None:
        text = "timestamp;symbol;price\n2025-10-01;A;x,y\n2025-10-01;A;1\n"
        assert ":2: price='x.y': not a number" in refusal(tmp_path, text, decimal_comma=True)


class TestQuotes:
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(PRICES, PRICES), min_size=1, max_size=20))
    def test_the_price_between_is_exact(
        self, tmp_path: Path, quotes: list[tuple[str, str]]
    ) -> None:
        body = "".join(f"2025-10-01,A,{bid},{ask}\n" for bid, ask in quotes)
        rows = load(tmp_path, "timestamp,symbol,BID,ASK\n" + body)
        for frame, (bid, ask) in zip(frames_of(rows), quotes, strict=True):
            exact = (Fraction(bid) + Fraction(ask)) / 2 * 10**9
            assert Fraction(frame.split(b"*")[2].decode()) * 10**9 == round(exact)

    @pytest.mark.parametrize("header", ["bid,ask", "bid_price,ask_price", "Bid Px 00,Offer"])
    def test_usual_names(self, tmp_path: Path, header: str) -> None:
        text = f"ts_event,sym,{header}\n2025-10-01,A,1e0, 1.01\n"
        assert frames_of(load(tmp_path, text)) == [b"2025-10-01 00:00:00*A*1.005*"]

    def test_a_bad_side(self, tmp_path: Path) -> None:
        text = "timestamp,symbol,bid,ask\n2025-10-01,A,1,2\n2025-10-01,A,,0\n2025-10-02,A,1,0\n"
        message = refusal(tmp_path, text)
        assert "2 rows malformed" in message
        assert ":3: bid='': missing" in message
        assert ":4: ask='0': not positive" in message
        assert len(load(tmp_path, text, skip_bad_rows=True)) == 1

    def test_the_last_price(self, tmp_path: Path) -> None:
        text = "timestamp,symbol,bid,ask,last\n2025-10-01,A,1,3,9\n"
        assert frames_of(load(tmp_path, text, quotes_as="last"))[0].endswith(b"*9*")
        assert frames_of(load(tmp_path, text))[0].endswith(b"*2*")

    def test_a_missing_side(self, tmp_path: Path) -> None:
        text = "timestamp,symbol,bid,last\n2025-10-01,A,1,3\n"
        message = refusal(tmp_path, text, data_kind="quotes")
        assert message.endswith("no column 'ask'; the header has timestamp, symbol, bid, last: "
                                "set QUOTES_AS=last")  # fmt: skip
        rows = load(tmp_path, text, data_kind="quotes", quotes_as="last")
        assert frames_of(rows)[0].endswith(b"*3*")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), *[st.integers(1, 10**6)] * 4), min_size=2, max_size=40
    ),
    st.sampled_from(["s", "ms"]),
)
def test_every_tick_of_a_bar_is_in_its_bar(
    tmp_path: Path, bars: list[tuple[int, ...]], unit: str
) -> None:
    start = 1759311000
    bars = sorted({bar[0]: bar for bar in bars}.values())
    scale = 1000 if unit == "ms" else 1
    body = "".join(
        f"{(start + minute * 60) * scale},A,{values[0]},{max(values)},{min(values)},{values[-1]}\n"
        for minute, *values in bars
    )
    rows = load(tmp_path, "time,symbol,open,high,low,close\n" + body, bars_as="ohlc")
    assert len(rows) == 4 * len(bars)
    for at, (minute, *values) in enumerate(bars):
        four = [frame.split(b"*") for frame in frames_of(rows)[4 * at : 4 * at + 4]]
        assert four[0][0] == format_timestamp((start + minute * 60) * 10**9)
        assert sorted(int(price) for _, _, price, _ in four) == sorted(
            [values[0], max(values), min(values), values[-1]]
        )
        assert (int(four[0][2]), int(four[3][2])) == (values[0], values[-1])
        if at + 1 < len(bars):
            assert rows.event_ns[4 * at + 3] < (start + bars[at + 1][0] * 60) * 10**9
