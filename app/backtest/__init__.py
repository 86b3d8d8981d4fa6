"""A run without the stack: the same data, strategy and order core in one process."""

from app.backtest.results.entry import run
from app.backtest.results.run_result import BacktestResult

__all__ = ["BacktestResult", "run"]
