"""The JSON of the order port: frame bytes in, typed requests out; answers in, frame bytes out.

No I/O.  What JSON lets through and an order must not carry stops here: NaN and infinities, numbers
out of range, repeated keys, control bytes, half a UTF-8 character.  A ``*`` inside a string travels
as ``\\u002a`` in both directions, so the delimiter never stands in a payload.
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
from app.model.wire.frames import json_frame

MAX_CLIENT_BYTES: Final = 64
MAX_TS_BYTES: Final = 64


NO_TS: Final = Raw(b"")


class NewOrder(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The contract's order; MARKET orders may leave the price out.  No ``op`` needed."""

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

_decode_new = msgspec.json.Decoder(NewOrder).decode
_decode_command = msgspec.json.Decoder(Command).decode
_REQUIRED: Final = {
    "new": ("side", "symbol", "qty", "price"),
    "cancel": ("id",),
    "status": ("id",),
    "auth": ("token",),
}


def decode(frame: bytes) -> Request:
    """One frame, delimiter removed, as a request, or why it is none."""
    try:
        new = _decode_new(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _decode_with_op(frame) if b'"op"' in frame else _explain(frame, error)
    if new.op is None or new.op == "new":
        return _checked_order(new, frame)
    return _decode_with_op(frame)


def _checked_order(new: NewOrder, frame: bytes) -> OrderRequest | Reject:
    """Ranges, names and repeated keys of an order that has the right form."""
    colons = 3
    side = SIDES.get(new.side)
    if side is None:
        return _bad("side", f'"BUY" or "SELL", got {_short(new.side)}', new)
    symbol = new.symbol
    if symbol not in _GOOD_SYMBOLS:
        problem = _learn_symbol(symbol)
        if problem:
            return _bad("symbol", problem, new)
    qty = new.qty
    if not 0 < qty <= MAX_QTY:
        return _bad("qty", f"a whole number from 1 to {MAX_QTY}, got {_short(qty)}", new)
    kind = PLAIN
    tif = IOC
    if new.type is not None:
        colons += 1
        kind = TYPES.get(new.type, -1)
        if kind < 0:
            return _bad("type", f'"MARKET" or "LIMIT", got {_short(new.type)}', new)
        if kind == LIMIT:
            tif = DAY
    if new.tif is not None:
        colons += 1
        tif = TIFS.get(new.tif, -1)
        if tif < 0:
            return _bad("tif", f'"IOC", "GTC" or "DAY", got {_short(new.tif)}', new)
    price = None
    if new.price is not None:
        colons += 1
        if not 0.0 < new.price <= MAX_PRICE:
            return _bad("price", f"above 0 and at most {MAX_PRICE}, got {new.price!r}", new)
        price = to_units(new.price)
        if price == 0:
            return _bad("price", f"at least 0.000000001, got {new.price!r}", new)
    elif kind != MARKET:
        return Reject(
            RejectCode.MISSING_FIELD, "missing field: price", {"field": "price", **_who(new)}
        )
    if new.id is not None:
        colons += 1
        if not 0 <= new.id <= MAX_CLIENT_ID:
            return _bad("id", f"a whole number from 0 to {MAX_CLIENT_ID}, got {_short(new.id)}", {})
    client = DEFAULT_CLIENT
    if new.client is not None:
        colons += 1
        client = new.client
        if client not in _GOOD_CLIENTS:
            problem = _learn_client(client)
            if problem:
                return _bad("client", problem, {})
    ts = None
    if new.ts is not NO_TS:
        try:
            ts = str(new.ts, "utf-8")
        except UnicodeDecodeError as problem:
            return Reject(RejectCode.BAD_UTF8, f"not UTF-8: {problem.reason} in ts")
        if not _is_ts(ts):
            return _bad("ts", f"text or a number of at most {MAX_TS_BYTES} bytes", new)
        colons += ts.count(":") + 1
    if new.op is not None:
        colons += 1
    # Each key has a colon behind it, so the same number of colons means that no key came twice.
    if frame.count(b":") != colons:
        repeated = _repeated_key(frame)
        if repeated:
            return Reject(
                RejectCode.DUPLICATE_KEY,
                f"repeated key: {repeated}",
                {"field": repeated, **_who(new)},
            )
    return OrderRequest(side, symbol, qty, price, ts, new.id, client, kind, tif)


def _decode_with_op(frame: bytes) -> Command | Reject:
    try:
        command: Command = _decode_command(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _explain(frame, error)
    repeated = _repeated_key(frame)
    if repeated:
        return Reject(RejectCode.DUPLICATE_KEY, f"repeated key: {repeated}", {"field": repeated})
    return _checked_command(command)


def _checked_command(command: Command) -> Command | Reject:
    if isinstance(command, Cancel | Status) and not 0 <= command.id <= MAX_ORDER_ID:
        return _bad("id", f"a whole number from 0 to {MAX_ORDER_ID}, got {_short(command.id)}", {})
    if isinstance(command, Positions | Orders) and not 1 <= command.limit <= 200:
        return _bad("limit", f"from 1 to 200, got {_short(command.limit)}", {})
    if isinstance(command, Orders) and not 0 <= command.before <= MAX_ORDER_ID:
        return _bad("before", f"from 0 to {MAX_ORDER_ID}, got {_short(command.before)}", {})
    client = getattr(command, "client", None)
    if client is not None and (problem := _learn_client(client)):
        return _bad("client", problem, {})
    reason = getattr(command, "reason", "")
    if len(reason) > 200 or not (reason.isprintable() or not reason):
        return _bad("reason", "printable text of at most 200 characters", {})
    return command


def _explain(frame: bytes, error: Exception) -> Reject:
    """What is wrong with a frame that no request type takes."""
    try:
        frame.decode()
    except UnicodeDecodeError as problem:
        return Reject(RejectCode.BAD_UTF8, f"not UTF-8: {problem.reason} at byte {problem.start}")
    if not isinstance(error, msgspec.ValidationError):
        return Reject(RejectCode.BAD_JSON, "bad_json")
    try:
        # Also bounds the depth of what is parsed below: msgspec raises RecursionError.
        value = msgspec.json.decode(frame)
        repeated = _repeated_key(frame)
    except (msgspec.ValidationError, RecursionError):
        # Well-formed as far as it was read, with a number that no float holds or too deep.
        return _bad_by_type(error, {})
    except msgspec.DecodeError:
        return Reject(RejectCode.BAD_JSON, "bad_json")
    if not isinstance(value, dict):
        return Reject(RejectCode.BAD_FIELD, "expected a JSON object")
    if repeated:
        return Reject(RejectCode.DUPLICATE_KEY, f"repeated key: {repeated}", {"field": repeated})
    op = value.get("op", "new")
    if op not in OPS:
        return Reject(RejectCode.UNKNOWN_OP, f"unknown op {_short(op)}: one of {', '.join(OPS)}")
    who = {"id": value["id"]} if _is_id(value.get("id")) else {}
    missing = [name for name in _REQUIRED.get(op, ()) if name not in value]
    if op == "new" and value.get("type") == "MARKET" and "price" in missing:
        missing.remove("price")
    if missing:
        names = ", ".join(missing)
        word = "field" if len(missing) == 1 else "fields"
        return Reject(
            RejectCode.MISSING_FIELD, f"missing {word}: {names}", {"field": missing[0], **who}
        )
    words = _own_words(error)
    if "unknown field" in words:
        name = words.split("`")[1]
        return Reject(
            RejectCode.UNKNOWN_FIELD,
            f"unknown field: {_short(name, quoted=False)}",
            {"field": _short(name, quoted=False), **who},
        )
    return _bad_by_type(error, who)


def _bad_by_type(error: Exception, who: dict[str, Any]) -> Reject:
    """A value of the wrong type or out of range, in the decoder's words."""
    words = _own_words(error)
    field = words.rpartition("`$.")[2].rstrip("`") if "`$." in words else ""
    return Reject(
        RejectCode.BAD_FIELD, f"bad field: {words}", {"field": field} | who if field else who
    )


def _own_words(error: Exception) -> str:
    return str(error)[:200] if isinstance(error, msgspec.ValidationError) else "nested too deeply"


def _repeated_key(frame: bytes) -> str | None:
    """The first key that an object of ``frame`` names twice."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found.append(key)
            seen.add(key)

    # Python's own decoder limits the digits of an int; msgspec has checked the numbers already.
    json.loads(frame, object_pairs_hook=look, parse_int=str, parse_float=str)
    return _short(found[0], quoted=False) if found else None


_GOOD_SYMBOLS: dict[str, None] = {}
_GOOD_CLIENTS: dict[str, None] = {}
_NAMES_MAX: Final = 4096


def _learn_symbol(symbol: str) -> str | None:
    """Why this cannot be a symbol; what can is remembered, so that it is looked at once."""
    if len(symbol) > MAX_SYMBOL_BYTES:
        return f"symbol of {len(symbol)} characters, at most {MAX_SYMBOL_BYTES} bytes"
    problem = symbol_problem(symbol.encode())
    if problem is None and len(_GOOD_SYMBOLS) < _NAMES_MAX:
        _GOOD_SYMBOLS[symbol] = None
    return problem


def _learn_client(client: str) -> str | None:
    """Why this cannot be a client's name; a good one is remembered."""
    if not 1 <= len(client.encode()) <= MAX_CLIENT_BYTES or not client.isprintable():
        return f"printable text of 1 to {MAX_CLIENT_BYTES} bytes"
    if len(_GOOD_CLIENTS) < _NAMES_MAX:
        _GOOD_CLIENTS[client] = None
    return None


def _is_ts(text: str) -> bool:
    """Whether a client's time, the JSON text it sent, is text or a number."""
    if len(text) > MAX_TS_BYTES or (not text.isascii() and len(text.encode()) > MAX_TS_BYTES):
        return False
    return text[0] == '"' or (text[0] in "-0123456789" and math.isfinite(float(text)))


def _bad(field: str, problem: str, new: NewOrder | dict[str, Any]) -> Reject:
    who = new if isinstance(new, dict) else _who(new)
    return Reject(RejectCode.BAD_FIELD, f"bad field {field}: {problem}", {"field": field, **who})


def _who(new: NewOrder) -> dict[str, Any]:
    """Whose request it was, to be told in the answer."""
    return {"id": new.id} if new.id is not None and 0 <= new.id <= MAX_CLIENT_ID else {}


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_ORDER_ID


def _short(value: object, quoted: bool = True) -> str:
    """A value for a message, whatever its length."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value) if quoted and isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


_encode = msgspec.json.Encoder().encode


def encode_order(
    order_id: int, client: str, side: str, symbol: str, qty: int, price: float, ts: str
) -> bytes:
    """An order frame.  A ``*`` in a name travels as ``\\u002a``."""
    body = _encode(
        {
            "side": side,
            "symbol": symbol,
            "qty": qty,
            "price": price,
            "ts": ts,
            "id": order_id,
            "client": client,
        }
    )
    return json_frame(body)
