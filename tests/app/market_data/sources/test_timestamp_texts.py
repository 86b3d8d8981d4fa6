"""Timestamps of any form: the right time, or a refusal with the setting that mends it."""

import re
import shlex
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.market_data.sources.timestamp_texts import UNITS, TimestampReader, likely_forms
from app.model.timestamps import format_timestamp, parse_timestamp

NS = 10**9
MOMENTS = st.datetimes(datetime(1974, 1, 1), datetime(2099, 1, 1))
FORMS = [
    "%Y-%m-%d %H:%M:%S.%f", "%d/%m/%Y %H:%M:%S.%f", "%m/%d/%Y %I:%M:%S.%f %p", "%Y%m%d %H%M%S.%f",
    "%d.%m.%Y %H:%M:%S,%f", "%d-%b-%Y %H:%M:%S.%f", "%b %d, %Y %H:%M:%S.%f", "%Y%m%dT%H:%M:%S.%f",
    "%y-%m-%d %H:%M:%S.%f",
]  # fmt: skip


def ns_of(moment: datetime) -> int:
    delta = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * NS + delta.microseconds * 1000


def check(reader: TimestampReader, texts: list[str], expected: list[int]) -> None:
    """One by one and as a column, the times are as expected."""
    encoded = [text.encode() for text in texts]
    for text, ns in zip(encoded, expected, strict=True):
        assert reader.one(text)[0] == ns
    lengths = np.array([len(text) for text in encoded], np.int64)
    data = np.frombuffer(b",".join(encoded) + b"," + bytes(64), np.uint8)
    event_ns, as_is, known = reader.columns(data, np.cumsum(lengths + 1) - lengths - 1, lengths)
    assert not (as_is & known).any()
    for row in np.flatnonzero(as_is | known):
        assert event_ns[row] == expected[row]
    for row in np.flatnonzero(as_is):
        assert reader.one(encoded[row])[1] == encoded[row]


@settings(deadline=None)
@given(st.sampled_from(FORMS), st.lists(MOMENTS, min_size=1, max_size=5))
def test_a_pattern_reads_what_strftime_writes(form: str, moments: list[datetime]) -> None:
    if "%y" in form:
        moments = [moment.replace(year=2000 + moment.year % 69) for moment in moments]
        moments = [moment.replace(day=min(moment.day, 28)) for moment in moments]
    texts = [moment.strftime(form) for moment in moments]
    check(TimestampReader(form), texts, [ns_of(moment) for moment in moments])


@pytest.mark.parametrize("form", [form for form in FORMS if "%y" not in form])
def test_the_form_is_guessed_from_one_text(form: str) -> None:
    moment = datetime(2025, 10, 31, 14, 30, 15, 250000)
    text = moment.strftime(form)
    if "," in form[-3:] or form.startswith("%Y-"):
        return
    for guess in likely_forms(text.encode()):
        assert TimestampReader(guess).one(text.encode())[0] == ns_of(moment)
    assert likely_forms(text.encode()), text


