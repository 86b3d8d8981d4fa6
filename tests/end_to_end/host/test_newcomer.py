"""From a file with odd columns to an answer, by the commands of data/README.md."""

import csv
import re
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.docs import markdown
from tests.support.environ import default_environ
from tests.support.paths import ROOT

PAGE = ROOT / "data/README.md"
if not PAGE.exists():
    pytest.skip("the image has no documentation", allow_module_level=True)

FILE = "data/first_steps/kurse.csv"
COMMANDS_MAX = 8
MINUTES_MAX = 5


def commands() -> list[str]:
    """Those of the section, with ``make setup`` before them."""
    lines = PAGE.read_text().splitlines()
    first = lines.index("## From your file to an answer") + 1
    end = next(i for i, line in enumerate(lines) if i >= first and line.startswith("## "))
    blocks = [block for block in markdown.blocks(PAGE) if first < block.line <= end]
    return ["make setup", *(command for block in blocks for command in block.commands)]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The project as after a clone and ``make setup``, with a folder of its own for results."""
    for name in ("app", ".venv", ".env"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data").mkdir()
    for path in (ROOT / "data").iterdir():
        if path.name != "out":
            (tmp_path / "data" / path.name).symlink_to(path)
    return tmp_path


class Page(HTMLParser):
    """What a page loads from elsewhere, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.words: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes addresses."""
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        """Notes words."""
        self.words |= set(data.split())


def check_numbers(clone: Path) -> int:
    """The plain form has the numbers of the file; returns how many rows."""
    rows = (ROOT / FILE).read_text().splitlines()[1:]
    plain = (clone / "data/out/kurse.csv").read_text().splitlines()[1:]
    for odd, line in zip(rows, plain, strict=True):
        moment, symbol, price, _ = odd.split(";")
        day, month, year, clock = re.split(r"[. ]", moment)
        assert line == f"{year}-{month}-{day} {clock}:00,{symbol},{price.replace(',', '.')}"
    return len(rows)


@pytest.mark.medium
@pytest.mark.timeout(60 * MINUTES_MAX)
def test_from_an_odd_file_to_an_answer_in_at_most_eight_commands(clone: Path) -> None:
    path = commands()
    assert len(path) <= COMMANDS_MAX
    outputs = {}
    environ = default_environ() | {"OUTPUT_DIR": "data/out"}
    for name in ("DATA_PATH", "TIMESTAMP_COLUMN", "SYMBOL_COLUMN", "PRICE_COLUMN"):
        del environ[name]  # As in a shell that has none; .env does.
    for name in ("TIMESTAMP_FORMAT", "DECIMAL_COMMA"):
        del environ[name]
    started = time.monotonic()
    for command in path[1:]:
        done = subprocess.run(
            ["bash", "-c", command], cwd=clone, env=environ, capture_output=True, text=True
        )
        checking = "data check" in command
        assert done.returncode == (1 if checking else 0), f"{command}\n{done.stdout}{done.stderr}"
        outputs[command] = done.stdout
    took_min = (time.monotonic() - started) / 60
    assert took_min < MINUTES_MAX
    check, first, convert, second, sweep = path[1:]

    # The settings in the commands are those that the check shows.
    shown = outputs[check].splitlines()[-1]
    assert first == f"{shown} .venv/bin/python -m app backtest"
    assert f"DATA_PATH={FILE} {convert.partition(' .venv')[0]}" == shown

    assert f"{check_numbers(clone):,} ticks of 2 symbols" in outputs[convert]

    # A parameter changes the trades, and each cell of the sweep is a backtest.
    hashes = [re.search(r"trades hash\s+(\w+)", outputs[each])[1] for each in (first, second)]  # type: ignore[index]
    assert hashes[0] != hashes[1]
    named = re.search(r"^all cells: (.*)/sweep\.csv$", outputs[sweep], re.MULTILINE)
    assert named
    folder = clone / named[1]
    with (folder / "sweep.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [cell["status"] for cell in cells] == ["ok"] * 200
    (same,) = [cell for cell in cells if (cell["short"], cell["long"]) == ("8", "40")]
    assert same["trades_hash"] == hashes[1]

    (saved,) = re.findall(r"^page: (.*)$", outputs[second], re.MULTILINE)
    assert f"`{saved}`" in PAGE.read_text()
    assert hashes[1] in Page(clone / saved).words

    # What the section says of the answer, and the page that opens offline.
    text = PAGE.read_text()
    table = outputs[sweep]
    expected = re.search(r"best of 200 without skill +(\S+)", table)
    percent = re.search(r"more than luck with +(\d+)", table)
    best = max(float(cell["sharpe"]) for cell in cells)
    assert expected
    assert percent
    assert f"a Sharpe ratio of {best:.2f}" in text
    assert f"would be expected to have {expected[1]}" in text.replace("\n", " ")
    assert f"more than luck with {percent[1]} %" in text
    (html,) = folder.glob("*.html")
    assert f"{named[1]}/{html.name}" in outputs[sweep].splitlines()[-1]
    page = Page(html)
    assert {"short", "long"} <= page.words
    assert [each for each in page.loaded if not each.startswith(("data:", "#"))] == []


def test_the_file_is_what_its_program_makes() -> None:
    done = subprocess.run(
        [ROOT / ".venv/bin/python", "data/first_steps/make_kurse.py"], cwd=ROOT, capture_output=True
    )
    assert done.stdout == (ROOT / FILE).read_bytes()
