"""Rows that are JSON arrays, as the REST interfaces of exchanges answer: in one array, or lines."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config.settings import Settings
from app.market_data.inspect.trial import try_to_load
from app.market_data.sources.loader import describe, load_sentiments
from app.market_data.sources.text import json_lines
from app.market_data.tick_table import Columns
from tests.app.market_data.sources.text.test_shapes import PACKS, frames_of, load, mends, refusal

MS = 1759311000000
KLINE = [
    MS,
    "173.22",
    "173.25",
    "173.15",
    "173.20",
    "9.5",
    MS + 59_999,
    "1640.1",
    12,
    "4.1",
    "7.5",
    "0",
]
NEXT = [MS + 60_000, "173.2", "174.2", "173.1", "174.1", *KLINE[5:]]
FRAMES = [b"2025-10-01 09:30:00*BTC*173.20*", b"2025-10-01 09:31:00*BTC*174.1*"]


def as_array(rows: list[list[object]], **options: int) -> str:
    return json.dumps(rows, **options)  # type: ignore[arg-type]


def as_lines(rows: list[list[object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_klines_of_binance_need_no_header(tmp_path: Path) -> None:
    for text in (
        as_array([KLINE, NEXT]),
        as_array([KLINE, NEXT], indent=2),
        as_lines([KLINE, NEXT]),
    ):
        assert frames_of(load(tmp_path, text, data_symbol="BTC")) == FRAMES
    assert "Binance klines do not say their symbol: set DATA_SYMBOL=" in refusal(tmp_path, text)


@pytest.mark.parametrize("name", PACKS)
def test_packed(tmp_path: Path, name: str) -> None:
    text = as_array([KLINE, NEXT])
    assert frames_of(load(tmp_path, PACKS[name](text.encode()), data_symbol="BTC")) == FRAMES


def test_a_first_array_of_names_is_a_header(tmp_path: Path) -> None:
    rows = [["symbol", "timestamp", "price"], ["BTC", MS, 173.2], ["BTC", MS + 60_000, "174.1"]]
    for text in (as_array(rows), as_lines(rows)):
        found = load(tmp_path, text)
        assert frames_of(found) == [FRAMES[0].replace(b".20", b".2"), FRAMES[1]]
    wide = [["Date", "BTC", "ETH"], ["2025-10-01 09:30:00", 173.2, None]]
    assert frames_of(load(tmp_path, as_array(wide), data_kind="wide")) == [
        b"2025-10-01 09:30:00*BTC*173.2*"
    ]


def test_other_columns_are_named_by_a_setting(tmp_path: Path) -> None:
    """Trades as Kraken answers: price, volume, seconds, side, kind, and an empty text."""
    rows = [
        ["173.20", "0.5", 1759311000.0, "b", "l", "", 7],
        ["174.1", "1", 1759311060.5, "s", "m", "", 8],
    ]
    header = "price,volume,timestamp,side,kind,more,id"
    found = load(
        tmp_path, as_array(rows), data_header=header, data_symbol="BTC", timestamp_format="s"
    )
    assert frames_of(found) == [FRAMES[0], FRAMES[1].replace(b":00*", b":00.500*")]


def test_what_is_suggested_loads_it(tmp_path: Path) -> None:
    path = tmp_path / "btc-5m.json"
    path.write_text(as_array([[MS, 1, 3, 0.5, 2, 9], [MS - 60_000, 1, 3, 0.5, 1.5, 9]]))
    trial = try_to_load(Settings(data_path=str(path)))
    assert trial.rows is not None
    assert [text.split(b"*")[2] for text in frames_of(trial.rows)] == [b"1.5", b"2"]
    assert trial.added == {
        "DATA_HEADER": "timestamp,open,high,low,close,column_6",
        "DATA_SYMBOL": "BTC",
        "SORT_ROWS": "true",
    }
    assert mends(refusal(tmp_path, as_array([[MS, 1]])))[0]["DATA_HEADER"] == "timestamp,price"


def test_what_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for text, form, header in (
        (as_array([KLINE]), "a JSON array of arrays, UTF-8", "none"),
        (as_lines([KLINE]), "JSON lines of arrays, UTF-8", "none"),
        (
            as_lines([["timestamp", "price"], [MS, 1]]),
            "JSON lines of arrays, UTF-8",
            "the first array",
        ),
    ):
        path.write_text(text)
        found = dict(describe(path, Columns(data_symbol="BTC")))
        assert (found["format"], found["header"]) == (form, header)


def test_sentiments(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(as_array([["timestamp", "symbol", "sentiment"], [MS, "BTC", 50]]))
    assert frames_of(load_sentiments(path, Columns())) == [b"2025-10-01 09:30:00*BTC*50*"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (as_array([KLINE, KLINE[:-1]]), "(105 bytes): 11 fields, the first array has 12"),
        (as_array([KLINE, [*KLINE[:4], "x", *KLINE[5:]]]), ":2: close='x': not a number"),
        (as_array([KLINE, [*KLINE[:4], None, *KLINE[5:]]]), ":2: close='': missing"),
        (as_lines([KLINE]) + '{"a": 1}\n', ":2: '{\"a\": 1}': not a JSON array"),
        (as_array([KLINE])[:-1] + ', {"a": 1}]', "element 2 is no array: '{\"a\": 1}]'"),
        (as_array([KLINE])[:-1], "it ends within element 2"),
        (as_array([KLINE])[:-9], "damaged JSON: its first array does not end"),
        ("[[]]", "damaged JSON: its first array does not end, or is empty"),
        ("[[1, 2]", "no header; the first line is '1,2'"),
        (
            json.dumps({"code": 0, "result": {"list": [KLINE]}}),
            "its rows are in the member result.list: write that alone, as jq '.result.list' FILE",
        ),
        (
            json.dumps({"result": {"a/b": [{"time": 1}], "last": 7}}),
            """in the member result.a/b: write that alone, as jq '.result."a/b"' FILE""",
        ),
        (json.dumps({"tags": ["a"], "price": 1}), "no column 'timestamp'; the header has tags, "),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refusal(tmp_path, text, data_symbol="BTC")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=30), st.integers(20, 400))
def test_arrays_are_their_text_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prices: list[int], chunk: int
) -> None:
    monkeypatch.setattr(json_lines, "CHUNK_BYTES", chunk)
    rows: list[list[object]] = [[MS + at, "BTC", price / 1000] for at, price in enumerate(prices)]
    header = {"data_header": "timestamp,symbol,price"}
    expected = frames_of(load(tmp_path, "".join(f"{a},{b},{c}\n" for a, b, c in rows), **header))
    assert frames_of(load(tmp_path, as_array(rows), **header)) == expected
    assert frames_of(load(tmp_path, as_lines(rows), **header)) == expected
