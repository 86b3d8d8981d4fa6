"""One cell of a sweep: a backtest with its parameters, and what is kept of it."""

import time
from enum import StrEnum
from hashlib import sha256
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from app.backtest.performance.daily import DailyCloses
from app.backtest.performance.measures import periods_a_year
from app.backtest.performance.summary import CapitalLost, Summary, strategy_returns, summarize
from app.backtest.replay import replay
from app.backtest.sweep.grid import Cell
from app.backtest.sweep.shared_ticks import SharedReader, SharedTicks
from app.config.settings import Settings
from app.runtime.run.strategy_params import ParamError
from app.strategy.base import strategy_source
from app.strategy.failure import StrategyError

ONE_POINT: Final = 1
"""Of the equity curve, which no cell draws."""


class Status(StrEnum):
    """How a cell ended."""

    OK = "ok"
    INVALID = "invalid"
    """The strategy refused the combination."""
    FAILED = "failed"
    """The strategy raised."""
    KILLED = "killed"
    """The process that ran it died."""


FINISHED: Final = frozenset({Status.OK, Status.INVALID})
"""Not run again when a sweep goes on."""


class Task(msgspec.Struct, frozen=True):
    """What all cells share."""

    settings: Settings
    ticks: SharedTicks
    capital: float
    source: str
    """The digest of the strategy's file when the sweep began."""


class Outcome(msgspec.Struct):
    """What is kept of a cell; the numbers are those of ``app backtest``.

    ``daily_profit``: profit at each day's end, shape ``(days,)``.
    """

    number: int
    status: Status
    took_s: float
    note: str = ""
    orders: int = 0
    filled: int = 0
    trades_hash: str = ""
    profit: float | None = None
    summary: Summary | None = None
    daily_profit: npt.NDArray[np.float64] | None = None


def source_digest(strategy: str) -> str:
    """Of the file that ``STRATEGY`` names."""
    return sha256(strategy_source(strategy)).hexdigest()[:16]


def run_cell(task: Task, reader: SharedReader, cell: Cell) -> Outcome:
    """Run one cell; whatever the strategy does, the outcome says it."""
    settings = msgspec.structs.replace(task.settings, strategy_params=cell.text)
    started_s = time.perf_counter()
    ticks = task.ticks
    if source_digest(settings.strategy) != task.source:
        return Outcome(cell.number, Status.FAILED, 0.0, "the strategy's file has changed meanwhile")
    try:
        result = replay(settings, ticks.symbols, reader, ticks.total, points=ONE_POINT)
    except ParamError as error:
        took_s = time.perf_counter() - started_s
        return Outcome(cell.number, Status.INVALID, took_s, _one_line(str(error)))
    except StrategyError as error:
        took_s = time.perf_counter() - started_s
        return Outcome(cell.number, Status.FAILED, took_s, _one_line(str(error)))
    daily = result.curve.daily
    summary, note = _summary(daily, task.capital)
    return Outcome(
        cell.number,
        Status.OK,
        time.perf_counter() - started_s,
        note,
        len(result.orders),
        sum(1 for order in result.orders if order.filled_qty),
        result.trades_hash,
        daily.profit[-1],
        summary,
        np.array(daily.profit),
    )


def _summary(daily: DailyCloses, capital: float) -> tuple[Summary | None, str]:
    try:
        returns = strategy_returns(daily, capital)
    except CapitalLost as error:
        return None, str(error)
    return summarize(returns, periods_a_year(np.array(daily.event_ns, np.int64))), ""


def _one_line(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines()).removeprefix("STRATEGY_PARAMS: ")
