"""A strategy that is told of its orders: what it sees, when, and that batches change nothing."""

from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.backtest import replay as backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.model.money import to_units
from app.model.position import Position
from app.model.tick import TICK_DTYPE
from app.strategy.base import Strategy
from app.strategy.engine import Engine
from app.strategy.failure import StrategyError
from app.strategy.kit.outcome import Outcome
from app.strategy.kit.stepping import wants_answers
from tests.app.strategy.kit.everything import Batched, Everything
from tests.support.paths import ROOT

SYMBOLS = ["A", "B", "C"]
SAMPLE = str(ROOT / "data/market_data.csv")
PLACE = "tests.app.strategy.kit.everything"
HARD = {
    "paper_fill_percent": 40,
    "paper_slippage_bps": 1.0,
    "paper_half_spread_bps": 0.5,
    "paper_fee_per_share": 0.003,
    "paper_fee_bps": 0.07,
    "paper_fee_min": 0.02,
    "paper_impact_bps": 2.0,
    "paper_impact_qty": 20.0,
    "paper_borrow_bps_year": 50_000.0,
    "risk_client_notional_max": 4000.0,
}
"""Partial fills, worse prices, fees, borrow and refusals."""


def ticks_of(rows: list[tuple[int, float]], step_ns: int = 10**9) -> Any:
    ticks = np.zeros(len(rows), TICK_DTYPE)
    ticks["seq"] = range(len(rows))
    ticks["event_ns"] = [at * step_ns for at in range(len(rows))]
    ticks["symbol"] = [symbol for symbol, _ in rows]
    ticks["price"] = [price for _, price in rows]
    return ticks


def no_sentiment(_ticks: object, out: Any) -> None:
    out.fill(-1)


def answer(seq: int, qty: int, price: float) -> Outcome:
    """Some orders are refused, some filled in part, at another price than they name."""
    if seq % 5 == 4:
        return Outcome(0, None, "NOTIONAL_MAX", "too much")
    filled = max(1, qty * (seq % 3 + 1) // 3)
    return Outcome(filled, to_units(price) + seq % 4 * 1000)


def trade(
    strategy: type[Strategy],
    ticks: Any,
    cut: list[int],
    chosen: Settings,
    answers: Callable[[int, int, float], Outcome] = answer,
) -> tuple[Engine, list[tuple[int, str, int]]]:
    """An engine after these ticks, batched at ``cut``, and its orders."""
    engine = Engine(strategy, SYMBOLS, chosen)
    engine.start()
    orders = []
    for start, end in pairwise([0, *sorted(min(at, len(ticks)) for at in cut), len(ticks)]):
        if start == end:
            continue
        for piece, signals in engine.decisions(ticks[start:end], no_sentiment):
            for intents in engine.intents(piece, signals):
                for intent in intents:
                    qty = engine.qty(intent)
                    outcome = answers(intent.seq, qty, intent.price)
                    orders.append((intent.seq, intent.symbol, intent.signal * qty))
                    engine.settle(intent, outcome.filled_qty)
                    if engine.told:
                        engine.tell(intent, qty, outcome)
    engine.stop()
    return engine, orders


rows = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([99.0, 99.9, 100.0, 100.1, 100.2, 101.0])),
    min_size=1,
    max_size=120,
)
cuts = st.lists(st.integers(0, 120), max_size=6)


@settings(deadline=None)
@given(rows, cuts, st.booleans(), st.integers(2, 5))
def test_batches_change_nothing(
    made: list[tuple[int, float]], cut: list[int], every: bool, span: int
) -> None:
    chosen = Settings(
        order_mode="every" if every else "position", strategy_params=f"span={span} away=0.0001"
    )
    ticks = ticks_of(made, 7 * 10**9)
    alone, expected = trade(Everything, ticks, list(range(len(made))), chosen)
    for strategy in (Everything, Batched):
        engine, orders = trade(strategy, ticks, cut, chosen)
        assert orders == expected
        mine, theirs = vars(engine.strategy), vars(alone.strategy)
        for name in ("seen", "minutes", "filled", "pause"):
            assert mine[name] == theirs[name]


class Watching(Strategy):
    """Reverses with each tick, and notes what it holds before it decides."""

    def on_start(self) -> None:
        self.notes: list[tuple[Any, ...]] = []

    def on_tick(self, tick: Any) -> str:
        self.notes.append(
            (
                self.position(tick.symbol),
                self.average_price(tick.symbol),
                self.realised(),
                self.unrealised(tick.symbol),
            )
        )
        return "BUY" if len(self.notes) % 2 else "SELL"


