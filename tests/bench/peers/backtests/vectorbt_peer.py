"""vectorbt, as in its documentation: indicators and signals as arrays, then ``Portfolio``.

Ticks of several symbols have no common times, so each symbol is a run of its own: one table of all
would be nine tenths empty.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import vectorbt as vbt
from common import CASH, LONG, MIDDLE, ORDER, QTY, SHORT, Ticks, in_order, main


def _run(index: int, numbers: np.ndarray, own: Ticks, price: pd.Series) -> np.ndarray:
    cents = pd.Series(own.cents, price.index, float)
    short, long = vbt.MA.run(cents, SHORT).ma, vbt.MA.run(cents, LONG).ma
    buy = (short > long) & (own.sentiment > MIDDLE)
    sell = (short < long) & (own.sentiment < MIDDLE) & (own.sentiment >= 0)
    portfolio = vbt.Portfolio.from_signals(
        price,
        entries=buy,
        short_entries=sell,
        size=QTY,
        upon_opposite_entry="reverse",
        init_cash=CASH,
        freq="1s",
    )
    portfolio.total_profit()
    records = portfolio.orders.values
    found = np.zeros(len(records), ORDER)
    found["tick"], found["symbol"] = numbers[records["idx"]], index
    found["signed_qty"] = records["size"] * np.where(records["side"] == 0, 1, -1)
    found["price"] = records["price"]
    return found


def prepare(ticks: Ticks) -> Callable[[], np.ndarray]:
    """The prices of each symbol in a Series."""
    runs = []
    for index in np.unique(ticks.symbol):
        numbers, own = ticks.of_symbol(index)
        times = pd.to_datetime(own.event_ns + np.arange(len(numbers)) % 1_000_000)
        runs.append((index, numbers, own, pd.Series(own.price, times)))
    return lambda: in_order([_run(*each) for each in runs])


main("vectorbt", prepare)
