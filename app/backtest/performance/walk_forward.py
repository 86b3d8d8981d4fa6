"""Walk-forward: a trial is chosen by the periods so far, and judged by those that follow."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.backtest.performance.measures import Returns

Measure = Callable[[Returns], float | None]
"""More is better; None if it is not defined."""


class Fold(NamedTuple):
    """Periods ``0`` to ``split - 1`` chose the trial, ``split`` to ``end - 1`` judge it."""

    split: int
    end: int
    chosen: int
    inside: float | None
    outside: float | None


def cuts(periods: int, folds: int) -> list[tuple[int, int]]:
    """Where each fold's judging periods begin and end.

    All are of one length, the first choice has as many periods as they, and what remains.
    """
    length = periods // (folds + 1)
    first = periods - length * folds
    return [(first + i * length, first + (i + 1) * length) for i in range(folds)]


def walk_forward(
    returns: npt.NDArray[np.float64], folds: int, measure: Measure
) -> tuple[list[Fold], Returns]:
    """The folds, and the returns of the trials chosen, over all judging periods.

    ``returns``: shape ``(periods, trials)``.  Of equal trials the first is chosen; one without the
    measure only if all are.
    """
    found, pieces = [], [np.empty(0)]
    for split, end in cuts(len(returns), folds):
        values = [measure(returns[:split, trial]) for trial in range(returns.shape[1])]
        ranks = [-np.inf if value is None else value for value in values]
        chosen = int(np.argmax(ranks))
        judged = returns[split:end, chosen]
        found.append(Fold(split, end, chosen, values[chosen], measure(judged)))
        pieces.append(judged)
    return found, np.concatenate(pieces)
