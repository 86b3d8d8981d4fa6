"""Orders of signals with latency: against a naive twin, however the ticks are batched."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.settings import Settings
from app.model.money import to_units
from app.model.tick import TICK_DTYPE
from app.strategy.base import Strategy
from app.strategy.engine import Engine
from app.strategy.failure import StrategyError
from app.strategy.kit.outcome import Outcome

SYMBOLS = ["A", "B", "C"]
MS = 1_000_000
SIGNALS = {"B": 1, "S": -1, "F": 2, "-": 0}
WORDS = {1: "BUY", -1: "SELL", 2: "FLAT", 0: "HOLD"}


class Sent(NamedTuple):
    """An order as it was sent; ``moved``: the market since the decision, against it."""

    id: int
    tick: int
    symbol: int
    signed_qty: int
    price: float
    moved: int


class Scripted(Strategy):
    """Says what it is told to, by the sequence of the tick; whole batches at once."""

    script: list[int]

    def on_batch(self, ticks: Any) -> Any:
        return np.array([self.script[seq] for seq in ticks["seq"].tolist()], np.int8)


class ByTick(Scripted):
    """The same in ``on_tick``."""

    on_batch = Strategy.on_batch

    def on_tick(self, tick: Any) -> str:
        return WORDS[self.script[tick.seq]]


class Told(ByTick):
    """It is told of the answers, and notes what it holds at each tick."""

    def on_start(self) -> None:
        self.held: list[int] = []

    def on_tick(self, tick: Any) -> str:
        self.held.append(self.position(tick.symbol))
        return super().on_tick(tick)


class ToldByBatch(Scripted):
    """The same with ``on_batch``, which then gets one tick a call."""

    sees_answers = True

    def on_start(self) -> None:
        self.held: list[int] = []

    def on_batch(self, ticks: Any) -> Any:
        self.held.append(self.position(int(ticks["symbol"][0])))
        return super().on_batch(ticks)


KINDS = (Scripted, ByTick, Told, ToldByBatch)


def filled(order_id: int, qty: int) -> int:
    """Some orders are refused, others executed in part."""
    return (0, qty, max(1, qty // 2), qty)[order_id % 4]


def drive(
    kind: type[Strategy],
    ticks: Any,
    script: list[int],
    cut: list[int],
    settings: Settings,
    fills: Callable[[int, int], int] = filled,
) -> tuple[Engine, list[Sent]]:
    """An engine after these ticks, batched at ``cut``, and the orders that it sent."""
    engine = Engine(type("Run", (kind,), {"script": script}), SYMBOLS, settings)
    engine.start()
    found: list[Sent] = []
    for start, end in pairwise(sorted({0, len(ticks), *(at for at in cut if at < len(ticks))})):
        for piece, signals in engine.decisions(ticks[start:end], lambda _t, out: out.fill(-1)):
            for intents, orders in engine.orders(piece, signals, "c"):
                assert len(intents) == len(orders)
                for intent in intents:
                    qty = engine.qty(intent)
                    moved = getattr(intent, "moved", 0)
                    signed = intent.signal * qty
                    place = intent.order_id, intent.seq, intent.symbol_index
                    found.append(Sent(*place, signed, intent.price, moved))
                    done = fills(intent.order_id, qty)
                    engine.settle(intent, done)
                    if engine.told:
                        engine.tell(intent, qty, Outcome(done, None))
            assert [SIGNALS_OF[int(s)] for s in signals] == [
                SIGNALS_OF[script[int(seq)]] for seq in piece["seq"]
            ], "signals are counted as the strategy gave them"
    return engine, found


SIGNALS_OF = {value: key for key, value in SIGNALS.items()}


class Order(NamedTuple):
    """``goal``: the position it is to lead to; None: it is for a fixed quantity."""

    due_ns: int
    side: int
    goal: int | None
    price: float


def met(order: Order, tick: tuple[int, int, float], qty: int, nth: int) -> Sent:
    seq, symbol, price = tick
    moved = order.side * (to_units(price) - to_units(order.price))
    return Sent(seq + 1 + nth * 2**40, seq, symbol, order.side * qty, price, moved)


def executed(order: Sent) -> int:
    qty = filled(order.id, abs(order.signed_qty))
    return qty if order.signed_qty > 0 else -qty


def naive(
    ticks: Any, script: list[int], latency_ns: int, *, every: bool, qty: int = 10, room: int = 999
) -> tuple[list[Sent], int, list[int]]:
    """Tick by tick: orders, how many are in transit at the end, and what each tick finds held."""
    held, clock = dict.fromkeys(range(3), 0), dict.fromkeys(range(3), 0)
    waiting: dict[int, list[Order]] = {symbol: [] for symbol in range(3)}
    sent: list[Sent] = []
    found: list[int] = []

    def send(orders: list[Order], tick: tuple[int, int, float]) -> None:
        nth = 0
        for order in orders:
            # From where the orders before it have led, not from where they should have.
            wanted = qty if order.goal is None else (order.goal - held[tick[1]]) * order.side
            if wanted > 0:
                sent.append(met(order, tick, wanted, nth))
                held[tick[1]] += executed(sent[-1])
                nth += 1

    rows = zip(*(ticks[name].tolist() for name in ("symbol", "event_ns", "price")), strict=True)
    for seq, (symbol, event_ns, price) in enumerate(rows):
        tick = seq, symbol, price
        event_ns = clock[symbol] = max(clock[symbol], event_ns)
        arrived = [order for order in waiting[symbol] if order.due_ns <= event_ns]
        waiting[symbol] = waiting[symbol][len(arrived) :]
        send(arrived, tick)
        found.append(held[symbol])
        order = order_of(script[seq], waiting[symbol], held[symbol], qty, every=every)
        if order is None:
            continue
        order = order._replace(due_ns=event_ns + latency_ns, price=price)
        if latency_ns:
            if sum(map(len, waiting.values())) < room:
                waiting[symbol].append(order)
        else:
            send([order], tick)
    return sent, sum(map(len, waiting.values())), found


def order_of(
    signal: int, waiting: list[Order], held: int, qty: int, *, every: bool
) -> Order | None:
    """What a signal asks for."""
    if every:
        return Order(0, signal, None, 0.0) if signal in (1, -1) else None
    goal = {1: qty, -1: -qty}.get(signal, 0)
    coming = waiting[-1].goal if waiting else held
    assert coming is not None
    if signal == 0 or (goal > 0) - (goal < 0) == (coming > 0) - (coming < 0):
        return None
    return Order(0, 1 if goal > coming else -1, goal, 0.0)


rows = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from([0, 0, 1, 2, 5]),
        st.sampled_from([99.9, 100.0, 100.1, 3e6]),
        st.sampled_from([1, -1, 2, 0, 1, -1]),
    ),
    min_size=1,
    max_size=80,
)
"""Symbol, milliseconds since the tick before (0: the same time), price, signal."""


def ticks_of(made: list[tuple[int, int, float, int]]) -> tuple[Any, list[int]]:
    ticks = np.zeros(len(made), TICK_DTYPE)
    ticks["seq"] = range(len(made))
    ticks["symbol"] = [row[0] for row in made]
    ticks["event_ns"] = np.cumsum([row[1] for row in made]) * MS
    ticks["price"] = [row[2] for row in made]
    return ticks, [row[3] for row in made]


def first_from(ticks: Any, symbol: int, event_ns: int) -> int:
    return next(
        seq
        for seq, tick in enumerate(ticks)
        if tick["symbol"] == symbol and tick["event_ns"] >= event_ns
    )


@given(
    rows,
    st.lists(st.integers(1, 80), max_size=6),
    st.sampled_from([0.0, 0.000001, 1.0, 2.0, 7.0, 1000.0]),
    st.booleans(),
    st.sampled_from(KINDS),
)
def test_the_orders_are_those_of_a_naive_twin(
    made: list[tuple[int, int, float, int]],
    cut: list[int],
    latency_ms: float,
    every: bool,
    kind: type[Strategy],
) -> None:
    ticks, script = ticks_of(made)
    latency_ns = round(latency_ms * MS)
    mode = "every" if every else "position"
    settings = Settings(paper_latency_ms=latency_ms, order_mode=mode)  # type: ignore[arg-type]
    expected, left, held = naive(ticks, script, latency_ns, every=every)
    engine, found = drive(kind, ticks, script, cut, settings)
    assert found == expected
    assert (engine.context.in_transit, len({order.id for order in found})) == (left, len(found))
    if not every and isinstance(engine.strategy, Told | ToldByBatch):
        assert engine.strategy.held == held, "answers come before the tick that met the order"
    cost = sum(order.moved * filled(order.id, abs(order.signed_qty)) for order in found)
    assert engine.latency_cost == (cost if latency_ns else 0)
    engine.stop()
    assert (engine.left_in_transit, engine.context.in_transit) == (left, 0)


@given(rows, st.lists(st.integers(1, 80), max_size=6), st.integers(1, 12), st.sampled_from(KINDS))
def test_every_fill_is_at_the_first_tick_of_its_symbol_that_is_late_enough(
    made: list[tuple[int, int, float, int]], cut: list[int], latency_ms: int, kind: type[Strategy]
) -> None:
    """With ORDER_MODE=every each signal is an order, so each fill has its decision."""
    ticks, script = ticks_of(made)
    settings = Settings(paper_latency_ms=latency_ms, order_mode="every")
    _, found = drive(kind, ticks, script, cut, settings, lambda _id, qty: qty)
    for symbol in range(3):
        decided = [
            seq
            for seq, signal in enumerate(script)
            if signal in (1, -1) and ticks["symbol"][seq] == symbol
        ]
        met = [order for order in found if order.symbol == symbol]
        for seq, order in zip(decided, met, strict=False):
            due_ns = int(ticks["event_ns"][seq]) + latency_ms * MS
            assert order.tick == first_from(ticks, symbol, due_ns)
            assert ticks["event_ns"][order.tick] >= due_ns
            assert order.signed_qty == script[seq] * settings.order_qty
        for seq in decided[len(met) :]:
            due_ns = int(ticks["event_ns"][seq]) + latency_ms * MS
            later = ticks[ticks["symbol"] == symbol]["event_ns"]
            assert not (later >= due_ns).any(), "in transit: no tick is late enough"


@given(rows, st.lists(st.integers(1, 80), max_size=6), st.booleans(), st.sampled_from(KINDS))
def test_without_latency_nothing_is_in_transit(
    made: list[tuple[int, int, float, int]], cut: list[int], every: bool, kind: type[Strategy]
) -> None:
    ticks, script = ticks_of(made)
    mode = "every" if every else "position"
    _, usual = drive(kind, ticks, script, cut, Settings(order_mode=mode))  # type: ignore[arg-type]
    engine, found = drive(
        kind, ticks, script, cut,
        Settings(order_mode=mode, paper_latency_ms=0.0),  # type: ignore[arg-type]
    )  # fmt: skip
    assert found == usual
    assert engine.context.transit is None
    assert all(order.tick == (order.id - 1) % 2**40 for order in found)


def test_a_standing_signal_sends_one_order_and_an_opposite_one_leads_from_there() -> None:
    made = [(0, 1, 100.0, 1), (0, 1, 101.0, 1), (0, 1, 102.0, -1), (0, 1, 103.0, -1)]
    ticks, script = ticks_of([*made, (0, 1, 104.0, 0), (0, 1, 105.0, 0)])
    engine, found = drive(
        Told, ticks, script, [], Settings(paper_latency_ms=3.0), lambda _id, qty: qty
    )
    assert [(o.tick, o.signed_qty, o.price) for o in found] == [(3, 10, 103.0), (5, -20, 105.0)]
    assert engine.latency_cost == (10 * 3 - 20 * 3) * 10**9
    assert isinstance(engine.strategy, Told)
    assert engine.strategy.held == [0, 0, 0, 10, 10, -10], "position() is what is executed"


def test_after_a_refusal_no_later_order_overshoots() -> None:
    """Each signal is opposite to the one before, and the latency longer than between them."""
    signals = [1, -1] * 6
    ticks, script = ticks_of([(0, 1, 100.0, signal) for signal in [*signals, *[0] * 8]])

    def at_most_20(order_id: int, qty: int) -> int:
        return 0 if order_id == 5 or qty > 20 else qty

    _, found = drive(Told, ticks, script, [], Settings(paper_latency_ms=4.0), at_most_20)
    assert [order.signed_qty for order in found] == [10, -10, *[20, -20] * 5]


busy_rows = st.lists(
    st.tuples(
        st.integers(0, 1), st.integers(0, 2), st.just(100.0), st.sampled_from([1, -1, 1, -1, 2])
    ),
    min_size=10,
    max_size=80,
)
"""Signals that change within the latency."""


@given(
    busy_rows,
    st.lists(st.integers(1, 80), max_size=6),
    st.sampled_from([0.0, 1.0, 3.0, 7.0]),
    st.lists(st.sampled_from([0, 25, 50, 100]), min_size=3, max_size=9),
    st.sampled_from(KINDS),
)
def test_the_position_never_exceeds_the_quantity_of_an_order(
    made: list[tuple[int, int, float, int]],
    cut: list[int],
    latency_ms: float,
    percents: list[int],
    kind: type[Strategy],
) -> None:
    """Whatever is refused or filled in part; so an order is for at most twice ORDER_QTY."""
    ticks, script = ticks_of(made)
    percent = {order_id: percents[order_id % len(percents)] for order_id in range(len(made) + 1)}
    held = dict.fromkeys(range(3), 0)

    def share(order_id: int, qty: int) -> int:
        return qty * percent[order_id % 2**40] // 100

    _, found = drive(kind, ticks, script, cut, Settings(paper_latency_ms=latency_ms), share)
    for order in found:
        side = 1 if order.signed_qty > 0 else -1
        assert 0 < abs(order.signed_qty) <= 20
        held[order.symbol] += side * share(order.id, abs(order.signed_qty))
        assert abs(held[order.symbol]) <= 10


def test_whole_seconds_make_a_short_latency_wait_for_the_next_second() -> None:
    """Ticks of the same time are not late enough, however many there are."""
    made = [(0, 1000, 100.0, 1), (0, 0, 101.0, 0), (0, 0, 102.0, 0), (0, 1000, 103.0, 0)]
    ticks, script = ticks_of(made)
    _, found = drive(Scripted, ticks, script, [], Settings(paper_latency_ms=5.0))
    assert [(order.tick, order.price) for order in found] == [(3, 103.0)]


def test_many_orders_that_meet_one_tick_go_in_several_groups_with_ids_of_their_own() -> None:
    ticks, script = ticks_of([(0, 0, 100.0, 1)] * 1300 + [(0, 1, 101.0, 0)])
    settings = Settings(paper_latency_ms=1.0, order_mode="every")
    engine, found = drive(Scripted, ticks, script, [600], settings, lambda _id, qty: qty)
    assert [order.id for order in found] == [1301 + nth * 2**40 for nth in range(1300)]
    assert engine.latency_cost == 1300 * 10 * 10**9


class Wrong(Told):
    """Says what is no signal on the tick that meets its order."""

    def on_tick(self, tick: Any) -> str:
        return "HODL" if tick.seq == 2 else super().on_tick(tick)


def test_an_error_on_a_postponed_tick_names_the_tick() -> None:
    ticks, script = ticks_of([(0, 1, 100.0, 1), (1, 1, 100.0, 0), (0, 5, 100.0, 0)])
    with pytest.raises(StrategyError, match=r"tick 2.*HODL") as caught:
        drive(Wrong, ticks, script, [], Settings(paper_latency_ms=2.0))
    assert caught.value.details["seq"] == 2
