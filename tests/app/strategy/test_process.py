"""Positions and orders from signals; the loader; user strategies."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.config.settings import Settings
from app.kernel._kernel import Tick
from app.model.tick import TICK_DTYPE
from app.runtime.run.strategy_params import ParamError
from app.strategy.base import SIGNAL_NAMES, Context, Strategy, load_strategy
from app.strategy.cross_check import CrossCheck
from app.strategy.engine import Engine
from app.strategy.failure import StrategyError
from app.strategy.reference import (
    MarketDataPoint,
    SentimentDataPoint,
    SentimentStrategy,
    WindowedMovingAverageStrategy,
    cross_check,
)

LIMIT = settings(max_examples=100, deadline=None, derandomize=True)
SYMBOLS = ["AAPL", "MSFT", "TSLA"]
SMALL = Settings(short_window_ticks=2, long_window_ticks=4, order_qty=10)


def ticks_of(*rows: tuple[int, float], first_seq: int = 0) -> Any:
    """Ticks of (symbol index, price), one second apart."""
    ticks = np.zeros(len(rows), TICK_DTYPE)
    for i, (symbol, price) in enumerate(rows):
        ticks[i] = (i * 10**9, price, first_seq + i, 0, symbol, 0)
    return ticks


class PlainCrossCheck(Strategy):
    """The two classroom strategies, one tick at a time."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        chosen = context.settings
        self.average = WindowedMovingAverageStrategy(
            chosen.short_window_ticks, chosen.long_window_ticks
        )
        self.sentiment = SentimentStrategy(chosen.bullish_threshold, chosen.bearish_threshold)

    def on_tick(self, tick: Tick) -> str:
        """The common signal, else HOLD; HOLD without sentiment."""
        point = MarketDataPoint(tick.event_ns, tick.symbol, tick.price)
        average = self.average.on_tick(point)
        if tick.sentiment < 0:
            return "HOLD"
        told = SentimentDataPoint(tick.event_ns, tick.symbol, tick.sentiment)
        return cross_check(average, self.sentiment.on_sentiment(told))


class Scripted(Strategy):
    """Buys above 100, sells below, holds at 100, goes flat at 100.5."""

    def on_tick(self, tick: Tick) -> str | None:
        """By the price only."""
        if tick.price == 100.5:
            return "FLAT"
        return "BUY" if tick.price > 100 else "SELL" if tick.price < 100 else None


class Run:
    """An engine fed with batches of any size; ``refuses``: whose orders are rejected."""

    def __init__(
        self,
        strategy: type[Strategy],
        chosen: Settings = SMALL,
        refuses: Callable[[int], bool] = lambda seq: False,
    ) -> None:
        self.engine = Engine(strategy, SYMBOLS, chosen)
        self.refuses = refuses
        self.signals: list[int] = []
        self.orders: list[tuple[int, str, str, float, bool]] = []

    def take(self, ticks: Any, sentiments: Any = None) -> "Run":
        """One batch."""
        if not len(ticks):
            return self

        def join(_: Any, out: Any) -> None:
            out[:] = -1 if sentiments is None else sentiments

        signals = self.engine.signals(ticks, join)
        self.signals += signals.tolist()
        for group in self.engine.intents(ticks, signals):
            symbols = [intent.symbol for intent in group]
            assert self.engine._every or len(set(symbols)) == len(symbols)
            for intent in group:
                accepted = not self.refuses(intent.seq)
                side = SIGNAL_NAMES[intent.signal]
                self.orders.append((intent.seq, side, intent.symbol, intent.price, accepted))
                self.engine.settle(intent, self.engine.qty(intent) if accepted else 0)
        return self


rows = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([99.0, 100.0, 100.1, 100.2, 101.0])),
    min_size=1,
    max_size=80,
)
few = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([99.0, 100.0, 100.5, 101.0])),
    min_size=1,
    max_size=40,
)
moods = st.lists(st.sampled_from([-1, 0, 49, 50, 51, 100]), min_size=80, max_size=80)
cuts = st.lists(st.integers(0, 80), max_size=8)
orders_modes = st.sampled_from(["position", "every"])


