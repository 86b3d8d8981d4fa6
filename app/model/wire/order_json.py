"""JSON of the order port: decodes request frames to typed requests, and encodes order frames.

No I/O.  Rejects what JSON allows but an order must not contain: NaN and infinities, numbers out of
range, repeated keys, control bytes, incomplete UTF-8.  A ``*`` inside a string is sent as
``\\u002a`` in both directions, so the delimiter never occurs in a payload.
"""

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec import Raw

from app.kernel._kernel import OrderReader
from app.model.money import (
    FLOAT_EXACT,
    MAX_PRICE,
    UNITS,
    WHOLE,
    Scale,
    decimal_to_units,
    to_units,
)
from app.model.orders import DAY, IOC, LIMIT, MARKET, PLAIN, SIDES, TIFS, TYPES, OrderRequest
from app.model.reject_codes import RejectCode
from app.model.requests import (
    DEFAULT_CLIENT,
    MAX_CLIENT_ID,
    MAX_ORDER_ID,
    PAGE_ROWS_MAX,
    Cancel,
    Command,
    Marks,
    Orders,
    Positions,
    Reject,
    Request,
    Status,
)
from app.model.symbols import MAX_SYMBOL_BYTES, symbol_problem
from app.model.timestamps import seconds_text
from app.model.wire.frames import json_frame
from app.model.wire.reject_reasons import (
    EXPECTED,
    MAX_CLIENT_BYTES,
    MAX_TS_BYTES,
    ORDER_FIELDS,
    bad_field,
    duplicate_key,
    expected_of,
    explain,
    repeated_key,
    short,
)

NO_TS: Final = Raw(b"")


