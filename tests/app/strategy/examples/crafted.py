"""Runs an example strategy over ticks that a test makes up."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from app.backtest.replay import replay
from app.backtest.result import Result
from app.config.settings import Settings
from app.model.orders import LIMIT, tick_of_order_id
from app.model.tick import TICK_DTYPE

NS_PER_S = 10**9


class Trade(NamedTuple):
    """An executed order: its tick, symbol, signed quantity and price, and whether it waited."""

    tick: int
    symbol: str
    qty: int
    price: float
    maker: bool = False


class Crafted:
    """Ticks of (symbol, price), one every ``step_s`` seconds, without sentiment."""

    def __init__(self, rows: Sequence[tuple[str, float]], step_s: float) -> None:
        self.symbols = list(dict.fromkeys(symbol for symbol, _ in rows))
        self.ticks = np.zeros(len(rows), TICK_DTYPE)
        self.ticks["seq"] = range(len(rows))
        self.ticks["event_ns"] = [round(at * step_s * NS_PER_S) for at in range(len(rows))]
        self.ticks["symbol"] = [self.symbols.index(symbol) for symbol, _ in rows]
        self.ticks["price"] = [price for _, price in rows]

    def batches(self) -> Iterator[Any]:
        """In pieces that nothing may depend on."""
        for start in range(0, len(self.ticks), 7):
            yield self.ticks[start : start + 7]

    def join(self, _ticks: Any, out: Any) -> None:
        """There is no sentiment."""
        out.fill(-1)


def play(
    strategy: str,
    rows: Sequence[tuple[str, float]],
    params: str = "",
    step_s: float = 1.0,
    **settings: Any,
) -> tuple[list[Trade], Result]:
    """The trades of ``data/strategies/FILE.py:Class``, and the whole result."""
    chosen = Settings(
        strategy=f"data/strategies/{strategy}", strategy_params=params, replay="once", **settings
    )
    made = Crafted(rows, step_s)
    result = replay(chosen, made.symbols, made, len(rows))
    trades = [
        Trade(
            tick_of_order_id(order.id),
            order.symbol,
            order.side * order.filled_qty,
            order.exec_price / 1e9,
            order.type == LIMIT,
        )
        for order in result.orders
        if order.filled_qty
    ]
    return trades, result
