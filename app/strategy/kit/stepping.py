"""Shows a strategy its ticks one by one, where it wants more than ticks.

A strategy that asks for its position, or is told of its fills, sees the answer to each order before
its next tick: the ticks are cut after each that orders.  So its decisions are the same however the
ticks were batched.  All other strategies get whole batches.
"""

import dis
from collections.abc import Callable, Iterator, Set
from functools import lru_cache
from types import CodeType
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from app.kernel import _kernel
from app.model.timestamps import NS_PER_S
from app.strategy.kit.desk import Desk
from app.strategy.kit.transit import Transit

ANSWERS: Final = {"position", "average_price", "realised", "unrealised", "holding"}
"""Methods of a strategy whose result depends on answers."""

SIGNALS: Final = {"BUY": 1, "SELL": -1, "FLAT": _kernel.FLAT, "HOLD": 0}

CODES_KEPT: Final = 16
"""Strategies whose code is read once: reading takes as long as some thousand ticks."""

Ticks = npt.NDArray[np.void]
Signals = npt.NDArray[np.int8]


def overrides(strategy: type, base: type, name: str) -> bool:
    """Whether a class has its own version of a method of ``base``."""
    return getattr(strategy, name) is not getattr(base, name)


def wants_answers(strategy: type, base: type) -> bool:
    """Whether decisions may depend on answers: the class says so, or its code shows it."""
    said = getattr(strategy, "sees_answers", None)
    if said is not None:
        return bool(said)
    if any(overrides(strategy, base, name) for name in ("on_fill", "on_reject")):
        return True
    return _reads_answers(code_by_kind(strategy, base, ANSWERS))


Code = tuple[tuple[frozenset[str], tuple[CodeType, ...]], ...]
"""For each class: those of the asked names that are its own, and the code of its functions."""


def code_by_kind(strategy: type, base: type, asked: Set[str]) -> Code:
    """What the code of a class and its parents shows is a function of this."""
    return tuple(
        [
            (frozenset(name for name in vars(kind) if name in asked), tuple(code_of(kind)))
            for kind in own_kinds(strategy, base)
        ]
    )


@lru_cache(maxsize=CODES_KEPT)
def _reads_answers(code: Code) -> bool:
    read: set[str] = set()
    stored: set[str] = set()
    for own, functions in code:
        stored |= own  # its own method of that name is none of ours
        for function in functions:
            for step in dis.get_instructions(function):
                if step.argval in ANSWERS:
                    (stored if step.opname == "STORE_ATTR" else read).add(step.argval)
    return bool(read - stored)


def own_kinds(strategy: type, base: type) -> list[type]:
    """A strategy's class and its parents, up to ``base``."""
    return [kind for kind in strategy.__mro__ if issubclass(kind, base) and kind is not base]


def code_of(kind: type) -> Iterator[CodeType]:
    """The code of all functions of a class, with what is defined inside them."""
    waiting: list[Any] = []
    for value in vars(kind).values():
        waiting += [value, *(getattr(value, name, None) for name in ("fget", "__func__"))]
    while waiting:
        value = waiting.pop()
        value = getattr(value, "__wrapped__", value)
        code = value if isinstance(value, CodeType) else getattr(value, "__code__", None)
        if isinstance(code, CodeType):
            yield code
            waiting += [each for each in code.co_consts if isinstance(each, CodeType)]


class Cut(Exception):
    """No tick after this one before its orders are answered."""


