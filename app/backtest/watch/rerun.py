"""One run of the watched strategy, and what changed against the run before."""

import linecache
from typing import Final, NamedTuple

import numpy as np

from app.backtest.performance.daily import DailyCloses
from app.backtest.performance.measures import periods_a_year
from app.backtest.performance.summary import LABELS as MEASURE_LABELS
from app.backtest.performance.summary import CapitalLost, strategy_returns, summarize
from app.backtest.report import PERCENT
from app.backtest.result import Result
from app.runtime.metrics.tables import EMPTY, number
from app.strategy.failure import StrategyError


class Facts(NamedTuple):
    """What a run is compared by; None where a measure is not defined."""

    pnl: float
    sharpe: float | None
    max_drawdown: float | None
    orders: int
    filled: int
    trades_hash: str


DIGITS: Final = {"pnl": 2, "sharpe": 2, "max_drawdown": 3, "orders": 0, "filled": 0}
LABELS: Final = {"pnl": "PnL", **MEASURE_LABELS}


def facts_of(result: Result, capital: float) -> Facts:
    """The facts of one run."""
    daily = result.curve.daily
    sharpe, drawdown = _measures(daily, capital)
    orders, filled = len(result.orders), sum(1 for order in result.orders if order.filled_qty)
    return Facts(daily.profit[-1], sharpe, drawdown, orders, filled, result.trades_hash)


def _measures(daily: DailyCloses, capital: float) -> tuple[float | None, float | None]:
    try:
        returns = strategy_returns(daily, capital)
    except CapitalLost:
        return None, None
    found = summarize(returns, periods_a_year(np.array(daily.event_ns, np.int64)))
    return found.sharpe, found.max_drawdown


def rows(now: Facts, before: Facts | None) -> list[list[str]]:
    """What, now, before, change: one row for each number."""
    found = []
    for name in DIGITS:
        value, was = getattr(now, name), getattr(before, name, None)
        row = [LABELS.get(name, name), _text(name, value)]
        if before is not None:
            change = None if value is None or was is None else value - was
            row += [_text(name, was), _change(name, change)]
        found.append(row)
    return found


def hash_line(now: Facts, before: Facts | None) -> str:
    """Whether the trades are the same."""
    line = f"trades hash {now.trades_hash}"
    if before is None:
        return line
    if now.trades_hash == before.trades_hash:
        return f"{line}, the same as before"
    return f"{line}, different from {before.trades_hash} before"


def _text(name: str, value: float | None) -> str:
    if value is None:
        return EMPTY
    if name in PERCENT:
        return f"{number(100 * value, DIGITS[name])} %"
    return number(value, DIGITS[name])


def _change(name: str, value: float | None) -> str:
    text = _text(name, value)
    if value is None or not value:
        return EMPTY if value is None else "="
    return f"+{text}" if value > 0 else text


def problem(error: StrategyError) -> str:
    """What a strategy failed on, and the line of its file as it stands there."""
    file, line = error.details.get("file"), error.details.get("line")
    if not file or not line:
        return str(error)
    linecache.checkcache(file)
    source = linecache.getline(file, line).strip()
    return f"{error}\n  {line}: {source}" if source else str(error)
