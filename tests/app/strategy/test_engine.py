"""Shares and marks of the engine: partial fills, and the prices that go with each order."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.settings import Settings
from app.model.tick import TICK_DTYPE
from app.strategy.base import Strategy
from app.strategy.engine import Engine

SYMBOLS = ["A", "B", "C"]


class Scripted(Strategy):
    """Above 100.5 BUY, below 99.5 SELL, 100.5 FLAT."""

    def on_batch(self, ticks: npt.NDArray[np.void]) -> npt.NDArray[np.int8]:
        price = ticks["price"]
        signals = np.select([price > 100.5, price < 99.5, price == 100.5], [1, -1, 2])
        return signals.astype(np.int8)


def ticks_of(rows: list[tuple[int, float]]) -> npt.NDArray[np.void]:
    ticks = np.zeros(len(rows), TICK_DTYPE)
    ticks["seq"] = range(len(rows))
    ticks["symbol"] = [symbol for symbol, _ in rows]
    ticks["price"] = [price for _, price in rows]
    return ticks


def no_sentiment(_ticks: object, out: npt.NDArray[np.int16]) -> None:
    out.fill(-1)


@pytest.mark.parametrize(
    ("prices", "shares", "orders"),
    [
        ([101, 101, 100.5], [6], [10, -6]),  # the standing BUY does not order the rest
        ([101, 99, 99, 100.5], [10, 4, 16], [10, -20, -16, 10]),  # 10, 6, -10, 0
        ([101, 99, 100.5], [10, 12], [10, -20, 2]),  # 10, -2, 0
    ],
)
def test_orders_lead_from_the_shares_held_to_the_position(
    prices: list[float], shares: list[int], orders: list[int]
) -> None:
    """``shares``: how many of each order are filled; all of those after it."""
    engine = Engine(Scripted, SYMBOLS, Settings(order_qty=10))
    ticks = ticks_of([(0, price) for price in prices])
    signals = engine.signals(ticks, no_sentiment)
    sent, held = [], 0
    for intents in engine.intents(ticks, signals):
        for intent in intents:
            qty = engine.qty(intent)
            filled = shares[len(sent)] if len(sent) < len(shares) else qty
            sent.append(intent.signal * qty)
            engine.settle(intent, filled)
            held += intent.signal * filled
            assert engine.held(0) == held
            assert engine.position[0] == np.sign(held)
    assert sent == orders


def test_a_restored_position_is_closed_to_the_share() -> None:
    engine = Engine(Scripted, SYMBOLS, Settings(order_qty=10))
    engine.hold(1, -7)
    ticks = ticks_of([(1, 100.5)])
    (intents,) = engine.intents(ticks, engine.signals(ticks, no_sentiment))
    assert [(intent.signal, engine.qty(intent)) for intent in intents] == [(1, 7)]


rows = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([99.0, 100.0, 100.1, 100.5, 101.0])), min_size=1
)


@given(rows, st.lists(st.integers(0, 40), max_size=4), st.booleans())
def test_marks_are_the_prices_as_of_the_orders_tick_however_ticks_are_batched(
    made: list[tuple[int, float]], cut: list[int], every: bool
) -> None:
    settings = Settings(risk_client_daily_loss_max=1.0, order_mode="every" if every else "position")
    engine = Engine(Scripted, SYMBOLS, settings)
    ticks = ticks_of(made)
    edges = [0, *sorted(min(at, len(made)) for at in cut), len(made)]
    known: dict[str, float] = {}
    ordered: set[int] = set()
    for start, end in pairwise(edges):
        batch = ticks[start:end]
        if not len(batch):
            continue
        signals = engine.signals(batch, no_sentiment)
        for intents, orders in engine.orders(batch, signals, "me"):
            for intent, order in zip(intents, orders, strict=True):
                assert order.marks is not None
                known |= order.marks
                ordered.add(intent.symbol_index)
                expected = {
                    SYMBOLS[i]: [price for s, price in made[: intent.seq + 1] if s == i][-1]
                    for i in ordered
                }
                assert known == expected
                engine.settle(intent, engine.qty(intent))


def test_without_a_limit_on_holdings_no_marks_are_sent() -> None:
    engine = Engine(Scripted, SYMBOLS, Settings(risk_client_qty_max=1000))
    ticks = ticks_of([(0, 101.0)])
    (group,) = engine.orders(ticks, engine.signals(ticks, no_sentiment), "me")
    assert [order.marks for order in group[1]] == [None]
