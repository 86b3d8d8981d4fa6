"""Why a frame of the order port is not a request, in words that name the mend.

Runs only for a frame that the decoder refuses, so it may take its time.
"""

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

import msgspec

from app.model.money import MAX_PRICE, MAX_QTY, Scale
from app.model.reject_codes import RejectCode
from app.model.requests import COMMANDS, MAX_CLIENT_ID, MAX_ORDER_ID, Reject
from app.model.symbols import MAX_SYMBOL_BYTES

MAX_CLIENT_BYTES: Final = 64
MAX_TS_BYTES: Final = 64

ORDER_FIELDS: Final = (
    "side",
    "symbol",
    "qty",
    "price",
    "ts",
    "id",
    "client",
    "type",
    "tif",
    "op",
    "proof",
)
"""The members of a new order."""

_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "new": ORDER_FIELDS,
    **{str(kind.__struct_config__.tag): (*kind.__struct_fields__, "op") for kind in COMMANDS},
}
OPS: Final = tuple(_FIELDS)

_REQUIRED: Final = {
    "new": ("side", "symbol", "qty", "price"),
    "cancel": ("id",),
    "status": ("id",),
    "auth": ("token",),
    "marks": ("proof", "marks"),
}

EXPECTED: Final = {
    "side": '"BUY" or "SELL"',
    "symbol": f"1 to {MAX_SYMBOL_BYTES} printable ASCII characters without a space",
    "qty": f"a whole number from 1 to {MAX_QTY}",
    "price": f"a number above 0 and at most {MAX_PRICE}",
    "ts": "a number (seconds since the epoch) or text (as 2025-10-01 09:30:00), "
    f"at most {MAX_TS_BYTES} bytes",
    "id": f"a whole number from 0 to {MAX_CLIENT_ID}",
    "client": f"printable text of 1 to {MAX_CLIENT_BYTES} bytes",
    "type": '"MARKET" or "LIMIT"',
    "tif": '"IOC", "GTC" or "DAY"',
    "op": f"one of {', '.join(OPS)}",
    "limit": "a whole number from 1 to 200",
    "before": f"a whole number from 0 to {MAX_ORDER_ID}",
    "after": "text",
    "open": "true or false",
    "kill": "true or false",
    "cancel_on_disconnect": "true or false",
    "reason": "printable text of at most 200 characters",
    "unless": '"reduce", "halted" or "killed"',
    "token": "text",
    "proof": "the boot id of the price book, 16 hexadecimal digits",
    "marks": f"an object of symbols and prices, each a number above 0 and at most {MAX_PRICE}",
}
"""Field -> what it takes, if quantities are whole."""


def expected_of(scale: Scale) -> Mapping[str, str]:
    """The same for other quantities."""
    if not scale.decimals:
        return EXPECTED
    most, places = scale.qty_text(scale.qty_max), scale.decimals
    qty = f"a number above 0 and at most {most}, of at most {places} decimals (QTY_DECIMALS)"
    return EXPECTED | {"qty": qty}


_SYNONYMS: Final = {
    "quantity": "qty",
    "amount": "qty",
    "size": "qty",
    "shares": "qty",
    "volume": "qty",
    "ticker": "symbol",
    "instrument": "symbol",
    "action": "side",
    "direction": "side",
    "timestamp": "ts",
    "time": "ts",
    "account": "client",
    "clientid": "client",
    "orderid": "id",
    "clordid": "id",
    "clientorderid": "id",
    "timeinforce": "tif",
}
"""Names that other order protocols use, in small letters, and that no spelling leads to."""
_NEAR: Final = 0.6


