"""Finds the trades in an exchange's JSON messages: which member is what, and whether it is sound.

LIVE_MAP is a preset, or words such as ``symbol=s price=p timestamp=T id=t qty=q rows=data
where=e:trade``.  A member is a path with points, whose numbers are places in lists.  ``rows`` leads
to the trade or the list of trades in a message; a message without it is a trade itself.  ``where``
is a member and the values that it has in a trade: ``type:match|last_match``.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from math import isfinite
from typing import Any, Final, NamedTuple

import msgspec

from app.market_data.live.records import NO_ID, Trade
from app.model.money import MAX_PRICE, UNITS, decimal_to_units
from app.model.symbols import symbol_problem
from app.model.timestamps import parse_timestamp

PRESETS: Final = {
    "binance": "symbol=s price=p timestamp=T id=t qty=q rows=data where=e:trade",
}
"""Binance spot, ``<symbol>@trade``, alone or in a combined stream."""

NEEDED: Final = ("symbol", "price", "timestamp")
NAMES: Final = (*NEEDED, "id", "qty", "rows", "where")
SYMBOLS_MAX: Final = 1000
SHOWN: Final = 60
ID_MAX: Final = (1 << 62) - 1
_MISSING: Final = object()
_NUMBER: Final = re.compile(r"\d{1,40}(?:\.\d{0,40})?(?:[eE][+-]?\d{1,2})?")
_WORD: Final = re.compile(r"([a-z]+)=(\S+)")
_SUBSCRIBE_BINANCE: Final = "binance"


class MapError(ValueError):
    """A setting of the live feed is wrong; the message says how it has to be."""


class Refused(NamedTuple):
    """A trade that is not sound: which member, its value, and why."""

    field: str
    value: str
    reason: str


class Other(NamedTuple):
    """A message that holds no trade, such as the answer to a subscription."""

    text: str


Found = Trade | Refused | Other


def parse_symbols(text: str) -> list[str]:
    """The symbols of LIVE_SYMBOLS, as the exchange writes them.

    Raises:
        MapError: there is none, too many, a repeated or an unusable one.
    """
    names = [name for name in re.split(r"[,\s]+", text) if name]
    if not names:
        raise MapError("needs the symbols as the exchange writes them, such as BTCUSDT,ETHUSDT")
    if len(names) > SYMBOLS_MAX:
        raise MapError(f"{len(names)} symbols, at most {SYMBOLS_MAX}")
    for name in names:
        if problem := symbol_problem(name.encode()):
            raise MapError(f"{name[:SHOWN]}: {problem}")
    if len(set(names)) < len(names):
        raise MapError("names a symbol twice")
    return names


def parse_map(text: str) -> dict[str, str]:
    """The paths of LIVE_MAP.

    Raises:
        MapError: it is neither a preset nor such words, or lacks a member that is needed.
    """
    words = PRESETS.get(text.strip(), text).split()
    paths: dict[str, str] = {}
    for word in words:
        found = _WORD.fullmatch(word)
        if not found or found[1] not in NAMES or found[1] in paths:
            raise MapError(
                f"{word[:SHOWN]}: must be {', '.join(PRESETS)}, or words NAME=PATH with the names "
                f"{', '.join(NAMES)}, each once"
            )
        paths[found[1]] = found[2]
    missing = [name for name in NEEDED if name not in paths]
    if missing:
        raise MapError(f"needs {' and '.join(f'{name}=PATH' for name in missing)}")
    if "where" in paths and not re.fullmatch(r"[^:]+:.+", paths["where"]):
        raise MapError(f"where={paths['where'][:SHOWN]}: must be PATH:VALUE or PATH:VALUE|VALUE")
    return paths


def subscription(text: str, preset: str, url: str, symbols: list[str]) -> str:
    """What is sent after connecting: LIVE_SUBSCRIBE, or what the preset needs; empty: nothing.

    Binance's address names the streams already, or it ends in ``/ws`` or ``/stream``.
    """
    path = url.partition("://")[2].partition("/")[2].partition("?")
    if text or preset.strip() != _SUBSCRIBE_BINANCE or path[0].rstrip("/") not in ("ws", "stream"):
        return text
    if "streams=" in path[2]:
        return ""
    streams = [f"{symbol.lower()}@trade" for symbol in symbols]
    request = {"method": "SUBSCRIBE", "params": streams, "id": 1}
    return msgspec.json.encode(request).decode()


class TradeMap:
    """Reads messages."""

    def __init__(self, text: str, symbols: list[str]) -> None:
        """Raises:
        MapError: ``text``, LIVE_MAP, is wrong.
        """
        paths = parse_map(text)
        self._paths = {name: path.split(".") for name, path in paths.items() if name != "where"}
        where, _, values = paths.get("where", "").partition(":")
        self._where, self._values = where.split("."), frozenset(values.split("|"))
        self._filters = bool(where)
        self._index = {symbol: index for index, symbol in enumerate(symbols)}
        # Numbers stay the texts that were sent, so that no digit is lost.
        self._decoder = msgspec.json.Decoder(float_hook=str)

    def read(self, message: bytes) -> Iterator[Found]:
        """What a message holds, in its order.  Never raises because of the message."""
        try:
            content = self._decoder.decode(message)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            yield Refused(
                "message", _shown(message.decode("utf-8", "replace")), f"no JSON: {error}"
            )
            return
        rows = _member(content, self._paths["rows"]) if "rows" in self._paths else content
        if rows is _MISSING:
            rows = content
        for row in rows if isinstance(rows, list) and self._holds_rows(rows) else [rows]:
            yield self._read_row(row)

    def _holds_rows(self, rows: list[Any]) -> bool:
        """Whether a list is one of trades; a trade may be a list, too."""
        return bool(rows) and all(isinstance(row, dict | list) for row in rows)

    def _read_row(self, row: Any) -> Found:
        if self._filters and str(_member(row, self._where)) not in self._values:
            return Other(_shown(row))
        found = {name: _member(row, self._paths[name]) for name in NEEDED}
        absent = [name for name, value in found.items() if value is _MISSING]
        if absent and (len(absent) == len(NEEDED) or not isinstance(row, dict | list)):
            return Other(_shown(row))
        if absent:
            return Refused(absent[0], "", f"no member {'.'.join(self._paths[absent[0]])}")
        name, value = "symbol", found["symbol"]
        try:
            symbol = self._index.get(value) if isinstance(value, str) else None
            if symbol is None:
                return Refused(name, _shown(value), "not in LIVE_SYMBOLS")
            name, value = "price", found["price"]
            price = _price(value)
            name, value = "timestamp", found["timestamp"]
            exchange_ns = _time(value)
            name, value = "id", self._optional(row, "id")
            trade_id = NO_ID if value is _MISSING else _identity(value)
            name, value = "qty", self._optional(row, "qty")
            qty = float("nan") if value is _MISSING else _quantity(value)
        except (ValueError, ArithmeticError) as error:
            return Refused(name, _shown(value), str(error) or "not a number")
        return Trade(exchange_ns, price, trade_id, qty, symbol)

    def _optional(self, row: Any, name: str) -> Any:
        return _member(row, self._paths[name]) if name in self._paths else _MISSING


def _member(value: Any, path: list[str]) -> Any:
    for key in path:
        if isinstance(value, dict):
            value = value.get(key, _MISSING)
        elif isinstance(value, list) and key.isdecimal() and len(key) < 6 and int(key) < len(value):
            value = value[int(key)]
        else:
            return _MISSING
    return value


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _number(value: Any) -> Decimal:
    """Raises:
    ValueError: it is not a finite number without a sign.
    """
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number above zero")
    return Decimal(text)


def _price(value: Any) -> int:
    price = _number(value)
    if price > MAX_PRICE:
        raise ValueError(f"above {MAX_PRICE}")
    units = decimal_to_units(price)
    if not units:
        raise ValueError(f"below 1/{UNITS}")
    return units


def _time(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > 40:
        raise ValueError("not a timestamp")
    return parse_timestamp(str(value).encode())[0]


def _identity(value: Any) -> int:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > ID_MAX:
        raise ValueError("not a whole number that counts trades")
    return int(text)


def _quantity(value: Any) -> float:
    quantity = float(_number(value))
    if not isfinite(quantity):
        raise ValueError("not a quantity")
    return quantity
