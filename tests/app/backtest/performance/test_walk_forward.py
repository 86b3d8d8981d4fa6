"""Walk-forward: the parts, the choice, and that it sees nothing of the future."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backtest.performance.walk_forward import cuts, walk_forward


def mean(returns: np.ndarray) -> float:
    return float(returns.mean())


@given(st.integers(1, 12), st.integers(0, 200))
def test_the_parts_are_of_one_length_and_leave_no_day_out(folds: int, more: int) -> None:
    days = folds + 1 + more
    found = cuts(days, folds)
    assert len(found) == folds
    assert {end - split for split, end in found} == {days // (folds + 1)}
    judged = [day for split, end in found for day in range(split, end)]
    assert judged == list(range(found[0][0], days))
    assert found[0][0] >= found[0][1] - found[0][0]


@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 6))
def test_a_choice_sees_only_the_days_before(seed: int, folds: int, trials: int) -> None:
    rng = np.random.default_rng(seed)
    returns = rng.normal(0, 0.01, (60, trials))
    found, together = walk_forward(returns, folds, mean)
    for place, fold in enumerate(found):
        others = returns.copy()
        others[fold.split :] = rng.normal(0, 1, others[fold.split :].shape)
        again = walk_forward(others, folds, mean)[0][place]
        assert (again.chosen, again.inside) == (fold.chosen, fold.inside)
        assert fold.inside == max(mean(returns[: fold.split, i]) for i in range(trials))
        assert fold.outside == mean(returns[fold.split : fold.end, fold.chosen])
    assert together.tolist() == [
        value for fold in found for value in returns[fold.split : fold.end, fold.chosen].tolist()
    ]


def test_what_was_good_is_chosen_although_it_turns_bad() -> None:
    returns = np.zeros((40, 2))
    returns[:20, 0], returns[20:, 0] = 0.01, -0.01
    returns[:, 1] = 0.001
    found, together = walk_forward(returns, 3, mean)
    assert [fold.chosen for fold in found] == [0, 0, 0]
    assert [fold.inside for fold in found] == pytest.approx([0.01, 0.01, 0.01 / 3])
    assert [fold.outside for fold in found] == pytest.approx([0.01, -0.01, -0.01])
    assert together.mean() < 0


def test_a_trial_without_the_measure_is_chosen_only_if_all_are() -> None:
    returns = np.zeros((10, 3))
    returns[:, 2] = -0.01
    found, _ = walk_forward(returns, 1, lambda part: mean(part) if part.any() else None)
    assert found[0].chosen == 2
    found, _ = walk_forward(returns, 1, lambda _part: None)
    assert (found[0].chosen, found[0].inside, found[0].outside) == (0, None, None)