def explain(
    frame: bytes,
    as_order: Exception,
    as_command: Exception,
    expected: Mapping[str, str] = EXPECTED,
) -> Reject:
    """The reject for a frame that matches no request type, from the errors of both decoders."""
    error = as_command
    try:
        frame.decode()
    except UnicodeDecodeError as problem:
        return Reject(RejectCode.BAD_UTF8, f"not UTF-8: {problem.reason} at byte {problem.start}")
    if not isinstance(error, msgspec.ValidationError):
        return Reject(RejectCode.BAD_JSON, "bad_json")
    try:
        # Also bounds the depth of the parsing below: msgspec raises RecursionError.
        value = msgspec.json.decode(frame)
        repeated = repeated_key(frame)
    except (msgspec.ValidationError, RecursionError):
        # Valid JSON so far, but too deep, or with a number that no float holds.
        return _bad_by_type(error, {}, {}, expected)
    except msgspec.DecodeError:
        return Reject(RejectCode.BAD_JSON, "bad_json")
    if not isinstance(value, dict):
        return Reject(RejectCode.BAD_FIELD, "expected a JSON object")
    if repeated:
        return duplicate_key(repeated)
    op = value.get("op")
    op = "new" if op is None else op
    if op not in OPS:
        near = _nearest(op, OPS) if isinstance(op, str) else None
        mend = f"one of {', '.join(OPS)}" if near is None else f"the op is {near!r}"
        return Reject(RejectCode.UNKNOWN_OP, f"unknown op {short(op)}: {mend}")
    error = as_order if op == "new" else as_command
    identity = {"id": value["id"]} if _is_id(value.get("id")) else {}
    return _by_fields(op, value, identity) or _bad_by_type(error, value, identity, expected)


def _by_fields(op: str, value: dict[str, Any], identity: dict[str, Any]) -> Reject | None:
    """The reject for fields that are missing or unknown; None if the names are right.

    A field that is missing under its name and there under another one is reported as the latter.
    """
    fields = _FIELDS[op]
    missing = [name for name in _REQUIRED.get(op, ()) if name not in value]
    if op == "new" and value.get("type") == "MARKET" and "price" in missing:
        missing.remove("price")
    unknown = [name for name in value if name not in fields]
    meant = {name: _nearest(name, missing) for name in unknown}
    renamed = next((name for name in unknown if meant[name]), None)
    if missing and renamed is None:
        word = "field" if len(missing) == 1 else "fields"
        return Reject(
            RejectCode.MISSING_FIELD,
            f"missing {word}: {', '.join(missing)}",
            {"field": missing[0], **identity},
        )
    if not unknown:
        return None
    name = renamed or unknown[0]
    near = meant[name] or _nearest(name, [each for each in fields if each not in value])
    mend = f"the field is {near!r}" if near else f"the fields are {', '.join(fields)}"
    return Reject(
        RejectCode.UNKNOWN_FIELD,
        f"unknown field {short(name)}: {mend}",
        {"field": short(name, quoted=False), **identity},
    )


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` stands for: a synonym, or the nearest in spelling."""
    known = list(known)
    lower = name[:64].lower()
    plain = "".join(letter for letter in lower if letter.isalnum())
    if _SYNONYMS.get(plain) in known:
        return _SYNONYMS[plain]
    for each in known:
        # limit_price, order_type, Side
        if len(each) > 2 and plain.endswith(each):
            return each
    found = get_close_matches(lower, known, n=1, cutoff=_NEAR)
    return found[0] if found else None


def _bad_by_type(
    error: Exception,
    value: dict[str, Any],
    identity: dict[str, Any],
    expected: Mapping[str, str],
) -> Reject:
    """The reject for a value of the wrong type or out of range."""
    text = str(error)[:200] if isinstance(error, msgspec.ValidationError) else "nested too deeply"
    field = text.rpartition("`$.")[2].rstrip("`") if "`$." in text else ""
    if field not in expected:
        details = {"field": field, **identity} if field else identity
        return Reject(RejectCode.BAD_FIELD, f"bad field: {text}", details)
    got = f", got {short(value[field])}" if field in value else ""
    return bad_field(field, f"{expected[field]}{got}", identity)


def bad_field(field: str, problem: str, identity: dict[str, Any]) -> Reject:
    """The reject for a field's value; ``problem`` says what is expected."""
    return Reject(
        RejectCode.BAD_FIELD, f"bad field {field}: {problem}", {"field": field, **identity}
    )


def duplicate_key(key: str, identity: dict[str, Any] | None = None) -> Reject:
    """The reject for a key that a frame names twice."""
    return Reject(
        RejectCode.DUPLICATE_KEY, f"repeated key: {key}", {"field": key, **(identity or {})}
    )


def repeated_key(frame: bytes) -> str | None:
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
    return short(found[0], quoted=False) if found else None


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_ORDER_ID


def short(value: object, quoted: bool = True) -> str:
    """A value as text for a message, at most 60 characters."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(value) if quoted and isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
