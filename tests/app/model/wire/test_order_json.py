"""What JSON allows but an order must not contain; the bytes of every answer."""

import json
import random
from typing import Any

import pytest

from app.model.money import MAX_QTY
from app.model.orders import BUY, DAY, FILLED, IOC, LIMIT, MARKET, PLAIN, Order
from app.model.reject_codes import RejectCode
from app.model.requests import (
    MAX_CLIENT_ID,
    MAX_ORDER_ID,
    Cancel,
    OrderRequest,
    Ping,
    Reject,
    Request,
)
from app.model.wire import order_answers, order_json
from app.model.wire.order_answers import encode_object, encode_reject, json_text


def decode(frame: bytes) -> Request:
    """By the kernel and by its plain twin, which give the same."""
    request = order_json.decode_any(frame)
    assert order_json.decode(frame) == request
    return request


def encode_ack(order: Order, client: str, duplicate: bool = False) -> bytes:
    answer = order_answers.encode_any_ack(order, client, duplicate)
    assert order_answers.encode_ack(order, client, duplicate) == answer
    return answer


def order(**members: str) -> bytes:
    """An order with members given as JSON text; an empty text omits the member."""
    known = {"side": '"BUY"', "symbol": '"AAPL"', "qty": "10", "price": "173.2"} | members
    return ("{" + ",".join(f'"{k}":{v}' for k, v in known.items() if v) + "}").encode()


def accepted(frame: bytes) -> OrderRequest:
    request = decode(frame)
    assert isinstance(request, OrderRequest), request
    return request


def rejected(frame: bytes) -> Reject:
    request = decode(frame)
    assert isinstance(request, Reject), request
    return request


def test_plain_order() -> None:
    expected = OrderRequest(BUY, "AAPL", 10, 173_200_000_000, None, None, "default", PLAIN, IOC)
    assert accepted(order()) == expected
    assert accepted(order(op='"new"')) == expected
    assert accepted(b" \n" + order() + b"\t") == expected


@pytest.mark.parametrize(
    ("price", "units"),
    [
        ("1", 1_000_000_000),
        ("173.20", 173_200_000_000),
        ("0.1", 100_000_000),
        ("1e-9", 1),
        ("0.123456789", 123_456_789),
        ("173.20000000000002", 173_200_000_000),
        ("9000000000", 9_000_000_000_000_000_000),
        ("8999999999.5", 8_999_999_999_500_000_000),
        ("1999999.123456789", 1_999_999_123_456_789),
        ("2000000.1", 2_000_000_100_000_000),
        ("1.5e3", 1_500_000_000_000),
        ("123456789.123456789", 123_456_789_123_456_789),
        ("1.23456789123456789e8", 123_456_789_123_456_789),
        ("8999999999.999999999", 8_999_999_999_999_999_999),
        ("8999999999.9999999994", 8_999_999_999_999_999_999),
        ("2000000.000000001", 2_000_000_000_000_001),
    ],
)
def test_price_is_exact(price: str, units: int) -> None:
    assert accepted(order(price=price)).price == units


@pytest.mark.parametrize("price", ["9000000000.000000001", "9000000000.0000000006"])
def test_a_price_that_only_its_float_rounds_to_the_largest_is_refused(price: str) -> None:
    assert rejected(order(price=price)).details["field"] == "price"


@pytest.mark.parametrize("price", ["123456789.123456789", "173.2"])
def test_a_price_comes_back_as_it_was_sent(price: str) -> None:
    request = accepted(order(price=price))
    answer = encode_ack(
        Order(1, 1, 1, 0, BUY, "AAPL", 10, request.price, PLAIN, IOC, None, FILLED), "c"
    )
    assert f'"price":{price}'.encode() in answer


@pytest.mark.parametrize(
    "symbol", ["=1+1", "+1", "-1", "@SUM", "A B", " A", "A ", "\u00c9", "A\u007f", "\U0001f600"]
)
def test_a_symbol_is_printable_ascii_and_no_formula(symbol: str) -> None:
    reject = rejected(order(symbol=f'"{symbol}"'))
    assert (reject.code, reject.details["field"]) == (RejectCode.BAD_FIELD, "symbol")
    marks = b'{"op":"marks","proof":"0123456789abcdef","marks":{"' + symbol.encode() + b'":1}}'
    assert rejected(marks).details["field"] == "marks"


