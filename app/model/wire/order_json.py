"""JSON of the order port: decodes request frames to typed requests, and encodes order frames.

No I/O.  Rejects what JSON allows but an order must not contain: NaN and infinities, numbers out of
range, repeated keys, control bytes, incomplete UTF-8.  A ``*`` inside a string is sent as
``\\u002a`` in both directions, so the delimiter never occurs in a payload.
"""

import json
import math
from typing import Any, Final

import msgspec
from msgspec import Raw

from app.model.money import MAX_PRICE, to_units
from app.model.orders import (
    DAY,
    IOC,
    LIMIT,
    MARKET,
    PLAIN,
    SIDES,
    TIFS,
    TYPES,
)
from app.model.reject_codes import RejectCode
from app.model.requests import (
    COMMANDS,
    DEFAULT_CLIENT,
    MAX_CLIENT_ID,
    MAX_ORDER_ID,
    MAX_QTY,
    Cancel,
    Command,
    OrderRequest,
    Orders,
    Positions,
    Reject,
    Request,
    Status,
)
from app.model.symbols import MAX_SYMBOL_BYTES, symbol_problem
from app.model.timestamps import seconds_text
from app.model.wire.frames import json_frame

MAX_CLIENT_BYTES: Final = 64
MAX_TS_BYTES: Final = 64

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


OPS: Final = ("new", *(str(kind.__struct_config__.tag) for kind in COMMANDS))

_PRICE_MAX: Final = float(MAX_PRICE)
"""Comparing a float with a float is faster than with an int."""

_decode_new = msgspec.json.Decoder(NewOrder).decode
_decode_command = msgspec.json.Decoder(Command).decode
_REQUIRED: Final = {
    "new": ("side", "symbol", "qty", "price"),
    "cancel": ("id",),
    "status": ("id",),
    "auth": ("token",),
}


