"""Pairs trading: two symbols that move together, one bought and the other sold."""

import math
from collections import deque

import numpy as np

from app.strategy import Param, ParamError, Strategy


class Pairs(Strategy):
    """Trade the ratio of two prices: sell the dear one and buy the cheap one, for as much money.

    What moves the whole market moves both, so the position earns or loses only by their ratio.  It
    is closed when the ratio is back at its mean.
    """

    first = Param("AAPL", help="symbol")
    second = Param("MSFT", help="the other symbol")
    window = Param(400, low=10, high=100_000, help="ticks of the two that make the mean")
    entry = Param(2.0, low=0, help="standard deviations from the mean to open")
    exit = Param(0.2, low=0, help="standard deviations from the mean to close")
    qty = Param(40.0, low=1e-9, help="shares or coins of the first symbol")

    def __init__(self, context):
        super().__init__(context)
        if self.first == self.second:
            raise ParamError(f"second={self.second}: must differ from first")
        for name, symbol in (("first", self.first), ("second", self.second)):
            if symbol not in context.symbols:
                known = ", ".join(context.symbols)
                raise ParamError(f"{name}={symbol}: no such symbol; the run has {known}")

    def on_start(self):
        """Nothing seen yet."""
        self.prices = {}
        self.ratios = deque(maxlen=self.window)

    def on_tick(self, tick):
        """Compare the ratio with its last values, at each tick of either symbol."""
        if tick.symbol not in (self.first, self.second):
            return
        self.prices[tick.symbol] = tick.price
        if len(self.prices) < 2:
            return
        ratio = math.log(self.prices[self.first] / self.prices[self.second])
        self.ratios.append(ratio)
        if len(self.ratios) < self.window:
            return
        ratios = np.array(self.ratios)
        deviation = ratios.std()
        if deviation < 1e-12:
            return
        score = (ratio - ratios.mean()) / deviation
        held = self.position(self.first)
        if not held and abs(score) > self.entry:
            self.open(-1 if score > 0 else 1)
        elif held and score * held > -self.exit * abs(held):
            self.target(self.first, 0)
            self.target(self.second, 0)

    def open(self, side):
        """Both legs at once, each at the latest price of its symbol."""
        money = self.qty * self.prices[self.first]
        other = money / self.prices[self.second]
        if self.qty == int(self.qty):  # whole shares on either side
            other = max(1, round(other))
        self.target(self.first, side * self.qty)
        self.target(self.second, -side * other)
