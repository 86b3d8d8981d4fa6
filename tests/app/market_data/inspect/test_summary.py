"""The facts about rows, against a plain reading."""

import itertools
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.market_data.inspect.summary import Gap, duration, summarize
from app.market_data.storage import pieces
from app.market_data.tick_table import Rows
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


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.one_of(st.integers(0, 3), st.integers(0, 10**6), st.integers(0, 10**15)),
        min_size=1,
        max_size=40,
    ),
    draw=st.randoms(use_true_random=False),
    rows=st.integers(1, 7),
)
def test_the_facts_by_plain_counting(steps: list[int], draw: random.Random, rows: int) -> None:
    """Also where the rows are looked at a few at a time."""
    times = list(itertools.accumulate(steps))
    keys = [(draw.choice("AB"), draw.choice(["1", "1.0", "2"])) for _ in times]
    frames = [f"t*{symbol}*{price}*".encode() for symbol, price in keys]
    table = Rows(
        b"".join(frames),
        np.array([0, *itertools.accumulate(map(len, frames))], np.int64),
        np.array(times, np.int64),
        np.array(["AB".index(symbol) for symbol, _ in keys], np.int32),
        None,
        ["A", "B"],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_ROWS", rows)
        found = summarize(table)
    moves = sorted(b - a for a, b in itertools.pairwise(times) if b > a)
    usual = (moves[(len(moves) - 1) // 2] + moves[len(moves) // 2]) // 2 if moves else 0
    gaps = [Gap(a, b) for a, b in itertools.pairwise(times) if usual and b - a > 20 * usual]
    assert found.usual_step_ns == usual
    assert found.gap_count == len(gaps)
    assert found.gaps == sorted(gaps, key=lambda gap: gap.before_ns - gap.after_ns)[:3]
    named = [(time, symbol) for time, (symbol, _) in zip(times, keys, strict=True)]
    priced = list(zip(times, keys, strict=True))
    assert found.same_time == sum(each in named[:at] for at, each in enumerate(named))
    assert found.duplicates == sum(each in priced[:at] for at, each in enumerate(priced))
    assert dict(found.symbols) == {name: sum(s == name for s, _ in keys) for name in "AB"}