def test_a_position_is_that_after_the_answer_to_the_tick_before() -> None:
    ticks = ticks_of([(0, 100.0), (0, 101.0), (0, 103.0), (0, 102.0)])

    def full(seq: int, qty: int, price: float) -> Outcome:
        return Outcome(qty, to_units(price))

    engine, orders = trade(Watching, ticks, [], Settings(order_qty=10), full)
    assert orders == [(0, "A", 10), (1, "A", -20), (2, "A", 20), (3, "A", -20)]
    strategy: Any = engine.strategy
    assert strategy.notes == [
        (0, None, 0.0, 0.0),
        (10, 100.0, 0.0, 10.0),
        (-10, 101.0, 10.0, -20.0),
        (10, 103.0, -10.0, -10.0),
    ]
    assert (strategy.position("A"), strategy.position(0), strategy.position("B")) == (-10, -10, 0)
    assert (strategy.realised("A"), strategy.unrealised()) == (-20.0, 0.0)
    with pytest.raises(KeyError):
        strategy.position("Z")
    with pytest.raises(KeyError):
        strategy.position(3)


def account(position: Position) -> tuple[int, ...]:
    """All that must be equal."""
    return position.qty, position.cost, position.realized, position.fees, position.borrow


@pytest.mark.parametrize("name", ["Everything", "Batched"])
@pytest.mark.parametrize("mode", ["position", "every"])
def test_the_strategys_account_is_the_order_managers_to_the_unit(name: str, mode: str) -> None:
    chosen = Settings(
        data_path=SAMPLE, replay="once", strategy=f"{PLACE}:{name}", order_mode=mode, **HARD
    )
    Everything.ended.clear()
    result = backtest.run(chosen, open_feed(chosen), 8000)
    (strategy,) = Everything.ended
    for symbol, position in result.positions.items():
        assert account(strategy.holding(symbol)) == account(position)
        assert position.fees > 0
    partly = [order for order in result.orders if 0 < order.filled_qty < order.qty]
    refused = [order for order in result.orders if order.code]
    assert min(len(partly), len(refused), strategy.minutes) > 3
    assert len(strategy.seen) == len(result.orders) > 40


def test_fills_and_rejects_say_what_the_order_manager_answered() -> None:
    chosen = Settings(data_path=SAMPLE, replay="once", strategy=f"{PLACE}:Everything", **HARD)
    Everything.ended.clear()
    result = backtest.run(chosen, open_feed(chosen), 3000)
    (strategy,) = Everything.ended
    for told, order in zip(strategy.seen, result.orders, strict=True):
        order_id, seq, event_ns, symbol, side = told[:5]
        assert (order_id, seq, symbol) == (order.id, order.id - 1, order.symbol)
        assert side == ("BUY" if order.side == 1 else "SELL")
        assert event_ns > 1_700_000_000 * 10**9
        if order.code:
            assert told[5:8] == (order.qty, "NOTIONAL_MAX", order.msg)
        else:
            assert told[5:7] == (order.filled_qty, order.qty)
            assert told[8] * order.filled_qty == order.filled_notional
            assert told[7] == told[8] / 1e9
            assert told[9] == order.fee / 1e9 > 0
            assert told[10] == order.borrow / 1e9


# ---- Who is told


def strategy(**members: Any) -> type[Strategy]:
    return type("Mine", (Strategy,), members)


class Helped(Strategy):
    """Asks in a place that its class does not show."""

    def on_tick(self, tick: Any) -> str:
        return asked(self, tick)


def asked(mine: Strategy, tick: Any) -> str:
    return "BUY" if mine.position(tick.symbol) <= 0 else "HOLD"


class Owning(Strategy):
    """Has a position of its own, which is none of ours."""

    def on_tick(self, tick: Any) -> str:
        self.position = defaultdict(int)  # type: ignore[assignment, method-assign]
        return "BUY" if not self.position[tick.symbol] else "HOLD"  # type: ignore[index]


def test_who_is_told() -> None:
    quiet = strategy(on_tick=lambda self, tick: "BUY" if self.history("A", 1).size else None)
    assert not wants_answers(quiet, Strategy)
    assert wants_answers(strategy(on_fill=lambda self, fill: None), Strategy)
    assert wants_answers(strategy(on_reject=lambda self, reject: None), Strategy)
    assert wants_answers(strategy(held=property(lambda self: self.position("A"))), Strategy)
    inside = strategy(on_tick=lambda self, tick: [s for s in "AB" if self.realised(s)])
    assert wants_answers(inside, Strategy)
    child = type("Child", (inside,), {})
    assert wants_answers(child, Strategy)
    assert not wants_answers(type("Child", (inside,), {"sees_answers": False}), Strategy)
    assert not wants_answers(Helped, Strategy)
    assert not wants_answers(Owning, Strategy)
    assert not wants_answers(strategy(position=lambda self: 1), Strategy)


