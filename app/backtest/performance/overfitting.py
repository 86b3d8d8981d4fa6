"""Whether the best of many trials is better than luck: deflated Sharpe ratio, and CSCV.

Sources: D. H. Bailey, M. Lopez de Prado, "The Deflated Sharpe Ratio: Correcting for Selection Bias,
Backtest Overfitting and Non-Normality", Journal of Portfolio Management 40(5), 2014.  D. H. Bailey,
J. M. Borwein, M. Lopez de Prado, Q. J. Zhu, "The Probability of Backtest Overfitting", 2015.

Sharpe ratios here are those of one period, not of a year.
"""

import math
from itertools import combinations
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from app.backtest.performance.measures import NO_SPREAD, Returns

Floats = npt.NDArray[np.float64]
"""Returns of many trials have the shape ``(periods, trials)``."""

NORMAL: Final = NormalDist()
EULER_MASCHERONI: Final = 0.5772156649015329
SPLITS_MIN: Final = 4
SPLITS_MAX: Final = 16
BLOCK_PERIODS_MIN: Final = 10
DIGITS: Final = 12
CHUNK_VALUES: Final = 1 << 22
"""How many ratios are in memory at a time."""


def period_sharpe(returns: Floats) -> Floats:
    """Mean over the sample's deviation, of each column; 0 where nothing moves."""
    deviation = np.std(returns, axis=0, ddof=1)
    moves = deviation > NO_SPREAD
    ratios: Floats = np.mean(returns, axis=0) / np.where(moves, deviation, 1.0) * moves
    return ratios


def expected_best_sharpe(trials: int, variance: float) -> float:
    """The highest ratio to expect of so many independent trials without skill.

    ``variance``: of the trials' ratios.  One trial is no choice: 0.
    """
    if trials < 2:
        return 0.0
    usual = NORMAL.inv_cdf(1 - 1 / trials)
    rare = NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    mean = (1 - EULER_MASCHERONI) * usual + EULER_MASCHERONI * rare
    return math.sqrt(variance) * mean


def probabilistic_sharpe(
    sharpe: float, benchmark: float, periods: int, skew: float, kurtosis: float
) -> float:
    """The probability that the true ratio is above ``benchmark``; a normal kurtosis is 3."""
    spread = 1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if spread <= 0:  # Two values, one of them once: the estimate has no error.
        return float(sharpe > benchmark)
    return NORMAL.cdf((sharpe - benchmark) * math.sqrt(periods - 1) / math.sqrt(spread))


class Deflated(NamedTuple):
    """``expected_best``: of trials without skill; ``probability``: the deflated Sharpe ratio."""

    sharpe: float
    expected_best: float
    trials: int
    probability: float


def deflated_sharpe(chosen: Returns, trials: Floats) -> Deflated | None:
    """The probability that a chosen trial is better than the best of as many without skill.

    ``chosen``: its returns.  ``trials``: the ratios of all trials, among them its own.  None if its
    returns do not move.
    """
    deviation = float(np.std(chosen))
    if len(chosen) < 3 or deviation < NO_SPREAD:
        return None
    standard = (chosen - np.mean(chosen)) / deviation
    skew, kurtosis = float(np.mean(standard**3)), float(np.mean(standard**4))
    sharpe = float(period_sharpe(chosen[:, None])[0])
    variance = float(np.var(trials, ddof=1)) if len(trials) > 1 else 0.0
    best = expected_best_sharpe(len(trials), variance)
    probability = probabilistic_sharpe(sharpe, best, len(chosen), skew, kurtosis)
    return Deflated(sharpe, best, len(trials), probability)


class Overfitting(NamedTuple):
    """``probability``: that the best trial of one half is not above the median in the other.

    ``loss``: that it loses there.  ``logits``: of its relative rank there, one per choice of halves
    (``splits`` is the number of blocks).
    """

    probability: float
    loss: float
    splits: int
    logits: Floats


def cscv(returns: Floats, splits: int | None = None) -> Overfitting | None:
    """Combinatorially symmetric cross-validation of the choice by Sharpe ratio.

    The periods are cut into ``splits`` blocks of equal length, an even number; the first periods
    that fill no block are left out.  Each half of the blocks in turn makes the choice, and the
    other half judges it.  Equal trials share their ranks.  None if there are too few periods
    (40, if ``splits`` is not given) or fewer than two trials.
    """
    periods, trials = returns.shape
    if splits is None:
        splits = min(SPLITS_MAX, periods // BLOCK_PERIODS_MIN // 2 * 2)
        if splits < SPLITS_MIN:
            return None
    length = periods // splits
    if trials < 2 or length * splits // 2 < 2:
        return None
    blocks = returns[periods - length * splits :].reshape(splits, length, trials)
    # From the column's mean: a variance from sums of squares needs values near zero.
    center = np.mean(blocks, axis=(0, 1))
    sums, squares = (blocks - center).sum(axis=1), ((blocks - center) ** 2).sum(axis=1)
    halves = np.zeros((math.comb(splits, splits // 2), splits))
    for row, chosen_blocks in zip(halves, combinations(range(splits), splits // 2), strict=True):
        row[list(chosen_blocks)] = 1
    count = length * splits // 2
    omegas: list[Floats] = []
    losses = 0
    step = max(1, CHUNK_VALUES // trials)
    for first in range(0, len(halves), step):
        half = halves[first : first + step]
        chosen = _sharpe(half @ sums, half @ squares, center, count).argmax(axis=1)
        judged = _sharpe((1 - half) @ sums, (1 - half) @ squares, center, count)
        own = judged[np.arange(len(half)), chosen][:, None]
        below, equal = (judged < own).sum(axis=1), (judged == own).sum(axis=1)
        omegas.append((below + (equal + 1) / 2) / (trials + 1))
        losses += int((own < 0).sum())
    omega = np.concatenate(omegas)
    logits = np.log(omega / (1 - omega))
    return Overfitting(float(np.mean(logits <= 0)), losses / len(halves), splits, logits)


def _sharpe(sums: Floats, squares: Floats, center: Floats, count: int) -> Floats:
    """Ratios from sums of ``value - center`` and of its squares over ``count`` periods.

    Rounded: equal trials must be equal, and a matrix product may differ by the place of a column.
    """
    mean = sums / count
    variance = (squares - sums * mean) / (count - 1)
    moves = variance > NO_SPREAD**2
    ratios = (mean + center) / np.sqrt(np.where(moves, variance, 1.0)) * moves
    rounded: Floats = np.round(ratios, DIGITS)
    return rounded
