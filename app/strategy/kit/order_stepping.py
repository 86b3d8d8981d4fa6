"""Shows ticks to a strategy that places orders itself; they are cut after each that sends one."""

import dis
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.kernel import _kernel
from app.strategy.kit.order_desk import Due, OrderDesk
from app.strategy.kit.sized_intent import SizedIntent
from app.strategy.kit.stepping import CODES_KEPT, Code, Cut, Stepper, code_by_kind, overrides

PLACES: Final = {"buy", "sell", "target", "cancel", "open_orders"}
"""Methods of a strategy that need its orders."""
SIGNALS: Final = {"BUY", "SELL", "FLAT"}
NO_SIGNALS: Final = (
    "a strategy that places orders itself (buy, sell, target, cancel) returns no signals, but "
    "None; set places_orders = False on its class if these methods are none of the stack's"
)


def places_orders(strategy: type, base: type) -> bool:
    """Whether a class places orders itself: it says so, or its code shows it."""
    said = getattr(strategy, "places_orders", None)
    if said is not None:
        return bool(said)
    called = _called(code_by_kind(strategy, base, PLACES))
    return any(not overrides(strategy, base, name) for name in called)


@lru_cache(maxsize=CODES_KEPT)
def _called(kinds: Code) -> frozenset[str]:
    read: set[str] = set()
    stored: set[str] = set()
    for _, functions in kinds:
        for function in functions:
            for step in dis.get_instructions(function):
                if step.argval in PLACES and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                    read.add(step.argval)
                elif step.opname == "STORE_ATTR":
                    stored.add(step.argval)
    return frozenset(read - stored)


def mixture(strategy: type, base: type) -> str:
    """What a class that places orders must not do besides; empty if its code shows nothing."""
    if overrides(strategy, base, "on_batch"):
        return (
            "on_batch: a strategy that places orders itself has on_tick, because it sees the "
            "answers to its orders before its next tick"
        )
    found = _returned(strategy.on_tick) & SIGNALS  # type: ignore[attr-defined]
    return f"on_tick returns {', '.join(sorted(found))}: {NO_SIGNALS}" if found else ""


def _returned(method: Any) -> set[str]:
    """The texts that the code of a method shows to be returned."""
    code = getattr(method, "__code__", None)
    steps = list(dis.get_instructions(code)) if code else []
    at = {step.offset: step for step in steps}
    found = set()
    for step, after in pairwise(steps):
        if step.opname == "LOAD_CONST" and isinstance(step.argval, str):
            last = at.get(after.argval) if after.opname == "JUMP_FORWARD" else after
            if last is not None and last.opname == "RETURN_VALUE":
                found.add(step.argval)
    return found | {s.argval for s in steps if s.opname == "RETURN_CONST" and type(s.argval) is str}


class PlacedIntent(SizedIntent):
    """An order that the strategy has placed itself, on the tick that sends it."""

    def __init__(self, due: Due, symbol: str, tick: np.void) -> None:
        super().__init__(
            tick,
            (due.symbol_index, symbol),
            (due.sign, due.sign),
            due.price,
            due.qty,
            due.moved,
            due.nth,
        )
        self.due = due


class OrderStepper(Stepper):
    """Shows ticks one by one.

    A tick that sends orders before the strategy decides on it, because it reaches waiting ones or
    ends a period of the timer, is postponed (:meth:`Stepper.finish`).
    """

    def __init__(
        self,
        strategy: Any,
        context: Any,
        position: npt.NDArray[np.int8],
        timer: Callable[[int], None] | None,
    ) -> None:
        self._order_desk: OrderDesk = context.orders
        self._order_desk.active = True
        self._on_timer = timer
        told = None if timer is None else self._at_timer
        super().__init__(
            strategy, context, position, every=False, answers=True, batch=False, timer=told
        )

    def _at_timer(self, event_ns: int) -> None:
        """What the strategy does here it does at this time, and has not seen the tick."""
        assert self._on_timer is not None
        self._order_desk.at(event_ns)
        self._on_timer(event_ns)

    def _on_tick(self, tick: _kernel.Tick) -> str | None:
        if self._timer is not None:
            self._tell_time(tick.event_ns)
        index = self._desk.index_of(tick.symbol)
        self._desk.see(index, tick.price, tick.seq)
        self._order_desk.see(index, tick.price, tick.seq, tick.event_ns)
        if self._order_desk.has_due():
            self._postpone(tick)
        self._signal_of(tick)
        if self._order_desk.has_due():
            raise Cut
        return None

    def _signal_of(self, tick: _kernel.Tick) -> int:
        answer = self._strategy.on_tick(tick)
        if answer is not None and answer != "HOLD":
            raise ValueError(f"on_tick returned {answer!r}: {NO_SIGNALS}")
        return 0