class TestDecisions:
    @LIMIT
    @given(rows, moods, cuts)
    def test_on_batch_and_on_tick_agree_however_ticks_are_batched(
        self, made: list[tuple[int, float]], mood: list[int], cut: list[int]
    ) -> None:
        ticks, sentiments = ticks_of(*made), np.array(mood[: len(made)], np.int16)
        whole = Run(CrossCheck).take(ticks, sentiments)
        plain = Run(PlainCrossCheck).take(ticks, sentiments)
        pieces = Run(CrossCheck)
        edges = [0, *sorted(min(at, len(made)) for at in cut), len(made)]
        for start, end in pairwise(edges):
            pieces.take(ticks[start:end], sentiments[start:end])
        assert whole.signals == plain.signals == pieces.signals
        assert whole.orders == plain.orders == pieces.orders

    @LIMIT
    @given(few, cuts, st.sets(st.integers(0, 39), max_size=10), orders_modes)
    def test_orders_equal_those_of_one_tick_at_a_time(
        self, made: list[tuple[int, float]], cut: list[int], refused: set[int], mode: str
    ) -> None:
        """The rule one tick at a time: each answer is known before the next decision."""
        ticks = ticks_of(*made)
        position, expected = [0, 0, 0], []
        for seq, (symbol, price) in enumerate(made):
            before = position[symbol]
            wanted = {99.0: -1, 100.0: before, 100.5: 0, 101.0: 1}[price]
            if price in (99.0, 101.0) if mode == "every" else wanted != before:
                accepted = seq not in refused
                side = "BUY" if (wanted if mode == "every" else wanted - before) > 0 else "SELL"
                expected.append((seq, side, SYMBOLS[symbol], price, accepted))
                if accepted:
                    position[symbol] = wanted
        chosen = Settings(short_window_ticks=2, long_window_ticks=4, order_mode=mode)
        run = Run(Scripted, chosen, refused.__contains__)
        edges = [0, *sorted(min(at, len(made)) for at in cut), len(made)]
        for start, end in pairwise(edges):
            run.take(ticks[start:end])
        assert run.orders == expected
        if mode == "position":
            assert run.engine.position.tolist() == position

    def test_an_unchanged_signal_sends_one_order(self) -> None:
        run = Run(Scripted).take(ticks_of(*[(0, 101.0)] * 5, (0, 99.0), (0, 99.0), (0, 101.0)))
        assert [order[:2] for order in run.orders] == [(0, "BUY"), (5, "SELL"), (7, "BUY")]

    def test_every_sends_on_each_agreement(self) -> None:
        chosen = Settings(order_mode="every")
        run = Run(Scripted, chosen).take(ticks_of(*[(0, 101.0)] * 3, (0, 100.0), (0, 99.0)))
        assert [order[:2] for order in run.orders] == [
            *((seq, "BUY") for seq in range(3)),
            (4, "SELL"),
        ]

    def test_a_rejected_order_keeps_the_position_and_is_retried(self) -> None:
        run = Run(Scripted, refuses=lambda seq: seq < 2).take(ticks_of(*[(0, 101.0)] * 4))
        assert [(order[0], order[4]) for order in run.orders] == [
            (0, False),
            (1, False),
            (2, True),
        ]
        assert run.engine.position.tolist() == [1, 0, 0]

    def test_quantity_makes_the_shares_match_the_position(self) -> None:
        engine = Engine(Scripted, ["A", "B", "C"], Settings(order_qty=10))
        prices = (101.0, 99.0, 100.5, 99.0, 101.0, 100.5, 100.5, 101.0)
        ticks = ticks_of((1, 99.0), *((0, price) for price in prices))
        shares, sent = {"A": 0, "B": 0}, []
        signals = engine.signals(ticks, lambda _ticks, out: out.fill(-1))
        for intents in engine.intents(ticks, signals):
            for intent in intents:
                shares[intent.symbol] += intent.signal * engine.qty(intent)
                sent.append(intent.signal * engine.qty(intent))
                engine.settle(intent, engine.qty(intent))
                position = int(engine.position[intent.symbol_index])
                assert shares[intent.symbol] == 10 * position
        assert shares == {"A": 10, "B": -10}
        assert sent == [-10, 10, -20, 10, -10, 20, -10, 10]

    def test_a_rejected_flat_keeps_the_position_and_is_retried(self) -> None:
        ticks = ticks_of((0, 101.0), *[(0, 100.5)] * 3)
        run = Run(Scripted, refuses=lambda seq: seq == 1).take(ticks)
        assert [(order[0], order[1], order[4]) for order in run.orders] == [
            (0, "BUY", True),
            (1, "SELL", False),
            (2, "SELL", True),
        ]
        assert run.engine.position.tolist() == [0, 0, 0]

    def test_more_orders_than_fit_one_group(self) -> None:
        chosen = Settings(order_mode="every")
        run = Run(Scripted, chosen).take(ticks_of(*[(0, 101.0)] * 2000))
        assert [order[0] for order in run.orders] == list(range(2000))