@pytest.mark.parametrize(
    "token", ["NaN", "Infinity", "-Infinity", "nan", "+1", ".5", "1.", "01", "0x1"]
)
@pytest.mark.parametrize("field", ["price", "qty", "id", "ts"])
def test_not_a_json_number(field: str, token: str) -> None:
    assert rejected(order(**{field: token})).msg == "bad_json"


@pytest.mark.parametrize("price", ["1e999", "-1e999", "1" + "0" * 400, "1e400"])
def test_price_beyond_float(price: str) -> None:
    reject = rejected(order(price=price))
    assert (reject.code, reject.details["field"]) == (RejectCode.BAD_FIELD, "price")


@pytest.mark.parametrize(
    "price", ["0", "-0", "-0.0", "0.0", "-1", "-173.2", "1e-10", "1e-320", "9000000000.1", "1e300"]
)
def test_price_that_is_not_positive_or_too_large(price: str) -> None:
    reject = rejected(order(price=price))
    assert reject.code in (RejectCode.BAD_FIELD,)
    assert "price" in reject.msg


@pytest.mark.parametrize(
    "qty",
    ["0", "-0", "-1", "10.0", "10.5", "1e1", "true", '"10"', "[10]", str(MAX_QTY + 1), "9" * 5000],
)
def test_bad_quantity(qty: str) -> None:
    reject = rejected(order(qty=qty))
    assert reject.code == RejectCode.BAD_FIELD
    assert "qty" in reject.msg
    assert len(reject.msg) < 300


@pytest.mark.parametrize(
    "value", ["-1", str(MAX_CLIENT_ID + 1), "9" * 6000, "1.5", '"7"', "true", "{}"]
)
def test_bad_id(value: str) -> None:
    reject = rejected(order(id=value))
    assert reject.code == RejectCode.BAD_FIELD
    assert "id" in reject.msg
    assert "id" not in reject.details


@pytest.mark.parametrize("value", ["0", str(MAX_CLIENT_ID)])
def test_largest_and_smallest_id(value: str) -> None:
    assert accepted(order(id=value)).id == int(value)


def test_null_is_the_same_as_absent() -> None:
    request = accepted(order(id="null", client="null", type="null", tif="null", op="null"))
    assert request == accepted(order())
    assert rejected(order(price="null")).code == RejectCode.MISSING_FIELD


@pytest.mark.parametrize("field", ["side", "symbol", "qty", "price", "id", "client", "ts"])
def test_repeated_key(field: str) -> None:
    values = {"id": "1", "client": '"a"', "ts": '"2025-10-01 09:30:00"'}
    frame = order(**values)
    again = json.loads(frame)[field]
    reject = rejected(frame[:-1] + f',"{field}":{json.dumps(again)}'.encode() + b"}")
    assert (reject.code, reject.details["field"]) == (RejectCode.DUPLICATE_KEY, field)


def test_repeated_key_in_another_spelling() -> None:
    reject = rejected(order()[:-1] + b',"\\u0071ty":11}')
    assert (reject.code, reject.details["field"]) == (RejectCode.DUPLICATE_KEY, "qty")


def test_colons_in_values_are_not_keys() -> None:
    request = accepted(order(client='"a:b::c"', ts='"2025-10-01T09:30:00.5Z"', id="3"))
    assert (request.client, request.ts) == ("a:b::c", '"2025-10-01T09:30:00.5Z"')


