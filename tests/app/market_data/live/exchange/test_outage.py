"""What is said of an exchange that cannot be reached: useful lines, and few."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.market_data.live.exchange.outage import (
    NEW_REASON_S,
    REASONS_MAX,
    SAID_AGAIN_S,
    Line,
    Outage,
)


def lines_of(failures: list[tuple[float, str]], end_s: float) -> list[tuple[float, Line]]:
    """The lines of an outage, with their times; it is looked at ten times a second."""
    outage, said = Outage(0.0), []
    waiting = sorted(failures)
    for tenth in range(round(end_s * 10) + 1):
        now_s = tenth / 10
        while waiting and waiting[0][0] <= now_s:
            line = outage.failed(waiting.pop(0)[1], 3.0, now_s)
            said += [(now_s, line)] if line else []
        line = outage.still(now_s)
        said += [(now_s, line)] if line else []
    return said


def test_the_first_failure_is_said_at_once_and_then_less_and_less_often() -> None:
    said = lines_of([(float(second), "refused") for second in range(301)], 300)
    assert [at for at, _ in said] == [0, 5, 15, 35, 75, 135, 195, 255]
    assert said[0][1] == {"reason": "refused", "lost_s": 0.0, "attempts": 1, "next_try_s": 3.0}
    assert said[2][1] == {"reason": "refused", "lost_s": 15.0, "attempts": 16, "next_try_s": 3.0}


def test_an_attempt_that_hangs_is_said_too() -> None:
    said = lines_of([(0.0, "ping timeout")], 20)
    assert [at for at, _ in said] == [0, 5, 15]
    assert said[1][1] == {
        "reason": "ping timeout", "lost_s": 5.0, "attempts": 1, "next_try_s": 0.0,
    }  # fmt: skip


def test_a_new_reason_is_said_soon() -> None:
    said = lines_of([(0.0, "a"), (0.1, "b"), (0.2, "c"), (2.0, "b"), (3.5, "b")], 4)
    assert [(at, line["reason"]) for at, line in said] == [(0, "a"), (0.5, "c"), (2, "b")]


@pytest.mark.parametrize("kinds", [2, 3, 301])
def test_reasons_that_alternate_or_have_an_id_are_not_new_each_time(kinds: int) -> None:
    said = lines_of([(float(second), f"refused {second % kinds}") for second in range(301)], 300)
    new = min(kinds, REASONS_MAX)
    assert [at for at, _ in said[:new]] == [*range(new)]
    later = [at for at, _ in said[new - 1 :]]
    assert [round(b - a) for a, b in pairwise(later)] == [5, 10, 20, 40, 60, 60, 60]


def test_the_end_says_how_long_it_was() -> None:
    outage = Outage(100.0)
    assert outage.over(101.0) == {}, "nothing has failed"
    outage.failed("x", 1.0, 101.0)
    outage.failed("x", 1.0, 102.0)
    assert outage.over(102.5) == {"lost_s": 2.5, "attempts": 2}


@given(st.lists(st.tuples(st.floats(0, 60), st.sampled_from("abc")), max_size=300))
def test_no_exchange_fills_the_log(failures: list[tuple[float, str]]) -> None:
    said = lines_of(failures, 60)
    times = [at for at, _ in said]
    assert all(later - at >= NEW_REASON_S - 1e-9 for at, later in pairwise(times))
    assert bool(said) == bool(failures)
    if failures:
        last = max(at for at, _ in said)
        assert last >= 60 - SAID_AGAIN_S * 8, "nor is it silent"
        assert said[-1][1]["attempts"] <= len(failures)
