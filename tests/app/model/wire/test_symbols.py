"""Symbols of 1 to 32 bytes in every frame that has one."""

import json

from hypothesis import given
from hypothesis import strategies as st

from app.model.requests import Marks, OrderRequest
from app.model.symbols import MAX_SYMBOL_BYTES
from app.model.wire.feed_protocol import encode_symbol_list, parse_symbol_list
from app.model.wire.frames import MAX_FRAME_BYTES, FrameBuffer
from app.model.wire.order_json import decode, encode_marks, encode_order

FIRST = "".join(map(chr, range(0x21, 0x7F))).translate(dict.fromkeys(map(ord, "*|,=+-@")))
SYMBOLS = st.builds(
    str.__add__, st.sampled_from(FIRST), st.text(FIRST + "=+-@", max_size=MAX_SYMBOL_BYTES - 1)
)
PROOF = "00112233445566aa"


@given(st.lists(SYMBOLS, min_size=1, unique=True))
def test_symbol_list(symbols: list[str]) -> None:
    (frame,) = FrameBuffer().feed(encode_symbol_list(symbols))
    assert parse_symbol_list(frame) == symbols


@given(SYMBOLS)
def test_order(symbol: str) -> None:
    (frame,) = FrameBuffer().feed(encode_order(7, "c", "BUY", symbol, 10, 1.5, 0))
    assert json.loads(frame)["symbol"] == symbol
    order = decode(frame)
    assert isinstance(order, OrderRequest)
    assert order.symbol == symbol


def test_marks_of_the_longest_symbols_fit_into_their_frames() -> None:
    marks = {f"{number:04d}".ljust(32, '"'): 8999999999.123457 for number in range(3000)}
    found: dict[str, float] = {}
    for frame in encode_marks(PROOF, marks).split(b"*")[:-1]:
        assert len(frame) <= MAX_FRAME_BYTES
        told = decode(frame)
        assert isinstance(told, Marks)
        found |= told.marks
    assert found == marks
