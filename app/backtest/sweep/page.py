"""The page of a sweep: its best cells, the measure over every two parameters, and how stable it is.

One file that opens offline, in the look of a run's page.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from rich.console import RenderableType
from rich.table import Table

from app.backtest.performance.summary import label
from app.backtest.results.facts import machine
from app.backtest.results.page.heat import Reach, square
from app.backtest.results.page.look import document
from app.backtest.results.page.markup import (
    Child,
    Html,
    details,
    from_terminal,
    html,
    section,
    table,
    tag,
    wide,
)
from app.backtest.sweep.cell_run import Outcome, Status
from app.backtest.sweep.grid import Axis, Cell
from app.backtest.sweep.table import beside_best, ends, measure, text_of

FILE: Final = "report.html"
VALUES_MAX: Final = 60
"""Of one parameter in a map; a finer one cannot be read."""
COLOURS: Final = "Blue is above zero, orange below; the stronger, the further from it."


class Square(NamedTuple):
    """What a map shows of the cells with two values in common."""

    value: float | None
    cells: int
    is_best: bool


class Content(NamedTuple):
    """What the page is made of.

    ``ranked``: the cells that ran, best first by the measure ``by``; at least one.  ``shown``: the
    tables of the command's output.  ``what``: what the sweep is of, by name.
    """

    axes: Sequence[Axis]
    cells: Sequence[Cell]
    outcomes: Sequence[Outcome]
    ranked: Sequence[Outcome]
    by: str
    shown: Sequence[RenderableType] = ()
    what: Mapping[str, Any] = {}

    @property
    def measure_name(self) -> str:
        """The measure as a reader knows it."""
        return label(self.by)


def write(folder: Path, content: Content) -> Path:
    """Write the page."""
    path = folder / FILE
    path.write_text(page(content), encoding="utf-8")
    return path


def page(content: Content) -> str:
    """The page as text."""
    name = content.measure_name
    of = str(content.what.get("strategy", "")).rpartition(":")[2]
    title = f"Sweep: {of}, {name}" if of else f"Sweep: {name}"
    best = content.ranked[0]
    head = html(
        tag("h1", f"{title} of {len(content.ranked):,} cells"),
        tag("p", "Best: ", tag("code", content.cells[best.number].text), f", {name} ",
            text_of(content.by, measure(best, content.by)), ", trades hash ",
            tag("code", best.trades_hash), "."),
        tag("p", f"Cells: {ends(content.outcomes)}. sweep.csv has all.", class_="note"),
    )  # fmt: skip
    tables = [each for each in content.shown if isinstance(each, Table)]
    leading = [from_terminal("The best, first the best", each) for each in tables[:1]]
    stable = [_neighbours(content)]
    stable += [from_terminal(_caption(each), each) for each in tables[1:]]
    return document(
        title,
        head,
        section("Best cells", *leading) if leading else "",
        _maps(content),
        section("Stability", *stable, note="A good choice has good neighbours."),
        _origin(content.what),
    )


def _caption(shown: Table) -> str:
    """The table of folds begins with the fold."""
    return "Walk forward" if str(shown.columns[0].header) == "fold" else "More than luck?"


def squares(
    cells: Sequence[Cell], ranked: Iterable[Outcome], by: str, row: int, column: int
) -> dict[tuple[str, str], Square]:
    """For each pair of values that ran: the median over the other parameters."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    counts: dict[tuple[str, str], int] = defaultdict(int)
    best: tuple[str, str] | None = None
    for outcome in ranked:
        if outcome.status is not Status.OK:
            continue
        values = cells[outcome.number].values
        key = values[row], values[column]
        best = best or key
        counts[key] += 1
        value = measure(outcome, by)
        if value is not None and math.isfinite(value):
            found[key].append(value)
    return {
        key: Square(median(found[key]) if found[key] else None, count, key == best)
        for key, count in counts.items()
    }


def _maps(content: Content) -> Html:
    """A map of every two parameters with several values; of a single one a strip."""
    axes = content.axes
    places = [i for i, axis in enumerate(axes) if 1 < len(axis.values) <= VALUES_MAX]
    pairs = list(combinations(places, 2))
    if len(places) == 1:
        pairs = [(places[0], places[0])]
    if not pairs:
        return Html("")
    drawn = []
    for row, column in pairs:
        found = squares(content.cells, content.ranked, content.by, row, column)
        drawn.append(_map(content, row, column, found))
    return section(f"Heat maps of {content.measure_name}", *drawn, note=COLOURS)


def _map(content: Content, row: int, column: int, found: dict[tuple[str, str], Square]) -> Html:
    reach = Reach(each.value for each in found.values() if each.value is not None)
    several = any(each.cells > 1 for each in found.values())
    rows, columns = content.axes[row], content.axes[column]
    strip = row == column
    header = [tag("th", value, scope="col") for value in columns.values]
    lines = []
    for value in ("",) if strip else rows.values:
        cells = []
        for other in columns.values:
            at = found.get((other if strip else value, other))
            known = None if at is None else at.value
            text = "-" if known is None else text_of(content.by, known)
            cells.append(square(text, known, reach, is_best=at is not None and at.is_best))
        label = content.measure_name if strip else value
        lines.append(tag("tr", tag("th", label, scope="row"), *cells))
    caption = f"{columns.name} across" if strip else f"{rows.name} down, {columns.name} across"
    if several:
        caption += "; each square is the median over the other parameters"
    made = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", tag("td", ""), *header)),
        tag("tbody", *lines),
        class_="heat",
    )
    return wide(made, caption)


def _neighbours(content: Content) -> Html:
    """The cells one value away from the best, and how far their measure is from its."""
    best = content.ranked[0]
    top = measure(best, content.by)
    beside = beside_best(content.axes, content.cells, content.ranked)
    rows: list[list[Child]] = []
    for outcome in beside:
        value = measure(outcome, content.by)
        both = value is not None and top is not None
        away = text_of(content.by, value - top) if both else "-"  # type: ignore[operator]
        parameters = content.cells[outcome.number].text
        rows.append([parameters, text_of(content.by, value), away, f"{outcome.orders:,}"])
    if not rows:
        return tag("p", "The best cell has no neighbours among those that ran.")
    header = ["neighbour of the best", content.measure_name, "to the best", "orders"]
    return table("One parameter is its next value", header, rows)


def _origin(what: Mapping[str, Any]) -> Html:
    """What the sweep is of; its settings only if they are not the default, as the caller gives."""
    if not what:
        return Html("")
    rows: list[list[Child]] = []
    for name, value in what.items():
        text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
        rows.append([name, tag("td", tag("code", text or "none"), class_="prose")])
    about: list[list[Child]] = [[name, str(value)] for name, value in machine().items()]
    return section(
        "What it was of",
        table("The sweep", ["name", "value"], rows, texts=2),
        details("The machine", table("The machine that ran it", ["name", "value"], about, texts=2)),
    )
