"""Turns a batch of ticks into orders; no sockets, clock or shared memory.

The strategy process, its recovery and the backtest all run this code, so they send the same orders.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from app.config import Settings
from app.kernel import _kernel
from app.kernel._kernel import Intent
from app.model.orders import order_id_of_tick
from app.model.wire.order_json import encode_order
from app.strategy.base import SIGNAL_NAMES, Context, Strategy
from app.strategy.failure import (
    StrategyError,
    failure,
    files_of,
    place_of,
    place_of_method,
    signature_problem,
)

MAX_BATCH_TICKS = 8192
MAX_BATCH_ORDERS = 512
BEFORE_OFFSET = 2
"""Added by the kernel's OrderGate, so that 0 can stand for "no order"."""

_INT8 = np.dtype(np.int8)

Join = Callable[[npt.NDArray[np.void], npt.NDArray[np.int16]], None]


class Engine:
    """One strategy with its positions.

    ``position[i]`` is -1 short, 0 flat, +1 long in symbol ``i``.

    Raises:
        StrategyError: the strategy cannot be constructed with these settings.
    """

    def __init__(self, strategy: type[Strategy], symbols: list[str], settings: Settings) -> None:
        self.symbols = symbols
        self.context = Context(symbols, settings)
        self.strategy = self._construct(strategy)
        self.position = np.zeros(len(symbols), np.int8)
        self._qty = settings.order_qty
        self._every = settings.order_mode == "every"
        self._before_order = np.zeros(len(symbols), np.uint8)
        """Per symbol: the position before its unanswered order, plus BEFORE_OFFSET; 0: none."""
        self._sentiment = np.full(MAX_BATCH_TICKS, -1, np.int16)
        self._gate = _kernel.OrderGate(
            self.position, self._before_order, symbols, self._every, MAX_BATCH_ORDERS
        )

    def _construct(self, strategy: type[Strategy]) -> Strategy:
        try:
            made = strategy(self.context)
        except Exception as error:
            place = place_of(error, files_of(strategy, Strategy))
            place = place or place_of_method(strategy, Strategy, "__init__")
            raise failure(strategy.__name__, error, place) from error
        for name, argument in (("on_tick", "tick"), ("on_batch", "ticks")):
            if problem := signature_problem(getattr(made, name), argument):
                wrong = TypeError(problem)
                raise failure(
                    strategy.__name__, wrong, place_of_method(strategy, Strategy, name)
                ) from wrong
        return made

    def signals(self, ticks: npt.NDArray[np.void], join: Join) -> npt.NDArray[np.int8]:
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

    def _failure(self, ticks: npt.NDArray[np.void], error: Exception) -> StrategyError:
        strategy = type(self.strategy)
        place = place_of(error, files_of(strategy, Strategy))
        place = place or place_of_method(strategy, Strategy, "on_batch", "on_tick")
        failed = getattr(self.strategy, "failed_tick", None)
        if failed is not None and failed[0] is error:
            tick = failed[1]
            what = f"tick {tick['seq']} ({tick['symbol']}, {tick['event_time']})"
            return failure(f"{strategy.__name__} failed on {what}", error, place, **tick)
        first, last = int(ticks["seq"][0]), int(ticks["seq"][-1])
        what = f"ticks {first} to {last}"
        batch = {"first_seq": first, "last_seq": last}
        return failure(f"{strategy.__name__} failed on {what}", error, place, **batch)

    def intents(
        self, ticks: npt.NDArray[np.void], signals: npt.NDArray[np.int8]
    ) -> Iterator[list[Intent]]:
        """Groups of orders; settle each group before reading the next.

        A group ends before the next signal for a symbol that already has an order in it, since that
        decision depends on the answer.  So decisions do not depend on how ticks are batched.

        Raises:
            StrategyError: a signal other than +1, -1, 0.
        """
        start, count = 0, len(ticks)
        while start < count:
            try:
                intents, start = self._gate.intents(ticks, signals, start)
            except ValueError as error:
                raise self._failure(ticks, error) from error
            if intents:
                yield intents
                self._before_order.fill(0)

    def qty(self, intent: Intent) -> int:
        """Shares to order; valid until the next group is read.

        ORDER_QTY from flat, twice as many from the opposite side, so that the shares held match the
        position.
        """
        if self._every:
            return self._qty
        before = int(self._before_order[intent.symbol_index]) - BEFORE_OFFSET
        return self._qty * abs(intent.signal - before)

    def order_frame(self, intent: Intent, client: str) -> bytes:
        """The order on the wire, delimiter included; valid as long as :meth:`qty`."""
        return encode_order(
            order_id_of_tick(intent.seq),
            client,
            SIGNAL_NAMES[intent.signal],
            intent.symbol,
            self.qty(intent),
            intent.price,
            intent.event_ns,
        )

    def settle(self, intent: Intent, accepted: bool) -> None:
        """Apply the answer: a rejected order restores the position before it."""
        if not accepted and not self._every:
            before = int(self._before_order[intent.symbol_index]) - BEFORE_OFFSET
            self.position[intent.symbol_index] = before