def decode(frame: bytes) -> Request:
    """The request in one frame, delimiter removed, or the reject that says why it is not one."""
    try:
        new = _decode_new(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _decode_with_op(frame) if b'"op"' in frame else _explain(frame, error)
    if new.op is None or new.op == "new":
        return _checked_order(new, frame)
    return _decode_with_op(frame)


def _checked_order(new: NewOrder, frame: bytes) -> OrderRequest | Reject:
    """Check ranges, names and repeated keys of an order that has the right form."""
    side = SIDES.get(new.side)
    if side is None:
        return _bad("side", f'"BUY" or "SELL", got {_short(new.side)}', new)
    symbol = new.symbol
    if symbol not in _VALID_SYMBOLS and (problem := _learn_symbol(symbol)):
        return _bad("symbol", problem, new)
    qty = new.qty
    if not 0 < qty <= MAX_QTY:
        return _bad("qty", f"a whole number from 1 to {MAX_QTY}, got {_short(qty)}", new)
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
            return _bad("price", f"above 0 and at most {MAX_PRICE}, got {amount!r}", new)
        price = to_units(amount)
        if price == 0:
            return _bad("price", f"at least 0.000000001, got {amount!r}", new)
    elif kind != MARKET:
        return Reject(
            RejectCode.MISSING_FIELD, "missing field: price", {"field": "price", **_id_of(new)}
        )
    order_id = new.id
    if order_id is not None and not 0 <= order_id <= MAX_CLIENT_ID:
        return _bad("id", f"a whole number from 0 to {MAX_CLIENT_ID}, got {_short(order_id)}")
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
            return _bad("ts", f"text or a number of at most {MAX_TS_BYTES} bytes", new)
    repeated = _repeated_key_of_order(new, ts, frame)
    if repeated is not None:
        return _duplicate_key(repeated, new)
    return OrderRequest(side, symbol, qty, price, ts, order_id, client, kind, tif)


def _type_and_tif(new: NewOrder) -> tuple[int, int] | Reject:
    """The type and time in force of an order that names at least one of them."""
    kind, tif = PLAIN, IOC
    if new.type is not None:
        kind = TYPES.get(new.type, -1)
        if kind < 0:
            return _bad("type", f'"MARKET" or "LIMIT", got {_short(new.type)}', new)
        if kind == LIMIT:
            tif = DAY
    if new.tif is not None:
        tif = TIFS.get(new.tif, -1)
        if tif < 0:
            return _bad("tif", f'"IOC", "GTC" or "DAY", got {_short(new.tif)}', new)
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
    return None if frame.count(b":") == colons else _repeated_key(frame)


def _duplicate_key(key: str, new: NewOrder | None = None) -> Reject:
    identity = {} if new is None else _id_of(new)
    return Reject(RejectCode.DUPLICATE_KEY, f"repeated key: {key}", {"field": key, **identity})


def _decode_with_op(frame: bytes) -> Command | Reject:
    try:
        command: Command = _decode_command(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _explain(frame, error)
    repeated = _repeated_key(frame)
    if repeated:
        return _duplicate_key(repeated)
    return _checked_command(command)


def _checked_command(command: Command) -> Command | Reject:
    if isinstance(command, Cancel | Status) and not 0 <= command.id <= MAX_ORDER_ID:
        return _bad("id", f"a whole number from 0 to {MAX_ORDER_ID}, got {_short(command.id)}")
    if isinstance(command, Positions | Orders) and not 1 <= command.limit <= 200:
        return _bad("limit", f"from 1 to 200, got {_short(command.limit)}")
    if isinstance(command, Orders) and not 0 <= command.before <= MAX_ORDER_ID:
        return _bad("before", f"from 0 to {MAX_ORDER_ID}, got {_short(command.before)}")
    client = getattr(command, "client", None)
    if client is not None and (problem := _learn_client(client)):
        return _bad("client", problem)
    reason = getattr(command, "reason", "")
    if len(reason) > 200 or not (reason.isprintable() or not reason):
        return _bad("reason", "printable text of at most 200 characters")
    return command


def _explain(frame: bytes, error: Exception) -> Reject:
    """The reject for a frame that matches no request type."""
    try:
        frame.decode()
    except UnicodeDecodeError as problem:
        return Reject(RejectCode.BAD_UTF8, f"not UTF-8: {problem.reason} at byte {problem.start}")
    if not isinstance(error, msgspec.ValidationError):
        return Reject(RejectCode.BAD_JSON, "bad_json")
    try:
        # Also bounds the depth of the parsing below: msgspec raises RecursionError.
        value = msgspec.json.decode(frame)
        repeated = _repeated_key(frame)
    except (msgspec.ValidationError, RecursionError):
        # Valid JSON so far, but too deep, or with a number that no float holds.
        return _bad_by_type(error, {})
    except msgspec.DecodeError:
        return Reject(RejectCode.BAD_JSON, "bad_json")
    if not isinstance(value, dict):
        return Reject(RejectCode.BAD_FIELD, "expected a JSON object")
    if repeated:
        return _duplicate_key(repeated)
    op = value.get("op", "new")
    if op not in OPS:
        return Reject(RejectCode.UNKNOWN_OP, f"unknown op {_short(op)}: one of {', '.join(OPS)}")
    identity = {"id": value["id"]} if _is_id(value.get("id")) else {}
    missing = [name for name in _REQUIRED.get(op, ()) if name not in value]
    if op == "new" and value.get("type") == "MARKET" and "price" in missing:
        missing.remove("price")
    if missing:
        names = ", ".join(missing)
        word = "field" if len(missing) == 1 else "fields"
        return Reject(
            RejectCode.MISSING_FIELD, f"missing {word}: {names}", {"field": missing[0], **identity}
        )
    text = _error_text(error)
    if "unknown field" in text:
        name = text.split("`")[1]
        return Reject(
            RejectCode.UNKNOWN_FIELD,
            f"unknown field: {_short(name, quoted=False)}",
            {"field": _short(name, quoted=False), **identity},
        )
    return _bad_by_type(error, identity)


def _bad_by_type(error: Exception, identity: dict[str, Any]) -> Reject:
    """The reject for a value of the wrong type or out of range, with the decoder's message."""
    text = _error_text(error)
    field = text.rpartition("`$.")[2].rstrip("`") if "`$." in text else ""
    details = {"field": field, **identity} if field else identity
    return Reject(RejectCode.BAD_FIELD, f"bad field: {text}", details)


def _error_text(error: Exception) -> str:
    return str(error)[:200] if isinstance(error, msgspec.ValidationError) else "nested too deeply"


def _repeated_key(frame: bytes) -> str | None:
    """The first key that any object in ``frame`` names twice, or None."""
    found: list[str] = []

    def find(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found.append(key)
            seen.add(key)

    # Numbers stay text: json limits the digits of an int, and msgspec has checked them already.
    json.loads(frame, object_pairs_hook=find, parse_int=str, parse_float=str)
    return _short(found[0], quoted=False) if found else None


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
        return f"printable text of 1 to {MAX_CLIENT_BYTES} bytes"
    if len(_VALID_CLIENTS) < _NAMES_MAX:
        _VALID_CLIENTS[client] = None
    return None


def _is_finite_number(text: str) -> bool:
    """Whether a JSON value is a number within the range of a float."""
    return text[0] in "-0123456789" and math.isfinite(float(text))


def _bad(field: str, problem: str, new: NewOrder | None = None) -> Reject:
    identity = {} if new is None else _id_of(new)
    return Reject(
        RejectCode.BAD_FIELD, f"bad field {field}: {problem}", {"field": field, **identity}
    )


def _id_of(new: NewOrder) -> dict[str, Any]:
    """The order's id, if valid, as a member of the answer."""
    return {"id": new.id} if new.id is not None and 0 <= new.id <= MAX_CLIENT_ID else {}


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_ORDER_ID


def _short(value: object, quoted: bool = True) -> str:
    """A value as text for a message, at most 60 characters."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value) if quoted and isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


_encode = msgspec.json.Encoder().encode


def encode_order(
    order_id: int, client: str, side: str, symbol: str, qty: int, price: float, event_ns: int
) -> bytes:
    """An order frame.  A ``*`` in a name is sent as ``\\u002a``.

    ``ts`` is a number, made from the nanoseconds without a float, which could not hold them.
    """
    body = _encode(
        {
            "side": side,
            "symbol": symbol,
            "qty": qty,
            "price": price,
            "ts": Raw(seconds_text(event_ns)),
            "id": order_id,
            "client": client,
        }
    )
    return json_frame(body)
