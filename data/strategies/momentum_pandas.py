"""Momentum across symbols, computed with pandas once a minute."""

import pandas as pd

from app.strategy import Param, Strategy


class Momentum(Strategy):
    """Hold the symbols that have risen most, short those that have fallen most.

    A minute of event time ends with a row of closes in a pandas frame.  The gain over the last
    minutes ranks the symbols; for each of the best and of the worst, the same money is at stake.
    """

    minutes = Param(30, low=1, high=1_000, help="over which the gain is taken")
    every = Param(10, low=1, help="minutes between two rankings")
    count = Param(2, low=1, help="symbols on either side")
    money = Param(5_000.0, low=1, help="for each symbol")
    timer_s = 60

    def on_start(self):
        """No minute has ended."""
        self.last = {}  # symbol -> price
        self.closes = []
        self.ended = 0

    def on_tick(self, tick):
        """Take note of the price."""
        self.last[tick.symbol] = tick.price

    def on_timer(self, event_ns):
        """A minute has ended: rank, and trade towards the ranking."""
        time = pd.Timestamp(event_ns, unit="ns", tz="UTC")
        self.closes = [*self.closes[-self.minutes :], pd.Series(self.last, name=time)]
        self.ended += 1
        if len(self.closes) <= self.minutes or self.ended % self.every:
            return
        frame = pd.DataFrame(self.closes)
        gain = (frame.iloc[-1] / frame.iloc[0] - 1).dropna().sort_index()
        ranked = gain.sort_values(kind="stable")  # equal gains: by name
        count = min(self.count, len(ranked) // 2)
        sides = pd.Series(0, index=ranked.index)
        sides.iloc[:count] = -1
        sides.iloc[len(ranked) - count :] = 1
        for symbol, side in sides.items():
            self.target(symbol, int(side) * max(1, round(self.money / self.last[symbol])))
