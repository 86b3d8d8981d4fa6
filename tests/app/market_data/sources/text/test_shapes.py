"""Text files of other shapes: packed, encoded, delimited and named otherwise; and their mends."""

import bz2
import gzip
import lzma
import re
import shlex
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import msgspec
import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config.settings import Settings
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import columns_of, load_prices
from app.market_data.sources.text import csv_reader
from app.market_data.tick_table import Columns, Rows

HEADER = "timestamp,symbol,price\n"
ROWS = "2025-10-01 09:30:00,AAPL,173.20\n2025-10-01 09:30:01,MSFT,402.1\n"
FRAMES = [b"2025-10-01 09:30:00*AAPL*173.20*", b"2025-10-01 09:30:01*MSFT*402.1*"]

Pack = Callable[[bytes], bytes]


def zipped(*names: str) -> Pack:
    def pack(data: bytes) -> bytes:
        file = BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, data)
        return file.getvalue()

    return pack


PACKS: dict[str, Pack] = {
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zip": zipped("__MACOSX/._a.csv", "a.csv"),
}


def load(folder: Path, content: str | bytes, name: str = "feed.csv", **changes: object) -> Rows:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_prices(path, Columns(**changes))  # type: ignore[arg-type]


def frames_of(rows: Rows) -> list[bytes]:
    return [rows.frame(row) for row in range(len(rows))]


def refusal(folder: Path, content: str | bytes, name: str = "feed.csv", **changes: object) -> str:
    with pytest.raises(DataError) as caught:
        load(folder, content, name, **changes)
    assert str(folder / name) in str(caught.value)
    return str(caught.value)


def mends(message: str) -> list[dict[str, str]]:
    """The settings that a message suggests; several where it leaves a choice."""
    pairs = [
        shlex.split(found)[0].split("=", 1)
        for found in re.findall(r"\b[A-Z]+_[A-Z]+=(?:'[^']*'|[^\s,;]+)", message)
        if "YYYY" not in found
    ]
    together: dict[str, str] = {}
    for name, value in pairs:
        if name in together:
            return [{name: value} for name, value in pairs]
        together[name] = value
    return [together]


