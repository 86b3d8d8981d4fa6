"""Ranges of numbers against a plain set."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.portfolio.numbers import Numbers


@given(st.lists(st.integers(1, 40), max_size=80))
def test_it_is_a_set(numbers: list[int]) -> None:
    found, twin = Numbers(), set[int]()
    for number in numbers:
        assert found.add(number) == (number not in twin)
        twin.add(number)
        assert len(found) == len(twin)
    assert {n for n in range(42) if n in found} == twin
    expected_missing = len(set(range(min(twin), max(twin) + 1)) - twin) if twin else 0
    assert found.missing == expected_missing
    ranges = list(found)
    assert {n for first, last in ranges for n in range(first, last + 1)} == twin
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(ranges))
    again = Numbers(ranges)
    assert list(again) == ranges
    assert not any(again.add(number) for number in twin)


def test_in_order_there_is_one_range() -> None:
    found = Numbers()
    assert all(found.add(number) for number in range(1, 100_001))
    assert list(found) == [(1, 100_000)]
