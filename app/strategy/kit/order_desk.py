"""The orders that a strategy places itself: which of them wait, and which tick sends each.

A pure state machine: ticks, orders and answers in, due orders out.  A limit order waits here, not
in the order manager, which would execute it at what the book shows when it looks.  Here a tick
decides, so a run that is repeated gives the same orders.

An order is decided on at a tick and is due at once: at the latest price of its symbol, which is
this tick's if the tick is of that symbol.  Before its symbol's first tick it is due with that.

- A market order takes the price, worse by slippage and half spread.
- A limit order that this worse price does not exceed takes it, too: it is a taker.
- Any other limit order waits.  A later tick of its symbol whose price is *beyond* the limit sends
  it: it is a maker and executes at its limit.  A price that only touches the limit does not,
  because others may have been there first.
- What a fill leaves of a taker meets the next tick as a new order does.  What it leaves of a maker
  waits on, and of a market order is canceled.

With latency an order is in transit first.  It is due with the first tick of its symbol at which it
has arrived, before the strategy decides on that tick.  A cancel travels as long, and has arrived
with the first tick of any symbol; until then the order is open and may be executed.  It does not
overtake its order, which meets the market first: a market order can no longer be canceled.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from app.execution.costs.latency import NO_LATENCY, Latency, moved
from app.execution.costs.slippage import Slippage
from app.model.money import WHOLE, Scale, to_units
from app.model.orders import BUY, ORDERS_A_TICK, SIDE_NAMES
from app.strategy.kit.order_checks import checked_limit, checked_qty

OPEN, FILLED, CANCELED, REFUSED = "open", "filled", "canceled", "refused"
"""What becomes of an order."""

OPEN_MAX: Final = ORDERS_A_TICK // 2
"""Open orders of a strategy: a tick may send all of them, and as many new ones."""

_ON_THE_WAY, _REST, _WAITS, _SENT, _OVER = range(5)
"""Where an open order is: before its market's first look, or the next after a fill in part; at its
price; in the order manager.
"""


class Order:
    """One order of a strategy, from :meth:`Strategy.buy` to its end.

    ``number`` counts the orders of the run from 1; ``limit`` is None at the market; ``seq`` is the
    tick on which it was placed.  ``status`` is ``open``, ``filled``, ``canceled`` or ``refused``.
    Quantities are numbers as the strategy has them: integers, or floats with QTY_DECIMALS.
    """

    __slots__ = (
        "_cancels",
        "_caught",
        "_decided",
        "_due_ns",
        "_filled",
        "_index",
        "_limit",
        "_moved",
        "_qty",
        "_scale",
        "_sign",
        "_stage",
        "limit",
        "number",
        "seq",
        "side",
        "status",
        "symbol",
    )

    def __init__(
        self,
        number: int,
        index: int,
        symbol: str,
        sign: int,
        qty: int,
        limit: float | None,
        scale: Scale = WHOLE,
    ) -> None:
        """``qty``: in units of ``scale``."""
        self.number, self.symbol, self.limit = number, symbol, limit
        self._qty, self._filled, self._scale = qty, 0, scale
        self.side, self.status, self.seq = SIDE_NAMES[sign], OPEN, -1
        self._index, self._sign, self._stage = index, sign, _ON_THE_WAY
        self._limit = 0 if limit is None else to_units(limit)
        self._cancels = self._caught = False
        """Whether a cancel is on its way, and has arrived."""
        self._due_ns: int | None = None
        """None: it was placed before the first tick, and begins its way with that."""
        self._moved = 0
        self._decided: int | None = None
        """The market's price at the decision; None if nobody had seen one."""

    @property
    def is_canceling(self) -> bool:
        """Whether a cancel is on its way; until it arrives the order may be executed."""
        return self._cancels and self.status == OPEN

    @property
    def qty(self) -> int | float:
        """What was asked for."""
        return self._scale.qty(self._qty)

    @property
    def filled_qty(self) -> int | float:
        """What has been executed."""
        return self._scale.qty(self._filled)

    @property
    def left_qty(self) -> int | float:
        """What has not been executed."""
        return self._scale.qty(self._left)

    @property
    def _left(self) -> int:
        return self._qty - self._filled

    @property
    def is_open(self) -> bool:
        """Whether it may still be executed."""
        return self.status == OPEN

    def __repr__(self) -> str:
        at = "market" if self.limit is None else self.limit
        left = f"{self.filled_qty} of {self.qty}"
        return f"Order({self.number}, {self.side} {left} {self.symbol} @ {at}, {self.status})"


