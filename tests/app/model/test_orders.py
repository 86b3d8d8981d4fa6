"""Orders, money and positions: the table of states, exactness, conservation."""

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.model import orders
from app.model.money import UNITS, divide, money_text, to_units
from app.model.orders import (
    BUY,
    IOC,
    OPEN_STATES,
    ORDER_FIELDS,
    PENDING_NEW,
    PLAIN,
    SELL,
    STATUS_NAMES,
    TRANSITIONS,
    InvalidTransitionError,
    Order,
    db_int,
    next_status,
)
from app.model.position import Position
from tests.support.orders.oracle_state import Holding

EVENTS = range(7)


def an_order(qty: int = 10, price: int = 5 * UNITS) -> Order:
    return Order(1, 1, 1, 0, BUY, "AAPL", qty, price, PLAIN, IOC, None, PENDING_NEW)


@pytest.mark.parametrize(("status", "event"), list(product(range(len(STATUS_NAMES)), EVENTS)))
def test_transition_is_in_the_table_or_raises(status: int, event: int) -> None:
    if (status, event) in TRANSITIONS:
        assert next_status(status, event) == TRANSITIONS[status, event]
        return
    order = an_order()
    order.status = status
    with pytest.raises(InvalidTransitionError, match=STATUS_NAMES[status]):
        order.apply(event)
    assert order.status == status


def test_final_states_are_final() -> None:
    final = set(range(len(STATUS_NAMES))) - OPEN_STATES
    assert not [key for key in TRANSITIONS if key[0] in final]
    reachable = {PENDING_NEW} | set(TRANSITIONS.values())
    assert reachable == set(range(len(STATUS_NAMES)))


def test_fix_names() -> None:
    assert STATUS_NAMES[orders.PENDING_NEW] == "PendingNew"
    assert STATUS_NAMES[orders.PARTIALLY_FILLED] == "PartiallyFilled"
    assert STATUS_NAMES[orders.DENIED] == "Denied"


def test_no_more_than_the_order_can_execute() -> None:
    order = an_order(10)
    order.apply(orders.ACCEPT)
    order.fill(6, UNITS)
    assert (STATUS_NAMES[order.status], order.filled_qty) == ("PartiallyFilled", 6)
    with pytest.raises(AssertionError):
        order.fill(5, UNITS)
    order.fill(4, 2 * UNITS)
    assert (STATUS_NAMES[order.status], order.filled_qty) == ("Filled", 10)
    assert order.avg_price == (6 * UNITS + 8 * UNITS) // 10
    with pytest.raises((InvalidTransitionError, AssertionError)):
        order.fill(1, UNITS)


@given(st.decimals("0.000000001", "9000000000", places=9))
def test_units_are_exact_for_what_a_float_carries(amount: Decimal) -> None:
    as_float = float(amount)
    exact = Decimal(repr(as_float)) * UNITS
    assert to_units(as_float) == int(exact.to_integral_value(ROUND_HALF_EVEN))


@given(st.integers(1, 2_000_000), st.integers(0, UNITS - 1))
def test_nine_decimals_are_exact(whole: int, part: int) -> None:
    text = f"{whole}.{part:09d}"
    if len(text.rstrip("0").replace(".", "")) <= 15:
        assert to_units(float(text)) == whole * UNITS + part


@given(st.integers(-(10**30), 10**30))
def test_money_text_reads_back(units: int) -> None:
    text = money_text(units)
    assert Fraction(text) * UNITS == units
    assert len(text.partition(".")[2]) >= 2


@given(st.integers(-(10**25), 10**25), st.integers(-(10**12), 10**12).filter(bool))
def test_divide_rounds_half_to_even(amount: int, by: int) -> None:
    assert divide(amount, by) == round(Fraction(amount, by))


@given(st.integers(-(10**30), 10**30))
def test_db_int_survives_the_store(value: int) -> None:
    kept = db_int(value)
    assert int(kept) == value
    assert isinstance(kept, str) or abs(kept) < 2**63


@given(
    st.lists(
        st.tuples(
            st.sampled_from((BUY, SELL)),
            st.integers(1, 10**12),
            st.integers(1, 9_000_000_000 * UNITS),
        ),
        max_size=30,
    )
)
def test_positions_agree_with_fractions(trades: list[tuple[int, int, int]]) -> None:
    position, holding = Position(), Holding()
    for side, qty, price in trades:
        position.apply(side, qty, price)
        holding.trade(side * qty, price)
        assert position.qty == holding.qty
        assert position.realized - position.cost == holding.cash
        assert abs(position.realized - holding.realized) <= holding.closings
        if not position.qty:
            assert position.cost == 0
            assert position.realized == holding.cash
        mark = price + 7
        assert position.realized + position.unrealized(mark) == holding.cash + holding.qty * mark


def test_opposite_trades_give_the_mirror_image() -> None:
    long, short = Position(), Position()
    for side, qty, price in (
        (BUY, 7, 100),
        (BUY, 5, 103),
        (SELL, 9, 101),
        (SELL, 10, 99),
        (BUY, 3, 90),
    ):
        long.apply(side, qty, price)
        short.apply(-side, qty, price)
    assert (short.qty, short.cost) == (-long.qty, -long.cost)
    assert short.realized == -long.realized


def test_row_has_a_column_for_each_field() -> None:
    order = an_order(10**15, 9_000_000_000 * UNITS)
    order.apply(orders.ACCEPT)
    order.fill(10**15, 9_000_000_000 * UNITS)
    row = order.row()
    assert len(row) == len(ORDER_FIELDS)
    assert row[ORDER_FIELDS.index("filled_notional")] == str(order.filled_notional)
