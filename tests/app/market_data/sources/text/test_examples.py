"""The documented shapes: each command of data/README.md trades as the plain file does."""

import re
import runpy
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest

from app.backtest import replay as backtest
from app.backtest.outcome import Outcome, first_difference, of_backtest
from app.config.settings import Settings
from app.market_data.sources.files import files_of
from app.market_data.sources.loader import open_feed
from tests.support.paths import ROOT

EXAMPLES = ROOT / "data" / "examples"
TEXT = (ROOT / "data" / "README.md").read_text()
COMMANDS = re.findall(r"^\|.*`(DATA_PATH=.*) \.venv/bin/python -m app backtest` \|$", TEXT, re.M)


def settings_of(command: str) -> dict[str, str]:
    """The settings in front of a command."""
    return dict(word.split("=", 1) for word in shlex.split(command))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.*") if path.suffix not in (".py", ".pyc")]


@cache
def outcome(command: str) -> Outcome:
    settings = Settings.from_environ({"REPLAY": "once", "PACE": "max"} | settings_of(command))
    return of_backtest(backtest.run(settings, open_feed(settings)))


def test_the_files_are_those_of_their_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["make_examples.py", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "make_examples.py"), run_name="__main__")
    made = {path.relative_to(tmp_path): path.read_bytes() for path in files(tmp_path)}
    assert made == {path.relative_to(EXAMPLES): path.read_bytes() for path in files(EXAMPLES)}


def test_every_file_has_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    paths = [settings_of(command)["DATA_PATH"] for command in COMMANDS]
    assert {path.resolve() for spec in paths for path in files_of(spec)} == set(files(EXAMPLES))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_trades_as_the_plain_file(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert len(outcome(COMMANDS[0]).orders) >= 3
    assert first_difference(outcome(COMMANDS[0]), outcome(command)) is None
