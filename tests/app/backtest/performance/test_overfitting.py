"""Deflated Sharpe ratio and CSCV: the published examples, and a plain computation."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backtest.performance import overfitting

DAYS_A_YEAR = 250
SHARPE = 2.5 / math.sqrt(DAYS_A_YEAR)
VARIANCE = 0.5 / DAYS_A_YEAR
DAYS = 1250


def deflated(trials: int, skew: float, kurtosis: float) -> float:
    """Of the example in Bailey and Lopez de Prado (2014), section "A numerical example"."""
    best = overfitting.expected_best_sharpe(trials, VARIANCE)
    return overfitting.probabilistic_sharpe(SHARPE, best, DAYS, skew, kurtosis)


def test_the_example_of_the_deflated_sharpe_ratio() -> None:
    best = overfitting.expected_best_sharpe(100, VARIANCE)
    assert round(best, 4) == 0.1132
    assert round(deflated(100, -3, 10), 4) == 0.9004
    # Above 95 % with fewer trials, or if the returns were normal with more.
    assert round(deflated(46, -3, 10), 4) == 0.9505
    assert round(deflated(88, 0, 3), 4) == 0.9505


def test_the_expected_best_of_ten_trials() -> None:
    """Bailey et al., "Pseudo-Mathematics and Financial Charlatanism", 2014: 1.57."""
    assert round(overfitting.expected_best_sharpe(10, 1.0), 2) == 1.57
    assert overfitting.expected_best_sharpe(1, 1.0) == 0.0


def test_deflated_takes_the_moments_of_the_returns() -> None:
    rng = np.random.default_rng(5)
    # Many small gains, few large losses: negative skew, fat tails.
    chosen = rng.normal(0.001, 0.01, 800) - 0.05 * (rng.random(800) < 0.01)
    trials = rng.normal(0.02, 0.03, 60)
    found = overfitting.deflated_sharpe(chosen, trials)
    assert found is not None
    mean, n = chosen.mean(), len(chosen)
    m2, m3, m4 = (((chosen - mean) ** k).sum() / n for k in (2, 3, 4))
    skew, kurtosis = m3 / m2**1.5, m4 / m2**2
    assert skew < -0.5
    assert kurtosis > 4
    sharpe = mean / math.sqrt(m2 * n / (n - 1))
    assert found.sharpe == pytest.approx(sharpe, rel=1e-12)
    expected = overfitting.expected_best_sharpe(60, float(np.var(trials, ddof=1)))
    assert found.expected_best == expected > 0
    z = (sharpe - expected) * math.sqrt(n - 1)
    z /= math.sqrt(1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2)
    assert found.probability == pytest.approx(0.5 * math.erfc(-z / math.sqrt(2)), rel=1e-9)
    assert overfitting.deflated_sharpe(np.full(50, 0.01), trials) is None


@pytest.mark.parametrize("seed", range(3))
def test_of_trials_without_difference_the_choice_is_always_overfit(seed: int) -> None:
    """The vignette of the R package pbo: 100 trials, 2,400 days, 8 blocks, all with the same mean
    and deviation over all days: its probability is 1.0.
    """
    rng = np.random.default_rng(seed)
    returns = rng.normal(size=(2400, 100))
    deviation = 1 / math.sqrt(252)
    returns = (returns - returns.mean(axis=0)) / returns.std(axis=0, ddof=1) * deviation
    found = overfitting.cscv(returns, 8)
    assert found is not None
    assert found.probability == 1.0
    assert found.loss == 1.0
    assert len(found.logits) == 70


def test_noise_is_overfit_half_of_the_time_and_skill_never() -> None:
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        noise = rng.normal(0, 0.01, (600, 40))
        result = overfitting.cscv(noise)
        assert result is not None
        assert result.splits == 16
        found.append(result.probability)
    assert 0.35 < np.mean(found) < 0.7
    noise[:, 17] += 0.005
    skilled = overfitting.cscv(noise)
    assert skilled is not None
    assert skilled.probability == 0.0
    assert skilled.loss < 0.01


def plainly(returns: np.ndarray, splits: int) -> tuple[float, float, list[float]]:
    """CSCV as the paper's five steps, one choice of halves at a time."""
    periods, trials = returns.shape
    length = periods // splits
    kept = returns[periods - length * splits :]
    blocks = [kept[i * length : (i + 1) * length] for i in range(splits)]
    logits, losses = [], 0
    for half in combinations(range(splits), splits // 2):
        other = [i for i in range(splits) if i not in half]
        inside = overfitting.period_sharpe(np.concatenate([blocks[i] for i in half]))
        outside = overfitting.period_sharpe(np.concatenate([blocks[i] for i in other]))
        best = int(np.argmax(inside))
        rank = sorted(outside).index(outside[best]) + 1
        omega = rank / (trials + 1)
        logits.append(math.log(omega / (1 - omega)))
        losses += outside[best] < 0
    return sum(each <= 0 for each in logits) / len(logits), losses / len(logits), logits


@given(
    st.integers(0, 10_000), st.sampled_from([2, 4, 6, 8]), st.integers(4, 12), st.integers(2, 9),
    st.integers(0, 3),
)  # fmt: skip
def test_cscv_is_the_plain_computation(
    seed: int, splits: int, length: int, trials: int, extra: int
) -> None:
    rng = np.random.default_rng(seed)
    returns = rng.normal(0.001, 0.01, (splits * length + extra % splits, trials))
    found = overfitting.cscv(returns, splits)
    probability, loss, logits = plainly(returns, splits)
    assert found is not None
    assert found.probability == probability
    assert found.loss == loss
    assert found.logits == pytest.approx(logits, rel=1e-12)


def test_trials_that_never_move_or_are_equal() -> None:
    rng = np.random.default_rng(1)
    one = rng.normal(0.002, 0.01, (80, 1))
    found = overfitting.cscv(np.hstack([one, one, one]), 8)
    assert found is not None
    assert set(found.logits) == {0.0}, "equal trials share the middle rank"
    flat = overfitting.cscv(np.zeros((80, 5)), 8)
    assert flat is not None
    assert flat.loss == 0.0
    assert np.isfinite(flat.logits).all()


@pytest.mark.parametrize(
    ("periods", "splits"), [(39, None), (40, 4), (59, 4), (60, 6), (160, 16), (5000, 16)]
)
def test_the_number_of_blocks_follows_from_the_days(periods: int, splits: int | None) -> None:
    rng = np.random.default_rng(1)
    found = overfitting.cscv(rng.normal(size=(periods, 3)))
    assert (found and found.splits) == splits
    assert overfitting.cscv(rng.normal(size=(periods, 1))) is None
