"""JSON lines: members as columns, digits kept, what is no object refused."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config.settings import Settings
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import columns_of, load_prices, load_sentiments
from app.market_data.sources.text import csv_reader, json_lines
from app.market_data.tick_table import Columns
from tests.app.market_data.sources.text.test_shapes import PACKS, frames_of, load, mends, refusal

GOOD = '{"timestamp": "2025-10-01 09:30:00", "symbol": "AAPL", "price": 173.20}\n'
FRAME = b"2025-10-01 09:30:00*AAPL*173.20*"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "\n " + GOOD.rstrip("\n"),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("173.20", '"173.20"').replace("symbol", "Symbol"),
        GOOD.replace("{", '{"x": [1, {"y": 2}], "z": null, "Price ": true, '),
        GOOD.replace("173.20", '173.20, "note": "a, \\"b\\"\\nc*"'),
    ],
)
def test_forms(tmp_path: Path, text: str) -> None:
    assert frames_of(load(tmp_path, text)) == [FRAME]


@pytest.mark.parametrize("name", PACKS)
def test_packed_and_in_utf_16(tmp_path: Path, name: str) -> None:
    assert frames_of(load(tmp_path, PACKS[name](GOOD.encode("utf-16")))) == [FRAME]


def test_a_message_of_a_feed(tmp_path: Path) -> None:
    """Names that differ in case only; a suggestion for members inside a member."""
    text = '{"e":"trade","E":1759311000001,"s":"BTCUSDT","p":"0.10","T":1759311000000,"t":5}\n'
    rows = load(tmp_path, text, timestamp="T", symbol="s", price="p")
    assert frames_of(rows) == [b"2025-10-01 09:30:00*BTCUSDT*0.10*"]
    message = refusal(tmp_path, '{"data": {"time": 1759311000000, "ticker": "A", "px": 1}}\n')
    assert "the header has data.time, data.ticker, data.px: " in message


def test_bars_and_a_constant_symbol(tmp_path: Path) -> None:
    text = '{"time": 1759311000, "open": 1, "high": 3, "low": 0.5, "close": 2}\n'
    (mend,) = mends(refusal(tmp_path, text))
    rows = load_prices(tmp_path / "feed.csv", columns_of(Settings.from_environ(mend)))
    assert frames_of(rows) == [b"2025-10-01 09:30:00*FEED*2*"]
    rows = load(tmp_path, text, data_symbol="A", bars_as="ohlc")
    assert [frame.split(b"*")[2] for frame in frames_of(rows)] == [b"1", b"0.5", b"3", b"2"]


def test_sentiment_that_begins_late(tmp_path: Path) -> None:
    text = GOOD + GOOD.replace("}", ', "sentiment": 7}')
    rows = load(tmp_path, text)
    assert rows.values is not None
    assert rows.values.tolist() == [-1, 7]
    path = tmp_path / "sentiment.jsonl"
    path.write_text(GOOD.replace('"price": 173.20', '"sentiment": 55'))
    assert frames_of(load_sentiments(path, Columns())) == [b"2025-10-01 09:30:00*AAPL*55*"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not a JSON object: Input data was truncated"),
        ("[1]", "not a JSON object"),
        ("7", "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        ('{"a":' * 100_000, "not a JSON object"),
        (GOOD.replace("173.20", "null").strip(), "price='': missing"),
        (GOOD.replace("173.20", "NaN").strip(), "not a JSON object: JSON is malformed"),
        (GOOD.replace("173.20", "[1]").strip(), "price='[1]': not a number"),
        (GOOD.replace(', "symbol": "AAPL"', "").strip(), "symbol='': empty symbol"),
        (GOOD.replace("AAPL", "A*B").strip(), "symbol='A*B': symbol with a delimiter"),
        (GOOD.replace("AAPL", "\\ud800").strip(), "surrogate pair"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    message = refusal(tmp_path, GOOD + line + "\n" + GOOD)
    assert f":2: {reason}" in message or (":2: " in message and reason in message)
    assert "1 row malformed; SKIP_BAD_ROWS=true" in message
    assert len(load(tmp_path, GOOD + line + "\n" + GOOD, skip_bad_rows=True)) == 2


def test_a_line_without_end(tmp_path: Path) -> None:
    assert "a line is longer than" in refusal(tmp_path, GOOD + '{"a": "' + "x" * 3_000_000)


PRICES = st.decimals(Decimal("1e-9"), Decimal(10**9), places=9)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PRICES, min_size=1, max_size=30), st.integers(20, 400))
def test_digits_are_kept_in_chunks_of_any_size(
    tmp_path: Path, prices: list[Decimal], chunk_bytes: int
) -> None:
    lines = [GOOD.replace("173.20", f"{price:f}") for price in prices]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "CHUNK_BYTES", chunk_bytes)
        patch.setattr(json_lines, "QUOTED_ROWS", 7)
        rows = load(tmp_path, "".join(lines))
    assert [Decimal(frame.split(b"*")[2].decode()) for frame in frames_of(rows)] == prices
    assert csv_reader.QUOTED_ROWS != 7


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES)
def test_any_object_loads_or_is_refused(tmp_path: Path, value: object) -> None:
    path = tmp_path / "feed.jsonl"
    path.write_text(GOOD + json.dumps(value) + "\n" + json.dumps({"symbol": value}) + "\n")
    try:
        rows = load_prices(path, Columns(skip_bad_rows=True))
    except DataError:
        return
    assert rows.frame(0) == FRAME
