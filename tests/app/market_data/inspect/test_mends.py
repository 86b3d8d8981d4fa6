"""Each refusal that suggests a setting is right: the file then loads, and as it is meant."""

import ast
import io
import re
from pathlib import Path
from typing import NamedTuple

import pyarrow
import pyarrow.parquet
import pytest

from app.config.settings import Settings
from app.market_data.sources.text.streams import zstd_module
from tests.app.market_data.inspect.mending import STEPS_MAX, ways
from tests.support.paths import ROOT

TIMES = b"timestamp,symbol,price\n"
FIRST = b"2025-10-01 00:00:00*A*1"
BINARY = ROOT / "data/examples_binary"


class Case(NamedTuple):
    """A file that is refused with these settings, and its first row once it loads.

    ``sentiments``: the file is one of sentiments.
    """

    content: bytes
    wanted: bytes = FIRST
    settings: dict[str, str] = {}  # noqa: RUF012
    name: str = "a.csv"
    sentiments: bool = False


def parquet(**columns: list[object]) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def dbn(name: str, symbol: bytes = b"AAPL") -> bytes:
    """An example, whose instrument has another symbol, or none."""
    packed = (BINARY / name).read_bytes()
    content: bytes = zstd_module().decompress(packed)
    return content.replace(b"AAPL\0\0\0\0", symbol.ljust(8, b"\0"))


