"""What a message must be to count as a fill."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.portfolio.fills import FillError, decode_fill
from tests.app.portfolio.fill_messages import NOON_NS, Told


def test_units_are_those_of_all_shards() -> None:
    told = Told(qty=12_345_678, qty_decimals=8, price=1, fee=3, slippage=5, impact=7, borrow=11)
    fill = decode_fill(told.message())
    assert fill.qty == 123_456_780  # 0.12345678 in 1e-9
    assert (fill.fee, fill.slippage, fill.impact, fill.borrow) == (30, 50, 70, 110)
    assert (fill.run, fill.no, fill.at_ns, fill.symbol, fill.side) == ("r", 1, NOON_NS, "AAPL", 1)


def test_numbers_may_be_numbers_or_text() -> None:
    told = Told(side="SELL", fee=-4)
    as_numbers = told.message(qty=told.qty, price=told.price, fee=told.fee, at_ns=str(NOON_NS))
    assert decode_fill(as_numbers) == decode_fill(told.message())
    assert decode_fill(as_numbers).fee == -4 * 10**9, "a rebate"


@pytest.mark.parametrize(
    ("member", "value", "says"),
    [
        ("run", "", "run"),
        ("run", "x" * 129, "run"),
        ("fill_no", 0, "fill_no"),
        ("fill_no", 2**63, "fill_no"),
        ("at_ns", 0, "at_ns=0: must be nanoseconds since 1970"),
        ("at_ns", str(2**63), "at_ns=9223372036854775808"),
        ("symbol", "X" * 33, "symbol='XXXX"),
        ("symbol", "=SUM", "symbol='=SUM'"),
        ("symbol", "\ud800", "surrogate"),
        ("symbol", "A*B", "symbol='A*B'"),
        ("side", "HOLD", "side"),
        ("qty", "0", "qty=0: must be above 0"),
        ("qty", str(2**63), "qty=9223372036854775808"),
        ("qty", "1.5", "qty"),
        ("qty", "1" * 61, "qty"),
        ("qty", "१", "qty"),
        ("price", "0", "price=0: must be above 0"),
        ("price", str(9_000_000_001 * 10**9), "at most 9000000000"),
        ("price", True, "price"),
        ("qty_decimals", 10, "qty_decimals"),
        ("qty_decimals", -1, "qty_decimals"),
        ("fee", "NaN", "fee"),
        ("borrow", None, "borrow"),
    ],
)
def test_a_wrong_member_is_named(member: str, value: object, says: str) -> None:
    with pytest.raises(FillError) as caught:
        decode_fill(Told().message(**{member: value}))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("member", ["run", "fill_no", "at_ns", "symbol", "side", "qty", "price"])
def test_a_missing_member_is_named(member: str) -> None:
    body = json.loads(Told().message())
    del body[member]
    with pytest.raises(FillError, match=member):
        decode_fill(json.dumps(body).encode())


@given(st.binary(max_size=200) | st.integers(1, 6000).map(lambda n: b"[" * n))
def test_whatever_else_comes_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(FillError) as caught:
        decode_fill(data)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("marks", ["x", "x:1:2", "x:1:2:-3", ":1:2:3", "a b:1:2:3", "x" * 9999])
def test_marks_that_are_none_are_named(marks: str) -> None:
    with pytest.raises(FillError, match=r"^header Marks=.*must be STORE:ORDERS:FILLS:CHANGES$"):
        decode_fill(Told().message(), marks)


def test_the_marks_name_the_store() -> None:
    assert decode_fill(Told().message(), "9f3a11c2d08e7b54:1:2:3").store == "9f3a11c2d08e7b54"
    assert decode_fill(Told().message()).store == ""


def test_a_long_message_is_not_even_read() -> None:
    with pytest.raises(FillError, match="at most 16384"):
        decode_fill(b" " * 20_000 + Told().message())
