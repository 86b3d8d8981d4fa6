"""Prices out of a message of ticks, as a sequencer encodes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.market_data.live.bus.batch import Kind, Message, encode
from app.portfolio.intake.prices import has_ticks, last_prices

FRAMES = b"2025-10-01 09:30:00*A*100.25*2025-10-01 09:30:00*B*7*2025-10-01 09:30:01*A*99.5*"
WANTED = {b"A", b"B", b"C"}


def message(kind: Kind, body: bytes = b"", prices: int = 0) -> tuple[dict[str, str], bytes]:
    return encode(Message(kind, "run", 1, 0, 3, 3, body, prices)), body


def test_the_last_price_of_each_symbol_that_is_held() -> None:
    found = last_prices(*message(Kind.TICKS, FRAMES + b"SEQ|2*2025*A*50*", len(FRAMES)), WANTED)
    assert found == {"A": 99_500_000_000, "B": 7_000_000_000}
    assert last_prices(*message(Kind.TICKS, FRAMES, len(FRAMES)), {b"C"}) == {}


@pytest.mark.parametrize("kind", [Kind.BEGIN, Kind.MAP, Kind.END])
def test_only_ticks_have_prices(kind: Kind) -> None:
    headers, body = message(kind, FRAMES)
    assert not has_ticks(headers)
    assert last_prices(headers, body, WANTED) == {}
    assert last_prices(None, body, WANTED) == {}


@pytest.mark.parametrize(
    "price", [b"", b"0", b"-1", b"NaN", b"Infinity", b"1e400", b"9000000001", b"x", b"\xff"]
)
def test_what_is_no_price_is_left_out(price: bytes) -> None:
    body = b"2025*A*" + price + b"*2025*B*2*"
    assert last_prices(*message(Kind.TICKS, body, len(body)), WANTED) == {"B": 2_000_000_000}


@given(st.binary(max_size=100), st.integers(0, 200))
def test_whatever_comes_is_no_error(body: bytes, length: int) -> None:
    headers, _ = message(Kind.TICKS, body, length)
    assert set(last_prices(headers, body, {b"A"})) <= {"A"}
