"""Measures of returns: those of an independent library, and where they are not defined."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backtest.performance import measures
from tests.app.backtest.performance.make_oracle import NAMES, ORACLE, series

CASES = json.loads(ORACLE.read_text())
RETURNS = st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=60).map(np.array)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['series']}-{case['days']}")
def test_equal_to_empyrical(case: dict) -> None:
    returns, values = np.array(series()[case["series"]]), case["values"]
    assert len(CASES) == 6
    assert len(values) == 7
    for name in NAMES:
        options = () if name == "max_drawdown" else (case["days"],)
        found = getattr(measures, name)(returns, *options)
        assert math.isclose(found, values[name], rel_tol=1e-9), name
    assert math.isclose(measures.total_return(returns), values["total_return"], rel_tol=1e-9)


def test_a_year_worked_out_by_hand() -> None:
    returns = np.array([0.1, -0.2, 0.1, 0.1])  # wealth 1.1, 0.88, 0.968, 1.0648
    assert measures.total_return(returns) == pytest.approx(0.0648)
    assert measures.annual_return(returns, 2) == pytest.approx(1.0648**0.5 - 1)
    assert measures.max_drawdown(returns) == pytest.approx(-0.2)
    assert measures.annual_volatility(returns, 4) == pytest.approx(0.3)
    assert measures.sharpe_ratio(returns, 4) == pytest.approx(0.025 / 0.15 * 2)
    assert measures.sortino_ratio(returns, 4) == pytest.approx(0.025 / 0.1 * 2)
    assert measures.calmar_ratio(returns, 2) == pytest.approx((1.0648**0.5 - 1) / 0.2)


@pytest.mark.parametrize("returns", [[], [0.01], [0.01, 0.01, 0.01], [0.0, 0.0]])
def test_what_is_not_defined_is_none(returns: list[float]) -> None:
    found = np.array(returns)
    assert measures.sharpe_ratio(found, 252) is None
    assert measures.sortino_ratio(found, 252) is None
    assert measures.calmar_ratio(found, 252) is None
    assert measures.max_drawdown(found) == 0


def test_all_lost() -> None:
    assert measures.annual_return(np.array([0.1, -1.0]), 252) == -1.0
    assert measures.max_drawdown(np.array([0.1, -1.0])) == -1.0


@given(RETURNS)
def test_drawdown_is_the_worst_fall_between_any_two_days(returns: np.ndarray) -> None:
    wealth = [1.0, *np.cumprod(1 + returns)]
    falls = [later / wealth[i] - 1 for i in range(len(wealth)) for later in wealth[i:]]
    assert measures.max_drawdown(returns) == pytest.approx(min(falls), abs=1e-12)


@given(RETURNS, st.integers(2, 9))
def test_a_ratio_does_not_depend_on_the_size_of_the_stake(returns: np.ndarray, size: int) -> None:
    for ratio in (measures.sharpe_ratio, measures.sortino_ratio):
        whole, part = ratio(returns, 252), ratio(returns / size, 252)
        if whole is not None and part is not None:
            assert part == pytest.approx(whole)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (["2025-10-03", "2025-10-06"], 252),  # Friday, Monday
        (["2025-10-03", "2025-10-04"], 365),
        (["2025-10-05"], 365),
        (["1969-12-29", "1970-01-02"], 252),
    ],
)
def test_weekends_tell_how_many_days_a_year_has(days: list[str], expected: int) -> None:
    day_ns = np.array(days, "datetime64[ns]").astype(np.int64) + 1
    assert measures.periods_a_year(day_ns) == expected
