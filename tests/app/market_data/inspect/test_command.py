"""``python -m app data``: what a file is, which settings load it, and the plain form."""

import gzip
import re
import shlex
from pathlib import Path

import pytest

from app.__main__ import main
from app.config.settings import Settings
from app.market_data.sources.loader import columns_of, load_files, load_prices
from app.market_data.tick_table import Columns
from tests.app.market_data.sources.text.test_shapes import frames_of
from tests.support.paths import ROOT

EXAMPLES = sorted(
    path for path in (ROOT / "data" / "examples").glob("*.*s*") if path.suffix in (".csv", ".jsonl")
)
CHOICE = {"milliseconds.csv", "us_dates.csv"}
"""Examples that leave a choice: which day, and day or month first."""


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env
    for name in Settings.__struct_fields__:
        monkeypatch.delenv(name.upper(), raising=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["data", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def settings_shown(out: str) -> dict[str, str]:
    """The settings in the last line."""
    return dict(word.split("=", 1) for word in shlex.split(out.splitlines()[-1]))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_settings_shown_load_the_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", str(path))
    if path.name in CHOICE:
        assert code == 1
        assert "loads        no: choose a setting that the last refusal names" in out
        return
    environ = settings_shown(out)
    rows = load_files(environ["DATA_PATH"], columns_of(Settings.from_environ(environ)))
    assert (len(rows), len(rows.symbols)) == (60, 1)
    assert (code == 0) == (len(environ) == 1)
    assert "ticks        60" in out
    assert "span         2025-10-01 09:30:00 to 2025-10-01 10:29:00 UTC" in out
    assert "usual step   60 s" in out


def test_a_choice_is_made_by_a_row_that_leaves_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dates.csv"
    path.write_text("timestamp,symbol,price\n10/12/2025,A,1\n10/13/2025,A,1\n")
    code, out, _ = run(capsys, "check", str(path))
    assert code == 1
    assert settings_shown(out)["TIMESTAMP_FORMAT"] == "%m/%d/%Y"


def test_everything_that_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wrong.csv"
    minutes = "".join(f"2025-10-01 09:{minute}:00;A;1\n" for minute in range(10, 60))
    path.write_bytes(
        gzip.compress(
            b"Time;Ticker;Close\n"
            b"2025-10-01 09:00:00;A;1\n2025-10-01 08:00:00;A;1\n2025-10-01 09:00:00;A;x\n"
            + minutes.encode()
            + b"2025-10-01 09:59:00;A;1\n2025-10-01 09:59:00;B;1\n2025-10-01 09:59:00;A;2\n"
        )
    )
    code, out, _ = run(capsys, "check", str(path))
    assert code == 1
    assert settings_shown(out) == {
        "DATA_PATH": str(path), "TIMESTAMP_COLUMN": "Time", "SYMBOL_COLUMN": "Ticker",
        "PRICE_COLUMN": "Close", "SKIP_BAD_ROWS": "true", "SORT_ROWS": "true",
    }  # fmt: skip
    for line in (
        "format       text, fields between semicolons, UTF-8, packed with gzip",
        "header       one line",
        "columns      Time, Ticker, Close",
        "a row is     a tick",
        "ticks        55",
        "symbols      2: A (54), B (1)",
        "span         2025-10-01 08:00:00 to 2025-10-01 09:59:00 UTC",
        "gaps         1 longer than 20 usual steps",
        "             60 min from 2025-10-01 08:00:00 to 2025-10-01 09:00:00",
        "same time    2 rows, 1 with their price",
        "wrong rows   1 left out",
        "loads        with these settings:",
    ):
        assert f"{line}\n" in out
    assert f"{path}:4: Close='x': not a number" in out


def test_the_users_settings_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ms.csv"
    path.write_text("timestamp,symbol,price\n34200000,A,1\n")
    assert run(capsys, "check", str(path))[0] == 1
    monkeypatch.setenv("DATA_DATE", "2025-10-01")
    code, out, _ = run(capsys, "check", str(path))
    assert code == 0
    assert "span         2025-10-01 09:30:00 to 2025-10-01 09:30:00 UTC" in out


def test_several_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("msft", "aapl"):
        (tmp_path / f"{name}_1.csv").write_text("timestamp,price\n2025-10-01,1\n")
    code, out, _ = run(capsys, "check", f"{tmp_path}/*.csv")
    assert code == 1
    assert settings_shown(out)["DATA_SYMBOL"] == "{file}"
    assert f"files        2, of which the first is {tmp_path / 'aapl_1.csv'}" in out
    assert "symbols      2: AAPL (1), MSFT (1)" in out


def test_nothing_to_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", str(tmp_path / "none.csv"))
    assert code == 1
    assert "none.csv: No such file" in out
    assert "loads        no: as it says" in out


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz"])
@pytest.mark.parametrize(
    "text",
    [
        "timestamp,symbol,price\n2025-10-01 09:30:00,A,1.50\n2025-10-01T09:30:00Z,B;,2\n",
        "timestamp,symbol,price,sentiment\n2025-10-01,A,1,7\n2025-10-02,A,2,\n",
        '"timestamp";symbol;price\n1759311000;"A""B";1e0\n',
    ],
)
def test_the_plain_form_has_the_same_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, name: str
) -> None:
    path, out = tmp_path / "in.csv", tmp_path / name
    path.write_text(text)
    code, said, _ = run(capsys, "convert", str(path), str(out))
    assert code == 0
    assert re.match(rf"{out}: \d ticks of \d symbols?", said)
    before, after = load_prices(path, Columns()), load_prices(out, Columns())
    assert frames_of(before) == frames_of(after)
    assert before.symbols == after.symbols
    assert (before.values is None) == (after.values is None)
    assert before.values is None or before.values.tolist() == after.values.tolist()  # type: ignore[union-attr]
    assert sorted(found.name for found in tmp_path.iterdir()) == sorted(["in.csv", name])
    first = out.read_bytes()
    run(capsys, "convert", str(path), str(out), "--force")
    assert out.read_bytes() == first


def test_what_convert_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.csv"
    path.write_text("time,symbol,price\n2025-10-01,A,1\n")
    code, _, err = run(capsys, "convert", str(path), "out.csv")
    assert code == 1
    assert "set TIMESTAMP_COLUMN=time" in err
    assert f"python -m app data check {path} helps" in err
    path.write_text("timestamp,symbol,price\n2025-10-01,A,1\n")
    code, _, err = run(capsys, "convert", str(path), "out.xlsx")
    assert (code, "must end in .csv, .csv.gz or .parquet" in err) == (2, True)
    code, _, err = run(capsys, "convert", str(path), str(path))
    assert (code, "--force overwrites it" in err) == (2, True)
    code, _, err = run(capsys, "convert", str(path), str(path / "out.csv"))
    assert (code, "in.csv/out.csv: File exists" in err) == (1, True)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["in.csv"]


def test_convert_makes_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "in.csv", tmp_path / "new" / "folder" / "out.csv"
    path.write_text("timestamp,symbol,price\n2025-10-01,A,1\n")
    assert run(capsys, "convert", str(path), str(out))[0] == 0
    assert out.read_text() == "timestamp,symbol,price\n2025-10-01 00:00:00,A,1\n"
