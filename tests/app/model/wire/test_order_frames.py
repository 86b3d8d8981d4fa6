"""Orders in their usual form: the kernel and the plain code read and write the same."""

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from app.kernel._kernel import AckWriter, OrderReader
from app.model.money import MAX_QTY
from app.model.orders import STATUS_NAMES, TIF_NAMES, TYPE_NAMES, Order
from app.model.reject_codes import RejectCode
from app.model.requests import MAX_CLIENT_ID, OrderRequest
from app.model.wire.order_answers import encode_ack, encode_any_ack
from app.model.wire.order_json import decode, decode_all, decode_any
from tests.support.kernel.helpers import needs_compiled

whole = st.one_of(st.integers(0, 10), st.integers(-1, 10**17), st.just(MAX_CLIENT_ID + 1))
texts = st.sampled_from(
    [
        "AAPL",
        "BRK.B",
        "A:B",
        "",
        "é",
        "a\\u002ab",
        "\\u0041",
        "x" * 32,
        "x" * 65,
        "a b",
        "\x7f",
        "\t",
    ]
)
decimals = st.one_of(
    st.from_regex(r"[0-9]{1,8}(\.[0-9]{0,11})?", fullmatch=True),
    st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,3})?(e-?[0-9]{1,2})?", fullmatch=True),
    st.sampled_from(["0", "0.000000001", "1999999.999999999", "2000000", "NaN", "01", "1."]),
)
quoted = texts.map('"{}"'.format)
values = {
    "side": st.sampled_from(['"BUY"', '"SELL"', '"BUYS"', '"buy"', "1"]),
    "symbol": quoted,
    "qty": st.one_of(whole.map(str), decimals, st.just(str(MAX_QTY + 1))),
    "price": decimals,
    "ts": st.one_of(decimals, quoted, st.just('"' + "9" * 63 + '"'), st.just("[1]")),
    "id": st.one_of(whole.map(str), decimals),
    "client": quoted,
    "proof": st.sampled_from(['"0123456789abcdef"', '"0123"', '"0123456789:bcdef"']),
    "type": st.sampled_from(['"LIMIT"', '"MARKET"', "null"]),
    "op": st.sampled_from(['"new"', '"ping"']),
}
spaces = st.sampled_from(["", "", "", " ", "  ", "\n"])


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Most are orders; the members in any order, some twice, with odd values and spaces."""
    needed = ["side", "symbol", "qty", "price"]
    keys = draw(st.permutations(needed + draw(st.lists(st.sampled_from(list(values)), max_size=5))))
    odd = draw(st.sets(st.sampled_from(list(values)), max_size=2))
    usual = {
        "side": '"SELL"', "symbol": '"AAPL"', "qty": "10", "price": "187.25", "ts": "1759310999.25",
        "id": "7", "client": '"strategy@1a188a0c"', "proof": '"0123456789abcdef"',
    }  # fmt: skip
    members = []
    for key in keys:
        value = draw(values[key]) if key in odd or key not in usual else usual[key]
        members.append(f'{draw(spaces)}"{key}"{draw(spaces)}:{draw(spaces)}{value}')
    return ("{" + ",".join(members) + draw(spaces) + "}" + draw(spaces)).encode()


@given(frames(), st.integers(0, 400))
@example(b'{"side":"BUY","symbol":"AAPL","qty":1,"price":1}', 400)
@example(b"", 0)
def test_an_order_reads_the_same(frame: bytes, end: int) -> None:
    for some in (frame, frame[:end]):
        assert decode(some) == decode_any(some)


def usual_reader() -> tuple[OrderReader, list[bytes]]:
    """A reader that knows AAPL and the client c, and the frames that it left to others."""
    left: list[bytes] = []

    def make(*members: Any) -> OrderRequest:
        return OrderRequest(*members)

    reader = OrderReader(
        make, {"AAPL": None}, {"c": None}, left.append,
        default_client="default", id_max=99, qty_max=100, ts_bytes_max=64, proof_bytes=16,
    )  # fmt: skip
    return reader, left


@needs_compiled
def test_the_usual_form_needs_no_other_decoder() -> None:
    reader, left = usual_reader()
    frame = (
        b'{"side": "SELL", "symbol": "AAPL", "qty": 100, "price": 0.25, "ts": "09:30", "id": 99, '
        b'"client": "c", "proof": "0123456789abcdef"}'
    )
    for some in (frame, frame.replace(b": ", b":").replace(b", ", b",")):
        request = reader.read(some)
        assert request == OrderRequest(
            -1, "AAPL", 100, 250_000_000, '"09:30"', 99, "c", 0, 0, "0123456789abcdef"
        )
    assert not left


@needs_compiled
def test_limits_and_unknown_names_go_to_the_other_decoder() -> None:
    reader, left = usual_reader()
    frame = b'{"side":"BUY","symbol":"AAPL","qty":100,"price":0.25,"id":99,"client":"c"}'
    other = [
        frame.replace(b"99", b"100"),
        frame.replace(b":100,", b":101,"),
        frame.replace(b"AAPL", b"MSFT"),
        frame.replace(b'"c"', b'"d"'),
        frame.replace(b"0.25", b"2000000"),
        frame + b" ",
        frame[:-1],
    ]
    requests: list[object] = []
    reader.read_all([frame, *other], requests)
    assert left == other
    assert [type(request) for request in requests] == [OrderRequest] + [type(None)] * len(other)


def test_an_exception_leaves_the_requests_before_it() -> None:
    good = b'{"side":"BUY","symbol":"AAPL","qty":1,"price":1}'
    requests: list[Any] = []
    try:
        decode_all([good, good, "no bytes"], requests)  # type: ignore[list-item]
    except TypeError:
        assert requests == [decode_any(good)] * 2
    else:
        raise AssertionError("a frame that is no bytes was decoded")


big = st.one_of(st.integers(0, 3), st.integers(0, 10**19))
money = st.one_of(st.integers(1, 10), st.integers(1, 9 * 10**18), st.just(187_250_000_000))


orders = st.builds(
    Order,
    order_no=st.integers(1, 2**62),
    client_no=st.just(1),
    id=st.integers(0, 2**62),
    at_ns=st.just(1),
    side=st.sampled_from([1, -1]),
    symbol=texts,
    qty=st.integers(1, MAX_QTY),
    price=st.none() | money,
    type=st.integers(0, 2),
    tif=st.integers(0, 2),
    ts=st.none() | st.sampled_from(["1.25", '"é\\n"']),
    status=st.integers(0, 7),
    filled_qty=st.integers(0, 5),
    filled_notional=big,
    exec_first=st.integers(1, 2**62),
    exec_count=st.integers(0, 3),
    code=st.sampled_from([0, 0, 0, int(RejectCode.QTY_MAX)]),
    msg=st.none() | st.just("why"),
    fee=st.sampled_from([0, 0, 5, -5, 10**20]),
    borrow=big,
)


@given(
    orders,
    texts | st.text(max_size=70).filter(lambda text: text.isprintable()),
    st.booleans(),
)
def test_an_answer_is_written_the_same(order: Order, client: str, duplicate: bool) -> None:
    assert encode_ack(order, client, duplicate) == encode_any_ack(order, client, duplicate)


@needs_compiled
def test_the_answer_to_a_usual_order_needs_no_other_writer() -> None:
    def other(*_: object) -> bytes:
        raise AssertionError("written by the other writer")

    write = AckWriter(other, STATUS_NAMES, TYPE_NAMES, TIF_NAMES).write
    order = Order(
        5, 1, 77, 9, 1, "AAPL", 10, 187_250_000_000, 2, 1, "1759310999.25", 3, 3, 561_750_000_001,
        5, 1, 187_250_000_000, fee=10, borrow=2_500_000_000,
    )  # fmt: skip
    assert write(order, "c", True) == encode_any_ack(order, "c", True)
