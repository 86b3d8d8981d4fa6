"""Trend following with two moving averages of each symbol, by signals."""

from app.strategy import Param, ParamError, Strategy


class Crossover(Strategy):
    """Long while the short average is above the long one, short while it is below.

    A trend goes on, is the idea: the average of the last few prices leaves that of many in its
    direction.  Without a band, the averages cross with every small move, and each crossing costs.
    """

    short = Param(30, low=1, high=5_000, help="ticks in the short average")
    long = Param(150, low=2, high=5_000, help="ticks in the long average")
    band_bps = Param(2.0, low=0, help="how far apart they must be, basis points")
    history_ticks = 5_000

    def __init__(self, context):
        super().__init__(context)
        if self.short >= self.long:
            raise ParamError(f"short={self.short}: must be below long={self.long}")

    def on_tick(self, tick):
        """Hold until the long window is full, and while the averages are close."""
        prices = self.history(tick.symbol, self.long)
        if len(prices) < self.long:
            return "HOLD"
        apart_bps = (prices[-self.short :].mean() / prices.mean() - 1) * 10_000
        if abs(apart_bps) <= self.band_bps:
            return "HOLD"
        return "BUY" if apart_bps > 0 else "SELL"
