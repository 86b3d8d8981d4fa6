"""Quantities with decimals on the order port: taken and answered digit for digit."""

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from app.model.money import Scale
from app.model.orders import BUY, FILLED, IOC, PLAIN, Order
from app.model.requests import OrderRequest, Reject
from app.model.wire.answers import answer_decoder
from app.model.wire.frames import RemoteProtocolError
from app.model.wire.order_answers import encode_any_ack
from app.model.wire.order_json import decode_any, encode_order

SCALES = st.integers(1, 9).map(Scale)


def frame(qty: str) -> bytes:
    return f'{{"side":"BUY","symbol":"BTCUSDT","qty":{qty},"price":60000.5,"id":7}}'.encode()


def refusal(qty: str, decimals: int) -> Reject:
    found = decode_any(frame(qty), Scale(decimals))
    assert isinstance(found, Reject), found
    return found


@given(SCALES, st.data())
def test_an_order_arrives_as_it_was_encoded(scale: Scale, data: st.DataObject) -> None:
    units = data.draw(st.integers(1, scale.qty_max))
    qty = Raw(scale.qty_text(units).encode())
    sent = encode_order(7, "strategy", "BUY", "BTCUSDT", qty, 60000.5, 10**18)
    found = decode_any(sent[:-1], scale)
    assert isinstance(found, OrderRequest), found
    assert found.qty == units


@given(SCALES, st.data(), st.booleans())
def test_a_number_and_a_text_of_it_are_taken(
    scale: Scale, data: st.DataObject, quoted: bool
) -> None:
    places = data.draw(st.integers(0, scale.decimals))
    qty = data.draw(st.decimals(Decimal(1).scaleb(-places), 10**6, places=places))
    text = f'"{qty:f}"' if quoted else f"{qty:f}"
    found = decode_any(frame(text), scale)
    assert isinstance(found, OrderRequest), found
    assert Decimal(found.qty).scaleb(-scale.decimals) == qty


@pytest.mark.parametrize(
    ("qty", "shown"),
    [
        ("0.000000001", "0.000000001"),
        ('"0.123456789"', '"0.123456789"'),
        ("0", "0"),
        ("-0.5", "-0.5"),
        ("1e400", "1e400"),
        ("10000000001", "10000000001"),
        ("null", "null"),
        ("true", "true"),
        ('"x"', '"x"'),
        ('"NaN"', '"NaN"'),
        ('""', '""'),
        ("[1]", "a list"),
        ("{}", "an object"),
        ("1" * 100, "1" * 57 + "..."),
    ],
)
def test_what_is_no_quantity_is_refused_with_the_setting_to_change(qty: str, shown: str) -> None:
    found = refusal(qty, 8)
    assert found.details == {"field": "qty", "id": 7}
    assert found.msg == (
        "bad field qty: a number above 0 and at most 10000000000, of at most 8 decimals "
        f"(QTY_DECIMALS), got {shown}"
    )


def test_bytes_that_are_no_text_are_refused() -> None:
    found = decode_any(frame('"\xff"').replace("\xff".encode(), b"\xff"), Scale(8))
    assert isinstance(found, Reject)


def test_a_missing_quantity_is_said_to_be_missing() -> None:
    found = decode_any(b'{"side":"BUY","symbol":"A","price":1}', Scale(8))
    assert isinstance(found, Reject)
    assert found.msg == "missing field: qty"


@given(SCALES, st.data())
def test_an_answer_has_exact_decimals_and_leads_back(scale: Scale, data: st.DataObject) -> None:
    qty = data.draw(st.integers(1, scale.qty_max))
    price, fee = data.draw(st.integers(1, 9 * 10**18)), data.draw(st.integers(0, 10**40))
    order = Order(
        1, 1, 7, 0, BUY, "BTCUSDT", qty, price, PLAIN, IOC, None, FILLED,
        filled_qty=qty, filled_notional=qty * price, exec_first=1, exec_count=1, exec_price=price,
        fee=fee,
    )  # fmt: skip
    sent = encode_any_ack(order, "c", scale=scale)[:-1]
    shown = json.loads(sent, parse_float=Decimal, parse_int=Decimal)["order"]
    assert shown["qty"] == shown["filled_qty"] == Decimal(qty).scaleb(-scale.decimals)
    assert shown["avg_price"] == Decimal(price).scaleb(-9)
    assert Fraction(shown.get("fee", 0)) * 10 ** (9 + scale.decimals) == fee
    answer = answer_decoder(scale)(sent)
    assert answer.order is not None
    assert (answer.order.qty, answer.order.filled_qty) == (qty, qty)
    assert answer.filled_of(1) == qty


def test_an_answer_of_other_decimals_is_refused_and_one_without_quantity_is_taken() -> None:
    decode_answer = answer_decoder(Scale(2))
    with pytest.raises(RemoteProtocolError, match="QTY_DECIMALS"):
        decode_answer(b'{"ok":true,"order":{"id":1,"qty":0.125,"filled_qty":0}}')
    answer = decode_answer(b'{"ok":true,"order":{"id":1}}')
    assert answer.filled_of(5) == 5