def test_a_position_that_would_be_old_is_refused() -> None:
    ticks = ticks_of([(0, 100.0), (0, 101.0)])
    with pytest.raises(StrategyError, match=r"tick 0 \(A.*sees_answers = True on its class"):
        trade(Helped, ticks, [], Settings())
    willing = type("Willing", (Helped,), {"sees_answers": True})
    assert trade(willing, ticks, [], Settings())[1] == [(0, "A", 10)]


def test_who_asks_for_nothing_gets_whole_batches() -> None:
    engine = Engine(strategy(on_tick=lambda self, tick: "BUY"), SYMBOLS, Settings())
    ticks = ticks_of([(0, 100.0), (1, 101.0), (0, 102.0)])
    assert [len(piece) for piece, _ in engine.decisions(ticks, no_sentiment)] == [3]


# ---- Timer and history


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=30), st.sampled_from([0.5, 2, 3]))
def test_the_timer_is_called_before_the_first_tick_of_each_later_period(
    gaps: list[int], period_s: float
) -> None:
    calls: list[tuple[str, int]] = []
    timed = strategy(
        timer_s=period_s,
        on_timer=lambda self, event_ns: calls.append(("timer", event_ns)),
        on_tick=lambda self, tick: calls.append(("tick", tick.event_ns)),
    )
    ticks = ticks_of([(0, 100.0)] * len(gaps))
    ticks["event_ns"] = 10**18 + np.cumsum(gaps)
    trade(timed, ticks, [3, 9], Settings())
    period_ns = int(period_s * 10**9)
    expected: list[tuple[str, int]] = []
    for at_ns in ticks["event_ns"].tolist():
        before = [ns for kind, ns in expected if kind == "tick"]
        if before and before[-1] // period_ns != at_ns // period_ns:
            expected.append(("timer", at_ns // period_ns * period_ns))
        expected.append(("tick", at_ns))
    assert calls == expected


@given(rows, st.integers(1, 9), st.integers(1, 9))
def test_history_is_the_last_prices_of_the_symbol(
    made: list[tuple[int, float]], kept: int, asked_for: int
) -> None:
    got: list[list[float]] = []
    looking = strategy(
        history_ticks=max(kept, asked_for),
        on_tick=lambda self, tick: got.append(self.history(tick.symbol, asked_for).tolist()),
    )
    trade(looking, ticks_of(made), [5, 50], Settings())
    assert got == [
        [price for symbol, price in made[: at + 1] if symbol == made[at][0]][-asked_for:]
        for at in range(len(made))
    ]


# ---- Wrong use is said with the place


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"on_timer": lambda self, ns: None}, "timer_s = 0.0: on_timer needs its period"),
        ({"history_ticks": -1}, "history_ticks = -1: must be a whole number"),
        ({"history_ticks": 10**9}, "history_ticks = 1000000000: must be a whole number"),
        ({"on_fill": lambda self: None}, "must be <lambda>"),
    ],
)
def test_a_wrong_declaration_ends_before_the_first_tick(
    members: dict[str, Any], message: str
) -> None:
    with pytest.raises(StrategyError, match=message):
        Engine(strategy(**members), SYMBOLS, Settings())


def fails(self: Any, *_: Any) -> None:
    raise ValueError("not today")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"on_start": fails}, "Mine failed in on_start: ValueError: not today"),
        ({"on_fill": fails}, "Mine failed in on_fill of order 1: ValueError: not today"),
        ({"on_stop": fails}, "Mine failed in on_stop: ValueError: not today"),
        ({"on_timer": fails, "timer_s": 1}, r"Mine failed on tick 1 \(B.*not today"),
        ({"on_tick": lambda s, t: s.history("A", 2)}, "history_ticks = 2 on the class"),
    ],
)
def test_a_failure_names_the_call_and_the_line(members: dict[str, Any], message: str) -> None:
    members = {"on_tick": lambda self, tick: "BUY", **members}
    with pytest.raises(StrategyError, match=message) as caught:
        trade(strategy(**members), ticks_of([(0, 100.0), (1, 100.0)]), [], Settings())
    assert caught.value.details["file"] == __file__


# ---- Notes


def test_notes_are_limited_and_count_what_is_left_out() -> None:
    notes: list[tuple[str, int, dict[str, Any]]] = []
    noting = strategy(on_tick=lambda self, tick: self.log("tick", price=tick.price), on_fill=fails)
    engine = Engine(noting, SYMBOLS, Settings())
    engine.start(lambda text, seq, fields: notes.append((text, seq, fields)))
    for _ in engine.decisions(ticks_of([(0, 100.0)] * 500), no_sentiment):
        pass
    assert 20 <= len(notes) <= 25
    assert notes[3] == ("tick", 3, {"price": 100.0})
    engine.context.desk._bucket.per_s = 10**6
    engine.strategy.log("last")
    assert notes[-1][2]["left_out"] == 500 - len(notes) + 1
    engine.context.desk.log_to(None)
    engine.strategy.log("unheard")
    assert notes[-1][0] == "last"
