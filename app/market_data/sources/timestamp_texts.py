"""Timestamps as ``TIMESTAMP_FORMAT`` and ``DATA_DATE`` say, or as they are without these settings.

Without them a text is in one of the forms of :mod:`app.model.timestamps`.  A number then counts
from 1970, and must give a year from 1973 to 2100: other numbers may be times of day, or dates.
"""

import re
from decimal import Decimal
from typing import Final

import numpy as np

from app.market_data.ragged import Bytes, Ints, Mask
from app.market_data.sources.errors import quoted
from app.market_data.sources.timestamp_columns import (
    TEXT_BYTES_MAX,
    Places,
    digits_columns,
    parse_dates,
    parse_places,
    parse_timestamps,
    parse_zoned,
)
from app.model.timestamps import (
    DAY_NS,
    MAX_EVENT_NS,
    MIN_EVENT_NS,
    NS_PER_S,
    YEAR_MAX,
    YEAR_MIN,
    format_timestamp,
    parse_timestamp,
)

UNITS: Final = {"s": NS_PER_S, "ms": 10**6, "us": 10**3, "ns": 1}
"""Values of TIMESTAMP_FORMAT for numbers -> nanoseconds."""

_LIKELY_NS: Final = (
    parse_timestamp(b"1973-03-04")[0],
    parse_timestamp(b"2100-01-01")[0],
)
_NUMBER: Final = re.compile(rb"-?\d{1,20}(?:\.\d{1,12})?")
_DIRECTIVES: Final = {
    "Y": r"(?P<year>\d{4})",
    "y": r"(?P<short_year>\d\d)",
    "m": r"(?P<month>\d\d?)",
    "d": r"(?P<day>\d\d?)",
    "b": r"(?P<month_name>[A-Za-z]{3,9})",
    "H": r"(?P<hour>\d\d?)",
    "I": r"(?P<hour12>\d\d?)",
    "p": r"(?P<half>[AaPp]\.?[Mm]\.?)",
    "M": r"(?P<minute>\d\d)",
    "S": r"(?P<second>\d\d)",
    "f": r"(?P<fraction>\d{1,9})",
    "z": r"(?P<zone>Z|UTC|[+-]\d\d:?\d\d)",
    "%": "%",
}
_MONTHS: Final = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)
_PLACES: Final = {"Y": ("year", 4)} | {
    letter: (name, 2)
    for letter, name in (
        ("m", "month"),
        ("d", "day"),
        ("H", "hour"),
        ("M", "minute"),
        ("S", "second"),
    )
}
_SAID: Final = (
    "not a timestamp; known are 2025-10-01, 2025-10-01 09:30:00.25 with T, Z or +02:00, and "
    "numbers since 1970; set TIMESTAMP_FORMAT for other forms"
)


_UNIT_OR_DAY: Final = (
    "set TIMESTAMP_FORMAT to its unit (s, ms, us or ns), or DATA_DATE=YYYY-MM-DD if it counts "
    "milliseconds from midnight"
)


