"""What is read from an exchange's messages."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.market_data.live.exchange.trade_map import (
    MapError,
    Other,
    Refused,
    TradeMap,
    parse_symbols,
    subscription,
)
from app.market_data.live.records import NO_ID, Trade
from app.model.money import MAX_PRICE

SYMBOLS = ["BTCUSDT", "BNBBTC"]
# As https://github.com/binance/binance-spot-api-docs documents it.
DOCUMENTED: dict[str, Any] = {
    "e": "trade",
    "E": 1672515782136,
    "s": "BNBBTC",
    "t": 12345,
    "p": "0.001",
    "q": "100",
    "T": 1672515782136,
    "m": True,
    "M": True,
}
EXPECTED = Trade(1672515782136 * 10**6, 1_000_000, 12345, 100.0, 1)


def read(message: Any, text: str = "binance", symbols: list[str] = SYMBOLS) -> list[Any]:
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    return list(TradeMap(text, symbols).read(data))


def test_the_documented_trade_of_binance_alone_and_in_a_combined_stream() -> None:
    assert read(DOCUMENTED) == [EXPECTED]
    assert read({"stream": "bnbbtc@trade", "data": DOCUMENTED}) == [EXPECTED]
    # Since 2025 it can send microseconds.
    micros = DOCUMENTED | {"T": 1672515782136789}
    assert read(micros)[0].exchange_ns == 1672515782136789 * 1000


@pytest.mark.parametrize(
    ("text", "message", "expected"),
    [
        (  # Coinbase Exchange, channel "matches"
            "symbol=product_id price=price timestamp=time id=trade_id qty=size "
            "where=type:match|last_match",
            {
                "type": "match",
                "trade_id": 10,
                "sequence": 50,
                "maker_order_id": "ac928c66-ca53-498f-9c13-a110027a60e8",
                "time": "2014-11-07T08:19:27.028459Z",
                "product_id": "BTC-USD",
                "size": "5.23512",
                "price": "400.23",
                "side": "sell",
            },
            [Trade(1415348367028459000, 400_230_000_000, 10, 5.23512, 0)],
        ),
        (  # Kraken v2, channel "trade": several trades, prices as numbers
            "rows=data symbol=symbol price=price timestamp=timestamp id=trade_id qty=qty",
            {
                "channel": "trade",
                "type": "update",
                "data": [
                    {
                        "symbol": "MATIC/USD",
                        "side": "sell",
                        "price": 0.5117,
                        "qty": 40.0,
                        "trade_id": 4665906,
                        "timestamp": "2023-09-25T07:49:37.708706Z",
                    },
                    {
                        "symbol": "MATIC/USD",
                        "price": 0.5118,
                        "qty": 1,
                        "trade_id": 4665907,
                        "timestamp": "2023-09-25T07:49:37.708706Z",
                    },
                ],
            },
            [
                Trade(1695628177708706000, 511_700_000, 4665906, 40.0, 1),
                Trade(1695628177708706000, 511_800_000, 4665907, 1.0, 1),
            ],
        ),
        (  # places in lists; times in seconds, exact
            "rows=1 symbol=0 price=2 timestamp=1",
            [0, [["BTC-USD", "1700000000.000000001", "1e-9"]]],
            [Trade(1700000000000000001, 1, NO_ID, math.nan, 0)],
        ),
    ],
)
def test_other_exchanges_by_their_members(text: str, message: Any, expected: list[Trade]) -> None:
    found = read(message, text, ["BTC-USD", "MATIC/USD"])
    assert repr(found) == repr(expected)


def test_digits_of_json_numbers_are_not_lost() -> None:
    text = b'{"s":"BTCUSDT","p":9000000000.000000001,"T":1672515782136,"t":1,"q":1,"e":"trade"}'
    assert [each.reason for each in read(text)] == [f"above {MAX_PRICE}"]
    (trade,) = read(text.replace(b"9000000000.", b"8000000000."))
    assert trade.price == 8_000_000_000_000_000_001


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"p": "0"}, "price", "below"),
        ({"p": "-1"}, "price", "not a number"),
        ({"p": "NaN"}, "price", "not a number"),
        ({"p": "Infinity"}, "price", "not a number"),
        ({"p": "1e99"}, "price", "above"),
        ({"p": "1e-99"}, "price", "below"),
        ({"p": "1" * 5000}, "price", "not a number"),
        ({"p": True}, "price", "not a number"),
        ({"p": None}, "price", "not a number"),
        ({"p": ["1"]}, "price", "not a number"),
        ({"p": "1,5"}, "price", "not a number"),
        ({"p": "9000000001"}, "price", "above"),
        ({"T": "yesterday"}, "timestamp", "not a timestamp"),
        ({"T": 10**30}, "timestamp", "not a timestamp"),
        ({"T": None}, "timestamp", "not a timestamp"),
        ({"T": "9" * 50}, "timestamp", "not a timestamp"),
        ({"T": 9223372036854775807}, "timestamp", "outside"),
        ({"t": -1}, "id", "whole number"),
        ({"t": "a"}, "id", "whole number"),
        ({"t": 1 << 63}, "id", "whole number"),
        ({"q": "-5"}, "qty", "not a number"),
        ({"q": "1e99"}, "", ""),
        ({"s": "DOGEUSDT"}, "symbol", "LIVE_SYMBOLS"),
        ({"s": 5}, "symbol", "LIVE_SYMBOLS"),
        ({"s": "BTC*USDT|"}, "symbol", "LIVE_SYMBOLS"),
        ({"s": "X" * 10**5}, "symbol", "LIVE_SYMBOLS"),
    ],
)
def test_what_is_not_sound_is_refused_with_its_member(
    changes: dict[str, Any], field: str, reason: str
) -> None:
    (found,) = read(DOCUMENTED | changes)
    if not field:
        assert isinstance(found, Trade)
        return
    assert isinstance(found, Refused), found
    assert found.field == field
    assert reason in found.reason
    assert len(found.value) < 100


def test_a_member_that_is_missing() -> None:
    without = {name: value for name, value in DOCUMENTED.items() if name != "p"}
    assert read(without) == [Refused("price", "", "no member p")]


@pytest.mark.parametrize(
    "message",
    [
        {"result": None, "id": 1},
        {"error": {"code": 2, "msg": "Invalid request"}},
        DOCUMENTED | {"e": "aggTrade"},
        {"e": "serverShutdown", "E": 1770123456789},
        [],
        5,
        None,
        "trade",
        {"data": {}},
        {"data": []},
    ],
)
def test_messages_without_trades(message: Any) -> None:
    (found,) = read(message)
    assert isinstance(found, Other)


@pytest.mark.parametrize(
    "message", [b"", b"{", b'{"e":"tr', b"\xff\xfe", b"[" * 100_000, b"{} {}", b"NaN"]
)
def test_what_is_no_json(message: bytes) -> None:
    (found,) = read(message)
    assert isinstance(found, Refused)
    assert found.field == "message"
    assert len(found.value) < 100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["e", "s", "p", "T", "t", "q", "data", "x"]), inner)
    ),
    max_leaves=20,
)


@given(JSON)
def test_whatever_is_sent_is_read_without_an_error(value: Any) -> None:
    for text in (
        "binance",
        "symbol=s price=p timestamp=T id=t qty=q",
        "rows=data symbol=s price=p.0 timestamp=T",
    ):
        for found in read(json.dumps(value).encode(), text):
            assert isinstance(found, Trade | Refused | Other)


@given(st.binary(max_size=200))
def test_whatever_bytes_are_sent_are_read_without_an_error(data: bytes) -> None:
    assert read(data)


@given(st.integers(1, MAX_PRICE * 10**9))
def test_prices_are_exact(units: int) -> None:
    whole, part = divmod(units, 10**9)
    (found,) = read(DOCUMENTED | {"p": f"{whole}.{part:09d}"})
    assert found.price == units


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kraken", "must be binance"),
        ("symbol=s price=p", "timestamp=PATH"),
        ("symbol=s symbol=t price=p timestamp=T", "each once"),
        ("symbol=s price=p timestamp=T where=e", "PATH:VALUE"),
        ("symbol=s price=p timestamp=T side=m", "must be binance"),
    ],
)
def test_a_wrong_live_map_is_refused(text: str, says: str) -> None:
    with pytest.raises(MapError, match=says):
        TradeMap(text, SYMBOLS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "needs the symbols"),
        ("A,A", "twice"),
        ("A*B", "delimiter"),
        ("=cmd", "formula"),
        (",".join(f"S{n}" for n in range(1001)), "at most 1000"),
    ],
)
def test_wrong_live_symbols_are_refused(text: str, says: str) -> None:
    with pytest.raises(MapError, match=says):
        parse_symbols(text)


def test_symbols_are_separated_by_commas_or_spaces() -> None:
    assert parse_symbols(" BTCUSDT, ETHUSDT  BNBBTC\n") == ["BTCUSDT", "ETHUSDT", "BNBBTC"]


def test_binance_is_asked_for_the_streams_that_the_address_does_not_name() -> None:
    wanted = json.loads(subscription("", "binance", "wss://stream.binance.com:9443/ws", SYMBOLS))
    assert wanted["params"] == ["btcusdt@trade", "bnbbtc@trade"]
    for url in (
        "wss://stream.binance.com:9443/ws/btcusdt@trade",
        "wss://stream.binance.com:9443/stream?streams=btcusdt@trade/bnbbtc@trade",
    ):
        assert subscription("", "binance", url, SYMBOLS) == ""
    assert subscription("", "symbol=s price=p timestamp=T", "wss://x/ws", SYMBOLS) == ""
    assert subscription("hello", "binance", "wss://x/ws", SYMBOLS) == "hello"
