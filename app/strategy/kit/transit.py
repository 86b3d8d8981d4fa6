"""The orders of signals on their way to the market: ``PAPER_LATENCY_MS``.

A pure state machine, as :mod:`app.strategy.kit.order_desk` is for orders that a strategy places
itself: ticks and decisions in, due orders out.  An order waits here, and is sent with the first
tick of its symbol at which it has arrived, before anybody decides on that tick.  So a run that is
repeated gives the same orders, whoever was killed meanwhile.

What is in transit counts as executed when the next signal is judged: a standing signal sends no
second order, and an opposite one is for what leads from there.  An order's quantity is that of its
decision, as an order on a wire has it.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from app.execution.costs.latency import Latency, moved
from app.kernel._kernel import Intent
from app.model.money import to_units
from app.model.orders import ORDERS_A_TICK
from app.model.tick import TICK_DTYPE
from app.strategy.kit.sized_intent import SizedIntent

IN_TRANSIT_MAX: Final = ORDERS_A_TICK // 2
"""Orders of a strategy: all of them may meet one tick, which has ids for twice as many."""


class TooManyInTransit(Exception):
    """More orders are in transit than one tick can send."""


Ticks = npt.NDArray[np.void]
Signals = npt.NDArray[np.int8]
Decide = Callable[[Ticks, Signals, int], tuple[list[Intent], int]]


class Decided(NamedTuple):
    """An order in transit; ``price``: the market's at the decision, in units."""

    due_ns: int
    sides: tuple[int, int]
    qty: int
    price: int


class Transit:
    """The orders of one strategy's signals that are on their way; ``count``: how many."""

    def __init__(self, latency: Latency, symbols: list[str]) -> None:
        self._latency, self._symbols = latency, symbols
        self._orders: dict[int, deque[Decided]] = {}
        """Symbol's index -> orders, in the sequence of their decisions."""
        self._expected: dict[int, int] = {}
        """Symbol's index -> what its unanswered orders will add to its position."""
        self._reached: list[tuple[int, int]] = []
        """Heap of a batch: place of the tick that the next order of a symbol meets, symbol."""
        self._places: dict[int, tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]] = {}
        self._ticks: Ticks = np.empty(0, TICK_DTYPE)
        self.count = self._nth = 0
        self._last_seq = -1

    def expected(self, index: int) -> int:
        """What the orders of a symbol that have no answer will add to its position."""
        return self._expected.get(index, 0)

    def arrives(self, index: int, event_ns: int) -> bool:
        """Whether a tick of this symbol and time meets an order."""
        orders = self._orders.get(index)
        return bool(orders) and orders[0].due_ns <= event_ns  # type: ignore[index]

    def groups(
        self,
        ticks: Ticks,
        signals: Signals,
        decide: Decide,
        qty: Callable[[Intent], int],
        show: Callable[[], object],
        most: int,
    ) -> Iterator[list[Intent]]:
        """The orders that these ticks meet, at most ``most`` together; settle each group first.

        ``decide``: the gate, which makes orders of signals from a place on.  It stops at the next
        signal of a symbol that it has an order of, so no decision is made before an order that
        arrives earlier is answered.  ``qty``: of a decision.  ``show``: called before the last tick
        is decided on, when what it meets is answered.
        """
        self._begin(ticks)
        start, count = 0, len(ticks)
        while True:
            at = self._reached[0][0] if self._reached else count
            if at < count and at <= start:
                yield self._take(most)
                continue
            if start == count:
                return
            if start == count - 1:
                show()
            made, start = decide(ticks, signals[:at], start)
            for intent in made:
                self._add(intent, qty(intent))

    def answered(self, intent: SizedIntent) -> None:
        """An order that was sent has its answer."""
        index = intent.symbol_index
        self._expected[index] -= intent.signal * intent.qty

    def close(self) -> None:
        """The run is over: drop what never met the market."""
        self.count = 0
        self._orders.clear()
        self._expected.clear()

    def _begin(self, ticks: Ticks) -> None:
        self._ticks = ticks
        self._places.clear()
        self._reached.clear()
        for index in self._orders:
            self._reach(index)

    def _reach(self, index: int) -> None:
        """Find the tick of the batch that the next order of this symbol meets, if there is one."""
        places = self._places.get(index)
        if places is None:
            at = np.flatnonzero(self._ticks["symbol"] == index)
            # The feed is in order of time.
            places = self._places[index] = at, self._ticks["event_ns"][at]
        first = int(np.searchsorted(places[1], self._orders[index][0].due_ns))
        if first < len(places[0]):
            heapq.heappush(self._reached, (int(places[0][first]), index))

    def _add(self, intent: Intent, qty: int) -> None:
        if self.count >= IN_TRANSIT_MAX:
            raise TooManyInTransit(
                f"{self.count} orders are in transit, which is the most: set a lower "
                "PAPER_LATENCY_MS, or ORDER_MODE=position"
            )
        index, sides = intent.symbol_index, (intent.signal, intent.target)
        due_ns = self._latency.due_ns(intent.event_ns)
        orders = self._orders.setdefault(index, deque())
        orders.append(Decided(due_ns, sides, qty, to_units(intent.price)))
        self.count += 1
        self._expected[index] = self.expected(index) + intent.signal * qty
        if len(orders) == 1:
            self._reach(index)

    def _take(self, most: int) -> list[Intent]:
        """The next orders that meet the next tick."""
        at, index = heapq.heappop(self._reached)
        tick = self._ticks[at]
        seq, event_ns, price = int(tick["seq"]), int(tick["event_ns"]), float(tick["price"])
        if seq != self._last_seq:
            self._last_seq, self._nth = seq, 0
        orders, found = self._orders[index], list[Intent]()
        while orders and orders[0].due_ns <= event_ns and len(found) < most:
            _, sides, qty, decided = orders.popleft()
            against = moved(sides[0], decided, to_units(price))
            symbol = index, self._symbols[index]
            found.append(SizedIntent(tick, symbol, sides, price, qty, against, self._nth))
            self._nth += 1
        self.count -= len(found)
        if orders:
            self._reach(index)
        else:
            del self._orders[index]
        return found
