"""The orders of signals on their way to the market: ``PAPER_LATENCY_MS``.

A pure state machine, as :mod:`app.strategy.kit.order_desk` is for orders that a strategy places
itself: ticks and decisions in, due orders out.  An order waits here, and is sent with the first
tick of its symbol at which it has arrived, before anybody decides on that tick.  So a run that is
repeated gives the same orders, whoever was killed meanwhile.

With ORDER_MODE=position an order carries the position that it leads to, its target.  The target of
the last order in transit is what the next signal is judged by: a standing signal sends no second
order.  How much an order is for is known when it arrives: what leads from what is held to its
target.  All earlier orders of its symbol are answered by then, so an order that was refused or
filled in part moves no later one from its target.  An order that would lead to where the position
is already, or to the other side than its own, is dropped: nothing is sent.

With ORDER_MODE=every an order is for ORDER_QTY.

The time of a symbol does not go back: a tick whose event time does counts as of the latest time
before it.  So the orders of a symbol arrive in the sequence of their decisions.
"""

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from app.execution.costs.latency import Latency, moved
from app.kernel._kernel import Intent
from app.model.money import to_units
from app.model.orders import ORDERS_A_TICK
from app.model.tick import TICK_DTYPE
from app.strategy.kit.held import Held
from app.strategy.kit.sized_intent import SizedIntent

IN_TRANSIT_MAX: Final = ORDERS_A_TICK // 2
"""Orders of a strategy: all of them may meet one tick, which has ids for twice as many."""


_SHORT: Final = 64
"""Up to so many ticks a loop is faster than numpy."""


Ticks = npt.NDArray[np.void]
Signals = npt.NDArray[np.int8]
Decide = Callable[[Ticks, Signals, int], tuple[list[Intent], int]]


class Decided(NamedTuple):
    """An order in transit; ``price``: the market's at the decision, in units."""

    due_ns: int
    side: int
    target: int
    price: int


