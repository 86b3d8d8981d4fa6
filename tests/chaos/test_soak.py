"""A short soak (tests/chaos/soak.py): memory stays flat and no tick is lost."""

from pathlib import Path

import pytest

from tests.chaos.soak import soak


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_minutes_at_50000_ticks_a_second(tmp_path: Path) -> None:
    found = soak(tmp_path, 120.0, 50_000, 20.0)
    print(found)
    assert found.ticks > 120 * 50_000 * 0.9
    # Latency needs an idle machine and more time: python -m tests.chaos.soak.
    assert found.problems(memory_growth=0.05, latency_growth=float("inf")) == []
