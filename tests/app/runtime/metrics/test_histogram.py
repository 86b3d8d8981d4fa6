"""Buckets and percentiles against numpy, brute force, and the hdrhistogram package."""

import io
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.runtime.metrics.histogram import (
    Histogram,
    HistogramSnapshot,
    highest_of,
    index_of,
    lowest_of,
)
from app.runtime.metrics.layout import BUCKET_SLOTS, HIGHEST_VALUE_NS

VALUES = st.one_of(
    st.integers(0, HIGHEST_VALUE_NS),
    st.integers(0, 40).map(lambda bits: (1 << bits) - 1),
    st.integers(0, 39).map(lambda bits: 1 << bits),
    st.integers(0, 1000),
)
PERCENTILES = (0.0, 1.0, 10.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0)


def new_histogram() -> Histogram:
    return Histogram(memoryview(bytearray(BUCKET_SLOTS * 8)).cast("Q"))


def recorded(values: list[int]) -> HistogramSnapshot:
    histogram = new_histogram()
    for value in values:
        histogram.record(value)
    return histogram.snapshot()


def test_buckets_cover_the_range_without_gaps_or_overlaps():
    assert lowest_of(0) == 0
    assert highest_of(BUCKET_SLOTS - 1) == HIGHEST_VALUE_NS
    for index in range(BUCKET_SLOTS - 1):
        assert highest_of(index) + 1 == lowest_of(index + 1)
        assert index_of(lowest_of(index)) == index_of(highest_of(index)) == index


def test_a_bucket_is_at_most_1_128th_as_wide_as_its_values():
    for index in range(BUCKET_SLOTS):
        width = highest_of(index) - lowest_of(index) + 1
        assert width == 1 or width * 128 <= lowest_of(index)


@given(VALUES)
def test_record_counts_in_the_bucket_of_the_value(value: int):
    snapshot = recorded([value])
    assert list(np.flatnonzero(snapshot.counts)) == [index_of(value)]
    assert snapshot.min <= value <= snapshot.max


@pytest.mark.parametrize(
    ("value", "index"), [(-1, 0), (-(1 << 50), 0), (HIGHEST_VALUE_NS + 1, -1), (1 << 70, -1)]
)
def test_values_outside_the_range_go_into_the_nearest_bucket(value: int, index: int):
    snapshot = recorded([value])
    assert snapshot.total == 1
    assert snapshot.counts[index] == 1


def test_an_empty_histogram_returns_zero():
    snapshot = recorded([])
    assert (snapshot.total, snapshot.min, snapshot.max, snapshot.percentile(50)) == (0, 0, 0, 0)
    assert snapshot.mean_and_deviation() == (0.0, 0.0)
    assert snapshot.to_hgrm().count("\n") == 5


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_percentiles_agree_with_numpy_within_a_bucket(seed: int):
    values = np.random.default_rng(seed).lognormal(11, 1.5, 20_000).astype(np.int64)
    snapshot = recorded(values.tolist())
    for percent in (50, 90, 99, 99.9, 100):
        below = np.percentile(values, percent, method="lower")
        above = np.percentile(values, percent, method="higher")
        assert below <= snapshot.percentile(percent) <= above * (1 + 1 / 128) + 1
    mean, deviation = snapshot.mean_and_deviation()
    assert mean == pytest.approx(values.mean(), rel=0.01)
    assert deviation == pytest.approx(values.std(), rel=0.01)


def test_sum_and_difference_of_snapshots():
    first, second = recorded([5, 5, 700]), recorded([700, 9_000_000])
    both = first + second
    assert both.total == 5
    assert both.max == second.max
    assert np.array_equal((both - first).counts, second.counts)
    assert (first - both).total == 0


def test_numpy_view_writes_the_same_buckets():
    histogram = new_histogram()
    histogram.record(1000)
    histogram.buckets[index_of(1000)] += np.uint64(2)
    assert histogram.snapshot().total == 3


def their_histogram(values: list[int]):
    hdrh = pytest.importorskip("hdrh.histogram", reason="the hdrhistogram package is not installed")
    theirs = hdrh.HdrHistogram(1, HIGHEST_VALUE_NS, 2)
    for value in values:
        assert theirs.record_value(value)
    return theirs


@pytest.mark.medium
@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=40))
def test_counts_and_percentiles_equal_hdrhistogram(values: list[int]):
    ours, theirs = recorded(values), their_histogram(values)
    assert theirs.counts_len == BUCKET_SLOTS
    assert [theirs.get_count_at_index(i) for i in range(BUCKET_SLOTS)] == ours.counts.tolist()
    for percent in PERCENTILES:
        assert ours.percentile(percent) == theirs.get_value_at_percentile(percent)
    mean, deviation = ours.mean_and_deviation()
    assert mean == pytest.approx(theirs.get_mean_value())
    assert deviation == pytest.approx(theirs.get_stddev(), rel=1e-6, abs=1e-3)


def test_hgrm_export_has_the_lines_of_hdrhistogram():
    generator = random.Random(8)
    values = [int(generator.lognormvariate(11, 1)) for _ in range(3000)]
    output = io.BytesIO()
    their_histogram(values).output_percentile_distribution(output, 1000)
    ours = recorded(values).to_hgrm(unit_ns=1000)

    header = re.compile(r"\s+Value\s+Percentile\s+TotalCount 1/\(1-Percentile\)")
    assert header.match(ours)
    assert ours.splitlines()[:2] == output.getvalue().decode().splitlines()[:2]
    # The package's steps toward 100 % differ (it omits a rounding of the Java original), so this
    # compares the curve: the value at each cumulative count that both list.
    mine, theirs = curve(ours), curve(output.getvalue().decode())
    common = mine.keys() & theirs.keys()
    assert len(common) > 15
    assert all(mine[count] == theirs[count] for count in common)
    assert max(mine) == max(theirs) == len(values)
    assert f"Total count    = {len(values):12d}]" in ours


def curve(text: str) -> dict[int, float]:
    rows = [line.split() for line in text.splitlines()[2:] if not line.startswith("#")]
    return {int(count): float(value) for value, _, count, *_ in rows}


def test_hgrm_levels_halve_the_remaining_distance_every_five_lines():
    lines = recorded(list(range(100_000))).to_hgrm().splitlines()[2:]
    levels = [float(line.split()[1]) for line in lines if not line.startswith("#")]
    assert levels[:7] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55])
    assert levels[-1] == 1.0
    assert levels == sorted(levels)


@given(st.lists(VALUES, min_size=1, max_size=60))
def test_each_hgrm_line_has_the_count_of_values_up_to_its_value(values: list[int]):
    for line in recorded(values).to_hgrm().splitlines()[2:]:
        if not line.startswith("#"):
            value, share, count, *_ = line.split()
            below = sum(one <= float(value) for one in values)
            assert below == int(count)
            assert below >= float(share) * len(values) - 1e-6
