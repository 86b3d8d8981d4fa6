"""Tables with a column for each symbol under one header row."""

from pathlib import Path

import pytest

from tests.app.market_data.sources.text.test_shapes import frames_of, load, mends, refusal

TABLE = """Date,AAPL,BRK.B,MSFT
2025-10-01,173.2,,402.1
2025-10-02,174.1,500,
2025-10-03,,,
"""
FRAMES = [
    b"2025-10-01 00:00:00*AAPL*173.2*", b"2025-10-01 00:00:00*MSFT*402.1*",
    b"2025-10-02 00:00:00*AAPL*174.1*", b"2025-10-02 00:00:00*BRK.B*500*",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (TABLE, {}),
        (TABLE.replace(",", ";"), {}),
        (TABLE.replace("Date", ""), {}),  # pandas, whose index has no name
        (TABLE.replace("Date", "tag"), {"timestamp": "tag"}),
        (TABLE.replace("\n", ",5\n").replace("MSFT,5", "MSFT,sentiment"), {}),
    ],
)  # fmt: skip
def test_each_further_column_is_a_symbol(
    tmp_path: Path, text: str, settings: dict[str, str]
) -> None:
    assert frames_of(load(tmp_path, text, data_kind="wide", **settings)) == FRAMES


def test_it_is_suggested_and_never_assumed(tmp_path: Path) -> None:
    assert mends(refusal(tmp_path, TABLE)) == [{"TIMESTAMP_COLUMN": "Date", "DATA_KIND": "wide"}]
    for header in ("Date,size,BRK.B,MSFT", "Date,AAPL,price,MSFT", "Date,AAPL,BRK B,MSFT"):
        assert "wide" not in refusal(tmp_path, TABLE.replace("Date,AAPL,BRK.B,MSFT", header))


def test_date_and_time_and_decimal_commas(tmp_path: Path) -> None:
    text = "Date;Time;A;B\n2025-10-01;09:30:00;1,5;\n"
    rows = load(tmp_path, text, data_kind="wide", decimal_comma=True)
    assert frames_of(rows) == [b"2025-10-01 09:30:00*A*1.5*"]


def test_json(tmp_path: Path) -> None:
    text = '[{"Date": "2025-10-01", "A": 1.5, "B": null}, {"Date": "2025-10-02", "B": 2}]'
    assert frames_of(load(tmp_path, text, data_kind="wide")) == [
        b"2025-10-01 00:00:00*A*1.5*",
        b"2025-10-02 00:00:00*B*2*",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tag,A,B\n2025-10-01,1,2\n", "no column 'timestamp'; the header has tag, A, B: set"),
        ("Date,A,A\n2025-10-01,1,2\n", "the header names column A twice: rename one"),
        ("Date,A,x y\n2025-10-01,1,2\n", "DATA_KIND=wide: column 'x y': symbol with a delimiter"),
        ("Date,A,\n2025-10-01,1,\n", "DATA_KIND=wide: column '': empty symbol"),
        ("Date\n2025-10-01\n", "DATA_KIND=wide: no column besides the timestamp's"),
        ("Date,A,B\n2025-10-01,1,x\n2025-10-02,1,2\n", ":2: B='x': not a number"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refusal(tmp_path, text, data_kind="wide")
