"""Event times: single values against datetime and pandas, columns against single values."""

import json
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.market_data.frame_encoder import format_timestamps
from app.market_data.sources.timestamp_columns import parse_timestamps
from app.model.timestamps import (
    MAX_EVENT_NS,
    MIN_EVENT_NS,
    format_timestamp,
    parse_timestamp,
    seconds_text,
    ts_event_ns,
    ts_text,
)

EVENT_NS = st.integers(MIN_EVENT_NS, MAX_EVENT_NS) | st.integers(
    MIN_EVENT_NS // 10**9, MAX_EVENT_NS // 10**9
).map(lambda seconds: seconds * 10**9)


def parse_column(texts: list[bytes]) -> tuple[list[int], list[bool]]:
    lengths = np.array([len(text) for text in texts], np.int64)
    data = np.frombuffer(b",".join(texts) + b"," + bytes(64), np.uint8)
    event_ns, good = parse_timestamps(data, np.cumsum(lengths + 1) - lengths - 1, lengths)
    return event_ns.tolist(), good.tolist()


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("2025-10-01", "2025-10-01 00:00:00"),
        ("2025-10-01 09:30:00", None),
        ("2025-10-01T09:30:00", None),
        ("2025-10-01 09:30:00Z", None),
        ("2025-10-01T09:30:00.1Z", None),
        ("2025-10-01 09:30:00.123456789", None),
        ("2025-10-01 09:30:00+00:00", "2025-10-01 09:30:00"),
        ("2025-10-01 09:30:00.5+02:00", "2025-10-01 07:30:00.500"),
        ("2025-10-01T09:30:00-0530", "2025-10-01 15:00:00"),
        ("2025-10-01 09:30:00 +01:00", "2025-10-01 08:30:00"),
        ("1759311000", "2025-10-01 09:30:00"),
        ("1759311000.25", "2025-10-01 09:30:00.250"),
        ("1759311000123", "2025-10-01 09:30:00.123"),
        ("1759311000123456", "2025-10-01 09:30:00.123456"),
        ("1759311000123456789", "2025-10-01 09:30:00.123456789"),
        ("0", "1970-01-01 00:00:00"),
        ("-1", "1969-12-31 23:59:59"),
        ("1900-02-28 23:59:59.999999999", None),
        ("2000-02-29", "2000-02-29 00:00:00"),
    ],
)
def test_forms(text: str, wire: str | None) -> None:
    event_ns, sent = parse_timestamp(text.encode())
    assert sent.decode() == (wire or text)
    assert event_ns == pd.Timestamp(sent.decode()).tz_localize(None).value
    assert parse_timestamp(sent) == (event_ns, sent)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2025-10-01 09:30",
        "2025-13-01",
        "2025-02-29",
        "1900-02-29 00:00:00",
        "2025-10-01 24:00:00",
        "2025-10-01 09:60:00",
        "2025-10-01 09:30:60",
        "2025-10-01 09:30:00.",
        "2025-10-01 09:30:00.1234567890",
        "2025-10-01 09:30:00+25:00",
        "2025-10-01_09:30:00",
        " 2025-10-01",
        "20251001",
        "1e9",
        "nan",
        "9" * 21,
        "1677-01-01",
        "2262-01-01",
        "99999999999",
        "0.0000000001",
        "1759311000123456789.5",
        "\uff12\uff10\uff12\uff15-10-01",
    ],
)
def test_not_a_timestamp(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_timestamp(text.encode())
    assert parse_column([text.encode()]) == ([0], [False])


@settings(deadline=None)
@given(EVENT_NS)
def test_format_is_exact_and_shortest(event_ns: int) -> None:
    text = format_timestamp(event_ns)
    assert parse_timestamp(text) == (event_ns, text)
    assert pd.Timestamp(text.decode()).value == event_ns
    assert len(text) in (19, 23, 26, 29)
    assert not text.endswith(b".000")


@settings(deadline=None)
@given(st.lists(EVENT_NS, max_size=20))
def test_column_formats_as_single_values(times: list[int]) -> None:
    matrix, lengths = format_timestamps(np.array(times, np.int64))
    texts = [bytes(row[:length]) for row, length in zip(matrix, lengths, strict=True)]
    assert texts == [format_timestamp(event_ns) for event_ns in times]


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            lambda ns, sep, digits, zone: (
                format_timestamp(ns).decode()[:19].replace(" ", sep) + digits + zone
            ).encode(),
            EVENT_NS,
            st.sampled_from(" T"),
            st.from_regex(r"(\.[0-9]{1,9})?", fullmatch=True),
            st.sampled_from(["", "Z"]),
        )
        | st.binary(max_size=32).filter(lambda text: b"," not in text)
        | st.text("0123456789-: TZ.+", max_size=31).map(str.encode),
        min_size=1,
        max_size=12,
    )
)
def test_column_parses_as_single_values(texts: list[bytes]) -> None:
    for text, event_ns, good in zip(texts, *parse_column(texts), strict=True):
        try:
            expected, wire = parse_timestamp(text)
        except ValueError:
            assert not good
            continue
        # The column parser takes exactly the wire form.
        assert good == (wire == text)
        assert event_ns == (expected if good else 0)


@settings(deadline=None)
@given(
    st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1)),
    st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_offsets_against_datetime(moment: datetime, zone: timezone) -> None:
    moment = moment.replace(tzinfo=zone)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    expected = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
    assert parse_timestamp(moment.isoformat(" ").encode())[0] == expected


@settings(deadline=None)
@given(st.integers(10**17, MAX_EVENT_NS), st.sampled_from([1, 10**3, 10**6, 10**9]))
def test_epoch_units_by_magnitude(event_ns: int, unit: int) -> None:
    whole = event_ns // unit
    assert parse_timestamp(str(whole).encode())[0] == whole * unit


@given(EVENT_NS)
def test_both_forms_of_an_orders_time_are_exact(event_ns: int) -> None:
    number = seconds_text(event_ns)
    assert Fraction(number) == Fraction(event_ns, 10**9)
    text = f'"{format_timestamp(event_ns).decode()}"'
    assert ts_event_ns(number) == ts_event_ns(text) == event_ns
    assert ts_text(number) == ts_text(text) == text[1:-1]


@pytest.mark.parametrize(
    ("ts", "event_ns"),
    [
        ("0", 0),
        ("-0", 0),
        ("1759311000", 1_759_311_000 * 10**9),
        ("1759311000.0", 1_759_311_000 * 10**9),
        ("1.759311e9", 1_759_311_000 * 10**9),
        ("1759311000.1234567890", 1_759_311_000_123_456_789),
        ('"1759311000.123456789"', 1_759_311_000_123_456_789),
        ('"2025-10-01T09:30:00.5Z"', 1_759_311_000_500_000_000),
        ('"2025-10-01"', 1_759_276_800 * 10**9),
        ('"2025-10\\u002d01"', 1_759_276_800 * 10**9),
    ],
)
def test_forms_of_an_orders_time(ts: str, event_ns: int) -> None:
    assert ts_event_ns(ts) == event_ns
    assert ts_event_ns(ts) == event_ns


@pytest.mark.parametrize(
    "ts",
    [
        "1759311000000",  # a number is in seconds, whatever its size
        "1759311000.0000000001",
        "1e300",
        "-1e300",
        "1e-300",
        "9" * 64,
        '""',
        '"yesterday"',
        '"\\ud800"',
    ],
)
def test_what_is_no_time_is_shown_as_sent(ts: str) -> None:
    assert ts_event_ns(ts) is None
    assert ts_text(ts) == (json.loads(ts) if ts.startswith('"') else ts)
