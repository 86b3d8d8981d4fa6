"""The page of a sweep: every square from the rows, safe text, nothing loaded from elsewhere."""

import csv
from statistics import median

import pytest

from app.backtest.performance.summary import Summary
from app.backtest.sweep import grid, page, table
from app.backtest.sweep.cell_run import Outcome, Status
from app.backtest.sweep.page import Content
from app.runtime.metrics.tables import table as terminal_table
from tests.app.backtest.html_tables import Page, number, outside
from tests.app.backtest.sweep.sweeping import Sweeps


def outcome(number: int, profit: float | None, status: Status = Status.OK) -> Outcome:
    summary = Summary(0.1, None, None, None, None, None, -0.1)
    return Outcome(number, status, 0.1, profit=profit, summary=summary, trades_hash="ab" * 8)


@pytest.mark.medium
def test_the_squares_are_the_rows(sweeps: Sweeps) -> None:
    arguments = ["--param", "short=3:5", "--param", "long=4,40", "--param", "bullish=50,60,70"]
    assert sweeps.run(*arguments) == 0
    path = sweeps.folder / "report.html"
    assert f"page: {path}" in sweeps.out
    shown = Page(path.read_text())
    assert outside(shown) == []
    assert shown.tags & {"script", "img", "a"} == set()
    with (sweeps.folder / "sweep.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    pairs = [("short", "long"), ("short", "bullish"), ("long", "bullish")]
    for down, across in pairs:
        caption = f"{down} down, {across} across"
        at = [name.startswith(caption) for name in shown.captions].index(True)
        assert "median over the other parameters" in shown.captions[at]
        header = shown.tables[at][0][1:]
        for line in shown.tables[at][1:]:
            for value, square in zip(header, line[1:], strict=True):
                profits = [float(row["profit"]) for row in rows
                           if (row[down], row[across]) == (line[0], value)]  # fmt: skip
                assert square == (f"{median(profits):,.2f}" if profits else "-")
    first = shown.table("short down, long across")
    assert first[1] == ["4", "-", first[1][2]], "4 is not below 4"
    best = max(rows, key=lambda row: float(row["profit"]))
    assert best["trades_hash"] in shown.text
    assert shown.table("The best")[0][-1] == best["trades_hash"]
    facts = {row[0]: row[1] for row in shown.table("The sweep")}
    assert facts["parameters"] == "short=3,4,5; long=4,40; bullish=50,60,70"
    for text, value, away, _ in shown.table("One parameter is its next value"):
        given = dict(word.split("=") for word in text.split())
        row = next(row for row in rows if all(row[name] == given[name] for name in given))
        assert number(value) == pytest.approx(float(row["profit"]), abs=0.01)
        assert number(away) == pytest.approx(float(row["profit"]) - float(best["profit"]), abs=0.01)


def content(axes, results, by="profit", **more) -> Content:  # type: ignore[no-untyped-def]
    cells = grid.cells(axes, {})
    return Content(axes, cells, results, table.best_first(results, by), by, **more)


def test_gains_losses_and_the_best_are_told_apart() -> None:
    axes = [grid.axis("a=1,2"), grid.axis("b=x,<y&>")]
    results = [outcome(0, 9.0), outcome(1, -3.0), outcome(2, 0.0), outcome(3, None, Status.FAILED)]
    shown = Page(page.page(content(axes, results)))
    assert shown.tables[0] == [["", "x", "<y&>"], ["1", "9.00", "-3.00"], ["2", "0.00", "-"]]
    assert shown.classes["9.00"] == "gain best"
    assert shown.classes["-3.00"] == "loss"
    assert shown.classes["0.00"] == "gain"
    assert "y" not in shown.tags
    assert "3 ok, 1 failed" in shown.text
    rows = shown.table("One parameter is its next value")
    assert [row[1:3] for row in rows] == [["0.00", "-9.00"], ["-3.00", "-12.00"]]


def test_hostile_names_stay_text() -> None:
    evil = "</style><script>alert(1)</script>"
    axes = [grid.axis(f"a={evil},2"), grid.axis("b=1,2")]
    results = [outcome(i, float(i)) for i in range(4)]
    shown = Page(page.page(content(axes, results, what={"data": evil, "parameters": [evil, evil]})))
    assert "script" not in shown.tags
    assert shown.text.count(evil) >= 4


def test_one_parameter_is_a_strip_and_none_has_no_map() -> None:
    axes = [grid.axis("a=1,2,3"), grid.axis("b=1")]
    results = [outcome(i, float(i)) for i in range(3)]
    shown = Page(page.page(content(axes, results)))
    assert shown.tables[0] == [["", "1", "2", "3"], ["profit", "0.00", "1.00", "2.00"]]
    assert shown.captions[0] == "a across"
    fine = Page(page.page(content([grid.axis("a=1:61")], [outcome(0, 1.0)])))
    assert not any("across" in caption for caption in fine.captions)
    alone = Page(page.page(content([grid.axis("a=1")], [outcome(0, 1.0)])))
    assert "no neighbours" in alone.text


def test_what_the_command_says_of_luck_and_folds_is_on_the_page() -> None:
    shown = [
        terminal_table(("a", "profit"), [("1", "2.00")]),
        terminal_table(("is the best more than luck?", "value"), [("deflated", "97 %")]),
        terminal_table(("fold", "chosen by"), [("1", "2024")]),
    ]
    axes = [grid.axis("a=1,2"), grid.axis("b=1,2")]
    found = Page(page.page(content(axes, [outcome(0, 1.0)], shown=shown)))
    assert found.table("The best") == [["1", "2.00"]]
    assert found.table("More than luck?") == [["deflated", "97 %"]]
    assert found.table("Walk forward") == [["1", "2024"]]


@pytest.mark.parametrize(
    ("measured", "by", "text"),
    [
        ([-110.526], "profit", "its neighbour: -110.53"),
        ([5.0, -3.0], "profit", "its 2 neighbours: -3.00 to 5.00"),
        ([-0.000001], "total_return", "its neighbour: 0.00 %"),
        ([-0.001], "profit", "its neighbour: 0.00"),
    ],
)
def test_neighbours_in_a_line(measured: list[float], by: str, text: str) -> None:
    assert table.neighbours_text(measured, by) == text


def test_the_title_names_the_strategy() -> None:
    what = {"strategy": "data/strategies/breakout.py:Breakout"}
    axes = [grid.axis("a=1,2")]
    made = page.page(content(axes, [outcome(0, 1.0), outcome(1, 2.0)], what=what))
    assert "<title>Sweep: Breakout, profit</title>" in made
    assert "Sweep: Breakout, profit of 2 cells" in Page(made).text


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
