"""The built-in strategy's rule as a user writes it: one call per tick, plain Python."""

from collections import deque
from typing import Any

from app.strategy import Strategy

SHORT, LONG, MIDDLE = 5, 20, 50


class Crossover(Strategy):
    """BUY while the short average is above the long one and sentiment is bullish, or SELL."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.prices = {symbol: deque[int](maxlen=LONG) for symbol in context.symbols}
        self.sums = {symbol: [0, 0] for symbol in context.symbols}

    def on_tick(self, tick: Any) -> str:
        """Sums of whole cents: a rounding error never gives a signal on a flat price."""
        cents = round(tick.price * 100)
        prices, sums = self.prices[tick.symbol], self.sums[tick.symbol]
        sums[0] += cents
        sums[1] += cents
        if len(prices) >= SHORT:
            sums[0] -= prices[-SHORT]
        if len(prices) == LONG:
            sums[1] -= prices[0]
        prices.append(cents)
        if len(prices) < LONG:
            return "HOLD"
        apart = sums[0] * LONG - sums[1] * SHORT
        if apart > 0 and tick.sentiment > MIDDLE:
            return "BUY"
        if apart < 0 and 0 <= tick.sentiment < MIDDLE:
            return "SELL"
        return "HOLD"
