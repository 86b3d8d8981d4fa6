"""The documented binary files: each command of data/README.md trades as the text file does."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from app.__main__ import main
from app.backtest.outcome import first_difference
from app.config.settings import Settings
from app.market_data.sources.loader import columns_of, load_prices
from tests.app.market_data.sources.columnar.test_files import same
from tests.app.market_data.sources.text.test_examples import outcome, settings_of
from tests.support.paths import ROOT

EXAMPLES = ROOT / "data" / "examples_binary"
PLAIN = "DATA_PATH=data/examples/ticks.csv"
TEXT = (ROOT / "data" / "README.md").read_text()
COMMANDS = re.findall(
    r"^    (DATA_PATH=\S+_binary/.*) \.venv/bin/python -m app backtest$", TEXT, re.M
)


def test_every_file_has_a_command() -> None:
    named = {Path(settings_of(command)["DATA_PATH"]).name for command in COMMANDS}
    assert named == {path.name for path in EXAMPLES.iterdir()} - {"make_examples.py", "__pycache__"}


def test_the_generator_makes_files_with_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the same bytes: they name the version of the library that wrote them."""
    for package in ("pyarrow", "databento_dbn", "backports.zstd"):
        pytest.importorskip(package)
    monkeypatch.setattr(sys, "argv", ["make_examples.py", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "make_examples.py"), run_name="__main__")
    for command in COMMANDS:
        settings = Settings.from_environ(settings_of(command))
        path = Path(settings.data_path)
        ours, theirs = (
            load_prices(folder / path.name, columns_of(settings)) for folder in (tmp_path, EXAMPLES)
        )
        same(ours, theirs)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_trades_as_the_plain_file(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert len(outcome(PLAIN).orders) >= 3
    assert first_difference(outcome(PLAIN), outcome(command)) is None


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("ticks.parquet", ("Parquet", "symbol (Dictionary(Int32, Utf8))", "a tick")),
        ("bars.parquet", ("Parquet", "Open (Float64)", "a bar, whose close is a tick")),
        ("quotes.feather", ("Arrow", "bid (Float64)", "a quote, whose middle is a tick")),
        ("trades.dbn.zst", ("DBN, version 3, packed with zstd", "trades", "a tick")),
        ("mbp-1.dbn.zst", ("mbp-1", "a quote, whose middle is a tick")),
        ("ohlcv-1m.dbn.zst", ("ohlcv-1m", "a bar, whose close is a tick")),
    ],
)
def test_a_check_says_what_it_is_and_how_it_loads(
    name: str,
    facts: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The last line are the settings, with which a second check finds nothing."""
    monkeypatch.chdir(ROOT)
    main(["data", "check", f"data/examples_binary/{name}"])
    text = capsys.readouterr().out
    for fact in facts:
        assert fact in text
    for key, value in settings_of(text.splitlines()[-1]).items():
        monkeypatch.setenv(key, value)
    assert main(["data", "check", f"data/examples_binary/{name}"]) == 0
