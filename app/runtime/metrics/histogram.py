"""Latency histograms with HdrHistogram's buckets, written by one process, read by any.

Index rule (HdrHistogram, lowest discernible value 1, two significant digits): each value below 256
has its own bucket; above that, each doubling is divided into 128 equal buckets, so a bucket's
width is at most 1/128 of its values.  With ``b = bit_length(value | 255) - 8`` the index is
``(b << 7) + (value >> b)``.

Only bucket counts are stored: total, percentiles and extremes are computed from them, and the
recorder in C increments a single word.
"""

import math

import numpy as np
import numpy.typing as npt

from app.runtime.metrics.layout import BUCKET_SLOTS, HIGHEST_VALUE_NS, SUB_BUCKET_BITS

HALF_BITS = SUB_BUCKET_BITS - 1
HALF_COUNT = 1 << HALF_BITS
SUB_BUCKET_MASK = (1 << SUB_BUCKET_BITS) - 1

Counts = npt.NDArray[np.uint64]


def index_of(value: int) -> int:
    """The bucket of ``value`` (ns), which is clamped to 0 ... 2^40 - 1."""
    value = min(max(value, 0), HIGHEST_VALUE_NS)
    shift = (value | SUB_BUCKET_MASK).bit_length() - SUB_BUCKET_BITS
    return (shift << HALF_BITS) + (value >> shift)


def lowest_of(index: int) -> int:
    """The smallest value of bucket ``index``."""
    shift = max((index >> HALF_BITS) - 1, 0)
    return (index - (shift << HALF_BITS)) << shift


def highest_of(index: int) -> int:
    """The largest value of bucket ``index``."""
    return lowest_of(index) + (1 << max((index >> HALF_BITS) - 1, 0)) - 1


class Histogram:
    """The recording side: one writer, no locks.

    ``words`` is a memoryview of :data:`BUCKET_SLOTS` unsigned 64-bit words; ``buckets`` is the same
    memory as a NumPy array, for compiled recorders.
    """

    def __init__(self, words: memoryview) -> None:
        if len(words) != BUCKET_SLOTS or words.format != "Q":
            raise ValueError(f"{BUCKET_SLOTS} words of format Q expected")
        self._words = words

    @property
    def buckets(self) -> Counts:
        """The bucket counts, uint64 ``[4352]``, writable, no copy."""
        return np.frombuffer(self._words, dtype=np.uint64)

    def record(self, value_ns: int, count: int = 1) -> None:
        """Count ``count`` equal values; outside 0 ... 2^40 - 1 they go into the nearest bucket."""
        shift = (value_ns | SUB_BUCKET_MASK).bit_length() - SUB_BUCKET_BITS
        if value_ns < 0 or value_ns > HIGHEST_VALUE_NS:
            self._words[index_of(value_ns)] += count
        else:
            self._words[(shift << HALF_BITS) + (value_ns >> shift)] += count

    def snapshot(self) -> "HistogramSnapshot":
        """A copy of the current counts."""
        return HistogramSnapshot(self.buckets.copy())

    def release(self) -> None:
        """Release the memory; recording afterwards raises ValueError."""
        self._words.release()


class HistogramSnapshot:
    """Bucket counts at one moment, with percentiles, sums and differences."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        self._cumulative = np.cumsum(counts)

    @property
    def total(self) -> int:
        """Number of recorded values."""
        return int(self._cumulative[-1])

    def percentile(self, percent: float) -> int:
        """The value that ``percent`` percent of the records do not exceed; 0 without records.

        As in HdrHistogram, it is the highest value of its bucket, so at most 1/128 too high.
        """
        if not self.total:
            return 0
        rank = max(int(min(percent, 100.0) * self.total / 100 + 0.5), 1)
        index = int(np.searchsorted(self._cumulative, rank))
        return highest_of(index) if percent else lowest_of(index)

    @property
    def max(self) -> int:
        """The highest value of the last non-empty bucket; 0 without records."""
        return self.percentile(100.0)

    @property
    def min(self) -> int:
        """The lowest value of the first non-empty bucket; 0 without records."""
        return self.percentile(0.0)

    def mean_and_deviation(self) -> tuple[float, float]:
        """Mean and standard deviation; each value counts as the middle of its bucket."""
        filled = np.flatnonzero(self.counts)
        if not len(filled):
            return 0.0, 0.0
        shifts = np.maximum((filled >> HALF_BITS) - 1, 0)
        lowest = (filled - (shifts << HALF_BITS)) << shifts
        middle = (lowest + ((1 << shifts) >> 1)).astype(np.float64)
        weights = self.counts[filled].astype(np.float64)
        mean = float(np.average(middle, weights=weights))
        variance = float(np.average((middle - mean) ** 2, weights=weights))
        return mean, variance**0.5

    def __add__(self, other: "HistogramSnapshot") -> "HistogramSnapshot":
        """The sum, e.g. of the same histogram of several processes."""
        return HistogramSnapshot(self.counts + other.counts)

    def __sub__(self, earlier: "HistogramSnapshot") -> "HistogramSnapshot":
        """The records since ``earlier``, a snapshot of the same histogram."""
        return HistogramSnapshot(self.counts - np.minimum(earlier.counts, self.counts))

    def to_hgrm(self, unit_ns: int = 1, ticks_per_half_distance: int = 5) -> str:
        """HdrHistogram's percentile distribution, in the format of its plotters (``.hgrm``).

        Values are divided by ``unit_ns`` (1000: microseconds).  The levels approach 100 % in
        ``ticks_per_half_distance`` steps per halving of the remaining distance, as in the Java
        ``PercentileIterator``.
        """
        lines = [
            f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}",
            "",
        ]
        level, reached = 0.0, 0
        while reached < self.total:
            # The first non-empty bucket at which the cumulative count reaches this level.
            index = int(np.searchsorted(self._cumulative, max(_rank(level, self.total), 1)))
            reached = int(self._cumulative[index])
            share = level / 100
            lines.append(
                f"{highest_of(index) / unit_ns:12.2f} {share:2.12f} {reached:10d} "
                f"{1 / (1 - share):14.2f}"
            )
            halvings = int(math.log2(100 / (100 - level))) + 1
            level += 100 / (ticks_per_half_distance * 2**halvings)
        if self.total:
            lines.append(f"{self.max / unit_ns:12.2f} {1:2.12f} {self.total:10d}")
        mean, deviation = self.mean_and_deviation()
        lines += [
            f"#[Mean    = {mean / unit_ns:12.2f}, StdDeviation   = {deviation / unit_ns:12.2f}]",
            f"#[Max     = {self.max / unit_ns:12.2f}, Total count    = {self.total:12d}]",
            f"#[Buckets = {BUCKET_SLOTS // HALF_COUNT - 1:12d}, SubBuckets     = "
            f"{2 * HALF_COUNT:12d}]",
        ]
        return "\n".join(lines) + "\n"


def _rank(level: float, total: int) -> int:
    """The smallest count whose share of ``total`` is at least ``level`` percent."""
    rank = int(level * total / 100)
    return rank if 100.0 * rank / total >= level else rank + 1
