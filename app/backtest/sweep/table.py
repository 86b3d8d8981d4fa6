"""What a sweep shows: its best cells, and how many ended in which way."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import RenderableType

from app.backtest.performance.summary import Summary, label
from app.backtest.report import PERCENT
from app.backtest.sweep.cell_run import Outcome, Status
from app.backtest.sweep.grid import Axis, Cell
from app.runtime.metrics.tables import number, table

BEST_ROWS: Final = 10
ERROR_ROWS: Final = 5
MEASURES: Final = ("profit", *(name for name in Summary._fields if name != "volatility"))
"""By which the best cell can be chosen; of each, more is better."""
SHOWN: Final = ("total_return", "sharpe", "max_drawdown")


def measure(outcome: Outcome, by: str) -> float | None:
    """One measure of a cell; None if it has none."""
    if by == "profit":
        return outcome.profit
    value: float | None = getattr(outcome.summary, by, None)
    return value


def best_first(outcomes: Iterable[Outcome], by: str) -> list[Outcome]:
    """The cells that ran, best first; those without the measure are last, ties by number."""

    def rank(outcome: Outcome) -> tuple[float, int]:
        value = measure(outcome, by)
        return (math.inf if value is None else -value), outcome.number

    return sorted((each for each in outcomes if each.status is Status.OK), key=rank)


def blocks(
    axes: Sequence[Axis], cells: Sequence[Cell], ranked: Sequence[Outcome], by: str
) -> list[RenderableType]:
    """The table of the best cells."""
    shown = [by, *(name for name in ("profit", *SHOWN) if name != by)]
    header = [each.name for each in axes] + [label(name) for name in shown]
    rows = [
        [
            *cells[each.number].values,
            *(text_of(name, measure(each, name)) for name in shown),
            number(each.orders),
            each.trades_hash,
        ]
        for each in ranked[:BEST_ROWS]
    ]
    return [table([*header, "orders", "trades hash"], rows)]


def text_of(name: str, value: float | None) -> str:
    """A measure with its unit."""
    if value is not None and name in PERCENT:
        return f"{100 * value:z,.2f} %"
    return number(value, 2)


def beside_best(
    axes: Sequence[Axis], cells: Sequence[Cell], ranked: Sequence[Outcome]
) -> list[Outcome]:
    """The cells beside the best that ran: one parameter is one value lower or higher."""
    at = {cells[each.number].values: each for each in ranked}
    best = cells[ranked[0].number].values
    found = []
    for place, axis in enumerate(axes):
        here = axis.values.index(best[place])
        for value in (*axis.values[max(0, here - 1) : here], *axis.values[here + 1 : here + 2]):
            beside = at.get((*best[:place], value, *best[place + 1 :]))
            if beside is not None:
                found.append(beside)
    return found


def neighbours(
    axes: Sequence[Axis], cells: Sequence[Cell], ranked: Sequence[Outcome], by: str
) -> list[float]:
    """The measure of the cells beside the best."""
    measured = (measure(each, by) for each in beside_best(axes, cells, ranked))
    return [value for value in measured if value is not None]


def neighbours_text(measured: Sequence[float], by: str) -> str:
    """``its 2 neighbours: 3.00 to 5.00``."""
    low, high = text_of(by, min(measured)), text_of(by, max(measured))
    if len(measured) == 1:
        return f"its neighbour: {low}"
    return f"its {len(measured)} neighbours: {low} to {high}"


def ends(outcomes: Iterable[Outcome]) -> str:
    """``190 ok, 10 invalid``."""
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{counts[each]:,} {each}" for each in Status if counts[each])


def problems(cells: Sequence[Cell], outcomes: Iterable[Outcome]) -> list[str]:
    """One line for each of the first cells that failed, and one for those refused."""
    failed = [each for each in outcomes if each.status in (Status.FAILED, Status.KILLED)]
    lines = [f"{each.status}: {cells[each.number].text}: {each.note}" for each in failed]
    if len(lines) > ERROR_ROWS:
        more = len(lines) - ERROR_ROWS
        lines = [*lines[:ERROR_ROWS], f"and {more:,} more, in sweep.csv"]
    return lines
