"""A strategy that stands still, and its neighbours (long: tests.chaos.stopped_strategy)."""

from pathlib import Path

import pytest

from tests.chaos.stopped_strategy import RING_TICKS, measure

SECONDS = 5.0


@pytest.mark.slow
def test_latest_the_other_goes_on_and_the_loss_is_counted(tmp_path: Path) -> None:
    seen = measure(tmp_path, SECONDS, "latest")
    print(seen)
    assert seen.lost > SECONDS * 2000 - RING_TICKS
    assert seen.lost_by_the_other == 0
    assert seen.during.total > 0.6 * seen.before.total
    # A tenth of p99 can only be seen on a machine to itself; the median tells a stall as well.
    assert seen.during.percentile(50) < 1.5 * seen.before.percentile(50) + 500_000


@pytest.mark.slow
def test_lossless_holds_the_feed_and_loses_nothing(tmp_path: Path) -> None:
    seen = measure(tmp_path, SECONDS, "lossless")
    print(seen)
    assert seen.lost == seen.lost_by_the_other == 0
    # Both wait: the ring took what it holds and no more.
    assert seen.during.total < seen.before.total