@settings(deadline=None)
@given(st.sampled_from(sorted(UNITS)), st.lists(MOMENTS, min_size=1, max_size=5))
def test_numbers_need_no_unit(unit: str, moments: list[datetime]) -> None:
    """Except where two units would both give a possible year, which they never do."""
    times = [ns_of(moment) // UNITS[unit] for moment in moments]
    texts, expected = [str(time) for time in times], [time * UNITS[unit] for time in times]
    check(TimestampReader(), texts, expected)
    check(TimestampReader(unit), texts, expected)


@settings(deadline=None)
@given(
    st.lists(MOMENTS, min_size=1, max_size=5),
    st.sampled_from(["+00:00", "-04:00", "+05:30", "-18:00", "+18:59", " +01:00", "Z", "+0200"]),
    st.sampled_from(["", "%H:%M:%S", "%H:%M:%S.%f"]),
)
def test_zones_and_dates(moments: list[datetime], zone: str, form: str) -> None:
    texts = [moment.strftime(f"%Y-%m-%d {form}").strip() + zone * bool(form) for moment in moments]
    expected = [parse_timestamp(text.encode())[0] for text in texts]
    check(TimestampReader(), texts, expected)


def test_zones_at_the_limits_and_none() -> None:
    for text in ("1678-01-01 00:00:00+00:01", "2261-12-31 23:59:59-01:00"):
        with pytest.raises(ValueError, match="outside the years"):
            TimestampReader().one(text.encode())
    texts = ["1678-01-01 00:00:00-01:00", "2261-12-31 23:59:59+01:00", "2025-10-01 09:30:00-04:00"]
    check(TimestampReader(), texts, [parse_timestamp(text.encode())[0] for text in texts])
    for text in ("2025-10-01 09:30:00+19:00", "2025-10-01 09:30:00+01:60", "2025-10-01+01:0"):
        data = np.frombuffer(text.encode() + bytes(64), np.uint8)
        columns = TimestampReader().columns(data, np.zeros(1, np.int64), np.array([len(text)]))
        assert not columns[1].any()
        assert not columns[2].any()


@settings(deadline=None)
@example(35350801, 35350801)
@given(st.integers(0, 86_399_999), st.integers(2 * 3_600_000, 86_399_999))
def test_a_number_within_a_day_is_never_a_day_in_1970(ms: int, from_2: int) -> None:
    """Microseconds of the first hour are possible seconds since 1970: nobody can tell."""
    for number in (ms // 1000, ms, from_2 * 1000, from_2 * 10**6):
        with pytest.raises(ValueError, match=r"TIMESTAMP_FORMAT|DATA_DATE"):
            TimestampReader().one(str(number).encode())
    midnight = ns_of(datetime(2025, 10, 1))
    check(TimestampReader("", "2025-10-01"), [str(ms)], [midnight + ms * 10**6])
    check(TimestampReader("us", "2025-10-01"), [str(ms * 1000)], [midnight + ms * 10**6])
    text = format_timestamp(midnight + ms * 10**6)[11:].decode()
    check(TimestampReader("", "2025-10-01"), [text], [midnight + ms * 10**6])


def test_seconds_since_midnight_with_a_fraction() -> None:
    midnight = ns_of(datetime(2025, 10, 1))
    check(TimestampReader("s", "2025-10-01"), ["34200.017459617"], [midnight + 34_200_017_459_617])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("31/10/2025", "set TIMESTAMP_FORMAT=%d/%m/%Y"),
        ("10/31/2025 09:30", "set TIMESTAMP_FORMAT='%m/%d/%Y %H:%M'"),
        ("31.10.2025 09:30:00.5", "set TIMESTAMP_FORMAT='%d.%m.%Y %H:%M:%S.%f'"),
        ("10-31-25", "set TIMESTAMP_FORMAT=%m-%d-%y"),
        ("2025/10/31 09:30:00", "set TIMESTAMP_FORMAT='%Y/%m/%d %H:%M:%S'"),
        ("2025-10-31 09:30", "set TIMESTAMP_FORMAT='%Y-%m-%d %H:%M'"),
        ("20251031", "ambiguous: write the date as YYYY-MM-DD, or set TIMESTAMP_FORMAT=%Y%m%d"),
        ("20251031 093000", "set TIMESTAMP_FORMAT='%Y%m%d %H%M%S'"),
        ("31 Oct 2025", "set TIMESTAMP_FORMAT='%d %b %Y'"),
        ("Oct 31, 2025", "set TIMESTAMP_FORMAT='%b %d, %Y'"),
        ("10/31/2025 09:30:00 AM", "set TIMESTAMP_FORMAT='%m/%d/%Y %I:%M:%S %p'"),
    ],
)
def test_the_mend_of_one_text_works(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"not a timestamp|ambiguous") as caught:
        TimestampReader().one(text.encode())
    assert str(caught.value).endswith(reason)
    setting = shlex.split(re.findall(r"TIMESTAMP_FORMAT=(.*)$", str(caught.value))[0])[0]
    ns, wire = TimestampReader(setting).one(text.encode())
    assert wire.startswith(b"2025-10-31")
    assert format_timestamp(ns) == wire


