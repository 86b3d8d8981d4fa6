"""The head of a DBN file: versions 1 to 3, as published at https://github.com/databento/dbn.

"DBN", version (u8), length of the rest (u32)
dataset (16 bytes), schema (u16), start, end, limit (u64), in version 1 a count (u64),
stype_in, stype_out, ts_out (u8), from version 2 on the size of a symbol (u16), reserved bytes,
up to 100 bytes; then the length of a definition that is always empty (u32)
symbols, partly resolved symbols, symbols not found: a count (u32) and the symbols each
mappings: a count (u32), and for each a symbol, a count (u32), and so many intervals:
first day, day after the last (u32, YYYYMMDD), symbol
"""

import struct
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from app.model.timestamps import DAY_NS

MAGIC: Final = b"DBN"
VERSIONS: Final = range(1, 4)
PREFIX: Final = struct.Struct("<3sBI")
METADATA_BYTES_MAX: Final = 1 << 28
INSTRUMENT_ID: Final = 0
"""Of the symbologies only this one matters: records name instruments by their id."""

SCHEMAS: Final = (
    *("mbo", "mbp-1", "mbp-10", "tbbo", "trades", "ohlcv-1s", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d"),
    *("definition", "statistics", "status", "imbalance", "ohlcv-eod", "cmbp-1", "cbbo-1s"),
    *("cbbo-1m", "tcbbo", "bbo-1s", "bbo-1m"),
)
_FIXED_BYTES: Final = 100
_SYMBOL_BYTES_V1: Final = 22


@dataclass(frozen=True, slots=True)
class Interval:
    """An instrument's symbol from ``start_ns`` on, until before ``end_ns``."""

    start_ns: int
    end_ns: int
    symbol: bytes


@dataclass(slots=True)
class Metadata:
    """``schema``: its name, or empty if the file has several.  ``instruments``: id -> symbols."""

    version: int
    schema: str
    symbol_bytes: int
    instruments: dict[int, list[Interval]] = field(default_factory=dict)


def parse_prefix(data: bytes) -> tuple[int, int]:
    """Version, and bytes of the metadata that follow.

    Raises:
        ValueError: why this cannot be read.
    """
    if len(data) < PREFIX.size:
        raise ValueError("truncated")
    magic, version, size = PREFIX.unpack(data)
    if magic != MAGIC or version not in VERSIONS:
        raise ValueError(f"version {version}; known are 1 to {VERSIONS[-1]}")
    if not _FIXED_BYTES <= size <= METADATA_BYTES_MAX:
        raise ValueError(f"damaged: metadata of {size} bytes")
    return int(version), int(size)


def parse_metadata(version: int, data: bytes) -> Metadata:
    """The metadata after the prefix.

    Raises:
        ValueError: why this cannot be read.
    """
    schema = struct.unpack_from("<H", data, 16)[0]
    at = 42 if version > 1 else 50
    stype_in, stype_out = data[at], data[at + 1]
    symbol_bytes = _SYMBOL_BYTES_V1
    if version > 1:
        (symbol_bytes,) = struct.unpack_from("<H", data, at + 3)
    if not symbol_bytes:
        raise ValueError("damaged: symbols of 0 bytes")
    name = SCHEMAS[schema] if schema < len(SCHEMAS) else ""
    found = Metadata(version, name, symbol_bytes)
    cursor = _Cursor(data, _FIXED_BYTES, symbol_bytes)
    if cursor.number():
        raise ValueError("has a schema definition, which no version up to 3 has")
    for _ in range(3):
        cursor.skip(cursor.count(symbol_bytes) * symbol_bytes)
    for _ in range(cursor.count(symbol_bytes + 4)):
        name_in = cursor.symbol()
        for _ in range(cursor.count(symbol_bytes + 8)):
            start_ns, end_ns, name_out = cursor.day_ns(), cursor.day_ns(), cursor.symbol()
            if stype_out == INSTRUMENT_ID:
                instrument, symbol = name_out, name_in
            elif stype_in == INSTRUMENT_ID:
                instrument, symbol = name_in, name_out
            else:
                continue
            # Empty: not resolved on these days.
            if instrument.isdigit() and symbol:
                interval = Interval(start_ns, end_ns, symbol)
                found.instruments.setdefault(int(instrument), []).append(interval)
    return found


class _Cursor:
    """Reads one field after the other; nothing is believed that the bytes do not hold."""

    def __init__(self, data: bytes, at: int, symbol_bytes: int) -> None:
        self._data, self._at, self._symbol_bytes = data, at, symbol_bytes

    def skip(self, count: int) -> int:
        """Where the next ``count`` bytes begin."""
        at = self._at
        if count > len(self._data) - at:
            raise ValueError("damaged: metadata that ends too early")
        self._at += count
        return at

    def number(self) -> int:
        return int(struct.unpack_from("<I", self._data, self.skip(4))[0])

    def count(self, item_bytes: int) -> int:
        """How many items of at least ``item_bytes`` follow."""
        count = self.number()
        if count * item_bytes > len(self._data) - self._at:
            raise ValueError(f"damaged: metadata with {count} symbols in too few bytes")
        return count

    def symbol(self) -> bytes:
        at = self.skip(self._symbol_bytes)
        return self._data[at : at + self._symbol_bytes].partition(b"\0")[0]

    def day_ns(self) -> int:
        number = self.number()
        try:
            day = date(number // 10000, number // 100 % 100, number % 100)
        except ValueError:
            raise ValueError(f"damaged: {number} is no day") from None
        return (day - date(1970, 1, 1)).days * DAY_NS
