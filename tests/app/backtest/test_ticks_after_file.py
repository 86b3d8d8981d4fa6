"""More ticks than the file has: each answer says how many of them are made."""

import json
from pathlib import Path

import pytest

from app.__main__ import main
from app.backtest import run
from tests.app.backtest.html_tables import Page

FILE_TICKS = 24
MADE = "50, of which 26 follow the file (REPLAY={})"
CASES = pytest.mark.parametrize("replay", ["walk", "loop", "once"])


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"2025-01-01 00:{i:02d}:00,X,{100 + i % 7}" for i in range(FILE_TICKS)]
    Path("prices.csv").write_text("timestamp,symbol,price\n" + "\n".join(rows) + "\n")


def expected(replay: str) -> str:
    return str(FILE_TICKS) if replay == "once" else MADE.format(replay)


@CASES
def test_of_a_backtest(
    replay: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPLAY", replay)
    arguments = ["--data", "prices.csv", "--out", "out", "--no-plot", "--save", "saved"]
    assert main(["backtest", *arguments, "--ticks", "50"]) == 0
    assert f"ticks {expected(replay)}\n" in "\n".join(
        " ".join(line.split()) + "\n" for line in capsys.readouterr().out.splitlines()
    )
    found = json.loads(Path("saved/report.json").read_text())
    assert found["data"]["ticks"] == expected(replay)
    made = 0 if replay == "once" else 26
    assert found["metrics"]["ticks_after_file"] == made
    assert found["metrics"]["ticks"] == FILE_TICKS + made
    page = Page(Path("saved/report.html").read_text())
    assert f"Ticks: {expected(replay)};" in page.text
    assert ["ticks", expected(replay)] in page.table("The run")
    result = run("prices.csv", ticks=50, replay=replay)
    assert result.metrics["ticks_after_file"] == made


@CASES
@pytest.mark.medium
def test_of_a_sweep(
    replay: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPLAY", replay)
    arguments = ["--data", "prices.csv", "--out", "out", "--param", "short=2,3", "--ticks", "50"]
    assert main(["sweep", *arguments, "--jobs", "1"]) == 0
    shown = capsys.readouterr().out
    found = json.loads(Path("out/sweep.json").read_text())
    if replay == "once":
        assert "follow the file" not in shown
        assert "which ticks" not in found
    else:
        assert f"\nticks: {expected(replay)}\n" in shown
        assert found["which ticks"] == expected(replay)
    rows = Page(Path("out/report.html").read_text()).table("The sweep")
    assert ["ticks", expected(replay)] in rows
    assert ["capital", "100,000.00"] in rows


def test_the_ticks_of_the_file_need_no_word() -> None:
    result = run("prices.csv")
    assert result.result.ticks_text == str(FILE_TICKS)
    assert run("prices.csv", ticks=5).result.ticks_text == "5"