class TestPacked:
    @pytest.mark.parametrize("name", PACKS)
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-bom"])
    def test_told_by_content(self, tmp_path: Path, name: str, encoding: str) -> None:
        text = HEADER + ROWS
        data = (
            b"\xfe\xff" + text.encode("utf-16-be")
            if encoding == "utf-16-be-bom"
            else text.encode(encoding)
        )
        assert frames_of(load(tmp_path, PACKS[name](data))) == FRAMES

    @pytest.mark.parametrize("name", PACKS)
    def test_damaged(self, tmp_path: Path, name: str) -> None:
        rows = "".join(f"2025-10-01,A,{row % 977 + 1}.{row % 13}\n" for row in range(20_000))
        packed = PACKS[name]((HEADER + rows).encode())
        message = refusal(tmp_path, packed[: len(packed) // 2])
        assert f"damaged {name} file" in message

    @pytest.mark.parametrize("name", [*PACKS, "plain"])
    def test_pieces_that_break_anywhere(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """Rows beyond the head, in chunks that end inside rows and inside letters of UTF-16."""
        times = (f"2025-10-01 {row // 3600:02}:{row // 60 % 60:02}:00" for row in range(7000))
        body = "".join(f"{time},S{row % 7},{row + 1}.5\n" for row, time in enumerate(times))
        data = (HEADER + body).encode("utf-16")
        monkeypatch.setattr(csv_reader, "CHUNK_BYTES", 9973)
        rows = load(tmp_path, PACKS.get(name, bytes)(data), sort_rows=True)
        assert len(rows) == 7000
        assert sum(float(frame.split(b"*")[2]) for frame in frames_of(rows)) == sum(
            row + 1.5 for row in range(7000)
        )

    def test_several_zstd_frames(self, tmp_path: Path) -> None:
        data = zstd.compress(HEADER.encode()) + zstd.compress(ROWS.encode())
        assert frames_of(load(tmp_path, data)) == FRAMES

    def test_a_zip_file_of_several_files(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, zipped("a.csv", "b.csv")((HEADER + ROWS).encode()))
        assert "must hold one file here, this one holds 2 (a.csv, b.csv): unpack it" in message

    def test_a_zip_file_with_a_password(self, tmp_path: Path) -> None:
        data = bytearray(zipped("a.csv")((HEADER + ROWS).encode()))
        for at in (data.find(b"PK\x03\x04") + 6, data.find(b"PK\x01\x02") + 8):
            data[at] |= 1
        assert "has a password: unpack it" in refusal(tmp_path, bytes(data))


class TestDelimiter:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("quoted", [False, True])
    def test_sniffed_from_the_header(self, tmp_path: Path, delimiter: str, quoted: bool) -> None:
        text = (HEADER + ROWS).replace(",", delimiter)
        if quoted:
            text = text.replace("AAPL", '"AAPL"').replace("symbol", '"symbol"')
        assert frames_of(load(tmp_path, text)) == FRAMES

    def test_a_quoted_delimiter_does_not_count(self, tmp_path: Path) -> None:
        text = '"a;b;c;d",timestamp,symbol,price\n' + ROWS.replace("2025", '"x;y",2025')
        assert frames_of(load(tmp_path, text)) == FRAMES

    @given(
        st.lists(st.sampled_from(["note", "Ünit", "a b", "x"]), max_size=3), st.sampled_from(";\t|")
    )
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_further_columns(self, tmp_path: Path, more: list[str], delimiter: str) -> None:
        lines = (HEADER + ROWS).splitlines()
        rows = [delimiter.join([*more, *line.split(",")]) for line in lines]
        assert frames_of(load(tmp_path, "\n".join(rows))) == FRAMES


class TestHeader:
    @pytest.mark.parametrize(
        "header", ["TIMESTAMP,Symbol,PRICE", " Timestamp , SYMBOL,price ", "timestamp,symbol,Price"]
    )
    def test_in_any_case(self, tmp_path: Path, header: str) -> None:
        assert frames_of(load(tmp_path, header + "\n" + ROWS)) == FRAMES

    def test_the_exact_name_is_taken_before_another_case(self, tmp_path: Path) -> None:
        text = "timestamp,symbol,PRICE,price\n" + ROWS.replace("AAPL,", "AAPL,9,").replace(
            "MSFT,", "MSFT,9,"
        )
        assert frames_of(load(tmp_path, text)) == FRAMES

    def test_two_that_differ_in_case_only_are_refused(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, "timestamp,symbol,PRICE,Price\n" + ROWS)
        assert "the header names column price twice" in message

    @pytest.mark.parametrize(
        ("header", "time", "symbol", "price"),
        [
            ("Date,Ticker,Open,Close", "Date", "Ticker", "Close"),
            ("datetime,sym,last,x", "datetime", "sym", "last"),
            ("ts_event,instrument,px,x", "ts_event", "instrument", "px"),
            ("Trade Time;Symbol;Last Price;x", "'Trade Time'", "", "'Last Price'"),
            ("transact_time|symbol|price|x", "transact_time", "", ""),
            ("timestmp,symbol,prise,x", "timestmp", "", "prise"),
        ],
    )
    def test_the_suggested_columns_work(
        self, tmp_path: Path, header: str, time: str, symbol: str, price: str
    ) -> None:
        names = {"TIMESTAMP_COLUMN": time, "SYMBOL_COLUMN": symbol, "PRICE_COLUMN": price}
        said = ", ".join(f"set {name}={value}" for name, value in names.items() if value)
        delimiter = re.findall(r"[,;|]", header)[0]
        row = "2025-10-01 09:30:00,AAPL,173.20,173.20\n".replace(",", delimiter)
        message = refusal(tmp_path, f"{header}\n{row}")
        assert f"the header has {', '.join(header.split(delimiter))}: {said}" in message
        (mend,) = mends(message)
        settings = Settings.from_environ(mend)
        rows = load_prices(tmp_path / "feed.csv", columns_of(settings))
        assert frames_of(rows) == FRAMES[:1]

    def test_date_and_time_in_two_columns(self, tmp_path: Path) -> None:
        text = "<TICKER>,<DATE>,<TIME>,<CLOSE>\nAAPL,2025-10-01,09:30:00,173.20\n"
        message = refusal(tmp_path, text)
        assert "set TIMESTAMP_COLUMN='<DATE>+<TIME>', set SYMBOL_COLUMN='<TICKER>'" in message
        (mend,) = mends(message)
        rows = load_prices(tmp_path / "feed.csv", columns_of(Settings.from_environ(mend)))
        assert frames_of(rows) == FRAMES[:1]


class TestConstantSymbol:
    TEXT = "timestamp,price\n2025-10-01 09:30:00,173.20\n"

    @pytest.mark.parametrize(
        ("name", "symbol"),
        [
            ("AAPL.csv", "AAPL"),
            ("btcusdt-1m-2025-01.csv", "BTCUSDT"),
            ("a_very_long.csv", "A"),
            ("-.csv", "AAPL"),
        ],
    )
    def test_suggested_from_the_files_name(self, tmp_path: Path, name: str, symbol: str) -> None:
        message = refusal(tmp_path, self.TEXT, name)
        assert message.endswith(
            f"no column 'symbol'; the header has timestamp, price: set DATA_SYMBOL={symbol}, "
            "if that is the symbol of every row"
        )
        (mend,) = mends(message)
        rows = load_prices(tmp_path / name, columns_of(Settings.from_environ(mend)))
        assert frames_of(rows) == [f"2025-10-01 09:30:00*{symbol}*173.20*".encode()]

    def test_a_column_wins(self, tmp_path: Path) -> None:
        assert load(tmp_path, HEADER + ROWS, data_symbol="X").symbols == ["AAPL", "MSFT"]

    def test_a_symbol_that_is_none(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, self.TEXT, data_symbol="A" * 33)
        assert f"DATA_SYMBOL={'A' * 33}: symbol of 33 bytes, at most 32" in message

    def test_with_sentiment(self, tmp_path: Path) -> None:
        text = "timestamp,price,sentiment\n2025-10-01,1,7\n2025-10-02,x,8\n2025-10-03,3,\n"
        rows = load(tmp_path, text, data_symbol="A", skip_bad_rows=True)
        assert rows.values is not None
        assert (rows.values.tolist(), rows.skipped) == ([7, -1], 1)


def test_settings_reach_the_source() -> None:
    """Each setting about the shape of data is a field of Columns, under one name."""
    changed = {
        "data_symbol": "A", "data_header": "a,b", "data_kind": "bars", "bars_as": "ohlc",
        "quotes_as": "last", "timestamp_format": "ms", "data_date": "2025-10-01",
        "sort_rows": True, "skip_bad_rows": True,
    }  # fmt: skip
    columns = columns_of(msgspec.structs.replace(Settings(), **changed))
    assert {name: getattr(columns, name) for name in changed} == changed
