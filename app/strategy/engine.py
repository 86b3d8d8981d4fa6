"""Turns a batch of ticks into orders; no sockets, clock or shared memory.

The strategy process, its recovery and the backtest all run this code, so they send the same orders.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Raw

from app.config.settings import Settings
from app.kernel import _kernel
from app.kernel._kernel import Intent
from app.model.money import to_units
from app.model.wire.order_json import encode_order
from app.runtime.net.order_client import EncodedOrder
from app.runtime.run.strategy_params import ParamError
from app.strategy.base import SIGNAL_NAMES, Context, Signals, Strategy, Ticks, params_of
from app.strategy.failure import (
    StrategyError,
    describe_tick,
    failure,
    files_of,
    place_of,
    place_of_class,
    place_of_method,
    signature_problem,
)
from app.strategy.kit.desk import Fill, Reject, money
from app.strategy.kit.held import Held
from app.strategy.kit.order_desk import Order
from app.strategy.kit.order_stepping import OrderStepper, PlacedIntent, places_orders
from app.strategy.kit.outcome import Outcome
from app.strategy.kit.params import Params
from app.strategy.kit.sized_intent import SizedIntent
from app.strategy.kit.stepper_of import stepper_of
from app.strategy.kit.stepping import wants_answers
from app.strategy.kit.transit import Transit
from app.strategy.tick_marks import TickMarks

MAX_BATCH_TICKS = 8192
MAX_BATCH_ORDERS = 512
CALLED_WITH = {
    "on_tick": "tick",
    "on_batch": "ticks",
    "on_fill": "fill",
    "on_reject": "reject",
    "on_timer": "event_ns",
}
_INT8 = np.dtype(np.int8)

Join = Callable[[Ticks, npt.NDArray[np.int16]], None]


class Engine:
    """One strategy with its positions.

    ``position[i]`` is -1 short, 0 flat, +1 long in symbol ``i``.  ``proof``: shows that its orders
    come from the stack's own strategy (:class:`OrderRequest`).  ``params``: by default those of the
    settings.

    Raises:
        StrategyError: the strategy cannot be constructed with these settings.
        ParamError: STRATEGY_PARAMS is wrong.
    """

    def __init__(
        self,
        strategy: type[Strategy],
        symbols: list[str],
        settings: Settings,
        proof: str = "",
        params: Params | None = None,
    ) -> None:
        self.symbols = symbols
        self._proof = proof
        self.params = params or params_of(strategy, settings)
        self.context = Context(symbols, settings, self.params)
        self.scale = self.context.desk.scale
        self.strategy = self._construct(strategy)
        self._every = settings.order_mode == "every"
        self._transit = self.context.transit
        order_qty = self.scale.qty_units(settings.order_qty) or 0
        coming = None if self._transit is None else self._transit.target
        self.shares = Held(len(symbols), order_qty, self._every, coming)
        self.position = self.shares.position
        self._busy = np.zeros(len(symbols), np.uint8)  # not 0 while a symbol's order has no answer
        self._marks = TickMarks(symbols) if settings.limits_value_holdings else None
        self._sentiment = np.full(MAX_BATCH_TICKS, -1, np.int16)
        self.places = places_orders(strategy, Strategy)
        """Whether it places orders itself, and gives no signals."""
        self.left_open: list[Order] = []  # what was open, and canceled, at the end of the run
        self.left_in_transit = self.latency_cost = 0
        """Orders that the end of the run found on their way; what latency has cost, an amount."""
        self.told = self.places or wants_answers(strategy, Strategy)
        """Whether it sees each answer before its next tick: see :meth:`tell`."""
        how = {"every": self._every, "told": self.told, "places": self.places}
        try:
            self._stepper = stepper_of(self.strategy, Strategy, self.context, self.position, **how)
        except ValueError as error:
            raise failure(strategy.__name__, error, place_of_class(strategy)) from error
        # Not the strategy's own buffer: it may write that for each tick again.
        self._stepped = np.zeros(MAX_BATCH_TICKS, np.int8)
        self._gate = _kernel.OrderGate(
            self.position, self._busy, symbols, self._every, MAX_BATCH_ORDERS
        )

    def _construct(self, strategy: type[Strategy]) -> Strategy:
        try:
            made = strategy(self.context)
        except ParamError as error:
            raise ParamError(f"STRATEGY_PARAMS: {error}") from None
        except Exception as error:
            place = place_of(error, files_of(strategy, Strategy))
            place = place or place_of_method(strategy, Strategy, "__init__")
            raise failure(strategy.__name__, error, place) from error
        for name, argument in CALLED_WITH.items():
            if problem := signature_problem(getattr(made, name), argument):
                wrong = TypeError(problem)
                raise failure(
                    strategy.__name__, wrong, place_of_method(strategy, Strategy, name)
                ) from wrong
        return made

    def decisions(self, ticks: Ticks, join: Join) -> Iterator[tuple[Ticks, Signals]]:
        """The ticks in order, with the strategy's signals: in one piece, or in several.

        A strategy that is told of answers decides on no tick after an order until that is settled:
        trade each piece before reading the next.

        Raises:
            StrategyError: the strategy raised, or did not return signals.
        """
        if self._stepper is None:
            yield ticks, self.signals(ticks, join)
            return
        start, count = 0, len(ticks)
        join(ticks, self._sentiment[:count])
        while start < count:
            left = ticks[start:]
            signals = self._stepped[: count - start]
            try:
                done, decided = self._stepper.decide(left, self._sentiment[start:count], signals)
            except Exception as error:
                if self.strategy.failed_tick is None and not self._stepper.batch:
                    tick = left[int(np.argmax(signals == _kernel.UNDECIDED))]
                    self.strategy.failed_tick = error, describe_tick(tick, self.symbols)
                raise self._failure(left, error) from error
            yield left[:done], decided
            start += done

    def signals(self, ticks: Ticks, join: Join) -> Signals:
        """The strategy's signals for ``ticks``, at most MAX_BATCH_TICKS; ``join`` adds sentiment.

        Raises:
            StrategyError: the strategy raised, or did not return signals.
        """
        count = len(ticks)
        sentiment = self._sentiment[:count]
        join(ticks, sentiment)
        self.context.sentiment = sentiment
        try:
            signals = self.strategy.on_batch(ticks)
            if signals.dtype != _INT8 or signals.shape != (count,):
                raise ValueError(f"{signals.dtype} {signals.shape}, not int8 ({count},)")
        except Exception as error:
            raise self._failure(ticks, error) from error
        return signals

    def _failure(self, ticks: Ticks, error: Exception) -> StrategyError:
        strategy, failed = type(self.strategy), getattr(self.strategy, "failed_tick", None)
        place = place_of(error, files_of(strategy, Strategy))
        place = place or place_of_method(strategy, Strategy, "on_batch", "on_tick")
        if failed is not None and failed[0] is error:
            tick = failed[1]
            what = f"tick {tick['seq']} ({tick['symbol']}, {tick['event_time']})"
            return failure(f"{strategy.__name__} failed on {what}", error, place, **tick)
        first, last = int(ticks["seq"][0]), int(ticks["seq"][-1])
        what = f"{strategy.__name__} failed on ticks {first} to {last}"
        return failure(what, error, place, first_seq=first, last_seq=last)

    def orders(
        self, ticks: Ticks, signals: Signals, client: str
    ) -> Iterator[tuple[list[Intent], list[EncodedOrder]]]:
        """The groups of :meth:`intents`, with their encoded orders.

        Raises:
            StrategyError: a signal other than +1, -1, 2, 0.
        """
        marks, followed = self._marks, 0
        for intents in self._groups(ticks, signals):
            orders = [self.order(intent, client) for intent in intents]
            if marks is not None:
                for place, intent in enumerate(intents):
                    end = int(np.searchsorted(ticks["seq"], intent.seq, "right"))
                    marks.follow(ticks[followed:end])
                    followed = end
                    orders[place] = orders[place]._replace(marks=marks.of_order(intent))
            yield intents, orders
        self.follow(ticks[followed:])

    def _groups(self, ticks: Ticks, signals: Signals) -> Iterator[list[Intent]]:
        if isinstance(self._stepper, OrderStepper):
            return self._placed(ticks, signals)
        if self._transit is not None:
            return self._late(self._transit, ticks, signals)
        return self.intents(ticks, signals)

    def _placed(self, ticks: Ticks, signals: Signals) -> Iterator[list[Intent]]:
        """The orders that a strategy has placed itself: all are of the last tick."""
        desk = self.context.orders
        while True:
            while desk.has_due():
                due, tick = desk.take(MAX_BATCH_ORDERS), ticks[-1]
                yield [PlacedIntent(each, self.symbols[each.symbol_index], tick) for each in due]
            if not self._finish(ticks, signals):
                return

    def _late(self, transit: Transit, ticks: Ticks, signals: Signals) -> Iterator[list[Intent]]:
        """The orders of signals whose way to the market these ticks end."""
        show = partial(self._finish, ticks, signals)
        return transit.groups(ticks, signals, self._decide, self.shares, show, MAX_BATCH_ORDERS)

    def _finish(self, ticks: Ticks, signals: Signals) -> bool:
        """Show the last tick, if it was postponed."""
        try:
            return self._stepper is not None and self._stepper.finish(signals)
        except Exception as error:
            self.strategy.failed_tick = error, describe_tick(ticks[-1], self.symbols)
            raise self._failure(ticks, error) from error

    def follow(self, ticks: Ticks) -> None:
        """Take note of ticks for which no order is sent, whatever the signals."""
        if self._marks is not None:
            self._marks.follow(ticks)

    def intents(self, ticks: Ticks, signals: Signals) -> Iterator[list[Intent]]:
        """Groups of orders; settle each group before reading the next.

        A group ends before the next signal for a symbol that already has an order in it, since that
        decision depends on the answer.  So decisions do not depend on how ticks are batched.

        Raises:
            StrategyError: a signal other than +1, -1, 2, 0.
        """
        start, count = 0, len(ticks)
        while start < count:
            intents, start = self._decide(ticks, signals, start)
            if intents:
                yield intents

    def _decide(self, ticks: Ticks, signals: Signals, start: int) -> tuple[list[Intent], int]:
        self._busy.fill(0)
        try:
            return self._gate.intents(ticks, signals, start)
        except ValueError as error:
            raise self._failure(ticks, error) from error

    def one_by_one(self, ticks: Ticks, signals: Signals) -> Iterator[Intent] | None:
        """As :meth:`intents`, but settle each before the next.  None: use :meth:`orders`."""
        if self.told or self._marks is not None or self._transit is not None:
            return None
        try:
            return self._gate.one_by_one(ticks, signals)
        except ValueError as error:
            raise self._failure(ticks, error) from error

    def qty(self, intent: Intent) -> int:
        """Units to order, before the order is settled."""
        return intent.qty if isinstance(intent, SizedIntent) else self.shares.wanted(intent)

    def order(self, intent: Intent, client: str) -> EncodedOrder:
        """The order, without marks; to be called before it is settled."""
        qty = self.qty(intent)
        return EncodedOrder(
            intent.order_id,
            encode_order(
                intent.order_id,
                client,
                SIGNAL_NAMES[intent.signal],
                intent.symbol,
                Raw(self.scale.qty_text(qty).encode()) if self.scale.decimals else qty,
                intent.price,
                intent.event_ns,
                self._proof,
                maker=isinstance(intent, PlacedIntent) and intent.due.maker,
            ),
        )

    def settle(self, intent: Intent, filled_qty: int) -> None:
        """Apply the answer; ``filled_qty`` is 0 if the order was rejected."""
        if self._transit is not None and isinstance(intent, SizedIntent):
            self.latency_cost += intent.moved * filled_qty
        if self.places or not self._every:
            index = intent.symbol_index
            self.hold(index, self.held(index) + intent.signal * filled_qty)

    def tell(self, intent: Intent, ordered_qty: int, answer: Outcome) -> None:
        """Tell the strategy how its order was answered; only if it is :attr:`told`.

        Raises:
            StrategyError: the strategy raised.
        """
        order_id, side = intent.order_id, SIGNAL_NAMES[intent.signal]
        number, amount = self.scale.qty, self.scale.amount
        order, maker = None, False
        refused = bool(answer.code) or answer.filled_qty <= 0
        if isinstance(intent, PlacedIntent):
            order, maker = intent.due.order, intent.due.maker
            self.context.orders.answered(order, answer.filled_qty, refused=refused, maker=maker)
        place = (order_id, intent.seq, intent.event_ns, intent.symbol, side)
        if refused:
            reject = Reject(*place, number(ordered_qty), answer.code, answer.msg, order)
            self._call("on_reject", reject, order_id=order_id, symbol=intent.symbol)
            return
        units = to_units(intent.price) if answer.price is None else answer.price
        qty, fee, borrow = answer.filled_qty, answer.fee, answer.borrow
        desk = self.context.desk
        desk.execute(intent.symbol_index, intent.signal, qty, units, fee, borrow)
        paid = (money(units), units, amount(fee), amount(borrow))
        fill = Fill(*place, number(qty), number(ordered_qty), *paid, order, maker)
        self._call("on_fill", fill, order_id=order_id, symbol=intent.symbol)

    def start(self, note: Callable[[str, int, dict[str, Any]], None] | None = None) -> None:
        """Tell the strategy that the run begins; ``note`` writes what it logs, until changed.

        Raises:
            StrategyError: the strategy raised.
        """
        self.context.desk.log_to(note)
        self._call("on_start")

    def stale(self, age_s: float, *, repeated: bool) -> dict[str, int]:
        """Tell the strategy that the feed is silent; returns more fields for the log.

        ``repeated``: a restart repeats no silence, so what the strategy places now has no effect.

        Raises:
            StrategyError: the strategy raised.
        """
        orders = self.context.orders
        before, was_deaf = orders.ignored, orders.deaf
        orders.deaf = repeated or was_deaf
        self._call("on_stale", age_s)
        orders.deaf = was_deaf
        return {"orders_ignored": ignored} if (ignored := orders.ignored - before) else {}

    def stop(self) -> None:
        """Tell the strategy that the run is over, or this process is stopped; cancel its orders.

        Raises:
            StrategyError: the strategy raised.
        """
        orders = self.context.orders
        orders.deaf = True
        self._call("on_stop")
        self.left_in_transit = self.context.in_transit
        if self._transit is not None:
            self._transit.close()
        self.left_open = orders.close()

    def _call(self, name: str, *arguments: object, **details: object) -> None:
        strategy = type(self.strategy)
        try:
            getattr(self.strategy, name)(*arguments)
        except Exception as error:
            place = place_of(error, files_of(strategy, Strategy))
            place = place or place_of_method(strategy, Strategy, name)
            what = f"{strategy.__name__} failed in {name}"
            if details:
                what += f" of order {details['order_id']}"
            raise failure(what, error, place, **details) from error

    def held(self, index: int) -> int:
        """The units held in a symbol, negative when short."""
        return self.shares.qty(index)

    def hold(self, index: int, qty: int) -> None:
        """Set the units held in a symbol, negative when short."""
        self.shares.hold(index, qty)
        if self._marks is not None:
            self._marks.add_symbol(index)
