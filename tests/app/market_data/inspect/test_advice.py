"""The line for a shell, and on which condition its settings are right."""

import shlex
from pathlib import Path

import pytest

from app.__main__ import main
from app.config.settings import Settings
from app.market_data.sources.loader import columns_of, load_files


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env
    for name in Settings.__struct_fields__:
        monkeypatch.delenv(name.upper(), raising=False)


def check(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = main(["data", "check", str(path)])
    return code, capsys.readouterr().out.splitlines()


def test_a_symbol_for_all_rows_is_a_condition_and_the_line_has_all_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(
        "Trade Time|Isin-Kürzel|Letzter Preis (EUR)|Vol\n01.10.2025 09:30|A|1|3\n"
        "01.10.2025 09:31|B|2|3\n"
    )
    given = {"PRICE_COLUMN": "Letzter Preis (EUR)", "TIMESTAMP_FORMAT": "%d.%m.%Y %H:%M"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    code, lines = check(path, capsys)
    assert code == 1
    assert lines[-2] == (
        "loads        with these settings, if ODD is the symbol of every row; "
        "columns not used: Isin-Kürzel, Vol:"
    )
    environ = dict(word.split("=", 1) for word in shlex.split(lines[-1]))
    assert environ == {
        "DATA_PATH": str(path), "TIMESTAMP_COLUMN": "Trade Time", "DATA_SYMBOL": "ODD", **given
    }  # fmt: skip
    assert len(load_files(str(path), columns_of(Settings.from_environ(environ)))) == 2

    monkeypatch.setenv("SYMBOL_COLUMN", "Isin-Kürzel")
    code, lines = check(path, capsys)
    assert lines[-2] == "loads        with these settings:"
    monkeypatch.setenv("TIMESTAMP_COLUMN", "Trade Time")
    code, lines = check(path, capsys)
    assert (code, lines[-2]) == (0, "loads        yes, as it is")
    assert "SYMBOL_COLUMN=Isin-Kürzel" in shlex.split(lines[-1])


def test_a_column_for_each_symbol_is_a_condition(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("Date,AAPL,VOL\n2025-10-01,1,2\n")
    assert check(path, capsys)[1][-2] == (
        "loads        with these settings, if each column but that of the time has the prices of "
        "one symbol:"
    )


def test_the_name_of_each_file_is_a_condition(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("msft", "aapl"):
        (tmp_path / f"{name}_1.csv").write_text("timestamp,price\n2025-10-01,1\n")
    assert check(tmp_path / "*.csv", capsys)[1][-2] == (
        "loads        with these settings, if each file's name begins with its symbol:"
    )


def test_an_address_is_recorded_not_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "wss://exchange.example/ws"]) == 2
    assert "an address, no file: data record makes a file of it" in capsys.readouterr().err
