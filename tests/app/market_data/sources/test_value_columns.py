"""Prices and sentiments: passed unchanged, rewritten, or rejected."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.market_data.sources.value_columns import (
    normalize_price,
    normalize_sentiment,
    price_columns,
    sentiment_columns,
    with_point,
)

NUMBER_LIKE = st.text("0123456789.+-eE", max_size=24).map(str.encode)


def columns(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lengths = np.array([len(text) for text in texts], np.int64)
    data = np.frombuffer(b",".join(texts) + b"," + bytes(64), np.uint8)
    return data, np.cumsum(lengths + 1) - lengths - 1, lengths


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("173.20", "173.20"),
        ("5", "5"),
        ("0.000000001", "0.000000001"),
        ("9000000000", "9000000000"),
        ("61837.63000000", "61837.63000000"),
        ("+4.", "4"),
        (".5", "0.5"),
        ("1e3", "1000"),
        ("1,234.50", "1234.50"),
        ("$1,234,567.5", "1234567.5"),
        ("$255.45", "255.45"),
        ("€7", "7"),
        ("£0.5", "0.5"),
        ("1.5E-3", "0.0015"),
        ("0.30000000000000004", "0.3"),
        ("12345678.1234567895", "12345678.12345679"),
    ],
)
def test_price_on_the_wire(text: str, wire: str) -> None:
    assert normalize_price(text.encode()).decode() == wire


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "missing"),
        ("abc", "not a number"),
        ("1.2.3", "not a number"),
        ("1,5", "not a number: set DECIMAL_COMMA=true if the comma is the decimal point"),
        ("1.234,50", "not a number: set DECIMAL_COMMA=true"),
        ("1,234", "not a number: set DECIMAL_COMMA=true"),
        ("1,23,456.5", "not a number"),
        ("$", "not a number"),
        ("$1,5", "not a number"),
        ("1_000", "not a number"),
        ("0x10", "not a number"),
        ("٣", "not a number"),
        ("nan", "not finite"),
        ("-inf", "not finite"),
        ("Infinity", "not finite"),
        ("0", "not positive"),
        ("-0.0", "not positive"),
        ("-1", "not positive"),
        ("1e999", "above 9000000000"),
        ("9000000000.01", "above 9000000000"),
        ("1e-10", "below 0.000000001"),
    ],
)
def test_price_rejected(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        normalize_price(text.encode())
    assert not price_columns(*columns([text.encode()]))[0]


@settings(deadline=None)
@given(st.lists(NUMBER_LIKE, min_size=1, max_size=10))
def test_price_column_accepts_only_wire_form(texts: list[bytes]) -> None:
    for text, good in zip(texts, price_columns(*columns(texts)), strict=True):
        if good:
            assert normalize_price(text) == text


@settings(deadline=None)
@given(st.decimals(Decimal("0.000000001"), Decimal("9e9"), places=9))
def test_price_keeps_its_value(price: Decimal) -> None:
    for text in (f"{price:f}", str(price), repr(float(price))):
        sent = normalize_price(text.encode())
        assert abs(Decimal(sent.decode()) - Decimal(text)) <= Decimal("5e-10")
        # Wire form is sent unchanged.
        assert normalize_price(sent) == sent


@pytest.mark.parametrize(
    ("text", "wire"), [("0", "0"), ("100", "100"), ("050", "50"), ("50.0", "50"), ("+7", "7")]
)
def test_sentiment_on_the_wire(text: str, wire: str) -> None:
    assert normalize_sentiment(text.encode()).decode() == wire


@pytest.mark.parametrize("text", ["", "101", "-1", "50.5", "nan", "1e1", "5O", "1000", "٣"])
def test_sentiment_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"missing|not an integer from 0 to 100"):
        normalize_sentiment(text.encode())
    assert not sentiment_columns(*columns([text.encode()]))[0][0]


@settings(deadline=None)
@given(st.lists(NUMBER_LIKE, min_size=1, max_size=10))
def test_sentiment_column_equals_single_values(texts: list[bytes]) -> None:
    good, values = sentiment_columns(*columns(texts))
    for text, ok, value in zip(texts, good.tolist(), values.tolist(), strict=True):
        if ok:
            assert int(normalize_sentiment(text)) == value


@pytest.mark.parametrize(
    ("text", "price"),
    [
        (b"1,5", b"1.5"),
        (b" 1.234,5 ", b"1234.5"),
        (b"1.234", b"1234"),
        (b"1.234.567,25", b"1234567.25"),
        (b"\xe2\x82\xac1.234,5", b"1234.5"),
        (b"5", b"5"),
        (b"1.5", None),
        (b"1234.567", None),
        (b"1.23,5", None),
        (b"1,234.5", None),
    ],
)
def test_a_point_is_no_decimal_point_where_the_comma_is(text: bytes, price: bytes | None) -> None:
    if price is not None:
        assert normalize_price(with_point(text)) == price
        return
    with pytest.raises(ValueError, match="set DECIMAL_COMMA=false if the point is the decimal"):
        normalize_price(with_point(text))
