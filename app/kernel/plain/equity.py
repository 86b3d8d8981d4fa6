"""What a run's holdings are worth along its ticks."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.kernel.plain.memory import checked, records_of
from app.kernel.plain.orders import IntentSearch

_AMOUNT_MAX: Final = 1 << 120
_QTY_MAX: Final = 1 << 53
_HELD_MAX: Final = 1 << 61
_FLOAT_EXACT: Final = 2e6


class _Holding:
    """What is held of one symbol; ``last``: the number of its latest trade, from 1."""

    __slots__ = ("cost", "last", "mark", "qty", "realized", "turnover")

    def __init__(self) -> None:
        self.qty = self.cost = self.realized = self.turnover = self.mark = self.last = 0

    def execute(self, side: int, qty: int, price: int) -> bool:
        """As ``Position.apply``; False, and nothing is done: the numbers are too large."""
        held, size = self.qty, abs(self.qty)
        if not 0 < qty <= _QTY_MAX or price < 0 or size > _HELD_MAX or self.turnover > _AMOUNT_MAX:
            return False
        notional = qty * price
        paid = notional if side > 0 else -notional
        if held == 0 or (held > 0) == (side > 0):
            self.cost += paid
        elif qty == size:
            self.realized -= paid + self.cost
            self.cost = 0
        elif qty > size:
            closing = size * price if side > 0 else -size * price
            self.realized -= closing + self.cost
            self.cost = paid - closing
        else:
            # As the compiled kernel, which has 128 bits.
            if size % qty or (self.cost < 0) != (held < 0):
                return False
            parts = size // qty
            released = self.cost // parts if held > 0 else -(-self.cost // parts)
            self.realized -= paid + released
            self.cost -= released
        self.qty = held + qty if side > 0 else held - qty
        self.mark = price
        self.turnover += notional
        return True


class Trades:
    """Orders that execute at once, as they ask, at their tick's price; and what is held after them.

    Amounts and quantities are integers, as ``app.model.position.Position`` has them.  ``units_of``:
    a price in units of 1e-9; called for those that are so high that a float's product is not exact.
    """

    def __init__(
        self, symbols: int, order_qty: int, factor: float, units_of: Callable[[float], int]
    ) -> None:
        """``order_qty`` in units; ``factor``: how many of them are a quantity of 1."""
        if symbols < 0 or factor < 1:
            raise ValueError(f"{symbols} symbols, factor {factor}")
        self._of_symbol = [_Holding() for _ in range(symbols)]
        self._rows: list[tuple[int, int, int, int, int]] = []
        self._forgotten, self._order_qty = 0, order_qty
        self.factor, self._units_of = float(factor), units_of

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, symbol: int, qty: int, cost: int, realized: int, turnover: int) -> None:
        """What is held of a symbol before its first trade.

        Numbers that are too large for this class let it take no trade of the symbol.
        """
        if not 0 <= symbol < len(self._of_symbol):
            raise IndexError(symbol)
        own = self._of_symbol[symbol]
        if max(abs(cost), abs(realized), turnover) > _AMOUNT_MAX or abs(qty) > _HELD_MAX:
            own.turnover = _AMOUNT_MAX + 1
            return
        own.qty, own.cost, own.realized, own.turnover = qty, cost, realized, turnover

    def take(self, search: IntentSearch, held: list[int]) -> bool:
        """Execute the orders of a search, and settle each in ``held`` and its gate's positions.

        ``held``: units per symbol, nothing if each signal is an order.  False: the next order of
        the search is too large for this class, so it and all after it are for others.
        """
        gate = search.gate
        while (found := search.peek()) is not None:
            tick, position, target = found
            event_ns, price, seq, _, symbol, _ = tick.item()
            side, qty, have = target or -position, self._order_qty, 0
            if not gate.every:
                have = held[symbol]
                qty = abs(target * self._order_qty - have)
            units = round(price * 1e9) if price < _FLOAT_EXACT else self._units_of(price)
            own = self._of_symbol[symbol]
            if not own.execute(side, qty, units):
                return False
            self._rows.append((seq, event_ns, symbol, side * qty, units))
            own.last = self._forgotten + len(self._rows)
            if not gate.every:
                held[symbol] = have = have + side * qty
                gate.position[symbol] = (have > 0) - (have < 0)
            search.step()
        return True

    def rows(self, first: int, end: int) -> list[tuple[int, int, int, int, int]]:
        """``(seq, event_ns, symbol, signed qty, price)`` of these trades, in order."""
        return self._rows[max(first, 0) : max(end, 0)]

    def changed(self, first: int) -> list[tuple[int, int, int, int, int, int, int]]:
        """What is held of each symbol of the trades from ``first`` on, in their order.

        ``(symbol, qty, cost, realized, turnover, mark, last trade)``.
        """
        made = []
        for symbol in dict.fromkeys([row[2] for row in self._rows[max(first, 0) :]]):
            own = self._of_symbol[symbol]
            place = own.last - self._forgotten - 1
            amounts = own.cost, own.realized, own.turnover
            made.append((symbol, own.qty, *amounts, own.mark, place))
        return made

    def forget(self) -> None:
        """Keep what is held, but none of the trades."""
        self._forgotten += len(self._rows)
        self._rows = []

    def fills(self, first: int) -> list[tuple[Any, ...]]:
        """The trades from ``first`` on as :class:`Worth` takes fills."""
        return [
            (seq, symbol, qty / self.factor, price / 1e9, 0.0, 0.0, 0.0, 0.0)
            for seq, _, symbol, qty, price in self._rows[first:]
        ]


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
        fills: Sequence[tuple[Any, ...]] | Trades,
        at: int,
        event_ns: list[int],
        equity: list[float],
    ) -> int:
        """Take ticks, and the fills from ``at`` on that are theirs; returns the next one's index.

        ``fills``: a list, or :class:`Trades` where shorts cost nothing.  After each tick whose
        ``seq`` ends a step, its time and the equity are added to the lists.
        """
        if at < 0:
            raise IndexError(at)
        if isinstance(fills, Trades):
            return at + self.follow(ticks, fills.fills(at), 0, event_ns, equity)
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
