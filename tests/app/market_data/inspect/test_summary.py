"""The facts about rows, against a plain reading."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.market_data.inspect.summary import duration, summarize
from tests.app.market_data.sources.text.test_shapes import load

TICKS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from("AB"), st.integers(1, 2)), min_size=1, max_size=30
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TICKS)
def test_repeated_rows(tmp_path: Path, ticks: list[tuple[int, str, int]]) -> None:
    ticks.sort(key=lambda tick: tick[0])
    body = "".join(f"2025-10-01 09:30:0{t},{s},{p}\n" for t, s, p in ticks)
    found = summarize(load(tmp_path, "timestamp,symbol,price\n" + body))
    times = Counter((t, s) for t, s, _ in ticks)
    assert found.same_time == sum(count - 1 for count in times.values())
    assert found.duplicates == sum(count - 1 for count in Counter(ticks).values())
    assert dict(found.symbols) == Counter(s for _, s, _ in ticks)


def test_gaps(tmp_path: Path) -> None:
    seconds = [0, 1, 2, 3, 4, 5, 100, 101, 200, 201, 202, 3000]
    body = "".join(f"{1759311000 + second},A,1\n" for second in seconds)
    found = summarize(load(tmp_path, "timestamp,symbol,price\n" + body))
    assert found.usual_step_ns == 10**9
    assert found.gap_count == 3
    lengths = [(gap.after_ns - gap.before_ns) // 10**9 for gap in found.gaps]
    assert lengths == [2798, 99, 95]


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0 ns"), (999, "999 ns"), (1500, "1.5 us"), (250 * 10**6, "250 ms"), (60 * 10**9, "60 s"),
     (90 * 60 * 10**9, "90 min"), (36 * 3600 * 10**9, "36 h"), (3 * 86_400 * 10**9, "3 days")],
)  # fmt: skip
def test_durations(ns: int, text: str) -> None:
    assert duration(ns) == text
