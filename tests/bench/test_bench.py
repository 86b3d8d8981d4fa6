"""The benchmark itself: its statistics, its input files, its processes, its report."""

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.runtime.placement import parse_cpus
from tests.bench.harness import run_all, verdict
from tests.bench.model import (
    POINTS,
    Absent,
    Comparison,
    Context,
    Figures,
    Goal,
    Placement,
    Ratio,
    Subject,
    percentiles_us,
)
from tests.bench.peers import least_python
from tests.bench.results import report
from tests.bench.results.progress import Progress
from tests.bench.subjects import floor, ticks
from tests.bench.subjects.processes import Link, Role, RoleFailed, run_roles

NEEDS_COMPILER = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture
def context(tmp_path: Path) -> Context:
    (tmp_path / "work").mkdir()
    return Context(True, tmp_path / "data", tmp_path / "work")


def test_percentiles_are_nearest_rank() -> None:
    figures = percentiles_us("x", [i * 1000 for i in range(1, 101)])
    assert figures["x_us_p1"] == 1
    assert figures["x_us_p50"] == 50
    assert figures["x_us_p99"] == 99
    assert figures["x_us_p99_9"] == figures["x_us_max"] == 100
    assert percentiles_us("x", [7000]) == {f"x_us_{point}": 7.0 for point, _ in POINTS}


def test_price_and_frame_files_hold_the_same_ticks(tmp_path: Path) -> None:
    rows = ticks.price_file(tmp_path, 5_000, 100).read_bytes().splitlines()[1:]
    frames = ticks.frame_file(tmp_path, 5_000, 100).read_bytes().split(b"*")
    assert [field for row in rows for field in row.split(b",")] == frames[:-1]
    assert len(rows) == 5_000
    assert {row.split(b",")[1].decode() for row in rows} == set(ticks.symbol_names(100))
    assert all(0 < float(row.split(b",")[2]) < 9e9 for row in rows)


def test_files_are_reproducible(tmp_path: Path) -> None:
    first = ticks.price_file(tmp_path / "a", 3_000, 10).read_bytes()
    assert first == ticks.price_file(tmp_path / "b", 3_000, 10).read_bytes()


def test_rising_prices_rise(tmp_path: Path) -> None:
    rows = ticks.price_file(tmp_path, 2_000, 10, rising=True).read_text().splitlines()[1:]
    prices = [float(row.split(",")[2]) for row in rows]
    assert all(low < high for low, high in itertools.pairwise(prices))


@pytest.mark.medium
def test_subjects_take_turns_and_ratios_stay_within_a_round(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    turns: list[str] = []
    values = {"a": iter([2.0, 30.0, 8.0]), "b": iter([1.0, 10.0, 2.0])}

    def measure(name: str) -> Callable[[Context], Figures]:
        def run(_: Context) -> Figures:
            turns.append(name)
            return {"x": next(values[name])}

        return run

    def missing(_: Context) -> Figures:
        raise Absent("not installed")

    ratio, goal = Ratio("x", "a", "b", at_least=3), Goal("x", "b", at_most=1)
    comparison = Comparison(
        "test",
        "Test",
        (Subject("a", measure("a")), Subject("b", measure("b")), Subject("c", missing)),
        ("x",),
        (ratio,),
        (goal,),
    )
    with Progress() as progress:
        (result,) = run_all([comparison], context, 3, progress)
    assert turns == ["a", "b"] * 3
    spread = result.ratio(ratio)
    assert spread
    assert (spread.median, spread.low, spread.high) == (3, 2, 4)
    assert verdict(ratio, spread) == "met"
    assert verdict(goal, result.subjects["b"].spread("x")) == "missed"
    assert result.subjects["c"].absent == "not installed"
    text = report.write(context.work_dir, [result], {"machine": "m"}, quick=True)
    assert "| a / b | `x` | 3 (2 to 4) | at least 3 | met |" in text
    assert "absent: not installed" in text
    stored = json.loads((context.work_dir / "results.json").read_text())
    assert stored["comparisons"]["test"]["subjects"]["a"]["rounds"][1] == {"x": 30.0}
    assert capsys.readouterr().out.count("\n") == 9


def _raise(link: Link) -> None:
    raise ValueError("no such tick")


def _wait(link: Link) -> None:
    link.meet()


@pytest.mark.medium
def test_a_role_that_fails_ends_the_others() -> None:
    with pytest.raises(RoleFailed, match="no such tick"):
        run_roles([Role(_wait), Role(_raise)], timeout_s=20)


def test_cpu_lists() -> None:
    assert parse_cpus("0-2,5") == {0, 1, 2, 5}
    assert parse_cpus("") == set()


@pytest.mark.medium
@NEEDS_COMPILER
def test_floor_answers_every_tick(context: Context) -> None:
    figures = floor.chain(context, Placement("anywhere"), commit=True)
    assert 0 < figures["recv_to_ack_us_p50"] <= figures["recv_to_ack_us_max"]
    assert figures["commit_us_p50"] < figures["recv_to_ack_us_p50"]
    assert figures["scheduled_to_ack_us_p50"] > figures["recv_to_ack_us_p50"]


@pytest.mark.medium
@pytest.mark.parametrize("stored", [True, False])
def test_the_least_python_answers_every_tick_and_leaves_nothing(
    context: Context, stored: bool
) -> None:
    before = set(Path("/dev/shm").iterdir())
    figures = least_python.chain(context, Placement("anywhere"), stored)
    assert 0 < figures["recv_to_ack_us_p50"] < figures["scheduled_to_ack_us_p50"]
    assert not [path for path in set(Path("/dev/shm").iterdir()) - before if "least_" in path.name]


@NEEDS_COMPILER
def test_floor_moves_all_bytes(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "FRAME_ROWS", 10_000)
    figures = floor.bandwidth(context, 10)
    assert figures["bytes_per_s"] / figures["ticks_per_s"] == pytest.approx(33, abs=2)
