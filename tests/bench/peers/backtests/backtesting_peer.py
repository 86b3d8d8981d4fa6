"""backtesting.py, as in its quick start: ``init`` has the indicators, ``next`` trades.

It knows one symbol, so the ten are ten runs after each other.  An order executes at the close of
its bar, here the price of its tick.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from backtesting import Backtest, Strategy
from backtesting import backtesting as settings
from common import CASH, LONG, MIDDLE, ORDER, QTY, SHORT, Ticks, in_order, main

settings._tqdm = lambda values, **_: values  # no progress bar: it is not what is compared
warnings.filterwarnings("ignore")


def average(values: Any, ticks: int) -> Any:
    """The simple moving average of its documentation; 0 until the window is full.

    A run begins one bar after the last NaN, and would miss the first bar of a full window.
    """
    return pd.Series(values).rolling(ticks).mean().fillna(0)


class Crossover(Strategy):
    """The rule of the built-in strategy."""

    def init(self) -> None:
        """Indicators are computed once, over all bars."""
        self.short = self.I(average, self.data.Cents, SHORT)
        self.long = self.I(average, self.data.Cents, LONG)

    def next(self) -> None:
        """An opposite order closes the position first (``exclusive_orders``)."""
        short, long, sentiment = self.short[-1], self.long[-1], self.data.Sentiment[-1]
        if not long:
            return
        if short > long and sentiment > MIDDLE:
            if not self.position.is_long:
                self.buy(size=QTY)
        elif short < long and 0 <= sentiment < MIDDLE and not self.position.is_short:
            self.sell(size=QTY)


def _bars(ticks: Ticks) -> pd.DataFrame:
    """A bar for each tick, and one more: an order executes when the next bar comes."""
    # Times that repeat are no index: the ticks of a second follow each other by a nanosecond.
    times = pd.to_datetime(ticks.event_ns + np.arange(len(ticks.price)) % 1_000_000)
    prices = dict.fromkeys(("Open", "High", "Low", "Close"), ticks.price)
    bars = pd.DataFrame({**prices, "Cents": ticks.cents, "Sentiment": ticks.sentiment}, times)
    last = bars.iloc[-1:].assign(Sentiment=MIDDLE)  # No order: it could not be executed.
    last.index = last.index + pd.Timedelta("1ns")
    return pd.concat([bars, last])


def prepare(ticks: Ticks) -> Callable[[], np.ndarray]:
    """Bars in DataFrames, one for each symbol."""
    runs = []
    for index in np.unique(ticks.symbol):
        numbers, own = ticks.of_symbol(index)
        test = Backtest(
            _bars(own), Crossover, cash=CASH, trade_on_close=True, exclusive_orders=True
        )
        runs.append((index, numbers, test))

    def run() -> np.ndarray:
        return in_order([_orders(index, numbers, test.run()) for index, numbers, test in runs])

    return run


def _orders(index: int, numbers: np.ndarray, stats: Any) -> np.ndarray:
    """Each trade is opened by an order, which also closes the trade before."""
    # The trade that is still open at the end is not among those that are listed.
    trades = stats._trades.sort_values("EntryBar")
    still = [(each.entry_bar, each.size, each.entry_price) for each in stats._strategy.trades]
    rows = [*trades[["EntryBar", "Size", "EntryPrice"]].itertuples(index=False, name=None), *still]
    found = np.zeros(len(rows), ORDER)
    if rows:
        bars, sizes, prices = map(np.array, zip(*rows, strict=True))
        found["tick"], found["symbol"] = numbers[bars.astype(int)], index
        found["signed_qty"], found["price"] = np.diff(sizes, prepend=0), prices
    return found


main("backtesting", prepare)
