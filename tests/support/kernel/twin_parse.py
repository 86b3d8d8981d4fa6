"""The twin of the parser; see :mod:`tests.support.kernel.twin`."""

import re
from datetime import date
from typing import Any

PARSE_SLACK_BYTES, SYMBOL_BYTES_MAX = 64, 32
NEED_MORE, FULL, MARK, BAD_TIMESTAMP, BAD_SYMBOL, BAD_PRICE, BAD_SENTIMENT = range(7)

TIME = re.compile(rb"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z?")
PRICE = re.compile(rb"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
PERCENT = re.compile(rb"\d{1,3}")
Stop = int
Tick3 = tuple[int, int, float]
"""Event time, symbol index, value."""


def parse_time(text: bytes) -> int | None:
    """int64 ns since the epoch, or None."""
    found = TIME.fullmatch(text)
    if not found:
        return None
    year, month, day, hour, minute, second = (int(found[i]) for i in range(1, 7))
    try:
        days = (date(year, month, day) - date(1970, 1, 1)).days
    except ValueError:
        return None
    if not (1970 <= year <= 2261 and hour <= 23 and minute <= 59 and second <= 59):
        return None
    fraction = int((found[7] or b"").ljust(9, b"0"))
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 10**9 + fraction


def parse_price(text: bytes) -> float | None:
    """The nearest double from 1e-9 to 9e9, or None."""
    if not PRICE.fullmatch(text) or len(text) > 64:
        return None
    value = float(text)
    return value if 1e-9 <= value <= 9e9 else None


def parse_percent(text: bytes) -> float | None:
    """0 to 100, or None."""
    return float(text) if PERCENT.fullmatch(text) and int(text) <= 100 else None


class FieldParser:
    """The symbol list."""

    def __init__(self, symbols: list[str]) -> None:
        self.symbol_count = len(symbols)
        self.index: dict[bytes, int] = {}
        for i, symbol in enumerate(symbols):
            raw = symbol.encode()
            if not 0 < len(raw) <= SYMBOL_BYTES_MAX or raw in self.index:
                raise ValueError(symbol)
            self.index[raw] = i

    def read_tick(self, data: bytes, start: int, percent: bool) -> tuple[Tick3 | None, int, Stop]:
        """``(tick, position after it, -1)`` or ``(None, position, stop)``."""
        rest = data[start:]
        if not rest:
            return None, start, NEED_MORE
        fields = rest.split(b"*", 3)
        if rest[:1].isalpha() and rest[:1].isupper():
            return None, start, MARK if len(fields) > 1 else NEED_MORE
        if len(fields) < 4:
            return None, start, NEED_MORE
        event_ns = parse_time(fields[0])
        if event_ns is None:
            return None, start, BAD_TIMESTAMP
        symbol_at = start + len(fields[0]) + 1
        symbol = self.index.get(fields[1])
        if symbol is None:
            return None, symbol_at, BAD_SYMBOL
        value_at = symbol_at + len(fields[1]) + 1
        value = parse_percent(fields[2]) if percent else parse_price(fields[2])
        if value is None:
            return None, value_at, BAD_SENTIMENT if percent else BAD_PRICE
        return (event_ns, symbol, value), value_at + len(fields[2]) + 1, -1


def payload(buffer: Any, start: int, end: int) -> bytes:
    """The bytes up to ``end``; ``ValueError`` if there is no room for the kernel's sentinels."""
    if not 0 <= start <= end <= len(buffer) - PARSE_SLACK_BYTES:
        raise ValueError("bounds")
    return bytes(buffer[:end])


def parse_ticks(
    parser: FieldParser,
    buffer: Any,
    start: int,
    end: int,
    out: Any,
    first_seq: int = 0,
) -> tuple[int, int, Stop]:
    """See the kernel."""
    data = payload(buffer, start, end)
    for count in range(len(out)):
        tick, start, stop = parser.read_tick(data, start, False)
        if tick is None:
            return count, start, stop
        out[count] = (tick[0], tick[2], first_seq + count, 0, tick[1], 0)
    return len(out), start, FULL


def parse_sentiments(
    parser: FieldParser, buffer: Any, start: int, end: int, out: Any, complete_before: int
) -> tuple[int, int, Stop, int, int]:
    """See the kernel."""
    data = payload(buffer, start, end)
    count, marked = 0, -1
    while count < len(out):
        tick, start, stop = parser.read_tick(data, start, True)
        if tick is not None:
            out[count] = (tick[0], tick[2], complete_before, 0, tick[1], 0)
            count += 1
            continue
        mark = re.match(rb"SEQ\|([0-9]{1,18})\*", data[start:]) if stop == MARK else None
        if mark is None:
            return count, start, stop, complete_before, marked
        complete_before, marked = max(complete_before, int(mark[1])), count
        start += mark.end()
    return count, start, FULL, complete_before, marked
