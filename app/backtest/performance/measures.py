"""Measures of a series of simple returns, one a period.

The definitions are those of empyrical (github.com/stefan-jansen/empyrical-reloaded), which the
tests compare with.  A measure that is not defined (too few periods, no spread, no loss) is None.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from app.backtest.performance.daily import DAY_NS

Returns = npt.NDArray[np.float64]
WEEKDAYS_A_YEAR: Final = 252
ALL_DAYS_A_YEAR: Final = 365
NO_SPREAD: Final = 1e-15
"""A deviation below this is rounding."""


def simple_returns(value: npt.NDArray[np.float64]) -> Returns:
    """One a period, along the last axis; ``value``: at the start, and at the end of each."""
    returns: Returns = value[..., 1:] / value[..., :-1] - 1
    return returns


def total_return(returns: Returns) -> float:
    """Of all periods together: 0.1 is 10 %."""
    return float(np.prod(1 + returns)) - 1


def annual_return(returns: Returns, periods_a_year: int) -> float | None:
    """Compound growth a year (CAGR)."""
    if not len(returns):
        return None
    growth = 1 + total_return(returns)
    return float(growth ** (periods_a_year / len(returns))) - 1 if growth > 0 else -1.0


def annual_volatility(returns: Returns, periods_a_year: int) -> float | None:
    """Standard deviation a year, from the sample's with n - 1."""
    if len(returns) < 2:
        return None
    return float(np.std(returns, ddof=1)) * math.sqrt(periods_a_year)


def sharpe_ratio(returns: Returns, periods_a_year: int) -> float | None:
    """Mean over standard deviation, a year; no risk-free rate (Sharpe 1994)."""
    if len(returns) < 2:
        return None
    deviation = float(np.std(returns, ddof=1))
    if deviation < NO_SPREAD:
        return None
    return float(np.mean(returns)) / deviation * math.sqrt(periods_a_year)


def sortino_ratio(returns: Returns, periods_a_year: int) -> float | None:
    """Mean over downside deviation, a year; the target is no loss (Sortino and Price 1994).

    The downside deviation is the root of the mean square of the losses, over all periods.
    """
    if len(returns) < 2:
        return None
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0) ** 2)))
    if downside < NO_SPREAD:
        return None
    return float(np.mean(returns)) / downside * math.sqrt(periods_a_year)


def max_drawdown(returns: Returns) -> float:
    """The largest fall from a peak, the start included: -0.2 is a fall by 20 %."""
    wealth = np.concatenate(([1.0], np.cumprod(1 + returns)))
    return float(np.min(wealth / np.maximum.accumulate(wealth))) - 1


def calmar_ratio(returns: Returns, periods_a_year: int) -> float | None:
    """Annual return over the largest drawdown (Young 1991)."""
    drawdown, annual = max_drawdown(returns), annual_return(returns, periods_a_year)
    if annual is None or drawdown > -NO_SPREAD:
        return None
    return annual / -drawdown


def periods_a_year(day_ns: npt.NDArray[np.int64]) -> int:
    """Trading days a year for days given as event times: all if there is a weekend among them.

    Markets that trade on weekends, such as those of cryptocurrencies, trade every day.
    """
    days = day_ns // DAY_NS
    weekday = (days + 3) % 7  # 1970-01-01 was a Thursday
    return ALL_DAYS_A_YEAR if bool(np.any(weekday >= 5)) else WEEKDAYS_A_YEAR
