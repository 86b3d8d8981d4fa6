"""A portfolio without a bus, on a file."""

import time
from collections.abc import Callable
from pathlib import Path

from app.portfolio.books import Line
from app.portfolio.limits import Limit
from app.portfolio.service import Message, Portfolio
from app.portfolio.state import State
from tests.app.portfolio.fill_messages import NOON_NS, Told

MONEY = 10**18
OFF = [Limit("exposure", "", 0, "reduce"), Limit("daily_loss", "", 0, "reduce")]


def limited(exposure: int = 0, loss: int = 0) -> list[Limit]:
    return [
        Limit("exposure", "PORTFOLIO_EXPOSURE_MAX", exposure * MONEY, "reduce"),
        Limit("daily_loss", "PORTFOLIO_DAILY_LOSS_MAX", loss * MONEY, "reduce"),
    ]


def noon_ns() -> int:
    return NOON_NS


def opened(
    path: Path,
    limits: list[Limit] | None = None,
    clock_ns: Callable[[], int] = noon_ns,
    monotonic_s: Callable[[], float] = time.monotonic,
) -> Portfolio:
    state = State(str(path))
    state._db.pragma("synchronous", "OFF")  # no test cuts the power
    return Portfolio(state, limits or OFF, clock_ns, monotonic_s)


def messages(*fills: Told, first: int = 1) -> list[Message]:
    return [Message(first + nth, fill.message(), fill.marks) for nth, fill in enumerate(fills)]


def numbers(portfolio: Portfolio) -> dict[str, dict[str, Line]]:
    books = portfolio.books
    return {"": books.lines()} | {shard: books.lines(shard) for shard in books.shards()}
