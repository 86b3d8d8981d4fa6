"""Symbols of up to 32 bytes and options in OSI form, in every source."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.__main__ import main
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import load_files, load_prices
from app.market_data.sources.symbol_table import UNKNOWN, SymbolTable
from app.market_data.tick_table import Columns
from app.model.symbols import symbol_problem, without_padding

LONGEST = "ABCDEFGHIJKLMNOPQRSTUVWXYZ123456"
IN_FILE = ["AAPL  251219C00200000", "AAPL", LONGEST, "SPXW251219P05000000", "F     251219C00012500"]
NAMES = ["AAPL251219C00200000", "AAPL", LONGEST, "SPXW251219P05000000", "F251219C00012500"]
ROWS = [(f"2025-10-01 09:30:{at:02d}", IN_FILE[at * 7 % 5], f"{at + 1}.5") for at in range(60)]
FRAMES = [f"{time}*{NAMES[at * 7 % 5]}*{price}*" for at, (time, _, price) in enumerate(ROWS)]
FIRST_SEEN = [NAMES[at * 7 % 5] for at in range(5)]


def frames(path: Path, **changes: Any) -> tuple[list[str], list[str]]:
    """The frames of a file, and its symbols."""
    rows = load_prices(path, Columns(**changes))
    assert [rows.symbols[at] for at in rows.symbol_index] == [
        rows.frame(row).decode().split("*")[1] for row in range(len(rows))
    ]
    return [rows.frame(row).decode() for row in range(len(rows))], rows.symbols


def text_of(rows: list[tuple[str, str, str]], head: str = "timestamp,symbol,price\n") -> str:
    return head + "".join(",".join(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (text_of(ROWS), {}),
        (text_of(ROWS).replace(",", ";"), {}),
        (text_of(ROWS).replace("\n", ",7\n").replace("price,7", "price,sentiment"), {}),
        (text_of([(time, f'" {name}"', price) for time, name, price in ROWS]), {}),
        (text_of([(f"{time}Z ", name, f" {price}") for time, name, price in ROWS]), {}),
        (text_of(ROWS, ""), {"data_header": "timestamp,symbol,price"}),
    ],
    ids=["plain", "semicolons", "sentiment", "quotes", "each field rewritten", "no header"],
)
def test_text(tmp_path: Path, text: str, changes: dict[str, str]) -> None:
    path = tmp_path / "feed"
    path.write_text(text)
    found, symbols = frames(path, **changes)
    assert [frame.replace("Z*", "*") for frame in found] == FRAMES
    assert symbols == FIRST_SEEN


def test_json_and_tables_with_a_column_for_each_symbol(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    lines = [
        f'{{"timestamp":"{time}","symbol":"{name}","price":{price}}}' for time, name, price in ROWS
    ]
    path.write_text("\n".join(lines))
    assert frames(path) == (FRAMES, FIRST_SEEN)
    path.write_text(f"Price,Close,Close\nTicker,{IN_FILE[0]},{LONGEST}\nDate,,\n2025-10-01,1,2\n")
    assert frames(path)[1] == [NAMES[0], LONGEST]
    path.write_text(f"Date,{IN_FILE[0]},{LONGEST}\n2025-10-01,1,2\n")
    assert frames(path, data_kind="wide")[1] == [NAMES[0], LONGEST]


@pytest.mark.parametrize("dictionary", [False, True])
def test_parquet(tmp_path: Path, dictionary: bool) -> None:
    arrow: Any = pytest.importorskip("pyarrow")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    times, names, prices = zip(*ROWS, strict=True)
    column = arrow.array(names)
    table = arrow.table(
        {
            "timestamp": times,
            "symbol": column.dictionary_encode() if dictionary else column,
            "price": [float(price) for price in prices],
        }
    )
    parquet.write_table(table, tmp_path / "ticks")
    found, symbols = frames(tmp_path / "ticks")
    assert (found, symbols) == (FRAMES, FIRST_SEEN)


def test_several_files_write_one_option_in_two_ways(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text_of(ROWS[:1]))
    (tmp_path / "b.csv").write_text(text_of(ROWS[:1]).replace(IN_FILE[0], NAMES[0]))
    rows = load_files(str(tmp_path), Columns())
    assert (rows.symbols, len(rows)) == (NAMES[:1], 2)


def test_the_symbol_of_every_row_is_named_alike(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    path.write_text("timestamp,price\n2025-10-01,1\n")
    assert frames(path, data_symbol=IN_FILE[0])[1] == NAMES[:1]


@pytest.mark.parametrize("symbol", [LONGEST + "7", "BRK B", "AAPL  251219X00200000"])
def test_what_is_refused_names_its_mends_and_they_work(tmp_path: Path, symbol: str) -> None:
    path = tmp_path / "feed"
    path.write_text(f"timestamp,symbol,short,price\n2025-10-01,{symbol},B,1\n2025-10-02,A,A,2\n")
    with pytest.raises(DataError) as refusal:
        frames(path)
    first, line = str(refusal.value).splitlines()
    assert first.endswith("1 row malformed; SKIP_BAD_ROWS=true skips such rows")
    assert line.startswith(f"{path}:2: symbol='{symbol}': {symbol_problem(symbol.encode())}: set ")
    assert line.endswith(
        "set SYMBOL_COLUMN to other names, or DATA_SYMBOL, if all rows have the same"
    )
    assert frames(path, skip_bad_rows=True)[1] == ["A"]
    assert frames(path, symbol="short")[1] == ["B", "A"]
    path.write_text("timestamp,price\n2025-10-01,1\n2025-10-02,2\n")
    assert frames(path, data_symbol="B")[1] == ["B"]


def test_data_check_says_what_options_are_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "feed"
    path.write_text(text_of(ROWS))
    assert main(["data", "check", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"options      3, without the blanks that OSI puts inside: {NAMES[0]}" in out


TEXTS = st.one_of(
    st.text("AB1. ", max_size=36),
    st.sampled_from([*IN_FILE, *NAMES, LONGEST + "7", LONGEST[:31], "AAPL 251219C00200000"]),
)


@settings(deadline=None)
@given(st.lists(st.lists(TEXTS, max_size=12), max_size=4))
def test_a_column_of_symbols_is_found_like_one_by_one(batches: list[list[str]]) -> None:
    table, names = SymbolTable(), []
    for batch in batches:
        fields = [text.encode() for text in batch]
        data = np.frombuffer(b",".join(fields) + bytes(64), np.uint8)
        lengths = np.array([len(field) for field in fields], np.int64)
        starts = np.cumsum(lengths + 1) - lengths - 1
        for field in fields:
            name = without_padding(field)
            if symbol_problem(name):
                with pytest.raises(ValueError, match="symbol"):
                    table.add(field)
                continue
            if name.decode() not in names:
                names.append(name.decode())
            assert table.add(field) == table.get(field) == names.index(name.decode())
        wanted = [
            UNKNOWN if symbol_problem(without_padding(field)) else table.get(field)
            for field in fields
        ]
        assert table.find(data, starts, lengths).tolist() == wanted
    assert table.names == names
