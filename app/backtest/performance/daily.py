"""Equity at the end of each day (UTC), which daily returns are made of."""

from typing import Final

import numpy as np
import numpy.typing as npt

DAY_NS: Final = 24 * 3600 * 10**9


class DailyCloses:
    """One entry a day with ticks: time of its last tick, profit, and value of the benchmark.

    The benchmark holds the same amount of each symbol's price at its first tick, and never trades:
    its value is the mean of last over first price, a symbol without a tick yet counts as 1.
    """

    def __init__(self, symbols: int) -> None:
        self.event_ns: list[int] = []
        self.profit: list[float] = []
        self.benchmark: list[float] = []
        self._first_price = np.zeros(symbols)
        self._unseen = symbols

    def see(self, ticks: npt.NDArray[np.void]) -> None:
        """Take the first price of each symbol."""
        if not self._unseen:
            return
        seen, first = np.unique(ticks["symbol"], return_index=True)
        new = self._first_price[seen] == 0
        self._first_price[seen[new]] = ticks["price"][first[new]]
        self._unseen = int(np.count_nonzero(self._first_price == 0))

    def close(self, event_ns: int, profit: float, last_price: npt.NDArray[np.float64]) -> None:
        """The last tick of a day was at ``event_ns``."""
        seen = self._first_price > 0
        value = np.ones(len(last_price))
        value[seen] = last_price[seen] / self._first_price[seen]
        self.event_ns.append(event_ns)
        self.profit.append(profit)
        self.benchmark.append(float(np.mean(value)) if len(value) else 1.0)


def day_starts(event_ns: npt.NDArray[np.int64], latest_day: int | None) -> list[int]:
    """Where in a batch a new day begins; ``latest_day``: that of the tick before it, if any."""
    first, last = int(event_ns[0]) // DAY_NS, int(event_ns[-1]) // DAY_NS
    before = first if latest_day is None else latest_day
    if last == before:
        return []
    found: list[int] = np.flatnonzero(np.diff(event_ns // DAY_NS, prepend=before)).tolist()
    return found
