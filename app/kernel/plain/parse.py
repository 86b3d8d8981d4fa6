"""Bytes of the feed to ticks: ``timestamp*symbol*value*`` against a fixed symbol list."""

import re
from collections.abc import Iterable
from datetime import date
from typing import Any, Final

import numpy as np

from app.kernel.plain.memory import SYMBOL_BYTES_MAX, Bytes, records_of

PARSE_SLACK_BYTES: Final = 64
NEED_MORE, FULL, MARK, BAD_TIMESTAMP, BAD_SYMBOL, BAD_PRICE, BAD_SENTIMENT = range(7)
GOES_ON: Final = -1
"""Instead of a reason to stop: as many ticks as were asked for."""
SYMBOLS_MAX: Final = 65536

_TIME: Final = re.compile(rb"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z?")
_PRICE: Final = re.compile(rb"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_PERCENT: Final = re.compile(rb"\d{1,3}")
_SEQ_MARK: Final = re.compile(rb"SEQ\|([0-9]{1,18})\*")
_PRICE_BYTES_MAX: Final = 64
_TIMES_MAX: Final = 4096
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()

Fields = tuple[int, int, float]
"""Event time, symbol index, value."""


def parse_time(text: bytes) -> int | None:
    """int64 ns since the epoch, or None (years 1970 to 2261 fit)."""
    found = _TIME.fullmatch(text)
    if not found:
        return None
    year, month, day, hour, minute, second = (int(found[i]) for i in range(1, 7))
    if not (1970 <= year <= 2261 and hour <= 23 and minute <= 59 and second <= 59):
        return None
    try:
        days = date(year, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    fraction = int((found[7] or b"").ljust(9, b"0"))
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 10**9 + fraction


def parse_price(text: bytes) -> float | None:
    """The nearest double from 1e-9, the unit of money, to 9e9; or None."""
    if len(text) > _PRICE_BYTES_MAX or not _PRICE.fullmatch(text):
        return None
    value = float(text)
    return value if 1e-9 <= value <= 9e9 else None


def parse_percent(text: bytes) -> float | None:
    """An integer from 0 to 100 of one to three digits, or None."""
    return float(text) if _PERCENT.fullmatch(text) and int(text) <= 100 else None


class FieldParser:
    """Parses ``timestamp*symbol*value*`` against a fixed symbol list."""

    def __init__(self, symbols: list[str] | list[bytes]) -> None:
        """ValueError: too many symbols, one too long or empty, one twice."""
        if len(symbols) > SYMBOLS_MAX:
            raise ValueError(f"{len(symbols)} symbols, at most {SYMBOLS_MAX}")
        self.symbol_count = len(symbols)
        self._index: dict[bytes, int] = {}
        self._times: dict[bytes, int] = {}
        names: Iterable[str | bytes] = symbols
        for index, symbol in enumerate(names):
            raw = symbol.encode() if isinstance(symbol, str) else symbol
            if not 0 < len(raw) <= SYMBOL_BYTES_MAX:
                raise ValueError(
                    f"symbol {symbol!r}: 1 to {SYMBOL_BYTES_MAX} bytes, got {len(raw)}"
                )
            if raw in self._index:
                raise ValueError(f"symbol {symbol!r} twice")
            self._index[raw] = index

    def read_ticks(
        self, data: bytes, at: int, most: int, *, percent: bool = False
    ) -> tuple[list[Fields], int, int]:
        """At most ``most`` ticks from ``at`` on: them, the position after them, and why it stopped.

        The position is that of the malformed field, if there is one; GOES_ON: there were ``most``.
        """
        ticks: list[Fields] = []
        texts = iter(data[at:].split(b"*", 3 * most))
        read = parse_percent if percent else parse_price
        times, index = self._times, self._index
        # The last text has no delimiter behind it, so the last turn has fewer than three.
        for when, name, text in zip(texts, texts, texts, strict=False):
            event_ns = times.get(when)
            if event_ns is None:
                event_ns = self._learn_time(when)
                if event_ns is None:
                    break
            symbol, value = index.get(name), read(text)
            end = at + len(when) + len(name) + len(text) + 3
            if symbol is None or value is None or end > len(data):
                break
            ticks.append((event_ns, symbol, value))
            at = end
        if len(ticks) == most:
            return ticks, at, GOES_ON
        stop, at = self._why_not(data, at, percent=percent)
        return ticks, at, stop

    def _learn_time(self, text: bytes) -> int | None:
        """A time's nanoseconds, which are remembered: feeds repeat them."""
        event_ns = parse_time(text)
        if event_ns is not None:
            if len(self._times) == _TIMES_MAX:
                self._times.clear()
            self._times[text] = event_ns
        return event_ns

    def _why_not(self, data: bytes, at: int, *, percent: bool) -> tuple[int, int]:
        """Why there is no tick at ``at``, and where.

        A tick that is not all there is never an error: the missing rest may be the cause.
        """
        fields = data[at:].split(b"*", 3)
        if data[at : at + 1].isupper():
            return (MARK if len(fields) > 1 else NEED_MORE), at
        if len(fields) < 4:
            return NEED_MORE, at
        if parse_time(fields[0]) is None:
            return BAD_TIMESTAMP, at
        at += len(fields[0]) + 1
        if fields[1] not in self._index:
            return BAD_SYMBOL, at
        return (BAD_SENTIMENT if percent else BAD_PRICE), at + len(fields[1]) + 1


def payload(buffer: Bytes, start: int, end: int) -> bytes:
    """``buffer[start:end]``.

    Raises:
        ValueError: outside the buffer, or without the room behind that the compiled parser needs.
    """
    if not 0 <= start <= end <= len(buffer) - PARSE_SLACK_BYTES:
        raise ValueError(
            f"parse of {start}:{end} in {len(buffer)} bytes; {PARSE_SLACK_BYTES} must follow"
        )
    return bytes(memoryview(buffer)[start:end])


def _put(out: Any, at: int, ticks: list[Fields]) -> None:
    """Write ticks into records, without sequence."""
    if ticks:
        places = slice(at, at + len(ticks))
        out["event_ns"][places], out["symbol"][places], out["price"][places] = zip(
            *ticks, strict=True
        )
        out["recv_us"][places] = 0


def parse_ticks(
    parser: FieldParser, buffer: Bytes, start: int, end: int, out: Any, first_seq: int = 0
) -> tuple[int, int, int]:
    """Parse ``buffer[start:end]`` into ``out``; return ``(ticks, position, stop)``.

    ``stop`` is the reason (NEED_MORE, FULL, MARK, BAD_*); ``position`` is the first byte not
    consumed, or the first byte of the malformed field.
    """
    data, records = payload(buffer, start, end), records_of(out, writable=True)
    ticks, at, stop = parser.read_ticks(data, 0, len(records))
    _put(records, 0, ticks)
    records["seq"][: len(ticks)] = np.arange(first_seq, first_seq + len(ticks), dtype=np.uint64)
    return len(ticks), start + at, FULL if stop == GOES_ON else stop


def parse_sentiments(
    parser: FieldParser, buffer: Bytes, start: int, end: int, out: Any, complete_before: int
) -> tuple[int, int, int, int, int]:
    """As :func:`parse_ticks`, for sentiments from 0 to 100 and the marks ``SEQ|n*`` among them.

    A sentiment's ``seq`` is the highest mark before it, at least ``complete_before``: no lower tick
    may see it.  Returns ``(sentiments, position, stop, complete_before, marked)``: the highest
    mark, and how many sentiments stand before the last one (-1 without a mark).
    """
    data, records = payload(buffer, start, end), records_of(out, writable=True)
    count, at, stop, marked = 0, 0, GOES_ON, -1
    while count < len(records):
        ticks, at, stop = parser.read_ticks(data, at, len(records) - count, percent=True)
        _put(records, count, ticks)
        records["seq"][count : count + len(ticks)] = complete_before
        count += len(ticks)
        mark = _SEQ_MARK.match(data, at) if stop == MARK else None
        if mark is None:
            break
        complete_before, marked = max(complete_before, int(mark[1])), count
        at, stop = mark.end(), GOES_ON
    return count, start + at, FULL if stop == GOES_ON else stop, complete_before, marked
