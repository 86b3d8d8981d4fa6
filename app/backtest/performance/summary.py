"""The measures of a run, and of the benchmark beside it, from their days."""

from typing import Final, NamedTuple

import numpy as np

from app.backtest.performance import measures
from app.backtest.performance.daily import DailyCloses
from app.backtest.performance.measures import Returns

DEFAULT_CAPITAL: Final = 100_000.0
ANNUAL_DAYS_MIN: Final = 20
"""From fewer days nothing is told about a year."""


class Summary(NamedTuple):
    """Measures of one series of days; None where one is not defined."""

    total_return: float
    annual_return: float | None
    volatility: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown: float | None


LABELS: Final = {"max_drawdown": "largest drawdown, ends of days"}
DRAWDOWN_DAYS_MIN: Final = 2
"""A single day has no fall between ends of days, whatever happened within it."""


def label(name: str) -> str:
    """A measure as a reader knows it."""
    return LABELS.get(name, name.replace("_", " "))


class CapitalLost(Exception):
    """Equity fell to nothing, so the days after it have no return."""


def strategy_returns(daily: DailyCloses, capital: float) -> Returns:
    """One simple return a day, of the capital and the profit on it; shape ``(days,)``.

    Raises:
        CapitalLost: profit took all of the capital at the end of some day.
    """
    equity = capital + np.array([0.0, *daily.profit])
    if np.any(equity <= 0):
        day = int(np.argmax(equity <= 0))
        raise CapitalLost(
            f"at the end of day {day} the loss is {capital - equity[day]:,.2f}, all of the capital "
            f"of {capital:,.2f}: measure with more (--capital)"
        )
    return measures.simple_returns(equity)


def benchmark_returns(daily: DailyCloses) -> Returns:
    """The same of buy and hold; shape ``(days,)``."""
    return measures.simple_returns(np.array([1.0, *daily.benchmark]))


def summarize(returns: Returns, periods_a_year: int) -> Summary:
    """All measures of a series; those a year are None if it is shorter than 20 days, the
    largest drawdown if it is shorter than two."""
    if len(returns) < ANNUAL_DAYS_MIN:
        told = len(returns) >= DRAWDOWN_DAYS_MIN
        drawdown = measures.max_drawdown(returns) if told else None
        return Summary(measures.total_return(returns), None, None, None, None, None, drawdown)
    return Summary(
        measures.total_return(returns),
        measures.annual_return(returns, periods_a_year),
        measures.annual_volatility(returns, periods_a_year),
        measures.sharpe_ratio(returns, periods_a_year),
        measures.sortino_ratio(returns, periods_a_year),
        measures.calmar_ratio(returns, periods_a_year),
        measures.max_drawdown(returns),
    )