class Due(NamedTuple):
    """An order to be sent: the ``nth`` of its tick, for so many units.

    ``price``: the market's, or a maker's own.  ``moved``: by how much the market moved against a
    taker while it was in transit, in units.
    """

    order: Order
    symbol_index: int
    sign: int
    qty: int
    price: float
    maker: bool
    nth: int
    moved: int = 0


class OrderDesk:
    """The open orders of one strategy.

    ``active``: whether the strategy places orders itself.  ``deaf``: what it places and cancels now
    has no effect, because a repetition of the run would not do it again.
    """

    def __init__(
        self,
        symbols: list[str],
        slippage: Slippage,
        latency: Latency = NO_LATENCY,
        scale: Scale = WHOLE,
    ) -> None:
        """``slippage``: a taker pays it; ``latency``: on the way to the market; ``scale``: qty."""
        self._scale = scale
        self.active = self.deaf = False
        self.on_event: Callable[[str, Order], None] = lambda _what, _order: None
        """Told when an order begins to wait, and when one is canceled."""
        self.placed = self.canceled = self.ignored = 0
        self._symbols, self._slippage, self._latency = symbols, slippage, latency
        self._seq = -1
        self._now_ns: int | None = None
        self._clock: dict[int, int] = {}
        """The time of each symbol; it does not go back."""
        self._price: dict[int, float] = {}
        self._open: dict[int, Order] = {}
        self._waiting: dict[int, dict[int, Order]] = {}
        """Symbol's index -> number -> order; also those that wait for their symbol's first tick."""
        self._new: list[Order] = []
        self._cancels: deque[tuple[int | None, Order]] = deque()
        """In transit: when each arrives; None: as an order that has none."""
        self._sends: list[tuple[Order, float, bool]] = []
        self._sent_on_tick = self._placed_on_tick = 0

    # What the strategy does

    def place(
        self, index: int, sign: int, qty: object, limit: object = None, *, in_units: bool = False
    ) -> Order:
        """Place an order; without a limit at the market.  ``in_units``: ``qty`` is so.

        Raises:
            ValueError: a quantity or limit that no order can have; too many orders.
        """
        units, price = checked_qty(qty, self._scale, in_units), checked_limit(limit)
        symbol = self._symbols[index]
        order = Order(self.placed + 1, index, symbol, sign, units, price, self._scale)
        order.seq = self._seq
        if self.deaf:
            self.ignored += 1
            order.status, order._stage = CANCELED, _OVER
            return order
        if len(self._open) >= OPEN_MAX or self._placed_on_tick >= OPEN_MAX - 1:
            raise ValueError(
                f"{len(self._open)} orders are open and {self._placed_on_tick} were placed on this "
                f"tick, at most {OPEN_MAX} and {OPEN_MAX - 1}: cancel some, and let an answer "
                "not always place another order"
            )
        self.placed += 1
        self._placed_on_tick += 1
        self._open[order.number] = order
        if not self._latency.ns:
            self._new.append(order)
        else:
            self._waiting.setdefault(index, {})[order.number] = order
            order._decided = self._seen(order)
            order._due_ns = self._due()
        return order

    def _seen(self, order: Order) -> int | None:
        """What an order could have had at its decision: the market's price, or its limit."""
        price = self._price.get(order._index)
        if price is None or order.limit is None:
            return None if price is None else to_units(price)
        return (min if order._sign > 0 else max)(to_units(price), order._limit)

    def cancel(self, order: Order) -> bool:
        """Cancel what is left of an order; False if it was not open, or nothing has effect now."""
        if not isinstance(order, Order):
            raise TypeError(f"cancel of {order!r}: give it what buy, sell or target returned")
        if self.deaf:
            self.ignored += 1
            return False
        if order.status != OPEN:
            return False
        if self._latency.ns:
            if not order._cancels:
                self._cancels.append((self._due(), order))
            order._cancels = True
            return True
        if order._stage == _SENT:  # too late for what executes now
            order._cancels = order._caught = True
            return True
        self._cancel(order)
        return True

    @property
    def open_orders(self) -> tuple[Order, ...]:
        """In the sequence in which they were placed."""
        return tuple(self._open.values())

    def on_the_way(self, index: int) -> int:
        """What open market orders in a symbol will add to its position, in units."""
        return sum(
            order._sign * order._left
            for order in self._open.values()
            if order._index == index and order.limit is None
        )

    @property
    def in_transit(self) -> int:
        """Open orders that have not met the market; what a fill in part leaves has."""
        return sum(order._stage == _ON_THE_WAY for order in self._open.values())

    # What the market does

    def see(self, index: int, price: float, seq: int, event_ns: int = 0) -> None:
        """A tick, before the strategy decides on it; what it reaches is due."""
        self._seq, self._price[index] = seq, price
        self._sent_on_tick = self._placed_on_tick = 0
        if self._latency.ns:
            event_ns = self._clock[index] = max(event_ns, self._clock.get(index, event_ns))
            self._begin(event_ns)
            self._catch(event_ns)
        if waiting := self._waiting.get(index):
            units = to_units(price)
            for order in list(waiting.values()):
                if order._stage < _WAITS:
                    if order._due_ns is None or order._due_ns <= event_ns:
                        self._arrive(order, price)
                elif (units - order._limit) * order._sign < 0:
                    assert order.limit is not None
                    self._send(order, order.limit, maker=True)

    def at(self, event_ns: int) -> None:
        """The time of what the strategy does before it has seen the tick that follows."""
        self._now_ns = event_ns

    def _begin(self, event_ns: int) -> None:
        """The time of a tick; what was done before the first one begins its way."""
        if self._now_ns is None:
            self._now_ns = event_ns
            for order in self._open.values():
                order._due_ns = self._due()
            self._cancels = deque((self._due(), order) for _, order in self._cancels)
        self._now_ns = event_ns

    def _due(self) -> int | None:
        return None if self._now_ns is None else self._latency.due_ns(self._now_ns)

    def _catch(self, event_ns: int) -> None:
        """Cancels arrive; each after its order has met the market."""
        while self._cancels:
            due_ns, order = self._cancels[0]
            if due_ns is None or due_ns > event_ns:
                return
            self._cancels.popleft()
            order._caught = True
            if order.status == OPEN and order._stage != _ON_THE_WAY:
                self._cancel(order)

    def has_due(self) -> bool:
        """Whether there are orders to send; new ones, without latency, go to their market first."""
        if self._new:
            new, self._new = self._new, []
            for order in new:
                if order._stage != _ON_THE_WAY:
                    continue  # canceled meanwhile
                self._waiting.setdefault(order._index, {})[order.number] = order
                price = self._price.get(order._index)
                if price is not None:
                    self._arrive(order, price)
        return bool(self._sends)

    def take(self, most: int) -> list[Due]:
        """The next orders to send; each is answered before the next tick."""
        taken, self._sends = self._sends[:most], self._sends[most:]
        first = self._sent_on_tick
        self._sent_on_tick += len(taken)
        return [
            Due(
                order,
                order._index,
                order._sign,
                order._left,
                price,
                maker,
                nth,
                0 if maker else order._moved,
            )
            for nth, (order, price, maker) in enumerate(taken, first)
        ]

    def answered(
        self, order: Order, filled_qty: int, *, refused: bool, maker: bool = False
    ) -> None:
        """The answer to an order that was sent; ``maker``: as one."""
        order._filled += filled_qty
        if refused:
            self._end(order, REFUSED)
        elif not order._left:
            self._end(order, FILLED)
        elif order.limit is None or order._caught:
            self._cancel(order)
        else:
            order._stage = _WAITS if maker else _REST

    def close(self) -> list[Order]:
        """The run is over: cancel all; returns what was open."""
        left = list(self._open.values())
        for order in left:
            self._end(order, CANCELED)
        for waiting in (self._new, self._sends, self._cancels):
            waiting.clear()
        return left

    def _arrive(self, order: Order, price: float) -> None:
        """The market looks at a new order."""
        if order._decided is not None:  # once: what a fill leaves is at the market already
            order._moved = moved(order._sign, order._decided, to_units(price))
            order._decided = None
        if order.limit is not None:
            worse = self._slippage.taker_price(to_units(price), order._sign, order._left)
            if (worse - order._limit) * order._sign > 0:
                if order._caught:
                    self._cancel(order)
                    return
                order._stage = _WAITS
                self.on_event("waits", order)
                return
        self._send(order, price, maker=False)

    def _send(self, order: Order, price: float, *, maker: bool) -> None:
        order._stage = _SENT
        self._sends.append((order, price, maker))

    def _cancel(self, order: Order) -> None:
        if order.limit is not None:
            self.canceled += 1
            self.on_event("canceled", order)
        self._end(order, CANCELED)

    def _end(self, order: Order, status: str) -> None:
        order.status, order._stage = status, _OVER
        del self._open[order.number]
        self._waiting.get(order._index, {}).pop(order.number, None)


assert BUY == 1, "a buyer's price is beyond its limit below it, a seller's above"
