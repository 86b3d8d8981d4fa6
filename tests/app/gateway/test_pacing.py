"""Schedules: exact, without drift, independent of earlier calls."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.gateway.pacing import NS_PER_S, EventTimePace, Pace, RatePace, make_pace
from tests.support.feed_helpers import make_feed, write_ticks

NOW = 123_456_789_012_345


@given(st.fractions(Fraction(1, 100), 10**7, max_denominator=1000), st.integers(0, 10**12))
def test_rate_is_exact(rate: Fraction, seq: int) -> None:
    pace = RatePace(rate)
    pace.begin(seq, NOW)
    assert pace.due(NOW) == seq + 1
    for ahead in (1, 2, 3, 1000, 10**6, 10**9 + 7):
        due_ns = pace.due_ns(seq + ahead)
        # The first nanosecond at which the tick is due; no drift at any distance.
        assert due_ns - 1 < NOW + ahead * NS_PER_S / rate <= due_ns
        assert pace.due(due_ns) >= seq + ahead + 1
        assert pace.due(due_ns - 1) <= seq + ahead


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    factor=st.fractions(Fraction(1, 100), 10**5, max_denominator=1000),
    replay=st.sampled_from(["once", "loop", "walk"]),
    first=st.integers(0, 500),
)
def test_event_time_is_exact(tmp_path: Path, factor: Fraction, replay: str, first: int) -> None:
    feed = make_feed(write_ticks(tmp_path / "feed.csv", 300), replay=replay)
    end = min(feed.total, 900)
    first = min(first, end - 1)
    pace = EventTimePace(factor, feed)
    pace.begin(first, NOW)
    seq = pace.due(NOW)
    assert seq > first
    while seq < end:
        due_ns = pace.due_ns(seq)
        block, begun = feed.block_at(seq), feed.block_at(first)
        ahead = int(block.event_ns[seq - block.first]) - int(begun.event_ns[first - begun.first])
        assert due_ns - 1 < NOW + ahead / factor <= due_ns
        assert pace.due(due_ns - 1) == seq
        seq = pace.due(due_ns)


def test_event_time_ends_with_the_run(tmp_path: Path) -> None:
    feed = make_feed(write_ticks(tmp_path / "feed.csv", 10))
    pace = EventTimePace(Fraction(1), feed)
    pace.begin(0, NOW)
    assert pace.due(NOW + 100 * NS_PER_S) == 10
    pace.begin(10, NOW)
    assert pace.due(NOW) == 10


@pytest.mark.parametrize(
    ("text", "kind"),
    [("max", None), ("1000/s", RatePace), ("0.5/s", RatePace), ("60x", EventTimePace)],
)
def test_setting(tmp_path: Path, text: str, kind: type[Pace] | None) -> None:
    pace = make_pace(text, make_feed(write_ticks(tmp_path / "feed.csv", 4)))
    assert (pace is None) if kind is None else isinstance(pace, kind)
    if isinstance(pace, RatePace):
        pace.begin(0, NOW)
        assert pace.due_ns(1) == NOW + int(NS_PER_S / Fraction(text.removesuffix("/s")))