@pytest.mark.parametrize("depth", [3, 500, 30_000])
@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
@pytest.mark.parametrize("where", [b"", b'{"zz":', b'{"ts":', b'{"qty":', b'{"op":', b'{"client":'])
def test_deep_nesting(where: bytes, bracket: bytes, depth: int) -> None:
    half = where + bracket * (depth // len(bracket))
    assert not decode_ok(half)
    close = b"]" if bracket == b"[" else b"}"
    whole = half + b"1" + close * (depth // len(bracket)) + (b"}" if where else b"")
    assert not decode_ok(whole)


def decode_ok(frame: bytes) -> bool:
    return not isinstance(decode(frame), Reject)


@pytest.mark.parametrize(
    "symbol",
    [
        '""',
        '"OF_THIRTY_THREE_BYTES_ONE_TOO_MANY"',
        '"A\\u002aB"',
        '"A|B"',
        '"A,B"',
        '"A\\u0000"',
        '"A\\n"',
        '"A\\u007f"',
        '"\\u00e9\\u00e9\\u00e9\\u00e9\\u00e9\\u00e9"',
        "7",
        "null",
        '["AAPL"]',
        '"' + "A" * 60_000 + '"',
    ],
)
def test_bad_symbol(symbol: str) -> None:
    reject = rejected(order(symbol=symbol))
    assert "symbol" in reject.msg
    assert len(reject.msg) < 300
    assert b"*" not in encode_reject(reject)[:-1]


def test_symbol_of_ten_bytes() -> None:
    assert accepted(order(symbol='"ABCDEFGHIJ"')).symbol == "ABCDEFGHIJ"
    assert "symbol" in rejected(order(symbol=f'"{"A" * 33}"')).msg


@pytest.mark.parametrize(
    "client", ['""', '"' + "x" * 65 + '"', '"a\\u0000"', '"a\\nb"', "7", '"\\u202e"']
)
def test_bad_client(client: str) -> None:
    assert "client" in rejected(order(client=client)).msg


@pytest.mark.parametrize("ts", ['"' + "9" * 80 + '"', "[1]", "{}", "true", "1e999", "-1e999"])
def test_bad_ts(ts: str) -> None:
    assert "ts" in rejected(order(ts=ts)).msg


@pytest.mark.parametrize(
    "ts", ['"2025-10-01 09:30:00"', "1759311000", "1759311000.25", '""', '"\\u002a"']
)
def test_ts_is_kept_as_written(ts: str) -> None:
    assert accepted(order(ts=ts)).ts == ts


@pytest.mark.parametrize(
    "junk", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\xaf"]
)
@pytest.mark.parametrize("where", ["symbol", "client", "ts", "side", "zz"])
def test_invalid_utf8(where: str, junk: bytes) -> None:
    frame = order(**{where: '"A?"'}).replace(b"A?", b"A" + junk)
    assert rejected(frame).code == RejectCode.BAD_UTF8
    assert rejected(junk + order()).code == RejectCode.BAD_UTF8


def test_lone_surrogates_and_raw_control_bytes_are_not_json() -> None:
    assert rejected(order(client='"\\ud800"')).msg == "bad_json"
    assert rejected(order(client='"a\x00b"')).msg == "bad_json"
    assert rejected(order(client='"a\nb"')).msg == "bad_json"
    assert rejected(b"\xef\xbb\xbf" + order()).msg == "bad_json", "a byte order mark"


def test_star_is_escaped() -> None:
    request = accepted(order(client='"a\\u002ab"'))
    assert request.client == "a*b"
    placed = Order(1, 1, 1, 0, BUY, "AAPL", 10, 10**9, PLAIN, IOC, '"x\\u002a"', FILLED, 10, 10**10)
    answer = encode_ack(placed, request.client)
    assert answer.count(b"*") == 1
    assert json.loads(answer[:-1])["order"]["client"] == "a*b"
    assert json.loads(answer[:-1])["order"]["ts"] == "x*"
    assert encode_object({"ok": True, "note": "2*3"}) == b'{"ok":true,"note":"2\\u002a3"}*'


def test_json_text_reads_back() -> None:
    rng = random.Random(4)
    for _ in range(2000):
        text = "".join(
            chr(rng.choice((42, 34, 92, 7, 127, 233, 0x1F600, 0x2028))) for _ in range(9)
        )
        assert json.loads(json_text(text)) == text
        assert "*" not in json_text(text)


def test_types_and_times_in_force() -> None:
    assert (accepted(order(type='"LIMIT"')).type, accepted(order(type='"LIMIT"')).tif) == (
        LIMIT,
        DAY,
    )
    market = accepted(order(type='"MARKET"', price=""))
    assert (market.type, market.tif, market.price) == (MARKET, IOC, None)
    assert "type" in rejected(order(type='"STOP"')).msg
    assert "tif" in rejected(order(tif='"FOK"')).msg
    assert rejected(order(type='"LIMIT"', price="")).details["field"] == "price"


def test_all_missing_fields_are_named() -> None:
    reject = rejected(b'{"id":3}')
    assert reject.msg == "missing fields: side, symbol, qty, price"
    assert reject.details["id"] == 3
    assert rejected(b'{"type":"MARKET"}').msg == "missing fields: side, symbol, qty"


def test_commands() -> None:
    assert decode(b'{"op":"ping"}') == Ping()
    assert decode(b'{"op":"cancel","id":7,"client":"x"}') == Cancel(7, "x")
    assert decode(b'{"id":7,"op":"cancel"}') == Cancel(7)
    for value in ("-1", str(MAX_ORDER_ID + 1), "9" * 5000):
        assert (
            rejected(b'{"op":"cancel","id":' + value.encode() + b"}").code == RejectCode.BAD_FIELD
        )
    assert rejected(b'{"op":"halt","reason":"a\\nb"}').details["field"] == "reason"
    assert rejected(b'{"op":"positions","limit":0}').details["field"] == "limit"


def test_reject_frame_has_code_and_retryable() -> None:
    answer: dict[str, Any] = json.loads(
        encode_reject(Reject(RejectCode.STALE_PRICE, "old", {"id": 4}, retryable=True))[:-1]
    )
    expected = {"ok": False, "msg": "old", "code": "STALE_PRICE", "retryable": True, "id": 4}
    assert answer == expected


def test_codes_are_in_bands() -> None:
    bands = {1: "wire", 2: "risk", 3: "execution", 4: "store"}
    assert all(code // 100 in bands for code in RejectCode if code)
    assert len({code.value for code in RejectCode}) == len(RejectCode)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ('"quantity":10', "unknown field 'quantity': the field is 'qty'"),
        ('"size":10', "unknown field 'size': the field is 'qty'"),
        ('"Qty":10', "unknown field 'Qty': the field is 'qty'"),
        ('"qy":10', "unknown field 'qy': the field is 'qty'"),
        ('"colour":10', "missing field: qty"),
        ('"qty":10,"order_type":"LIMIT"', "unknown field 'order_type': the field is 'type'"),
        ('"qty":10,"clientId":"a"', "unknown field 'clientId': the field is 'client'"),
        ('"qty":"10"', f"bad field qty: a whole number from 1 to {MAX_QTY}, got '10'"),
        ('"qty":1.5', f"bad field qty: a whole number from 1 to {MAX_QTY}, got 1.5"),
        ('"qty":[10]', f"bad field qty: a whole number from 1 to {MAX_QTY}, got a list"),
        ('"qty":0', f"bad field qty: a whole number from 1 to {MAX_QTY}, got 0"),
        ('"qty":10,"tif":true', 'bad field tif: "IOC", "GTC" or "DAY", got true'),
        ('"qty":"10","op":"new"', f"bad field qty: a whole number from 1 to {MAX_QTY}, got '10'"),
    ],
)
def test_the_reason_names_the_mend(members: str, reason: str) -> None:
    frame = f'{{"side":"BUY","symbol":"AAPL","price":1,{members}}}'
    assert rejected(frame.encode()).msg == reason


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b'{"op":"cancle","id":1}', "unknown op 'cancle': the op is 'cancel'"),
        (b'{"op":"Halt"}', "unknown op 'Halt': the op is 'halt'"),
        (b'{"op":"cancel","order_id":1}', "unknown field 'order_id': the field is 'id'"),
        (b'{"op":"halt","kil":true}', "unknown field 'kil': the field is 'kill'"),
        (b'{"op":"halt","kill":1}', "bad field kill: true or false, got 1"),
        (
            b'{"op":"halt","unless":"active"}',
            """bad field unless: "reduce", "halted" or "killed", got 'active'""",
        ),
        (b'{"op":"orders","limit":"5"}', "bad field limit: a whole number from 1 to 200, got '5'"),
    ],
)
def test_the_reason_for_a_command_names_the_mend(frame: bytes, reason: str) -> None:
    assert rejected(frame).msg == reason


def test_an_unknown_op_without_a_near_one_lists_all() -> None:
    assert rejected(b'{"op":"zzz"}').msg.startswith("unknown op 'zzz': one of new, cancel, ")