class TimestampReader:
    """Reads one column of timestamps."""

    def __init__(self, form: str = "", day: str = "") -> None:
        """``form`` and ``day``: ``TIMESTAMP_FORMAT`` and ``DATA_DATE``.

        Raises:
            ValueError: a setting that makes no sense, and why.
        """
        self._form, self._unit, self._pattern = form, UNITS.get(form), None
        self._places: Places | None = None
        self._day_ns: int | None = None
        if day:
            try:
                self._day_ns = parse_timestamp(day.encode())[0]
            except ValueError as error:
                raise ValueError(f"DATA_DATE={day}: {error}") from None
            self._unit = self._unit or 10**6
        if form and form not in UNITS:
            self._pattern = _compiled(form)
            names = self._pattern.groupindex.keys()
            has_date = (
                {"day"} <= names
                and names & {"month", "month_name"}
                and names & {"year", "short_year"}
            )
            if self._day_ns is None and not has_date:
                raise ValueError(
                    f"TIMESTAMP_FORMAT={quoted(form)}: has no year, month and day: "
                    "set DATA_DATE=YYYY-MM-DD"
                )
            self._places = _places_of(form)
        elif day:
            self._places = _places_of("%H:%M:%S.%f")

    def columns(self, data: Bytes, starts: Ints, lengths: Ints) -> tuple[Ints, Mask, Mask]:
        """Event times, which texts are in wire form, and which of the others have a known time.

        ``data`` must extend at least 30 bytes past the last start.  Pass the rest to :meth:`one`.
        """
        nowhere = np.zeros(len(starts), np.bool_)
        if self._pattern is not None:
            if self._places is None:
                return np.zeros(len(starts), np.int64), nowhere, nowhere
            event_ns, known = parse_places(data, starts, lengths, self._places)
            return np.where(known, event_ns + (self._day_ns or 0), 0), nowhere, known
        if self._day_ns is None and self._unit is None:
            event_ns, as_is = parse_timestamps(data, starts, lengths)
            if as_is.all():
                return event_ns, as_is, nowhere
        else:
            event_ns, as_is = np.zeros(len(starts), np.int64), nowhere
        known = nowhere.copy()
        rows = np.flatnonzero(~as_is)
        if self._unit is None:
            for parse in (parse_zoned, parse_dates):
                found, good = parse(data, starts[rows], lengths[rows])
                event_ns[rows[good]] = found[good]
                known[rows[good]] = True
                rows = rows[~good]
        numbers, whole = digits_columns(data, starts[rows], lengths[rows])
        if self._places is not None:
            times, is_time = parse_places(data, starts[rows], lengths[rows], self._places)
            event_ns[rows] = np.where(is_time, times + (self._day_ns or 0), 0)
            known[rows] = is_time
        found, good = self._numbers_ns(numbers)
        good &= whole
        event_ns[rows[good]] = found[good]
        known[rows[good]] = True
        return event_ns, as_is, known

    def _numbers_ns(self, numbers: Ints) -> tuple[Ints, Mask]:
        """Event times of whole numbers, and which of them are such without doubt."""
        if self._day_ns is not None and self._unit:
            good = numbers < DAY_NS // self._unit
            return self._day_ns + np.where(good, numbers, 0) * self._unit, good
        if self._unit:
            good = numbers < _LIKELY_NS[1] // self._unit
            return np.where(good, numbers, 0) * self._unit, good
        limits = [numbers < 10**digits for digits in (11, 14, 17)]
        unit = np.select(limits, [UNITS["s"], UNITS["ms"], UNITS["us"]], 1)
        good = (numbers >= _LIKELY_NS[0] // unit) & (numbers < _LIKELY_NS[1] // unit)
        # YYYYMMDD is not among them: as seconds it is a day in 1970.
        return np.where(good, numbers, 0) * unit, good

    def one(self, text: bytes) -> tuple[int, bytes]:
        """Event time in nanoseconds, and the text to send.

        Raises:
            ValueError: not a timestamp, with the reason and the setting that mends it.
        """
        if not text:
            raise ValueError("missing")
        if self._pattern is not None:
            ns = self._matched(text)
            return ns, format_timestamp(ns)
        if self._unit:
            ns = self._number(text)
            return ns, format_timestamp(ns)
        try:
            found = parse_timestamp(text)
        except ValueError as error:
            remedy = f": {_UNIT_OR_DAY}" if "outside" in str(error) else ""
            raise ValueError(_mend(text, str(error)) + remedy) from None
        if _NUMBER.fullmatch(text) and not _LIKELY_NS[0] <= found[0] < _LIKELY_NS[1]:
            raise ValueError(
                f"as a number since 1970 it would be {found[1].decode()}: {_UNIT_OR_DAY}"
            )
        return found

    def _number(self, text: bytes) -> int:
        assert self._unit is not None
        if not _NUMBER.fullmatch(text):
            if self._day_ns is not None and not self._form:
                return self._time_of_day(text)
            reason = f"not a number, as TIMESTAMP_FORMAT={self._form} says"
            raise ValueError(_mend(text, reason, self._form))
        units = Decimal(text.decode()) * self._unit
        if units % 1:
            raise ValueError("finer than a nanosecond")
        ns = int(units)
        if self._day_ns is None and MIN_EVENT_NS <= ns <= MAX_EVENT_NS:
            return ns
        if self._day_ns is None:
            raise ValueError(f"outside the years {YEAR_MIN} to {YEAR_MAX}")
        if not 0 <= ns < DAY_NS:
            unit = self._form or "ms"
            raise ValueError(
                f"not within a day in {unit}: set TIMESTAMP_FORMAT to its unit (s, ms, us or ns), "
                "or unset DATA_DATE"
            )
        return self._day_ns + ns

    def _time_of_day(self, text: bytes) -> int:
        found = _compiled("%H:%M:%S.%f").fullmatch(text.decode("latin-1"))
        if not found or self._day_ns is None:
            reason = "with DATA_DATE, a time is HH:MM:SS or milliseconds since midnight"
            if re.fullmatch(rb"\d\d?:\d\d", text):
                raise ValueError(f"{reason}: set TIMESTAMP_FORMAT='%H:%M'")
            raise ValueError(f"{reason}: unset DATA_DATE, if the text has its day")
        return _ns_of(found.groupdict(), self._day_ns)

    def _matched(self, text: bytes) -> int:
        assert self._pattern is not None
        found = self._pattern.fullmatch(text.decode("latin-1"))
        if not found:
            raise ValueError(
                _mend(text, f"not of the form TIMESTAMP_FORMAT={quoted(self._form)}", self._form)
            )
        return _ns_of(found.groupdict(), self._day_ns)


def _compiled(form: str) -> re.Pattern[str]:
    form = form.replace("%T", "%H:%M:%S").replace("%F", "%Y-%m-%d").replace("%B", "%b")
    parts: list[str] = []
    seen = set()
    for literal, letter in re.findall(r"([^%]+)|%(.?)", form):
        if literal:
            parts.append(re.escape(literal))
            continue
        if letter not in _DIRECTIVES or (letter in seen and letter != "%"):
            known = " ".join(f"%{name}" for name in _DIRECTIVES)
            raise ValueError(
                f"TIMESTAMP_FORMAT={quoted(form)}: %{letter} is unknown or repeated; known are s, "
                f"ms, us, ns, or a pattern of {known}"
            )
        seen.add(letter)
        if letter == "f" and parts and parts[-1][-1:] in (".", ","):
            mark = parts[-1].removesuffix("\\.").removesuffix(",")
            sign = re.escape(parts[-1][-1])
            parts[-1] = mark
            parts.append(rf"(?:{sign}{_DIRECTIVES['f']})?")
        else:
            parts.append(_DIRECTIVES[letter])
    if not seen - {"%"}:
        raise ValueError(
            f"TIMESTAMP_FORMAT={quoted(form)}: must be s, ms, us, ns, or a pattern such as "
            "'%d/%m/%Y %H:%M:%S'"
        )
    return re.compile("".join(parts))


def _places_of(form: str) -> Places | None:
    """Where the digits are, if each text of this form has them in the same places."""
    form = form.replace("%T", "%H:%M:%S").replace("%F", "%Y-%m-%d")
    places: dict[str, int] = {}
    literals: dict[int, bytes] = {}
    at = 0
    fraction = form.endswith((".%f", ",%f"))
    for literal, letter in re.findall(r"([^%]+)|%(.?)", form[: -len(".%f")] if fraction else form):
        if literal:
            for byte in literal.encode():
                literals[at] = bytes([byte])
                at += 1
        elif letter in _PLACES:
            name, width = _PLACES[letter]
            places[name] = at
            at += width
        else:
            return None
    point = form[-3:-2].encode() if fraction else None
    return Places(places, literals, at, point) if at + 10 < TEXT_BYTES_MAX else None


def _ns_of(found: dict[str, str | None], day_ns: int | None) -> int:
    """The event time of the parts of a text."""
    hour, minute, second = (int(found.get(name) or 0) for name in ("hour", "minute", "second"))
    if found.get("hour12"):
        if not 1 <= int(found["hour12"] or 0) <= 12:
            raise ValueError("not a timestamp: no such hour")
        hour = int(found["hour12"] or 0) % 12
        hour += 12 if (found.get("half") or "A")[0] in "Pp" else 0
    if found.get("day"):
        year = int(found.get("year") or 0)
        if short := found.get("short_year"):
            year = int(short) + (2000 if int(short) < 69 else 1900)
        month = int(found.get("month") or 0)
        if name := found.get("month_name"):
            month = _MONTHS.index(name[:3].lower()) + 1 if name[:3].lower() in _MONTHS else 0
        text = f"{year:04}-{month:02}-{int(found['day'] or 0):02}"
    else:
        text = format_timestamp(day_ns or 0).decode()[:10]
    text += f" {hour:02}:{minute:02}:{second:02}"
    if fraction := found.get("fraction"):
        text += f".{fraction}"
    zone = found.get("zone") or ""
    return parse_timestamp((text + ("Z" if zone == "UTC" else zone)).encode())[0]


_TAIL: Final = (
    ("", ""),
    (" %H:%M", r"[ T]\d\d?:\d\d"),
    (" %H:%M:%S", r"[ T]\d\d?:\d\d:\d\d"),
    (" %H:%M:%S.%f", r"[ T]\d\d?:\d\d:\d\d\.\d{1,9}"),
    (" %I:%M %p", r" \d\d?:\d\d [APap][Mm]"),
    (" %I:%M:%S.%f %p", r" \d\d?:\d\d:\d\d\.\d{1,9} [APap][Mm]"),
    (" %I:%M:%S %p", r" \d\d?:\d\d:\d\d [APap][Mm]"),
    (" %H%M%S", r" \d{6}"),
    (" %H%M%S.%f", r" \d{6}\.\d{1,9}"),
    (" %H:%M:%S.%f%z", r"[ T]\d\d?:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)"),
)
_DATES: Final = (
    ("%Y{0}%m{0}%d", r"\d{4}([/.-])\d\d?\1\d\d?"),
    ("%Y%m%d", r"(?:19|20)\d\d(?:0[1-9]|1[0-2])[0-3]\d()"),
    ("%d{0}%m{0}%Y", r"\d\d?([/.-])\d\d?\1\d{4}"),
    ("%d{0}%m{0}%y", r"\d\d?([/.-])\d\d?\1\d\d"),
    ("%d{0}%b{0}%Y", r"\d\d?([ /.-]?)[A-Za-z]{3,9}\1\d{4}"),
    ("%b %d, %Y", r"[A-Za-z]{3,9} \d\d?, \d{4}()"),
)


def likely_forms(text: bytes) -> list[str]:
    """The patterns that a timestamp seems to have; two if day and month cannot be told apart."""
    shown = text.decode("latin-1")
    for date_form, date_regex in _DATES:
        for tail, tail_regex in _TAIL:
            found = re.fullmatch(date_regex + tail_regex, shown)
            if not found:
                continue
            form = date_form.format(found[1]) + (
                tail.replace(" ", "T", 1) if "T" in shown[6:12] else tail
            )
            if not date_form.startswith("%d{0}%m"):
                return [form]
            first, second = (int(part) for part in re.split(r"\D", shown)[:2])
            swapped = form.replace("%d", "%_").replace("%m", "%d").replace("%_", "%m")
            # With points between them, the day is first everywhere.
            if first > 12 or (found[1] == "." and second <= 12):
                return [form]
            return [swapped] if second > 12 else [form, swapped]
    return []


def _mend(text: bytes, reason: str, but: str = "") -> str:
    """The reason why a text is no timestamp, and what to set."""
    forms = [form for form in likely_forms(text) if form != but]
    if "ambiguous" in reason:
        remedy = f"set TIMESTAMP_FORMAT={quoted(forms[0])}" if forms else _UNIT_OR_DAY
        return f"{reason}, or {remedy}"
    if len(forms) == 2:
        return (
            f"{reason}: day or month first? set TIMESTAMP_FORMAT={quoted(forms[0])} or "
            f"TIMESTAMP_FORMAT={quoted(forms[1])}"
        )
    if forms:
        return f"{reason}: set TIMESTAMP_FORMAT={quoted(forms[0])}"
    if re.fullmatch(rb"\d\d?:\d\d(?::\d\d(?:\.\d{1,9})?)?", text):
        return f"{reason}: a time without its day: set DATA_DATE=YYYY-MM-DD"
    return reason if but or reason != "not a timestamp" else _SAID