ROW = b"2025-10-01,A,1\n"
ONE = {"DATA_SYMBOL": "A"}
CASES = {
    # Columns.
    "other names": Case(b"Time,Ticker,Close\n" + ROW),
    "names of another language": Case(b"Zeitpunkt;Wertpapier;Kurs\n2025-10-01;A;1\n"),
    "names with typing errors": Case(b"timestmp,symbl,prices\n" + ROW),
    "names that say nothing": Case(b"foo,bar,baz\n2025-10-01,1,1\n"),
    "one symbol": Case(b"timestamp,price\n2025-10-01,1\n"),
    "settings for another file": Case(TIMES + ROW, settings={"PRICE_COLUMN": "kurs"}),
    "date and time apart": Case(
        b"Date,Time,symbol,price\n2025-10-01,09:30:00,A,1\n", b"2025-10-01 09:30:00*A*1"
    ),
    "JSON": Case(b'{"when":"2025-10-01","ticker":"A","last":1}\n', name="a.jsonl"),
    "JSON arrays": Case(b'[[1759276800000,"1","2","1","1","9"]]', name="a.json"),
    "JSON arrays of Binance": Case(
        b'[[1759276800000,"1","2","1","1","9",1759276859999,"9",3,"5","7","0"]]', name="a.json"
    ),
    "bars without a high": Case(
        b"timestamp,symbol,open,low,close\n2025-10-01,A,2,2,1\n",
        settings={"DATA_KIND": "bars", "BARS_AS": "ohlc"},
    ),
    "quotes without an ask": Case(
        b"timestamp,symbol,bid,last\n2025-10-01,A,2,1\n", settings={"DATA_KIND": "quotes"}
    ),
    "quotes without a last price": Case(
        b"timestamp,symbol,bid,ask\n2025-10-01,A,0.5,1.5\n", settings={"QUOTES_AS": "last"}
    ),
    "a table of yfinance without opens": Case(
        b"Price,Close,Volume\nTicker,A,A\nDate,,\n2025-10-01,1,5\n", settings={"BARS_AS": "ohlc"}
    ),
    "a column for each symbol": Case(b"Date,A,MSFT\n2025-10-01,1,402.1\n"),
    # No header.
    "no header": Case(b"2025-10-01,A,1\n"),
    "no header, two columns of time": Case(
        b"2025-10-01,09:30:00,A,1\n", b"2025-10-01 09:30:00*A*1"
    ),
    "no header, one symbol": Case(b"2025-10-01;1;7\n"),
    "too few names": Case(b"2025-10-01,A,1\n", settings={"DATA_HEADER": "timestamp,price"}),
    "Binance": Case(
        b"1759276800000,1,2,1,1,10,1759276859999,15,3,5,7,0\n", b"2025-10-01 00:00:00*A*1"
    ),
    # Times.
    "German dates": Case(b"timestamp;symbol;price\n01.10.2025;A;1\n"),
    "American dates": Case(TIMES + b"10/13/2025,A,1\n", b"2025-10-13 00:00:00*A*1"),
    "day or month first": Case(TIMES + b"10/01/2025,A,1\n"),
    "day or month first, too": Case(TIMES + b"01/10/2025,A,1\n"),
    "digits only": Case(TIMES + b"20251001,A,1\n"),
    "months by name": Case(TIMES + b"1-Oct-2025,A,1\n"),
    "another pattern than the texts": Case(TIMES + ROW, settings={"TIMESTAMP_FORMAT": "%d/%m/%Y"}),
    "a unit for texts": Case(TIMES + b"2025/10/01,A,1\n", settings={"TIMESTAMP_FORMAT": "ms"}),
    "times without a day": Case(TIMES + b"09:30:00,A,1\n", b"2025-10-01 09:30:00*A*1"),
    "minutes without a day": Case(TIMES + b"09:30,A,1\n", b"2025-10-01 09:30:00*A*1"),
    "a pattern without a day": Case(
        TIMES + b"09.30.00,A,1\n", b"2025-10-01 09:30:00*A*1",
        settings={"TIMESTAMP_FORMAT": "%H.%M.%S"},
    ),
    "milliseconds from midnight": Case(TIMES + b"34200000,A,1\n", b"2025-10-01 09:30:00*A*1"),
    "a unit that is too small to be told": Case(TIMES + b"34200000,A,1\n", b"1971-01-31"),
    "microseconds from midnight": Case(
        TIMES + b"34200000000,A,1\n", b"2025-10-01 09:30:00*A*1", {"DATA_DATE": "2025-10-01"}
    ),
    "a date for what has one": Case(
        TIMES + b"1759276800000,A,1\n", settings={"DATA_DATE": "2025-10-02"}
    ),
    "a date for texts that have one": Case(TIMES + ROW, settings={"DATA_DATE": "2025-10-02"}),
    # Values, rows.
    "decimal commas": Case(b"timestamp;symbol;price\n2025-10-01;A;1,5\n", FIRST + b".5"),
    "decimal points": Case(TIMES + b"2025-10-01,A,1.5\n", FIRST + b".5", {"DECIMAL_COMMA": "true"}),
    "wrong rows": Case(TIMES + ROW + b"2025-10-01,A,x\n2025-10-01\n"),
    "rows out of order": Case(TIMES + b"2025-10-02,A,2\n" + ROW),
    "wrong rows out of order": Case(TIMES + b"2025-10-02,A,2\nx,y,z\n" + ROW),
    # Other formats.
    "Parquet": Case(parquet(when=["2025-10-01"], ticker=["A"], last=[1.0]), name="a.parquet"),
    "wrong rows of Parquet": Case(
        parquet(timestamp=["2025-10-01"] * 2, symbol=["A", "A"], price=[1.0, -1.0]),
        name="a.parquet",
    ),
    "Parquet, a column for each symbol": Case(
        parquet(A=[1.0], MSFT=[402.1], Date=["2025-10-01"]), name="a.parquet"
    ),
    "Parquet, date and time apart": Case(
        parquet(Date=["2025-10-01"], Time=["09:30:00"], symbol=["A"], price=[1.0]),
        b"2025-10-01 09:30:00*A*1", name="a.parquet",
    ),
    "Databento, another time": Case(
        dbn("trades.dbn.zst"), b"2025-10-01 09:30:00*AAPL*", {"TIMESTAMP_COLUMN": "time"}, "a.dbn"
    ),
    "Databento, no symbol": Case(
        dbn("trades.dbn.zst", b""), b"2025-10-01 09:30:00*A*", name="a.dbn"
    ),
    # Sentiments.
    "names of a file of sentiments": Case(
        b"Date,Ticker,Score\n2025-10-01,A,50\n", b"2025-10-01 00:00:00*A*50", sentiments=True
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mends")


def environ_of(case: Case, folder: Path) -> dict[str, str]:
    path = folder / case.name
    path.write_bytes(case.content)
    name = "SENTIMENT_PATH" if case.sentiments else "DATA_PATH"
    return {**Settings().to_environ(), name: str(path), **case.settings}


@pytest.mark.parametrize("name", CASES)
def test_what_a_refusal_suggests_loads_the_file(name: str, folder: Path) -> None:
    case = CASES[name]
    mended, heard = ways(environ_of(case, folder), case.wanted, case.sentiments)
    assert mended, "\n".join(heard)
    assert 1 <= len(mended.messages) <= STEPS_MAX


SUGGESTS = re.compile(r"\b(?:un)?set [A-Z]+_[A-Z]+|\b[A-Z]+_[A-Z]+=(?:true|YYYY)")
NOT_OF_A_ROW = {
    "set SENTIMENT_PATH",  # Another file is needed.
    "set DATA_SPILL",  # A disk is full: tests/app/market_data/storage.
}


def suggesting_texts() -> set[str]:
    """Every piece of text in the sources that suggests a setting, up to its first blank space to
    fill in."""
    found = set()
    for file in (ROOT / "app/market_data/sources").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {match[0] for match in SUGGESTS.finditer(node.value)}
    return found


def test_every_setting_that_is_suggested_has_a_case(folder: Path) -> None:
    heard = "\n".join(
        message
        for case in CASES.values()
        for message in ways(environ_of(case, folder), case.wanted, case.sentiments)[1]
    )
    assert [text for text in suggesting_texts() - NOT_OF_A_ROW if text not in heard] == []