class TestLoader:
    def test_a_module_and_a_file(self, tmp_path: Path) -> None:
        assert load_strategy("app.strategy.cross_check:CrossCheck") is CrossCheck
        path = tmp_path / "mine.py"
        path.write_text(
            "from app.strategy.base import Strategy\n"
            "class Mine(Strategy):\n"
            "    def on_tick(self, tick):\n"
            "        return 'BUY' if tick.price > 100 else None\n"
        )
        run = Run(load_strategy(f"{path}:Mine")).take(ticks_of((0, 101.0), (1, 99.0)))
        assert run.orders == [(0, "BUY", "AAPL", 101.0, True)]

    @pytest.mark.parametrize(
        ("spec", "reason"),
        [
            ("app.strategy.cross_check:Missing", "has no class Missing; it has CrossCheck"),
            ("app.strategy.base:load_strategy", "load_strategy is not a subclass"),
            ("app.no_such_module:X", "ModuleNotFoundError"),
            ("/no/such/file.py:X", "no file /no/such/file.py"),
            ("", "ValueError"),
            ("{tmp}/broken.py:X", "SyntaxError"),
            ("{tmp}/raising.py:X", "ZeroDivisionError: division by zero"),
            ("{tmp}/other.py:X", "X is not a subclass of app.strategy.Strategy"),
            ("{tmp}/other.py:Y", "other.py has no class Y"),
            ("{tmp}/fade.py:Fades", "fade.py has no class Fades; it has Fade"),
            ("{tmp}/old.py:X", "app.strategy: from app.strategy import Strategy"),
            ("{tmp}/missing.py:X", "ModuleNotFoundError: No module named 'app.strategies_x'"),
        ],
    )
    def test_an_unusable_strategy_names_the_reason(
        self, tmp_path: Path, spec: str, reason: str
    ) -> None:
        (tmp_path / "broken.py").write_text("def")
        (tmp_path / "raising.py").write_text("1 / 0")
        (tmp_path / "other.py").write_text("class X: pass")
        (tmp_path / "fade.py").write_text(
            "from app.strategy import Param, Strategy\nclass Fade(Strategy): pass"
        )
        (tmp_path / "old.py").write_text("from app.strategies.base import Strategy as X")
        (tmp_path / "missing.py").write_text("import app.strategies_x")
        spec = spec.replace("{tmp}", str(tmp_path))
        with pytest.raises(StrategyError, match="STRATEGY=") as raised:
            load_strategy(spec)
        assert reason in str(raised.value)
        assert spec in str(raised.value)


def on_batch(answer: Callable[[Any], Any]) -> type[Strategy]:
    return type("Custom", (Strategy,), {"on_batch": lambda self, ticks: answer(ticks)})


def on_tick(answer: Callable[[Any], Any]) -> type[Strategy]:
    return type("Custom", (Strategy,), {"on_tick": lambda self, tick: answer(tick)})


class TestUserStrategies:
    TICKS = staticmethod(lambda: ticks_of((0, 101.0), (1, 99.0), first_seq=7))

    @pytest.mark.parametrize(
        "strategy",
        [
            on_batch(lambda ticks: None),
            on_batch(lambda ticks: [1, -1]),
            on_batch(lambda ticks: "BUY"),
            on_batch(lambda ticks: np.ones(1, np.int8)),
            on_batch(lambda ticks: np.ones(3, np.int8)),
            on_batch(lambda ticks: np.ones((2, 1), np.int8)),
            on_batch(lambda ticks: np.ones(2, np.float64)),
            on_batch(lambda ticks: ticks["price"] < 100),
            on_batch(lambda ticks: np.array([0, 3], np.int8)),
            on_batch(lambda ticks: np.array([1, -128], np.int8)),
            on_batch(lambda ticks: np.zeros(4, np.int8)[::2]),
            on_batch(lambda ticks: ticks["nothing"]),
            on_tick(lambda tick: "buy"),
            on_tick(lambda tick: 1),
            on_tick(lambda tick: tick.nothing),
            on_tick(lambda tick: 1 / 0),
            type("Custom", (Strategy,), {}),
        ],
    )
    @pytest.mark.parametrize("mode", ["position", "every"])
    def test_an_invalid_answer_names_the_strategy_and_the_ticks(
        self, strategy: type[Strategy], mode: str
    ) -> None:
        run = Run(strategy, Settings(order_mode=mode))
        what = "ticks 7 to 8: " if "on_batch" in vars(strategy) else r"tick 7 \(AAPL, 1970-01-01 "
        with pytest.raises(StrategyError, match=f"Custom failed on {what}"):
            run.take(self.TICKS())

    def test_a_strategy_that_cannot_be_constructed(self) -> None:
        with pytest.raises(ParamError, match="STRATEGY_PARAMS: short=9: must be below long=9"):
            Engine(CrossCheck, SYMBOLS, Settings(short_window_ticks=9, long_window_ticks=9))

    def test_fields_of_a_tick(self) -> None:
        seen: list[Any] = []
        Run(on_tick(seen.append)).take(self.TICKS(), np.array([-1, 42], np.int16))
        told = [(t.symbol, t.price, t.event_ns, t.seq, t.sentiment) for t in seen]
        assert told == [("AAPL", 101.0, 0, 7, -1), ("MSFT", 99.0, 10**9, 8, 42)]
        assert "Tick(symbol='AAPL', price=101.0" in repr(seen[0])
        with pytest.raises(AttributeError):
            seen[0].price = 1.0

    def test_none_and_hold_are_the_same(self) -> None:
        for answer in (None, "HOLD"):
            assert Run(on_tick(lambda tick, a=answer: a)).take(self.TICKS()).signals == [0, 0]
