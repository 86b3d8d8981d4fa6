"""Short runs of the tools that measure for longer: ``soak`` and ``stopped_strategy``."""

from pathlib import Path

import pytest

from tests.chaos.soak import soak
from tests.chaos.stopped_strategy import RING_TICKS, measure

pytestmark = pytest.mark.slow

SECONDS = 5.0


@pytest.mark.timeout(240)
def test_two_minutes_at_50000_ticks_a_second(tmp_path: Path) -> None:
    """Memory stays flat and no tick is lost."""
    found = soak(tmp_path, 120.0, 50_000, 20.0)
    print(found)
    # Enough to fill every buffer many times; how fast depends on what else the machine does.
    assert found.ticks > 20 * RING_TICKS
    # Latency needs an idle machine and more time: python -m tests.chaos.soak.
    assert found.problems(memory_growth=0.05, latency_growth=float("inf")) == []


def test_latest_keeps_the_other_running_and_counts_the_loss(tmp_path: Path) -> None:
    seen = measure(tmp_path, SECONDS, "latest")
    print(seen)
    assert seen.lost > SECONDS * 2000 - RING_TICKS
    assert seen.lost_by_the_other == 0
    assert seen.during.total > 0.3 * seen.before.total
    # p99 to within a tenth needs an idle machine; a stall would be in the median, too.
    assert seen.during.percentile(50) < 100_000_000


def test_lossless_holds_the_feed_and_loses_nothing(tmp_path: Path) -> None:
    seen = measure(tmp_path, SECONDS, "lossless")
    print(seen)
    assert seen.lost == seen.lost_by_the_other == 0
    # Both wait: the feed stops when the ring is full.
    assert seen.during.total < seen.before.total
