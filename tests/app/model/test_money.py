"""Quantities with decimals: exact in both directions, for every number of decimals."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.model.money import MAX_QTY_UNITS, WHOLE, Scale, money_text

DECIMALS = st.integers(0, 9)
UNITS = st.integers(-(10**40), 10**40)


@given(DECIMALS, UNITS)
def test_the_text_of_a_quantity_is_exact_and_leads_back(decimals: int, units: int) -> None:
    scale = Scale(decimals)
    text = scale.qty_text(units)
    assert Fraction(text) == Fraction(units, 10**decimals)
    assert scale.qty_units(text) == units
    assert "." not in text or text[-1] not in "0."


@given(DECIMALS, UNITS)
def test_the_text_of_an_amount_is_exact_and_leads_back(decimals: int, units: int) -> None:
    scale = Scale(decimals)
    exact = Decimal(scale.amount_text(units))
    assert Fraction(exact) == Fraction(units, 10 ** (9 + decimals))
    assert scale.amount_units(exact) == units
    assert scale.amount(units) == float(exact)


@given(UNITS)
def test_whole_quantities_and_their_amounts_are_as_they_were(units: int) -> None:
    assert WHOLE.qty(units) is units
    assert WHOLE.qty_text(units) == str(units)
    assert WHOLE.amount_text(units) == money_text(units)
    assert WHOLE.money(units) is units


@given(DECIMALS, st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**9))
def test_more_decimals_are_refused_and_never_rounded(decimals: int, number: Decimal) -> None:
    found = Scale(decimals).qty_units(str(number))
    exact = Fraction(number) * 10**decimals
    assert found == (None if exact.denominator > 1 else exact.numerator)


@pytest.mark.parametrize(
    "text",
    ["", "x", "NaN", "-Infinity", "1_0", " 1", "1 ", "1.", ".5", "+1", "1e1000", "٣", "1e-", "0x1"],
)
def test_what_is_no_number_has_no_units(text: str) -> None:
    assert Scale(8).qty_units(text) is None


def test_zeros_are_no_decimals_and_exponents_are_read() -> None:
    scale = Scale(8)
    assert scale.qty_units("1.500000000000000000") == 150_000_000
    assert scale.qty_units("1e-8") == 1
    assert scale.qty_units("1e-9") is None
    assert scale.qty_units("1" + "0" * 99) == 10**107


@given(st.integers(1, 9), st.floats(-1e6, 1e6))
def test_a_computed_quantity_is_the_nearest(decimals: int, number: float) -> None:
    units = Scale(decimals).own_qty(number)
    assert units is not None
    assert abs(Decimal(repr(number)).scaleb(decimals) - units) <= Decimal("0.5")


@given(st.integers(1, 8), st.integers(-(10**15), 10**15))
def test_a_quantity_that_is_shown_is_the_one_that_is_ordered(decimals: int, units: int) -> None:
    scale = Scale(decimals)
    assert scale.own_qty(scale.qty(units)) == units


def test_a_half_is_rounded_to_even_and_what_is_no_number_is_refused() -> None:
    scale = Scale(2)
    assert [scale.own_qty(Decimal(t)) for t in ("0.125", "0.135", "-0.125")] == [12, 14, -12]
    assert scale.own_qty(3) == 300
    for wrong in (True, "1", None, float("nan"), float("inf"), Decimal("NaN"), [1]):
        assert scale.own_qty(wrong) is None
    assert (WHOLE.own_qty(1.0), WHOLE.own_qty(Decimal(-3)), WHOLE.own_qty(1.5)) == (1, -3, None)


@pytest.mark.parametrize("decimals", range(10))
def test_the_largest_order_fits_the_store(decimals: int) -> None:
    assert Scale(decimals).qty_max <= MAX_QTY_UNITS < 1 << 63
    assert Scale(decimals).qty_max >= 10**9 * 10**decimals