class NewOrder(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An order as sent.  MARKET orders may omit the price; ``op`` is optional."""

    side: str
    symbol: str
    qty: int
    price: float | None = None
    ts: Raw = NO_TS
    id: int | None = None
    client: str | None = None
    type: str | None = None
    tif: str | None = None
    op: str | None = None
    proof: str | None = None


class _NewOrder(NewOrder, forbid_unknown_fields=True, gc=False):
    """The same where quantities have decimals: a number, or one in quotes, kept as it is sent."""

    qty: Raw  # type: ignore[assignment]


for _kind in (NewOrder, _NewOrder):
    assert _kind.__struct_fields__ == ORDER_FIELDS, "explanations name the members of an order"

PROOF_DIGITS: Final = 16
MARKS_IN_A_FRAME: Final = 700
"""Also of the longest symbols, if JSON escapes each of their bytes."""

_PRICE_MAX: Final = float(MAX_PRICE)
"""Comparing a float with a float is faster than with an int."""

_decode_new = msgspec.json.Decoder(NewOrder).decode
_decode_fractional = msgspec.json.Decoder(_NewOrder).decode
_decode_command = msgspec.json.Decoder(Command).decode


def decode_any(frame: bytes, scale: Scale = WHOLE) -> Request:
    """The request in one frame, delimiter removed, or the reject that says why it is not one.

    :func:`decode` gives the same, and calls this for all but orders in their usual form.
    """
    try:
        new = _decode_fractional(frame) if scale.decimals else _decode_new(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if b'"op"' in frame:
            return _decode_with_op(frame, error, scale)
        return explain(frame, error, error, expected_of(scale))
    if new.op is None or new.op == "new":
        return _checked_order(new, frame, scale)
    return _decode_with_op(frame, None, scale)


def _checked_order(new: NewOrder, frame: bytes, scale: Scale) -> OrderRequest | Reject:
    """Check ranges, names and repeated keys of an order that has the right form."""
    side = SIDES.get(new.side)
    if side is None:
        return _bad("side", f"{EXPECTED['side']}, got {short(new.side)}", new)
    symbol = new.symbol
    if symbol not in _VALID_SYMBOLS and (problem := _learn_symbol(symbol)):
        return _bad("symbol", problem, new)
    qty = _units(new.qty, scale) if scale.decimals else new.qty
    if not 0 < qty <= scale.qty_max:
        return _bad("qty", f"{expected_of(scale)['qty']}, got {_sent(new.qty)}", new)
    kind, tif = PLAIN, IOC
    if new.type is not None or new.tif is not None:
        found = _type_and_tif(new)
        if isinstance(found, Reject):
            return found
        kind, tif = found
    price = None
    amount = new.price
    if amount is not None:
        if not 0.0 < amount <= _PRICE_MAX:
            return _bad("price", f"{EXPECTED['price']}, got {amount!r}", new)
        price = to_units(amount) if amount < FLOAT_EXACT else _exact_price(frame)
        if price > MAX_PRICE * UNITS:
            return _bad("price", f"{EXPECTED['price']}, got {amount!r}", new)
        if price == 0:
            return _bad("price", f"at least 0.000000001, got {amount!r}", new)
    elif kind != MARKET:
        return Reject(
            RejectCode.MISSING_FIELD, "missing field: price", {"field": "price", **_id_of(new)}
        )
    order_id = new.id
    if order_id is not None and not 0 <= order_id <= MAX_CLIENT_ID:
        return _bad("id", f"{EXPECTED['id']}, got {short(order_id)}")
    client = new.client
    if client is None:
        client = DEFAULT_CLIENT
    elif client not in _VALID_CLIENTS and (problem := _learn_client(client)):
        return _bad("client", problem)
    ts = None
    if new.ts is not NO_TS:
        try:
            ts = str(new.ts, "utf-8")
        except UnicodeDecodeError as error:
            return Reject(RejectCode.BAD_UTF8, f"not UTF-8: {error.reason} in ts")
        if len(new.ts) > MAX_TS_BYTES or (ts[0] != '"' and not _is_finite_number(ts)):
            return _bad("ts", EXPECTED["ts"], new)
    if new.proof is not None and (len(new.proof) != PROOF_DIGITS or ":" in new.proof):
        return _bad("proof", f"{EXPECTED['proof']}, got {short(new.proof)}", new)
    repeated = _repeated_key_of_order(new, ts, frame)
    if repeated is not None:
        return duplicate_key(repeated, _id_of(new))
    return OrderRequest(side, symbol, qty, price, ts, order_id, client, kind, tif, new.proof)


def _units(sent: object, scale: Scale) -> int:
    """The units of a quantity as it was sent; 0 if it is none, or has more decimals."""
    assert isinstance(sent, Raw)
    text = bytes(sent)
    if text[:1] == b'"':
        text = text[1:-1]
    return (text.isascii() and scale.qty_units(text.decode())) or 0


def _sent(qty: object) -> str:
    """A quantity for a message."""
    if not isinstance(qty, Raw):
        return short(qty)
    text = bytes(qty).decode("utf-8", "replace")
    return {"[": "a list", "{": "an object"}.get(text[0]) or short(text, quoted=False)


class _ExactPrice(msgspec.Struct):
    """The price of an order with the digits that were sent."""

    price: Decimal


_decode_exact_price = msgspec.json.Decoder(_ExactPrice).decode


def _exact_price(frame: bytes) -> int:
    """The price in units; a float lacks digits of it from FLOAT_EXACT on."""
    return decimal_to_units(_decode_exact_price(frame).price)


def _type_and_tif(new: NewOrder) -> tuple[int, int] | Reject:
    """The type and time in force of an order that names at least one of them."""
    kind, tif = PLAIN, IOC
    if new.type is not None:
        kind = TYPES.get(new.type, -1)
        if kind < 0:
            return _bad("type", f"{EXPECTED['type']}, got {short(new.type)}", new)
        if kind == LIMIT:
            tif = DAY
    if new.tif is not None:
        tif = TIFS.get(new.tif, -1)
        if tif < 0:
            return _bad("tif", f"{EXPECTED['tif']}, got {short(new.tif)}", new)
    return kind, tif


def _repeated_key_of_order(new: NewOrder, ts: str | None, frame: bytes) -> str | None:
    """The key that an order's frame names twice, or None.

    The decoder keeps the last of two equal keys and reports nothing.  Parsing every frame a second
    time to see its keys would take longer than decoding it, so this counts colons: each key is
    followed by one.  A frame with as many colons as the order has members, plus those in ``ts``,
    has no repeated key.  Any other frame is parsed again: a key may be repeated, but a member may
    also be null, or a name may hold a colon.
    """
    colons = 3  # side, symbol, qty
    if new.price is not None:
        colons += 1
    if new.id is not None:
        colons += 1
    if new.client is not None:
        colons += 1
    if ts is not None:
        colons += ts.count(":") + 1
    if new.type is not None:
        colons += 1
    if new.tif is not None:
        colons += 1
    if new.op is not None:
        colons += 1
    if new.proof is not None:
        colons += 1
    return None if frame.count(b":") == colons else repeated_key(frame)


def _decode_with_op(frame: bytes, as_order: Exception | None, scale: Scale) -> Command | Reject:
    """The command in a frame; ``as_order``: why it is no order."""
    try:
        command: Command = _decode_command(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return explain(frame, as_order or error, error, expected_of(scale))
    repeated = repeated_key(frame)
    if repeated:
        return duplicate_key(repeated)
    return _checked_command(command)


def _checked_command(command: Command) -> Command | Reject:
    if isinstance(command, Cancel | Status) and not 0 <= command.id <= MAX_ORDER_ID:
        return _bad("id", f"a whole number from 0 to {MAX_ORDER_ID}, got {short(command.id)}")
    if isinstance(command, Positions | Orders) and not 1 <= command.limit <= PAGE_ROWS_MAX:
        return _bad("limit", f"{EXPECTED['limit']}, got {short(command.limit)}")
    if isinstance(command, Orders) and not 0 <= command.before <= MAX_ORDER_ID:
        return _bad("before", f"{EXPECTED['before']}, got {short(command.before)}")
    if isinstance(command, Marks):
        for symbol, price in command.marks.items():
            if problem := symbol_problem(symbol.encode()):
                return _bad("marks", f"{EXPECTED['marks']}; {problem}")
            if not 0.0 < price <= _PRICE_MAX:
                return _bad("marks", f"{EXPECTED['marks']}, got {price!r} for {short(symbol)}")
    client = getattr(command, "client", None)
    if client is not None and (problem := _learn_client(client)):
        return _bad("client", problem)
    reason = getattr(command, "reason", "")
    if len(reason) > 200 or not (reason.isprintable() or not reason):
        return _bad("reason", EXPECTED["reason"])
    return command


_VALID_SYMBOLS: dict[str, None] = {}
_VALID_CLIENTS: dict[str, None] = {}
_NAMES_MAX: Final = 4096


def _learn_symbol(symbol: str) -> str | None:
    """Why this cannot be a symbol, or None; a valid one is remembered and not checked again."""
    if len(symbol) > MAX_SYMBOL_BYTES:
        return f"symbol of {len(symbol)} characters, at most {MAX_SYMBOL_BYTES} bytes"
    problem = symbol_problem(symbol.encode())
    if problem is None and len(_VALID_SYMBOLS) < _NAMES_MAX:
        _VALID_SYMBOLS[symbol] = None
    return problem


def _learn_client(client: str) -> str | None:
    """Why this cannot be a client's name, or None; a valid one is remembered."""
    if not 1 <= len(client.encode()) <= MAX_CLIENT_BYTES or not client.isprintable():
        return EXPECTED["client"]
    if len(_VALID_CLIENTS) < _NAMES_MAX:
        _VALID_CLIENTS[client] = None
    return None


_reader: Final = OrderReader(
    OrderRequest,
    _VALID_SYMBOLS,
    _VALID_CLIENTS,
    decode_any,
    default_client=DEFAULT_CLIENT,
    id_max=MAX_CLIENT_ID,
    qty_max=WHOLE.qty_max,
    ts_bytes_max=MAX_TS_BYTES,
    proof_bytes=PROOF_DIGITS,
)
assert (SIDES["BUY"], SIDES["SELL"], PLAIN, IOC) == (1, -1, 0, 0), "as the kernel makes an order"
assert FLOAT_EXACT >= 2e6, "below it, a float gives the exact price, as the kernel does"
decode: Final[Callable[[bytes], Request]] = _reader.read
"""The request in one frame; see :func:`decode_any`."""
decode_all: Final = _reader.read_all
"""Append the requests of a list of frames to a list; an exception leaves those before it."""


def _is_finite_number(text: str) -> bool:
    """Whether a JSON value is a number within the range of a float."""
    return text[0] in "-0123456789" and math.isfinite(float(text))


def _bad(field: str, problem: str, new: NewOrder | None = None) -> Reject:
    return bad_field(field, problem, {} if new is None else _id_of(new))


def _id_of(new: NewOrder) -> dict[str, Any]:
    """The order's id, if valid, as a member of the answer."""
    return {"id": new.id} if new.id is not None and 0 <= new.id <= MAX_CLIENT_ID else {}


_encode = msgspec.json.Encoder().encode


def encode_order(
    order_id: int,
    client: str,
    side: str,
    symbol: str,
    qty: int | Raw,
    price: float,
    event_ns: int,
    proof: str = "",
    *,
    maker: bool = False,
) -> bytes:
    """An order frame.  A ``*`` in a name is sent as ``\\u002a``.

    ``qty``: if it has decimals, as text.

    ``ts`` is a number, made from the nanoseconds without a float, which could not hold them.
    ``maker``: it has waited for its price, and executes at it.
    """
    members = {
        "side": side,
        "symbol": symbol,
        "qty": qty,
        "price": price,
        "ts": Raw(seconds_text(event_ns)),
        "id": order_id,
        "client": client,
    }
    if proof:
        members["proof"] = proof
    if maker:
        members |= {"type": "LIMIT", "tif": "IOC"}
    return json_frame(_encode(members))


def encode_marks(proof: str, marks: Mapping[str, float]) -> bytes:
    """Prices by symbol as frames, in the form of :class:`Marks`; none for no price."""
    items = iter(marks.items())
    frames = b""
    while some := dict(islice(items, MARKS_IN_A_FRAME)):
        frames += json_frame(_encode({"op": "marks", "proof": proof, "marks": some}))
    return frames
