"""What a run's holdings are worth along its ticks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from app.kernel.plain.memory import checked, records_of


class Worth:
    """What a run's holdings are worth along its ticks: shares at their latest prices, and cash.

    ``a_ns``: what a short costs in a nanosecond, as a share of what it was sold for.  Sums are made
    in the order of the compiled kernel's, so the last bit of a float is the same.
    """

    def __init__(
        self,
        price: npt.NDArray[np.float64],
        last_ns: npt.NDArray[np.int64],
        a_ns: float,
        step: int,
    ) -> None:
        """``price``, ``last_ns``: arrays with a value per symbol, which it keeps up to date."""
        self.price, self.last_ns = checked(price, np.float64), checked(last_ns, np.int64)
        count = len(price)
        self._qty, self._short, self._since_ns = [0.0] * count, [0.0] * count, [0] * count
        if len(last_ns) != count or step < 1:
            raise ValueError(f"{count} prices, {len(last_ns)} times, step {step}")
        self._cash, self._a_ns, self._step = 0.0, float(a_ns), step

    def equity(self) -> float:
        """The profit since the start, if all were sold at the latest prices."""
        worth = owed = 0.0
        for qty, price in zip(self._qty, self.price.tolist(), strict=True):
            worth += qty * price
        if self._a_ns:
            rows = zip(self._short, self.last_ns.tolist(), self._since_ns, strict=True)
            for short, last_ns, since_ns in rows:
                if short and last_ns > since_ns:
                    owed += short * float(last_ns - since_ns)
        return self._cash + worth - self._a_ns * owed

    def _take(self, fill: tuple[Any, ...]) -> None:
        """``seq, symbol, signed qty, price, fee, slippage, impact, borrow, short, event_ns``."""
        symbol, qty, price = fill[1], float(fill[2]), float(fill[3])
        self._qty[symbol] += qty
        self._cash -= qty * price + float(fill[4]) + float(fill[7])
        if self._a_ns:
            self._short[symbol], self._since_ns[symbol] = float(fill[8]), int(fill[9])

    def follow(
        self,
        ticks: Any,
        fills: Sequence[tuple[Any, ...]],
        at: int,
        event_ns: list[int],
        equity: list[float],
    ) -> int:
        """Take ticks, and the fills from ``at`` on that are theirs; returns the next one's index.

        After each tick whose ``seq`` ends a step, its time and the equity are added to the lists.
        """
        records, last, prices, times = records_of(ticks), len(fills), self.price, self.last_ns
        if not len(records):
            return at
        none = 2**64 - 1
        next_fill = fills[at][0] if at < last else none
        left = self._step - int(records[0]["seq"]) % self._step
        for now_ns, price, seq, _, symbol, _ in records.tolist():
            prices[symbol] = price
            if self._a_ns:
                times[symbol] = now_ns
            while next_fill <= seq:
                self._take(fills[at])
                at += 1
                next_fill = fills[at][0] if at < last else none
            left -= 1
            if left == 0:
                left = self._step
                event_ns.append(now_ns)
                equity.append(self.equity())
        return at
