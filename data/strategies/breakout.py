"""An example of a strategy in a file of its own: STRATEGY=data/strategies/breakout.py:Breakout"""

from collections import defaultdict, deque

from app.strategy import Param, Strategy


class Breakout(Strategy):
    """Buy above the highest of a symbol's last prices, sell below the lowest."""

    window = Param(50, low=2, high=10_000)  # STRATEGY_PARAMS="window=20"

    def __init__(self, context):
        super().__init__(context)
        self.last = defaultdict(lambda: deque(maxlen=self.window))

    def on_tick(self, tick):
        """Hold until the window is full."""
        last = self.last[tick.symbol]
        signal = "HOLD"
        if len(last) == self.window:
            if tick.price > max(last):
                signal = "BUY"
            elif tick.price < min(last):
                signal = "SELL"
        last.append(tick.price)
        return signal
