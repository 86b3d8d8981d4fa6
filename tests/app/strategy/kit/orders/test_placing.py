"""A strategy that places its own orders, in the engine: when it sees what, ids, errors."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.backtest import replay as backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.model.money import to_units
from app.model.orders import LIMIT, order_id_of_tick, place_of_order_id, tick_of_order_id
from app.model.wire.order_json import decode
from app.strategy.base import Strategy, load_strategy
from app.strategy.engine import Engine
from app.strategy.failure import StrategyError
from app.strategy.kit.order_stepping import places_orders
from app.strategy.kit.outcome import Outcome
from tests.app.strategy.kit.orders.placing import Placing
from tests.app.strategy.kit.test_stepping import (
    HARD,
    SAMPLE,
    SYMBOLS,
    answer,
    cuts,
    no_sentiment,
    rows,
    ticks_of,
)

Sent = tuple[int, str, int, float, bool]
"""Order id, symbol, signed quantity, price, whether a maker."""


def filled(_seq: int, qty: int, price: float) -> Outcome:
    """All of it, as ordered."""
    return Outcome(qty, to_units(price))


def run(
    engine: Engine, ticks: Any, cut: list[int] | None = None, answers: Any = filled
) -> list[Sent]:
    """All orders of these ticks, batched at ``cut``, each read back from its frame."""
    sent = []
    for start, end in pairwise([0, *sorted(min(at, len(ticks)) for at in cut or []), len(ticks)]):
        if start == end:
            continue
        for piece, signals in engine.decisions(ticks[start:end], no_sentiment):
            assert not signals.any()
            for intents, orders in engine.orders(piece, signals, "me"):
                for intent, order in zip(intents, orders, strict=True):
                    request: Any = decode(order.frame[:-1])
                    qty = engine.qty(intent)
                    assert (request.id, request.qty) == (order.id, qty)
                    outcome = answers(intent.seq, qty, intent.price)
                    price = request.price / 1e9
                    maker = request.type == LIMIT
                    sent.append((order.id, request.symbol, request.side * qty, price, maker))
                    engine.settle(intent, outcome.filled_qty)
                    engine.tell(intent, qty, outcome)
    return sent


def started(strategy: type[Strategy], **chosen: Any) -> Engine:
    engine = Engine(strategy, SYMBOLS, Settings(**chosen))
    engine.start()
    return engine


def strategy(**members: Any) -> type[Strategy]:
    return type("Mine", (Strategy,), members)


@settings(deadline=None)
@given(rows, cuts, st.booleans())
def test_batches_change_nothing(
    made: list[tuple[int, float]], cut: list[int], marked: bool
) -> None:
    limits: dict[str, Any] = {"risk_client_exposure_max": 1e6} if marked else {}
    ticks = ticks_of(made, 7 * 10**9)
    alone, engine = started(Placing, **limits), started(Placing, **limits)
    expected = run(alone, ticks, list(range(len(made))), answer)
    assert run(engine, ticks, cut, answer) == expected
    mine: Any = engine.strategy
    theirs: Any = alone.strategy
    assert (mine.told, mine.pause) == (theirs.told, theirs.pause)
    assert len({order_id for order_id, *_ in expected}) == len(expected)
    assert expected == sorted(expected, key=lambda order: place_of_order_id(order[0]))


def test_ids_of_several_orders_on_one_tick() -> None:
    assert [order_id_of_tick(7, nth) for nth in (0, 1, 8191)] == [
        8,
        (1 << 40) + 8,
        9006099743113224,
    ]
    for seq in (0, 7, (1 << 40) - 1):
        for nth in (0, 1, 8191):
            order_id = order_id_of_tick(seq, nth)
            assert 0 < order_id < 1 << 53 or seq + 1 == 1 << 40
            assert tick_of_order_id(order_id) == seq
            assert place_of_order_id(order_id) == (seq, nth)


def test_a_maker_is_filled_before_the_strategy_sees_the_tick_that_reached_it() -> None:
    class Resting(Strategy):
        def on_start(self) -> None:
            self.seen: list[tuple[Any, ...]] = []

        def on_fill(self, fill: Any) -> None:
            self.seen.append(("fill", fill.seq, fill.price, fill.maker, fill.order.status))

        def on_tick(self, tick: Any) -> None:
            self.seen.append((tick.seq, self.position("A"), len(self.open_orders)))
            if tick.seq == 0:
                self.buy("A", 5, 99.5)

    engine = started(Resting)
    sent = run(engine, ticks_of([(0, 100.0), (1, 50.0), (0, 99.0), (0, 99.0)]))
    assert sent == [(3, "A", 5, 99.5, True)]
    mine: Any = engine.strategy
    assert mine.seen == [
        (0, 0, 0),
        (1, 0, 1),
        ("fill", 2, 99.5, True, "filled"),
        (2, 5, 0),
        (3, 5, 0),
    ]


def test_orders_from_an_answer_are_of_the_same_tick() -> None:
    class Chasing(Strategy):
        def on_fill(self, fill: Any) -> None:
            if fill.side == "BUY":
                self.sell(fill.symbol, fill.qty, 101.0)
                self.sell("B", 1)

        def on_tick(self, tick: Any) -> None:
            if tick.seq == 1:
                self.buy("A", 5)

    ticks = ticks_of([(1, 50.0), (0, 100.0), (0, 101.5)])
    sent = run(started(Chasing), ticks)
    assert sent == [
        (2, "A", 5, 100.0, False),
        ((1 << 40) + 2, "B", -1, 50.0, False),
        (3, "A", -5, 101.0, True),
    ]


def test_orders_of_the_timer_take_the_prices_of_the_tick_that_ends_its_period() -> None:
    class Timed(Strategy):
        timer_s = 10

        def on_start(self) -> None:
            self.held: list[int] = []

        def on_timer(self, event_ns: int) -> None:
            self.target("A", 7)
            self.target("B", -7)

        def on_tick(self, tick: Any) -> None:
            self.held.append(self.position("A"))

    engine = started(Timed)
    ticks = ticks_of([(0, 100.0), (1, 50.0), (0, 102.0), (1, 51.0)], 6 * 10**9)
    assert run(engine, ticks) == [
        (3, "A", 7, 102.0, False),
        ((1 << 40) + 3, "B", -7, 50.0, False),
    ]
    mine: Any = engine.strategy
    assert mine.held == [0, 0, 7, 7]


def test_target_counts_what_is_held_and_on_the_way() -> None:
    class Aiming(Strategy):
        def on_start(self) -> None:
            self.made: list[Any] = []

        def on_tick(self, tick: Any) -> None:
            goals = [5, 5, -5] if tick.seq == 0 else [-5, 0]
            self.made += [self.target("A", goal) for goal in goals]

    engine = started(Aiming)
    sent = run(engine, ticks_of([(0, 100.0), (0, 100.0)]))
    assert [qty for _, _, qty, _, _ in sent] == [5, -10, 5]
    mine: Any = engine.strategy
    assert [order and order.qty for order in mine.made] == [5, None, 10, None, 5]
    assert engine.held(0) == mine.position("A") == 0


def test_the_stack_sends_nothing_of_a_silence_that_a_restart_does_not_repeat() -> None:
    engine = started(Placing)
    run(engine, ticks_of([(0, 100.0)]))
    waiting = engine.context.orders.open_orders
    assert len(waiting) > 1
    assert engine.stale(1.0, repeated=True)["orders_ignored"] == len(waiting) + 1
    assert engine.context.orders.open_orders == waiting
    assert engine.stale(1.0, repeated=False) == {}
    (market,) = engine.context.orders.open_orders
    assert market.limit is None
    sent = run(engine, ticks_of([(1, 50.0), (0, 102.0)])[:1])
    assert sent[0][1:] == ("A", 5, 100.0, False), "at the latest price, on the next tick"


def test_a_silence_while_decided_ticks_are_skipped_lets_nothing_through() -> None:
    """Of a live restart: what was traded already must not be ordered again."""
    engine = started(Placing)
    run(engine, ticks_of([(0, 100.0)]))
    orders = engine.context.orders
    waiting = orders.open_orders
    orders.deaf = True
    assert engine.stale(1.0, repeated=False)["orders_ignored"] > 0
    assert orders.deaf
    assert run(engine, ticks_of([(0, 100.0), (0, 100.0)])[1:]) == []
    assert orders.open_orders == waiting


def test_open_orders_end_with_the_run(tmp_path: Path) -> None:
    engine = started(Placing)
    run(engine, ticks_of([(0, 100.0)]))
    left = engine.context.orders.open_orders
    engine.stop()
    assert tuple(engine.left_open) == left
    assert {order.status for order in left} == {"canceled"}


# ---- Who places orders, and errors


def mixed(tick: Any) -> str:
    return "BUY" if tick.price < 100 else "HOLD"


def test_who_places_orders() -> None:
    def helper(self: Any, tick: Any) -> None:
        self.buy(tick.symbol, 1)

    stored: dict[str, Any] = {}
    exec("def on_tick(self, tick):\n self.target = tick.price\n return self.target > 1", stored)
    own: dict[str, Any] = {}
    exec("def on_tick(self, tick):\n self.cancel(tick)", own)
    assert places_orders(Placing, Strategy)
    assert places_orders(strategy(on_tick=helper), Strategy)
    assert places_orders(strategy(on_tick=lambda self, tick: self.open_orders), Strategy)
    assert places_orders(strategy(places_orders=True), Strategy)
    assert not places_orders(strategy(on_tick=helper, places_orders=False), Strategy)
    assert not places_orders(strategy(on_tick=stored["on_tick"]), Strategy)
    assert not places_orders(
        strategy(on_tick=own["on_tick"], cancel=lambda self, tick: None), Strategy
    )
    assert not places_orders(load_strategy("data/strategies/breakout.py:Breakout"), Strategy)


WRONG = {
    "self.buy('X', 1)": "no symbol 'X': the run has A, B, C",
    "self.buy('a', 1)": "no symbol 'a': did you mean A? the run has A, B, C",
    "self.buy('A', 0)": "qty 0: must be a whole number of shares",
    "self.sell('A', 1.5)": "qty 1.5: must be a whole number of shares",
    "self.sell('A', 1, -2)": "limit -2: must be a price above 0",
    "self.target('A', 1.5)": "qty 1.5: must be a whole number",
    "self.cancel(None)": "cancel of None: give it what",
    "self.buy('A', 1); return tick.symbol": "on_tick returned 'A': a strategy that places orders",
}


@pytest.mark.parametrize(("code", "says"), WRONG.items())
@pytest.mark.parametrize("reached", [False, True])
def test_errors_name_file_line_and_tick(
    tmp_path: Path, code: str, says: str, reached: bool
) -> None:
    file = tmp_path / "mine.py"
    head = "        if tick.seq == 0: self.buy('A', 1, 99.0)\n" if reached else "\n"
    file.write_text(
        "from app.strategy import Strategy\nclass Mine(Strategy):\n    def on_tick(self, tick):\n"
        f"{head}        if tick.seq < 2: return None\n        {code}\n"
    )
    engine = started(load_strategy(f"{file}:Mine"))
    with pytest.raises(StrategyError) as error:
        run(engine, ticks_of([(0, 100.0), (1, 5.0), (0, 98.0)]))
    assert says in str(error.value)
    assert "Mine failed on tick 2 (A, " in str(error.value)
    assert error.value.details["file"] == str(file)
    assert error.value.details["line"] == (3 if "return tick" in code else 6)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"on_tick": lambda self, tick: "BUY" if self.open_orders else "HOLD"}, "returns BUY"),
        ({"on_batch": lambda self, ticks: self.buy("A", 1)}, "on_batch: a strategy that places"),
    ],
)
def test_signals_and_orders_do_not_mix(members: dict[str, Any], says: str) -> None:
    with pytest.raises(StrategyError, match=says):
        Engine(strategy(**members), SYMBOLS, Settings())


def test_a_class_that_does_not_show_it_is_told_so_on_its_first_order() -> None:
    hidden = strategy(on_tick=lambda self, tick: getattr(self, "b" + "uy")("A", 1))
    with pytest.raises(StrategyError, match="set places_orders = True on the class"):
        run(started(hidden), ticks_of([(0, 100.0)]))


def test_an_answer_that_always_places_another_order_ends_the_run() -> None:
    class Endless(Strategy):
        def on_tick(self, tick: Any) -> None:
            self.buy("A", 1)

        def on_fill(self, fill: Any) -> None:
            self.buy("A", 1)

    with pytest.raises(StrategyError, match="not always place another order"):
        run(started(Endless), ticks_of([(0, 100.0)]))


# ---- Backtest


def test_costs_of_makers_and_takers() -> None:
    """A maker gets its price; a taker pays slippage and half spread; both pay fees."""
    chosen = Settings(
        data_path=SAMPLE,
        replay="once",
        strategy=f"{Placing.__module__}:Placing",
        **{**HARD, "paper_fill_percent": 100},
    )
    Placing.ended.clear()
    result = backtest.run(chosen, open_feed(chosen), 6000)
    (ended,) = Placing.ended
    makers = [order for order in result.orders if order.type == LIMIT]
    takers = [order for order in result.orders if order.type != LIMIT]
    assert min(len(makers), len(takers)) > 100
    for order in makers:
        assert order.code or order.exec_price == order.price
    for order in takers:
        assert order.price is not None
        worse = order.price * (1.5 + 2 * math.sqrt(order.qty / 20)) / 10_000
        assert order.code or abs(order.exec_price - order.price - order.side * worse) < 2
    assert all(order.fee > 0 for order in result.orders if order.filled_qty)
    assert {order.code for order in result.orders} == {0, 206}
    assert len(ended.told) == len(result.orders)
    # 1e-9 is never reached, and each limit that was left, refused or filled was placed.
    assert result.placed >= len(result.orders) + result.canceled + result.left_open
    assert min(result.canceled, result.left_open) > 0