class Transit:
    """The orders of one strategy's signals that are on their way; ``count``: how many."""

    def __init__(self, latency: Latency, symbols: list[str]) -> None:
        self._latency, self._symbols = latency, symbols
        self._orders: dict[int, deque[Decided]] = {}
        """Symbol's index -> orders, in the sequence of their decisions."""
        self._reached: list[tuple[int, int]] = []
        """Heap of a batch: place of the tick that the next order of a symbol meets, symbol."""
        self._by_symbol: dict[int, npt.NDArray[np.intp] | list[int]] = {}
        """Symbol's index -> the places of its ticks in a batch."""
        self._clocks: dict[int, Sequence[int]] = {}
        """Symbol's index -> its time at each of them."""
        self._clock = np.zeros(len(symbols), np.int64)
        """The time of each symbol, as of the batches before."""
        self._ticks: Ticks = np.empty(0, TICK_DTYPE)
        self.count = self._nth = 0
        self._last_seq = -1
        self.refused = 0
        """Decisions for which there was no room."""
        self.on_refused: Callable[[Intent], object] = lambda _intent: None

    def target(self, index: int) -> int | None:
        """The position, -1, 0 or 1, that the orders of a symbol lead to; None: there are none."""
        orders = self._orders.get(index)
        return orders[-1].target if orders else None

    def arrives(self, index: int, event_ns: int) -> bool:
        """Whether the next tick of this symbol, with this time, meets an order."""
        # None has arrived by the time of the ticks before, so that may be left out.
        orders = self._orders.get(index)
        return bool(orders) and orders[0].due_ns <= event_ns  # type: ignore[index]

    def groups(
        self,
        ticks: Ticks,
        signals: Signals,
        decide: Decide,
        shares: Held,
        show: Callable[[], object],
        most: int,
    ) -> Iterator[list[Intent]]:
        """The orders that these ticks meet, at most ``most`` together; settle each group first.

        ``decide``: the gate, which makes orders of signals from a place on.  It stops at the next
        signal of a symbol that it has an order of, so no decision is made before an order that
        arrives earlier is answered.  ``shares``: what is held.  ``show``: called before the last
        tick is decided on, when what it meets is answered.
        """
        self._begin(ticks)
        start, count, made = 0, len(ticks), deque[Intent]()
        while True:
            at = self._reached[0][0] if self._reached else count
            # What arrives with the tick of a decision, or earlier, is sent before.
            if at < count and at <= (self._place_of(made[0]) if made else start):
                if found := self._take(most, shares):
                    yield found
                continue
            if made:
                self._add(made.popleft(), shares)
                continue
            if start == count:
                self._end()
                return
            if start == count - 1:
                show()
            decided, start = decide(ticks, signals[:at], start)
            made.extend(decided)

    def close(self) -> None:
        """The run is over: drop what never met the market."""
        self.count = 0
        self._orders.clear()

    def _begin(self, ticks: Ticks) -> None:
        self._ticks = ticks
        self._clocks.clear()
        self._reached.clear()
        self._by_symbol = _by_symbol(ticks["symbol"])
        if self._orders:
            for index in self._by_symbol:
                if index in self._orders:
                    self._reach(index)

    def _end(self) -> None:
        """Keep the time of each symbol for the next batch."""
        symbols, times, clock = self._ticks["symbol"], self._ticks["event_ns"], self._clock
        if len(times) > _SHORT:
            np.maximum.at(clock, symbols, times)
            return
        for index, event_ns in zip(symbols.tolist(), times.tolist(), strict=True):
            if event_ns > clock[index]:
                clock[index] = event_ns

    def _clock_of(self, index: int) -> Sequence[int]:
        """The time of a symbol at each of its ticks in the batch."""
        clock = self._clocks.get(index)
        if clock is None:
            times = np.maximum.accumulate(self._ticks["event_ns"][self._by_symbol[index]])
            clock = self._clocks[index] = np.maximum(times, self._clock[index]).tolist()
        return clock

    def _reach(self, index: int) -> None:
        """Find the tick of the batch that the next order of this symbol meets, if there is one."""
        clock = self._clock_of(index)
        first = bisect_left(clock, self._orders[index][0].due_ns)
        if first < len(clock):
            heapq.heappush(self._reached, (int(self._by_symbol[index][first]), index))

    def _add(self, intent: Intent, shares: Held) -> None:
        index = intent.symbol_index
        if self.count >= IN_TRANSIT_MAX:
            self.refused += 1
            self.on_refused(intent)
            shares.look(index)
            return
        at = bisect_left(self._by_symbol[index], self._place_of(intent))
        due_ns = self._latency.due_ns(self._clock_of(index)[at])
        orders = self._orders.setdefault(index, deque())
        orders.append(Decided(due_ns, intent.signal, intent.target, to_units(intent.price)))
        self.count += 1
        if len(orders) == 1:
            self._reach(index)

    def _place_of(self, intent: Intent) -> int:
        """Of its tick in the batch."""
        return bisect_left(self._ticks["seq"], intent.seq)

    def _take(self, most: int, shares: Held) -> list[Intent]:
        """The next orders that meet the next tick; one, if its answer decides on the next."""
        at, index = heapq.heappop(self._reached)
        tick = self._ticks[at]
        seq, price = int(tick["seq"]), float(tick["price"])
        clock_ns = self._clock_of(index)[bisect_left(self._by_symbol[index], at)]
        if seq != self._last_seq:
            self._last_seq, self._nth = seq, 0
        most = most if shares.every else 1
        orders, found = self._orders[index], list[Intent]()
        while orders and orders[0].due_ns <= clock_ns and len(found) < most:
            _, side, target, decided = orders.popleft()
            self.count -= 1
            qty = shares.leads(index, side, target)
            if not qty:
                continue
            against = moved(side, decided, to_units(price))
            symbol = index, self._symbols[index]
            sides = side, target
            found.append(SizedIntent(tick, symbol, sides, price, qty, against, self._nth))
            self._nth += 1
        if orders:
            self._reach(index)
        else:
            del self._orders[index]
        if not found:
            shares.look(index)
        return found


def _by_symbol(symbols: npt.NDArray[np.uint16]) -> dict[int, npt.NDArray[np.intp] | list[int]]:
    """Symbol's index -> its places, ascending."""
    if len(symbols) <= _SHORT:
        found: dict[int, npt.NDArray[np.intp] | list[int]] = {}
        for place, index in enumerate(symbols.tolist()):
            found.setdefault(index, []).append(place)  # type: ignore[union-attr]
        return found
    order = np.argsort(symbols, kind="stable")
    of = symbols[order]
    starts = np.flatnonzero(of[1:] != of[:-1]) + 1
    return dict(zip(of[[0, *starts]].tolist(), np.split(order, starts), strict=True))
