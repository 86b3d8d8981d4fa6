"""Short runs of the tools that measure for longer, and what the containers' runner installs."""

from pathlib import Path

import pytest

from tests.chaos.soak import soak
from tests.chaos.stopped_strategy import RING_TICKS, measure
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

SECONDS = 5.0


@pytest.mark.parametrize(
    ("seconds", "rings"),
    [(15.0, 2), pytest.param(120.0, 20, marks=(pytest.mark.slow, pytest.mark.timeout(240)))],
)
def test_memory_stays_flat_and_no_tick_is_lost(tmp_path: Path, seconds: float, rings: int) -> None:
    """At 50,000 ticks a second."""
    found = soak(tmp_path, seconds, 50_000, seconds / 6)
    print(found)
    # Buffers have been filled many times; how fast depends on what else the machine does.
    assert found.ticks > rings * RING_TICKS
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


def test_examples_run_in_containers_with_the_same_packages_as_here() -> None:
    """Else a difference between them could be pandas', not the stack's."""
    wanted = (ROOT / "tests/chaos/compose/examples.txt").read_text().splitlines()
    pinned = {
        line.split()[0] for line in (ROOT / "requirements.lock").read_text().split("\n") if line
    }
    packages = [line for line in wanted if not line.startswith("#")]
    assert packages
    assert set(packages) <= pinned
