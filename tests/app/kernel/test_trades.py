"""Orders that execute as they ask: the compiled kernel and the plain one take the same."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kernel import _kernel
from app.kernel.plain import kernel as plain_kernel
from app.model.money import to_units
from app.model.tick import TICK_DTYPE
from tests.support.kernel.helpers import BOTH

LIMIT = settings(max_examples=300, deadline=None, derandomize=True)


@BOTH
def kernel(request: pytest.FixtureRequest) -> Any:
    return request.param


def batch(rows: list[tuple[int, float]]) -> Any:
    made = np.zeros(len(rows), TICK_DTYPE)
    for i, (symbol, price) in enumerate(rows):
        made[i] = (i, price, i, 0, symbol, 0)
    return made


@LIMIT
@given(
    st.lists(
        st.tuples(
            st.integers(-1, 2),
            st.integers(0, 2),
            st.one_of(st.floats(1e-9, 9e9), st.sampled_from([2e6, 1999999.999999999, 0.1])),
        ),
        max_size=30,
    ),
    st.booleans(),
    st.sampled_from([1, 10, 10**9, 2**50, 2**53, 2**53 + 1]),
    st.integers(-50, 50),
    st.sampled_from([1, 7, 2**100, 2**120, 2**120 + 1, 2**130]),
)
def test_trades(
    rows: list[tuple[int, int, float]],
    every: bool,
    order_qty: int,
    before: int,
    amount: int,
) -> None:
    """Also where numbers are too large: both stop at the same order."""
    made = batch([(symbol, price) for _, symbol, price in rows])
    signals = np.array([signal for signal, _, _ in rows], np.int8)
    answers: list[Any] = []
    for kernel in (_kernel, plain_kernel):
        position, busy = np.zeros(3, np.int8), np.zeros(3, np.uint8)
        held = [before * order_qty, 0, 0]
        position[0] = (before > 0) - (before < 0)
        gate = kernel.OrderGate(position, busy, ["A", "B", "C"], every, 64)
        trades = kernel.Trades(3, order_qty, 10, to_units)
        if abs(held[0]) < 2**63:
            trades.load(0, held[0], before * amount, -amount, abs(before) * amount)
        told: list[Any] = []
        for part in (slice(0, 10), slice(10, 30)):
            search = gate.one_by_one(made[part], signals[part])
            first = len(trades)
            told += [trades.take(search, held), trades.changed(first), held[:]]
            told += [position.tolist(), [intent.seq for intent in search][:1]]
            worth = kernel.Worth(np.zeros(3), np.zeros(3, np.int64), 0.0, 3)
            times, equity = list[int](), list[float]()
            told += [worth.follow(made[part], trades, first, times, equity), times, equity]
            told += [worth.equity(), trades.rows(0, 40), trades.rows(1, 3), len(trades)]
            if part.start == 0 and len(rows) % 2:
                trades.forget()
        answers.append(told)
    assert answers[0] == answers[1]


def test_it_takes_no_symbol_that_it_has_not(kernel: Any) -> None:
    position, busy = np.zeros(3, np.int8), np.zeros(3, np.uint8)
    gate = kernel.OrderGate(position, busy, ["A", "B", "C"], False, 64)
    trades, signals = kernel.Trades(2, 1, 1, to_units), np.ones(2, np.int8)
    with pytest.raises(IndexError):
        trades.take(gate.one_by_one(batch([(1, 1.0), (2, 1.0)]), signals), [0, 0, 0])
    assert trades.rows(0, 9) == [(0, 0, 1, 1, 10**9)]
    with pytest.raises(IndexError):
        trades.load(2, 0, 0, 0, 0)


def test_what_is_no_search_of_orders_is_refused(kernel: Any) -> None:
    with pytest.raises((TypeError, AttributeError)):
        kernel.Trades(1, 1, 1, to_units).take(iter([]), [0])


def test_a_number_of_symbols_and_a_factor_are_checked(kernel: Any) -> None:
    for symbols, factor in ((-1, 1), (1, 0)):
        with pytest.raises(ValueError, match="symbols, factor"):
            kernel.Trades(symbols, 1, factor, to_units)