@pytest.mark.parametrize(
    ("form", "day", "text", "reason"),
    [
        ("", "", "01/10/2025", "day or month first? set TIMESTAMP_FORMAT=%d/%m/%Y or "
         "TIMESTAMP_FORMAT=%m/%d/%Y"),
        ("", "", "09:30:00", "a time without its day: set DATA_DATE=YYYY-MM-DD"),
        ("", "", "yesterday", "known are 2025-10-01, 2025-10-01 09:30:00.25 with T, Z or +02:00"),
        ("", "", "34200000", "as a number since 1970 it would be 1971-01-31 20:00:00: set"),
        ("", "", "45931.5", "as a number since 1970 it would be 1970-01-01 12:45:31.500: set"),
        ("", "", "4102444800", "it would be 2100-01-01 00:00:00: set TIMESTAMP_FORMAT"),
        ("", "2025-10-01", "86400000", "not within a day in ms: set TIMESTAMP_FORMAT to its unit"),
        ("", "2025-10-01", "-1", "not within a day in ms"),
        ("", "2025-10-01", "24:00:00", "not a timestamp: hour must be in 0..23"),
        ("", "2025-10-01", "noon", "with DATA_DATE, a time is HH:MM:SS or milliseconds"),
        ("ms", "", "2025-10-01", "not a number, as TIMESTAMP_FORMAT=ms says"),
        ("ns", "", "1.5", "finer than a nanosecond"),
        ("s", "", "99999999999999", "outside the years 1678 to 2261"),
        ("%d/%m/%Y", "", "10/31/2025", "not a timestamp: month must be in 1..12"),
        ("%d/%m/%Y", "", "2025/10/31", "not of the form TIMESTAMP_FORMAT=%d/%m/%Y: set "
         "TIMESTAMP_FORMAT=%Y/%m/%d"),
        ("%d/%m/%Y", "", "x", "not of the form TIMESTAMP_FORMAT=%d/%m/%Y"),
        ("%d/%m/%Y %I %p", "", "01/10/2025 13 PM", "no such hour"),
        ("%d %b %Y", "", "01 Foo 2025", "not a timestamp: month must be in 1..12"),
        ("%d/%m/%Y", "", "", "missing"),
    ],
)  # fmt: skip
def test_refused(form: str, day: str, text: str, reason: str) -> None:
    reader = TimestampReader(form, day)
    with pytest.raises(ValueError, match=re.escape(reason)):
        reader.one(text.encode())
    encoded = text.encode()
    data = np.frombuffer(encoded + bytes(64), np.uint8)
    _, as_is, known = reader.columns(data, np.zeros(1, np.int64), np.array([len(encoded)]))
    assert not as_is.any()
    assert not known.any()


@pytest.mark.parametrize(
    ("form", "day", "reason"),
    [
        ("%H:%M", "", "TIMESTAMP_FORMAT='%H:%M': has no year, month and day: set DATA_DATE"),
        ("%d/%m", "", "has no year, month and day"),
        ("%Q", "", "%Q is unknown or repeated; known are s, ms, us, ns"),
        ("%d/%d/%Y", "", "%d is unknown or repeated"),
        ("%", "", "% is unknown or repeated"),
        ("seconds", "", "must be s, ms, us, ns, or a pattern such as"),
        ("", "2025-02-30", "DATA_DATE=2025-02-30: not a timestamp: day"),
    ],
)
def test_settings_that_make_no_sense(form: str, day: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        TimestampReader(form, day)


@settings(deadline=None)
@given(
    st.binary(max_size=40), st.sampled_from(["", "ms", *FORMS]), st.sampled_from(["", "2025-10-01"])
)
def test_any_bytes_are_read_or_refused(text: bytes, form: str, day: str) -> None:
    try:
        ns, wire = TimestampReader(form, day).one(text)
    except ValueError:
        return
    assert parse_timestamp(wire) == (ns, wire)
