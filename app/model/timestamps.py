"""Event times: text to int64 nanoseconds since the epoch (UTC) and back.

The *wire form* is ``YYYY-MM-DD[ T]HH:MM:SS[.f{1,9}][Z]``; such text is sent unchanged.  Any other
form that a data file may hold (a date, an offset, an epoch number) is rewritten to
``YYYY-MM-DD HH:MM:SS[.f]`` with 0, 3, 6 or 9 digits, the fewest that are exact.
"""

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final

NS_PER_S: Final = 1_000_000_000
DAY_S: Final = 86_400
DAY_NS: Final = DAY_S * NS_PER_S
YEAR_MIN: Final = 1678
YEAR_MAX: Final = 2261
"""Whole years that int64 nanoseconds can hold."""

_EPOCH_DAYS: Final = date(1970, 1, 1).toordinal()
MIN_EVENT_NS: Final = (date(YEAR_MIN, 1, 1).toordinal() - _EPOCH_DAYS) * DAY_S * NS_PER_S
MAX_EVENT_NS: Final = (date(YEAR_MAX + 1, 1, 1).toordinal() - _EPOCH_DAYS) * DAY_S * NS_PER_S - 1
_MIN_SECONDS: Final = Decimal(MIN_EVENT_NS) / NS_PER_S
_MAX_SECONDS: Final = Decimal(MAX_EVENT_NS) / NS_PER_S

_CALENDAR: Final = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)"
    rb"(?:([ T])(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?)?"
    rb" ?(Z|[+-]\d\d:?\d\d)?"
)
_EPOCH: Final = re.compile(rb"(-?)(\d{1,20})(?:\.(\d{1,9})0*)?")

_TENS: Final = tuple(10**power for power in range(10))

# The unit of an epoch number follows from its magnitude: seconds reach 1e11 in the year 5138, and
# milliseconds below 1e11 are before March 1973.
_EPOCH_UNITS: Final = ((10**11, NS_PER_S), (10**14, 1_000_000), (10**17, 1_000))


def parse_timestamp(text: bytes) -> tuple[int, bytes]:
    """Event time in nanoseconds, and the text to send.

    Raises:
        ValueError: not a timestamp, with the reason.
    """
    found = _CALENDAR.fullmatch(text)
    if found:
        ns = _calendar_ns(found)
        as_is = found[4] is not None and found[9] in (None, b"Z") and b" Z" not in text
        return ns, text if as_is else format_timestamp(ns)
    found = _EPOCH.fullmatch(text)
    if not found:
        raise ValueError("not a timestamp")
    if len(text) == 8 and _is_compact_date(text):
        raise ValueError("ambiguous: write the date as YYYY-MM-DD")
    ns = _epoch_ns(found)
    return ns, format_timestamp(ns)


def _calendar_ns(found: re.Match[bytes]) -> int:
    year, month, day = (int(part) for part in found.group(1, 2, 3))
    hour, minute, second = (int(part or 0) for part in found.group(5, 6, 7))
    try:
        moment = datetime(year, month, day, hour, minute, second)
    except ValueError as error:
        raise ValueError(f"not a timestamp: {error}") from None
    seconds = (moment.toordinal() - _EPOCH_DAYS) * DAY_S + hour * 3600 + minute * 60 + second
    zone = found[9]
    if zone and zone != b"Z":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        if hours > 18 or minutes > 59:
            raise ValueError(f"no such offset from UTC: {zone.decode()}")
        shift = hours * 3600 + minutes * 60
        seconds += shift if zone[:1] == b"-" else -shift
    return _in_range(seconds * NS_PER_S + int((found[8] or b"").ljust(9, b"0")))


def _epoch_ns(found: re.Match[bytes]) -> int:
    whole = int(found[2])
    unit = next((unit for limit, unit in _EPOCH_UNITS if whole < limit), 1)
    fraction = (found[3] or b"").ljust(9, b"0")
    if int(fraction) * unit % NS_PER_S:
        raise ValueError("finer than a nanosecond")
    ns = whole * unit + int(fraction) * unit // NS_PER_S
    return _in_range(-ns if found[1] else ns)


def _is_compact_date(text: bytes) -> bool:
    """Whether the text is YYYYMMDD; read as epoch seconds it would silently be a day in 1970."""
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:])).year >= 1900
    except ValueError:
        return False


def _in_range(ns: int) -> int:
    if not MIN_EVENT_NS <= ns <= MAX_EVENT_NS:
        raise ValueError(f"outside the years {YEAR_MIN} to {YEAR_MAX}")
    return ns


def format_timestamp(ns: int) -> bytes:
    """``YYYY-MM-DD HH:MM:SS[.f]`` with the fewest of 0, 3, 6, 9 digits that are exact."""
    seconds, fraction = divmod(ns, NS_PER_S)
    days, second = divmod(seconds, DAY_S)
    day = date.fromordinal(days + _EPOCH_DAYS).isoformat()
    text = f"{day} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    if fraction:
        digits = f"{fraction:09}"
        width = 3 if digits.endswith("000000") else 6 if digits.endswith("000") else 9
        text += f".{digits[:width]}"
    return text.encode()


@lru_cache(maxsize=8)
def _second_text(second: int) -> str:
    """Consecutive times share the second: format it once."""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S.}"


def seconds_text(event_ns: int) -> str:
    """Exact seconds since the epoch, the ``ts`` of an order: ``1759311000.25``, ``1759311000``."""
    second, fraction = divmod(event_ns, NS_PER_S)
    if not fraction:
        return str(second)
    if event_ns < 0:
        return f"-{seconds_text(-event_ns)}"
    return f"{second}.{fraction:09d}".rstrip("0")


@lru_cache(maxsize=64)
def ts_event_ns(ts: str) -> int | None:
    """The event time that an order's ``ts`` names; ``ts`` is the JSON text as it was sent.

    A number is seconds since the epoch, text has any form that a data file may have.  None: it is
    not a time, is outside the years that int64 nanoseconds can hold, or is finer than one.
    """
    try:
        if ts.startswith('"'):
            return parse_timestamp(json.loads(ts).encode())[0]
        seconds = Decimal(ts)
        if not _MIN_SECONDS <= seconds <= _MAX_SECONDS:
            return None
        units = seconds.scaleb(9)
        return None if units % 1 else _in_range(int(units))
    except (ValueError, ArithmeticError):
        return None


def ts_text(ts: str) -> str:
    """An order's ``ts`` for a table: the form of the data file, or what was sent if no time."""
    if ts.startswith('"'):
        return str(json.loads(ts))
    event_ns = ts_event_ns(ts)
    return ts if event_ns is None else format_timestamp(event_ns).decode()


def utc_text(at_ns: int, digits: int) -> str:
    """``YYYY-MM-DDTHH:MM:SS.f...Z`` for logs and exports; truncated to ``digits`` decimals."""
    second, fraction = divmod(at_ns, NS_PER_S)
    # A leading one keeps the zeros: cheaper than a format, and each line of a log has a time.
    decimals = str(_TENS[digits] + fraction // _TENS[9 - digits])[1:]
    return f"{_second_text(second)}{decimals}Z"
