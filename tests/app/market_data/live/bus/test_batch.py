"""The messages of a shard's stream, and what they are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.market_data.live.bus.batch import (
    BODY_BYTES_MAX,
    BatchError,
    BatchReader,
    Begin,
    Kind,
    Message,
    decode,
    decode_begin,
    encode,
    encode_begin,
)

PRICES = b"2025-10-01 09:30:00*F*1.5*2025-10-01 09:30:01*AAPL*2*"
SENTIMENTS = b"2025-10-01 09:30:00*F*70*SEQ|8*2025-10-01 09:30:01*AAPL*0*"
MESSAGE = Message(Kind.TICKS, "run", 3, 7, 2, 19, PRICES + SENTIMENTS, len(PRICES))
READER = BatchReader(["AAPL", "F"])
number = st.integers(0, 1 << 53)


@given(st.sampled_from(list(Kind)), number, number, number, st.integers(1, 2048), st.binary())
def test_a_message_arrives_as_it_was_sent(
    kind: Kind, version: int, first: int, source: int, ticks: int, body: bytes
) -> None:
    message = Message(kind, "a.run-1", version, first, 0, source)
    if kind is Kind.TICKS:
        message = message._replace(ticks=ticks, body=body, price_bytes=len(body) // 2)
    assert decode(encode(message), message.body) == message


@given(
    st.dictionaries(
        st.sampled_from(
            ["Kind", "Run", "Map-Version", "Seq-First", "Seq-Count", "Source-Next", "Price-Bytes"]
        ),
        st.sampled_from(["", "ticks", "end", "1", "-1", "9" * 17, "1e3", "run", "\u0661", "a b"]),
    ),
    st.binary(max_size=20),
)
def test_whatever_arrives_is_a_message_or_an_error(headers: dict[str, str], body: bytes) -> None:
    try:
        message = decode(headers, body)
    except BatchError:
        return
    if message.kind is Kind.TICKS:
        with pytest.raises(BatchError):
            READER.ticks(message)


def test_ticks_and_sentiments_are_read() -> None:
    ticks = READER.ticks(MESSAGE)
    assert ticks["seq"].tolist() == [7, 8]
    assert ticks["symbol"].tolist() == [1, 0]
    assert ticks["price"].tolist() == [1.5, 2.0]
    sentiments = READER.sentiments(MESSAGE)
    assert sentiments.ticks["seq"].tolist() == [7, 8]
    assert sentiments.frames == SENTIMENTS.replace(b"SEQ|8*", b"")


@pytest.mark.parametrize(
    ("prices", "problem"),
    [
        (PRICES[:-1], "tick 8 is malformed"),
        (PRICES + PRICES, "tick 9 is malformed"),
        (PRICES[: len(PRICES) // 2], "malformed"),
        (PRICES.replace(b"AAPL", b"IBM"), "tick 8 is malformed, or of an unknown symbol: b'IBM"),
        (PRICES.replace(b"*2*", b"*-2*"), "tick 8 is malformed"),
        (PRICES.replace(b"*2*", b"*nan*"), "tick 8 is malformed"),
        (PRICES.replace(b"30:01", b"30:61"), "tick 8 is malformed"),
        (PRICES.replace(b"30:01", b"29:59"), "times of ticks from 7 on go back"),
        (PRICES.replace(b"*2*", b"*2." + b"0" * 80 + b"*"), "a tick of over 96 bytes|malformed"),
    ],
)
def test_malformed_ticks_are_refused(prices: bytes, problem: str) -> None:
    with pytest.raises(BatchError, match=problem):
        READER.ticks(MESSAGE._replace(body=prices, price_bytes=len(prices)))


@pytest.mark.parametrize(
    ("sentiments", "problem"),
    [
        (b"2025-10-01 09:30:00*F*101*", "malformed sentiment"),
        (b"2025-10-01 09:30:00*IBM*10*", "malformed sentiment"),
        (b"2025-10-01 09:30:00*F*10", "malformed sentiment"),
        (b"SEQ|9*2025-10-01 09:30:00*F*10*", "due with tick 9, which comes later"),
    ],
)
def test_malformed_sentiments_are_refused(sentiments: bytes, problem: str) -> None:
    with pytest.raises(BatchError, match=problem):
        READER.sentiments(MESSAGE._replace(body=PRICES + sentiments))


def test_a_body_that_is_too_large_is_refused() -> None:
    with pytest.raises(BatchError, match="at most"):
        decode(encode(MESSAGE), bytes(BODY_BYTES_MAX + 1))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"\xff",
        encode_begin(Begin("other", "a", ["F"], "id")),
        encode_begin(Begin("run", "A", ["F"], "id")),
        encode_begin(Begin("run", "a", [], "id")),
        encode_begin(Begin("run", "a", ["F", "F"], "id")),
        encode_begin(Begin("run", "a", ["F*"], "id")),
        encode_begin(Begin("run", "a", ["F"], "id")).replace(b'"format":1', b'"format":2'),
    ],
)
def test_a_first_message_that_describes_no_run_is_refused(body: bytes) -> None:
    with pytest.raises(BatchError):
        decode_begin(Message(Kind.BEGIN, "run", 1, 0, 0, 0, body))


def test_a_first_message_describes_the_run() -> None:
    begin = Begin("run", "a", ["F", "AAPL"], "id")
    assert decode_begin(Message(Kind.BEGIN, "run", 1, 0, 0, 0, encode_begin(begin))) == begin
