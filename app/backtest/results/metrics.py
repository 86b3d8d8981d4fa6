"""The measures of a run in one mapping, from its tables."""

from typing import Final

import numpy as np

from app.backtest.performance.measures import periods_a_year
from app.backtest.performance.summary import Summary, summarize
from app.backtest.result import Result
from app.backtest.results.tables import Table
from app.model.money import UNITS

Metrics = dict[str, float | int | None]
"""Name -> value; None where a measure is not defined, or cannot be told."""

SHARES: Final = {"total_return", "annual_return", "volatility", "max_drawdown"}
"""Of a summary: shown in percent."""


def metrics(
    result: Result, trades: Table, equity: Table, daily: Table, positions: Table, capital: float
) -> Metrics:
    """What the run made, what it cost, and how good it was, beside buy and hold."""
    a_year = periods_a_year(daily["date"].astype("datetime64[ns]").astype(np.int64))
    realised, opened = float(positions["realised_profit"].sum()), positions["open_profit"].sum()
    traded = float(trades["notional"].sum())
    gross = equity["exposure_gross"]
    found: Metrics = {
        "capital": capital,
        "profit": realised + float(opened),
        "realised_profit": realised,
        "open_profit": float(opened),
        "fees": float(trades["fee"].sum()),
        "slippage": float(trades["slippage"].sum()),
        "half_spread": float(trades["half_spread"].sum()),
        "impact": float(trades["impact"].sum()),
        "latency": result.scale.amount(result.latency_cost),
        "borrow": float(positions["borrow"].sum()),
        "all_costs": result.costs.total / UNITS,
        "turnover": traded,
        "turnover_x": traded / capital,
        "exposure_gross_mean": float(gross.mean()) if len(gross) else 0.0,
        "exposure_gross_max": float(gross.max()) if len(gross) else 0.0,
        "orders": len(result.orders),
        "filled_orders": sum(1 for order in result.orders if order.filled_qty),
        "refused_orders": sum(1 for order in result.orders if order.code),
        "orders_left_in_transit": result.left_in_transit,
        "trades": len(trades["tick"]),
        "ticks": result.ticks,
        "ticks_after_file": result.after_file,
        "days": len(daily["date"]),
        "days_a_year": a_year,
    }
    found |= _named("", _summary(daily["return_pct"], a_year))
    found |= _named("benchmark_", _summary(daily["benchmark_return_pct"], a_year))
    return found


def _summary(
    return_pct: np.ndarray[tuple[int], np.dtype[np.float64]], a_year: int
) -> Summary | None:
    """None if all of the capital was lost: the days after it have no return."""
    return None if np.isnan(return_pct).any() else summarize(return_pct / 100, a_year)


def _named(prefix: str, summary: Summary | None) -> Metrics:
    found: Metrics = {}
    for name in Summary._fields:
        value = None if summary is None else getattr(summary, name)
        share = name in SHARES
        key = f"{prefix}{name}_pct" if share else f"{prefix}{name}"
        found[key] = 100 * value if share and value is not None else value
    return found
