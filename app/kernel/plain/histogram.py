"""Arrays of HdrHistogram buckets."""

from typing import Any

import numpy as np
import numpy.typing as npt

from app.kernel.plain.memory import records_of


def record_latency(buckets: npt.NDArray[Any], value_ns: int, count: int = 1) -> None:
    """Add to an array of HdrHistogram buckets; a value too large goes into the last one.

    Two significant digits and a lowest value of 1: 256 sub-buckets, of which each bucket but the
    first uses half.
    """
    value = max(value_ns, 0)
    bucket = max(value.bit_length() - 8, 0)
    buckets[min((bucket << 7) + (value >> bucket), len(buckets) - 1)] += np.uint64(count)


def record_ages(buckets: npt.NDArray[Any], ticks: Any, now_ns: int) -> None:
    """Add every tick's age since its receipt, to the microsecond."""
    received, counts = np.unique(records_of(ticks)["recv_us"], return_counts=True)
    for recv_us, count in zip(received.tolist(), counts.tolist(), strict=True):
        record_latency(buckets, (now_ns // 1000 - recv_us) % 2**32 * 1000, count)
