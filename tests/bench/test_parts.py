"""The parts of the benchmark: what is run, what is kept from earlier runs, how long it takes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.__main__ import REPEATS, main
from tests.bench.cases import parts
from tests.bench.harness import run_all
from tests.bench.model import Comparison, Context, Figures, Ratio, Subject
from tests.bench.results import report
from tests.bench.results.progress import Progress
from tests.bench.results.stored import merge

HERE = {"machine": "m", "kernel": "k", "python": "p", "order store on": "ext4", "date": "today"}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    (tmp_path / "work").mkdir()
    return Context(False, tmp_path / "data", tmp_path / "work")


def _comparison(name: str, *values: float | None, subject: str = "a") -> Comparison:
    """A comparison of two subjects; a round of the first without a value fails."""
    left = iter(values)

    def run(_: Context) -> Figures:
        value = next(left)
        if value is None:
            raise ValueError("broken")
        return {"x": value}

    subjects = (Subject(subject, run), Subject("one", lambda _: {"x": 1.0}))
    return Comparison(name, name.title(), subjects, ("x",), (Ratio("x", subject, "one"),))


def _measure(context: Context, comparison: Comparison, rounds: int) -> None:
    """Run one comparison and write it beside what is there."""
    with Progress() as progress:
        results = run_all([comparison], context, rounds, progress)
    results[0].measured = {"commit": f"of {comparison.name}"}
    known = [_comparison("first"), _comparison("second")]
    whole = merge(context.work_dir, known, results, HERE, quick=False)
    report.write(context.work_dir, whole, HERE, quick=False)


def test_parts_that_are_run_one_at_a_time_become_one_table(context: Context) -> None:
    _measure(context, _comparison("second", 2.0, None, 4.0), 3)
    _measure(context, _comparison("first", 7.0), 1)
    text = (context.work_dir / "results.md").read_text()
    assert text.index("## First") < text.index("commit: of first") < text.index("## Second")
    assert text.index("## Second") < text.index("commit: of second")
    assert "| a / one | `x` | 3 (2 to 4) |" in text
    assert "| a / one | `x` | 7 |" in text
    assert "Failed: a, round 2: ValueError: broken" in text


def test_a_comparison_that_is_run_again_replaces_the_former(context: Context) -> None:
    _measure(context, _comparison("first", 7.0), 1)
    _measure(context, _comparison("first", 9.0), 1)
    stored = json.loads((context.work_dir / "results.json").read_text())
    assert stored["comparisons"]["first"]["subjects"]["a"]["rounds"] == [{"x": 9.0}]


@pytest.mark.parametrize(
    ("known", "machine", "quick"),
    [
        (_comparison("first"), HERE | {"machine": "another"}, False),
        (_comparison("first"), HERE, True),
        (_comparison("first", subject="a 2.0"), HERE, False),
        (_comparison("renamed"), HERE, False),
    ],
    ids=["machine", "quick", "version", "name"],
)
def test_what_cannot_stand_beside_the_new_results_is_dropped(
    context: Context, known: Comparison, machine: dict[str, str], quick: bool
) -> None:
    _measure(context, _comparison("first", 7.0), 1)
    assert merge(context.work_dir, [_comparison("first")], [], HERE, quick=False)
    assert merge(context.work_dir, [known], [], machine, quick) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"quick": false, "machine": 3}', "\0"])
def test_a_file_that_is_no_result_is_no_obstacle(context: Context, text: str) -> None:
    (context.work_dir / "results.json").write_text(text)
    assert merge(context.work_dir, [_comparison("first")], [], HERE, quick=False) == []


def test_each_comparison_is_in_one_part_that_takes_less_than_six_minutes() -> None:
    names = [each.name for part in parts() for each in part.comparisons]
    assert len(set(names)) == len(names)
    for part in parts():
        assert sum(each.seconds(REPEATS) for each in part.comparisons) < 360, part.name


def test_the_list_names_the_parts_and_their_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    text = capsys.readouterr().out
    for part in parts():
        assert f"\n{part.name} " in f"\n{text}"
        assert all(f"    {each.name} " in text for each in part.comparisons)
    assert text.count(" min  ") == len(parts())


def test_an_unknown_part_is_refused_with_those_that_exist() -> None:
    with pytest.raises(SystemExit, match=r"--part order: unknown; known: ticks, orders"):
        main(["--part", "order"])


def test_the_time_left_follows_how_long_the_steps_took(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now: Callable[[], float] = iter([100.0, 120.0, 120.0, 180.0, 180.0]).__next__
    monkeypatch.setattr("tests.bench.results.progress.time.monotonic", now)
    progress = Progress()
    progress.start(3, 40.0)
    progress.step("a", 10.0)  # took 20 s, twice as long as expected; 30 s more are
    progress.step("b", 20.0)
    assert capsys.readouterr().out.splitlines() == [
        "[  1/3   20 s, 60 s left] a",
        "[  2/3   80 s, 27 s left] b",
    ]
