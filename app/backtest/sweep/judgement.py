"""Whether the best cell of a sweep is more than luck, and how a choice would have gone on."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import RenderableType

from app.backtest.performance import overfitting
from app.backtest.performance.daily import DAY_NS
from app.backtest.performance.measures import Returns, periods_a_year, simple_returns
from app.backtest.performance.summary import ANNUAL_DAYS_MIN, label, summarize
from app.backtest.performance.walk_forward import Measure, walk_forward
from app.backtest.sweep.grid import Axis, Cell
from app.backtest.sweep.table import text_of
from app.model.timestamps import format_timestamp
from app.runtime.metrics.tables import number, table

DAYS_MIN: Final[dict[str, int]] = {"profit": 1, "total_return": 1, "max_drawdown": 2}
"""How many days a measure needs; the others are those of a year."""


class JudgementError(Exception):
    """The data is too short; the message says what to change."""


class Returns2D(NamedTuple):
    """Daily returns of the cells that can be judged, and those cells' numbers.

    ``values``: shape ``(days, cells)``; ``days``: the day of each row, counted from 1970.
    """

    values: npt.NDArray[np.float64]
    numbers: list[int]
    days: list[int]

    @property
    def a_year(self) -> int:
        """Days of trading a year."""
        return periods_a_year(np.array(self.days, np.int64) * DAY_NS)


def returns_of(
    profit: npt.NDArray[np.float64], numbers: Sequence[int], days: list[int], capital: float
) -> Returns2D:
    """Of the cells ``numbers``; one that lost all of its capital has no returns.

    ``profit``: at each day's end, shape ``(cells, days)``.
    """
    equity = capital + np.hstack([np.zeros((len(numbers), 1)), profit[list(numbers)]])
    kept = np.flatnonzero((equity > 0).all(axis=1))
    values = simple_returns(equity[kept]).T
    return Returns2D(values, [numbers[place] for place in kept.tolist()], days)


def overfitting_blocks(returns: Returns2D, best: int) -> list[RenderableType]:
    """Deflated Sharpe ratio of the cell ``best``, and probability of overfitting of all."""
    trials = len(returns.numbers)
    days = len(returns.days)
    if days < ANNUAL_DAYS_MIN or trials < 2 or best not in returns.numbers:
        return []
    a_year = np.sqrt(returns.a_year)
    ratios = overfitting.period_sharpe(returns.values)
    chosen = returns.values[:, returns.numbers.index(best)]
    deflated = overfitting.deflated_sharpe(chosen, ratios)
    if deflated is None:
        return []
    rows = [
        ("Sharpe ratio, a year", number(deflated.sharpe * a_year, 2)),
        (
            f"to expect of the best of {trials:,} without skill",
            number(deflated.expected_best * a_year, 2),
        ),
        ("deflated Sharpe ratio: more than luck with", _percent(deflated.probability)),
    ]
    found = overfitting.cscv(returns.values)
    if found is not None:
        what = f"{len(found.logits):,} halves of {days:,} days"
        rows += [
            ("probability of backtest overfitting", f"{_percent(found.probability)}, {what}"),
            ("the best of one half loses in the other", _percent(found.loss)),
        ]
    return [table(("is the best more than luck?", "value"), rows)]


def folds_blocks(
    returns: Returns2D, axes: Sequence[Axis], cells: Sequence[Cell], folds: int, by: str
) -> list[RenderableType]:
    """The walk-forward table."""
    shown = "total_return" if by == "profit" else by
    measure = _measure(shown, returns.a_year)
    found, together = walk_forward(returns.values, folds, measure)
    name = label(shown)
    header = ("fold", "chosen by", "judged by", *(each.name for each in axes))
    rows = [
        [
            str(place),
            _span(returns.days, 0, fold.split),
            _span(returns.days, fold.split, fold.end),
            *cells[returns.numbers[fold.chosen]].values,
            text_of(shown, fold.inside),
            text_of(shown, fold.outside),
        ]
        for place, fold in enumerate(found, 1)
    ]
    inside = [fold.inside for fold in found if fold.inside is not None]
    mean = sum(inside) / len(inside) if inside else None
    whole = _span(returns.days, found[0].split, found[-1].end)
    rows.append(
        ["all", "mean", whole, *("" for _ in axes), text_of(shown, mean),
         text_of(shown, measure(together))]
    )  # fmt: skip
    return [table((*header, f"{name} before", f"{name} after"), rows)]


def check_folds(days: int, folds: int, by: str) -> None:
    """Refuse folds that are too short for the measure.

    Raises:
        JudgementError: says how many folds the data has room for.
    """
    wanted = DAYS_MIN.get(by, ANNUAL_DAYS_MIN)
    if days // (folds + 1) >= wanted:
        return
    most = days // wanted - 1
    mend = f"at most --folds {most}" if most > 0 else "take more data, or --by total_return"
    raise JudgementError(
        f"--folds {folds}: {by} needs {wanted} days in each of {folds + 1} parts, and the data has "
        f"{days} days: {mend}"
    )


def _measure(name: str, a_year: int) -> Measure:
    def of(returns: Returns) -> float | None:
        value: float | None = getattr(summarize(returns, a_year), name)
        return value

    return of


def _percent(share: float) -> str:
    return f"{100 * share:,.1f} %"


def _span(days: Sequence[int], first: int, end: int) -> str:
    return f"{_date(days[first])} to {_date(days[end - 1])}"


def _date(day: int) -> str:
    return format_timestamp(day * DAY_NS).decode()[:10]
