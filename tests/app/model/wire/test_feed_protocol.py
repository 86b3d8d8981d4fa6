"""Frames on the wire: split, coalesced, oversized; symbol lists, marks, order frames."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.model.money import WHOLE
from app.model.requests import OrderRequest
from app.model.timestamps import ts_event_ns
from app.model.wire.answers import Answer, answer_decoder
from app.model.wire.feed_protocol import (
    encode_mark,
    encode_symbol_list,
    parse_mark,
    parse_symbol_list,
)
from app.model.wire.frames import (
    MAX_FRAME_BYTES,
    FrameBuffer,
    LocalProtocolError,
    RemoteProtocolError,
)
from app.model.wire.order_json import decode, encode_order

LIMIT = settings(max_examples=200, deadline=None, derandomize=True)
pieces = st.lists(st.binary(max_size=20), max_size=12)


class TestFrameBuffer:
    @LIMIT
    @given(pieces)
    def test_frames_do_not_depend_on_how_they_arrive(self, parts: list[bytes]) -> None:
        whole = FrameBuffer()
        expected = whole.feed(b"".join(parts))
        split = FrameBuffer()
        assert [frame for part in parts for frame in split.feed(part)] == expected
        rest = whole.feed(b"*")
        assert split.feed(b"*") == rest
        assert b"*".join([*expected, *rest]) == b"".join(parts)

    def test_split_at_every_byte(self) -> None:
        data = b'{"a":1}**SEQ|7*2025-10-01 09:30:00*\xc3\x84*'
        expected = [b'{"a":1}', b"", b"SEQ|7", b"2025-10-01 09:30:00", b"\xc3\x84"]
        for first in range(len(data) + 1):
            for second in range(first, len(data) + 1):
                frames = FrameBuffer()
                parts = (data[:first], data[first:second], data[second:])
                assert [frame for part in parts for frame in frames.feed(part)] == expected
                assert frames.feed(b"*") == [b""]

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_takes_any_buffer_and_keeps_no_reference(self, kind: type) -> None:
        frames, data = FrameBuffer(), bytearray(b"ab*c")
        assert frames.feed(kind(data)) == [b"ab"]
        data[:] = b"xxxx"
        assert frames.feed(b"d*") == [b"cd"]

    def test_largest_frame_passes_and_one_byte_more_does_not(self) -> None:
        assert FrameBuffer().feed(b"x" * MAX_FRAME_BYTES + b"*") == [b"x" * MAX_FRAME_BYTES]
        with pytest.raises(RemoteProtocolError, match="65537 bytes"):
            FrameBuffer().feed(b"x" * (MAX_FRAME_BYTES + 1) + b"*")

    def test_unfinished_frame_is_rejected_before_its_end(self) -> None:
        frames = FrameBuffer(max_frame_bytes=10)
        assert frames.feed(b"x" * 10) == []
        with pytest.raises(RemoteProtocolError, match="frame of over 10 bytes"):
            frames.feed(b"x")

    def test_many_frames_may_be_larger_together(self) -> None:
        assert len(FrameBuffer(max_frame_bytes=10).feed(b"12345*" * 1000)) == 1000


class TestSymbolLists:
    @LIMIT
    @given(
        st.lists(
            st.text(
                st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="*|,"),
                min_size=1,
                max_size=10,
            ).filter(lambda text: text[0] not in "=+-@"),
            min_size=1,
            max_size=20,
            unique=True,
        )
    )
    def test_round_trip(self, symbols: list[str]) -> None:
        frame = encode_symbol_list(symbols)
        assert frame.count(b"*") == 1
        assert parse_symbol_list(frame[:-1]) == symbols

    def test_bytes(self) -> None:
        assert encode_symbol_list(["AAPL", "MSFT"]) == b"SYMBOLS|AAPL,MSFT*"

    @pytest.mark.parametrize(
        "frame",
        [
            *(b"", b"SYMBOLS", b"SYMBOLS|", b"symbols|A", b"SYMBOLS A", b"SEQ|1", b"XSYMBOLS|A"),
            *(b"SYMBOLS|A,", b"SYMBOLS|,A", b"SYMBOLS|A,,B", b"SYMBOLS|A,A", b"SYMBOLS|A|B"),
            *(b"SYMBOLS|" + b"1" * 33, b"SYMBOLS|A\n", b"SYMBOLS|A\x7f", b"SYMBOLS|\xff"),
        ],
    )
    def test_not_a_symbol_list(self, frame: bytes) -> None:
        with pytest.raises(RemoteProtocolError):
            parse_symbol_list(frame)

    @pytest.mark.parametrize("symbol", ["", "A*", "A|", "A,B", "1" * 33, "\n", "ÄÖÜÄÖÜ"])
    def test_invalid_symbol_is_not_sent(self, symbol: str) -> None:
        with pytest.raises(LocalProtocolError):
            encode_symbol_list(["OK", symbol])


class TestMarks:
    @pytest.mark.parametrize("name", ["RESUME", "SEQ", "END"])
    @pytest.mark.parametrize("seq", [0, 7, 10**18 - 1])
    def test_round_trip(self, name: str, seq: int) -> None:
        frame = encode_mark(name, seq)
        assert frame == f"{name}|{seq}*".encode()
        assert parse_mark(frame[:-1], name) == seq

    @pytest.mark.parametrize("frame", [b"", b"SEQ", b"seq|1", b"XSEQ|1", b"END|1", b"SEQ 1"])
    def test_another_frame(self, frame: bytes) -> None:
        assert parse_mark(frame, "SEQ") is None

    @pytest.mark.parametrize(
        "body", [b"", b"-1", b"+1", b"1.0", b" 1", b"1 ", b"1|2", b"x", b"0x1", b"1_0", b"9" * 19]
    )
    def test_right_name_without_a_number(self, body: bytes) -> None:
        with pytest.raises(RemoteProtocolError, match="not a sequence number"):
            parse_mark(b"SEQ|" + body, "SEQ")


def order(**changes: object) -> dict[str, object]:
    fields = {
        "order_id": 7,
        "client": "strategy@1",
        "side": "BUY",
        "symbol": "AAPL",
        "qty": 10,
        "price": 173.2,
        "event_ns": 1_759_311_000 * 10**9,
    }
    return fields | changes


class TestOrderFrames:
    def test_members(self) -> None:
        frame = encode_order(**order())  # type: ignore[arg-type]
        assert json.loads(frame[:-1]) == {
            "side": "BUY",
            "symbol": "AAPL",
            "qty": 10,
            "price": 173.2,
            "ts": 1_759_311_000,
            "id": 7,
            "client": "strategy@1",
        }

    @LIMIT
    @given(st.text(max_size=12), st.text(max_size=12), st.floats(1e-9, 9e9), st.integers(0, 2**62))
    def test_no_delimiter_in_the_payload_and_no_loss(
        self, symbol: str, client: str, price: float, order_id: int
    ) -> None:
        frame = encode_order(
            **order(symbol=symbol, client=client, price=price, order_id=order_id)  # type: ignore[arg-type]
        )
        assert frame.index(b"*") == len(frame) - 1
        read = json.loads(frame[:-1])
        assert (read["symbol"], read["client"], read["id"]) == (symbol, client, order_id)
        assert math.isclose(read["price"], price, rel_tol=0, abs_tol=0)

    def test_star_is_escaped(self) -> None:
        assert b'"client":"a\\u002ab"' in encode_order(**order(client="a*b"))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("event_ns", "text"),
        [
            (0, "0"),
            (1_759_311_000 * 10**9, "1759311000"),
            (1_759_311_000 * 10**9 + 1, "1759311000.000000001"),
            (1_759_311_000 * 10**9 + 25 * 10**7, "1759311000.25"),
            (1_759_311_001 * 10**9 - 1, "1759311000.999999999"),
            (-1, "-0.000000001"),
            (-1_500_000_000, "-1.5"),
        ],
    )
    def test_the_time_is_a_number_exact_to_the_nanosecond(self, event_ns: int, text: str) -> None:
        frame = encode_order(**order(event_ns=event_ns))  # type: ignore[arg-type]
        assert f'"ts":{text},' in frame.decode()
        assert float(json.loads(frame[:-1])["ts"]) == float(text), "as a plain server reads it"
        assert isinstance(request := decode(frame[:-1]), OrderRequest)
        assert request.ts == text
        assert ts_event_ns(text) == event_ns

    @pytest.mark.parametrize(
        ("frame", "order_id", "retryable"),
        [
            (b'{"ok":true,"order":{"id":7,"side":"BUY"}}', 7, False),
            (
                b'{"ok":false,"msg":"m","code":"QTY","retryable":false,"id":7,"client":"c"}',
                7,
                False,
            ),
            (b'{"ok":false,"msg":"bad_json","code":"X","retryable":true}', None, True),
            (b'{"ok":true,"order":{"id":null},"future":[1]}', None, False),
        ],
    )
    def test_answers(self, frame: bytes, order_id: int | None, retryable: bool) -> None:
        answer: Answer = answer_decoder(WHOLE)(frame)
        assert (answer.order_id, answer.retryable) == (order_id, retryable)