class Stepper:
    """Shows ticks to one strategy, and cuts them after each that orders.

    A tick that meets orders in transit is the last of its piece, too, if the strategy is told of
    answers.  It is postponed: :meth:`finish` shows it when they are answered, so the strategy
    decides with what it then holds.
    """

    def __init__(
        self,
        strategy: Any,
        context: Any,
        position: npt.NDArray[np.int8],
        *,
        every: bool,
        answers: bool,
        batch: bool,
        timer: Callable[[int], None] | None,
    ) -> None:
        """``context``: what the strategy knows besides the ticks; each call sets its sentiment.

        ``batch``: the strategy has its own ``on_batch``, which then gets one tick a call.
        ``timer``: its ``on_timer``, if it has one.
        """
        self._strategy, self._context, self._position = strategy, context, position
        self._desk: Desk = context.desk
        self._every, self._answers, self.batch = every, answers, batch
        self._timer, self._period_ns = timer, round(strategy.timer_s * NS_PER_S)
        self._next_timer_ns: int | None = None
        self._decided = "HOLD"
        self._transit: Transit | None = context.transit if answers else None
        self._postponed: _kernel.Tick | Ticks | None = None
        self._desk.keep(strategy.history_ticks)
        self._desk.told = answers

    def decide(
        self, ticks: Ticks, sentiment: npt.NDArray[np.int16], signals: Signals
    ) -> tuple[int, Signals]:
        """Decide on ticks up to and including the first that becomes an order.

        Returns how many these are, and their signals.
        """
        context = self._context
        if self.batch:
            for at in range(len(ticks)):
                context.sentiment = sentiment[at : at + 1]
                tick = ticks[at : at + 1]
                self._see(tick)
                if self._arrives(int(tick["symbol"][0]), int(tick["event_ns"][0])):
                    self._postponed, signals[at] = tick, 0
                    return at + 1, signals[: at + 1]
                signals[at] = self._one(tick)
                if self._answers and self._orders(int(ticks["symbol"][at]), int(signals[at])):
                    return at + 1, signals[: at + 1]
            return len(ticks), signals
        context.sentiment = sentiment
        try:
            _kernel.call_on_tick(self._on_tick, ticks, sentiment, context.symbols, signals)
        except Cut:
            at = int(np.argmax(signals == _kernel.UNDECIDED))
            signals[at] = SIGNALS[self._decided]
            self._decided = "HOLD"
            return at + 1, signals[: at + 1]
        return len(ticks), signals

    def finish(self, signals: Signals) -> bool:
        """Show the tick that was postponed, the last of its piece; False if it has been shown.

        Its signal is written to ``signals``.
        """
        tick, self._postponed = self._postponed, None
        if tick is None:
            return False
        signals[-1] = self._signal_of(tick) if isinstance(tick, _kernel.Tick) else self._one(tick)
        return True

    def _postpone(self, tick: _kernel.Tick) -> NoReturn:
        self._postponed = tick
        raise Cut

    def _arrives(self, index: int, event_ns: int) -> bool:
        return self._transit is not None and self._transit.arrives(index, event_ns)

    def _signal_of(self, tick: _kernel.Tick) -> int:
        answer = self._strategy.on_tick(tick)
        if answer is None:
            return 0
        if answer not in SIGNALS:
            raise ValueError(f"on_tick returned {answer!r}: BUY, SELL, FLAT, HOLD or None")
        return SIGNALS[answer]

    def _on_tick(self, tick: _kernel.Tick) -> str | None:
        index = self._desk.index_of(tick.symbol)
        if self._timer is not None:
            self._tell_time(tick.event_ns)
        self._desk.see(index, tick.price, tick.seq)
        if self._arrives(index, tick.event_ns):
            self._postpone(tick)
        answer: str | None = self._strategy.on_tick(tick)
        if self._answers and isinstance(answer, str):
            signal = SIGNALS.get(answer, 0)
            if signal and self._orders(index, signal):
                self._decided = answer
                raise Cut
        return answer

    def _see(self, tick: Ticks) -> None:
        """One tick, before the strategy decides on it."""
        if self._timer is not None:
            self._tell_time(int(tick["event_ns"][0]))
        self._desk.see(int(tick["symbol"][0]), float(tick["price"][0]), int(tick["seq"][0]))

    def _one(self, tick: Ticks) -> int:
        """The signal of ``on_batch`` for one tick."""
        signals = self._strategy.on_batch(tick)
        if signals.dtype != np.int8 or signals.shape != (1,):
            raise ValueError(f"{signals.dtype} {signals.shape}, not int8 (1,)")
        return int(signals[0])

    def _orders(self, index: int, signal: int) -> bool:
        """Whether the gate makes an order of it; an invalid signal is the gate's to refuse."""
        if self._every:
            return signal in (1, -1)
        target = 0 if signal == _kernel.FLAT else signal
        return signal != 0 and self._position[index] != target

    def _tell_time(self, event_ns: int) -> None:
        """Before the first tick of each new period of event time."""
        period_ns = self._period_ns
        if self._next_timer_ns is None:
            self._next_timer_ns = (event_ns // period_ns + 1) * period_ns
        elif event_ns >= self._next_timer_ns:
            begun_ns = event_ns // period_ns * period_ns
            self._next_timer_ns = begun_ns + period_ns
            assert self._timer is not None
            self._timer(begun_ns)
