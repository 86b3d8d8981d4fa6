"""The heat map: every square from the rows, safe text, nothing loaded from elsewhere."""

import csv
import re
from html.parser import HTMLParser
from statistics import median

import pytest

from app.backtest.performance.summary import Summary
from app.backtest.sweep import grid, heat_map, table
from app.backtest.sweep.cell_run import Outcome, Status
from tests.app.backtest.sweep.sweeping import Sweeps


class Tables(HTMLParser):
    """The cells of each table, and the class of each square."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.classes: dict[str, str] = {}
        self.tags: set[str] = set()
        self._kind = ""
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in_cell, self._kind = True, dict(attrs).get("class") or ""

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.tables[-1][-1][-1] += data
            self.classes[data] = self._kind


def outcome(number: int, profit: float | None, status: Status = Status.OK) -> Outcome:
    summary = Summary(0.1, None, None, None, None, None, -0.1)
    return Outcome(number, status, 0.1, profit=profit, summary=summary, trades_hash="ab" * 8)


@pytest.mark.medium
def test_the_squares_are_the_rows(sweeps: Sweeps) -> None:
    arguments = ["--param", "short=3:5", "--param", "long=4,40", "--param", "bullish=50,60,70"]
    assert sweeps.run(*arguments) == 0
    path = sweeps.folder / "heat_map.html"
    assert f"heat map: {path}" in sweeps.out
    text = path.read_text()
    assert not re.search(r"(src|href)=|url\(|@import|<script|https?:", text)
    shown = Tables(text)
    with (sweeps.folder / "sweep.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    pairs = [("short", "long"), ("short", "bullish"), ("long", "bullish")]
    assert len(shown.tables) == 3
    for (down, across), found in zip(pairs, shown.tables, strict=True):
        header = found[0][1:]
        for line in found[1:]:
            for value, square in zip(header, line[1:], strict=True):
                profits = [float(row["profit"]) for row in rows
                           if (row[down], row[across]) == (line[0], value)]  # fmt: skip
                assert square == (f"{median(profits):,.2f}" if profits else "-")
    assert shown.tables[0][2] == ["4", "-", shown.tables[0][2][2]], "4 is not below 4"


def test_gains_losses_and_the_best_are_told_apart() -> None:
    axes = [grid.axis("a=1,2"), grid.axis("b=x,<y&>")]
    cells = grid.cells(axes, {})
    results = [outcome(0, 9.0), outcome(1, -3.0), outcome(2, 0.0), outcome(3, None, Status.FAILED)]
    ranked = table.best_first(results, "profit")
    shown = Tables(heat_map.page(axes, cells, ranked, "profit", [0, 1]))
    assert shown.tables == [[["", "x", "<y&>"], ["1", "9.00", "-3.00"], ["2", "0.00", "-"]]]
    assert shown.classes["9.00"] == "gain best"
    assert shown.classes["-3.00"] == "loss"
    assert shown.classes["0.00"] == "gain"
    assert "y" not in shown.tags


def test_without_two_parameters_there_is_no_map(tmp_path) -> None:
    axes = [grid.axis("a=1,2"), grid.axis("b=1")]
    cells = grid.cells(axes, {})
    ranked = [outcome(0, 1.0)]
    assert heat_map.write(tmp_path, axes, cells, ranked, "profit") is None
    assert heat_map.write(tmp_path, [axes[0], grid.axis("b=1:61")], [], [], "profit") is None
    assert list(tmp_path.iterdir()) == []


def test_neighbours_differ_in_one_parameter_by_one_value() -> None:
    axes = [grid.axis("a=1:4"), grid.axis("b=1:3")]
    cells = grid.cells(axes, {})
    profits = {(a, b): float(10 * a + b) for a in range(1, 5) for b in range(1, 4)}
    profits[2, 2] = 100.0
    results = [outcome(c.number, profits[int(c.values[0]), int(c.values[1])]) for c in cells]
    results[0].status = Status.FAILED
    ranked = table.best_first(results, "profit")
    assert sorted(table.neighbours(axes, cells, ranked, "profit")) == [12.0, 21.0, 23.0, 32.0]
    corner = [outcome(11, 50.0), *ranked[1:]]
    assert sorted(table.neighbours(axes, cells, corner, "profit")) == [33.0, 42.0]
