"""Cells chosen by Optuna: the same each time, all different, better than drawn ones."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from app.__main__ import main
from app.backtest.sweep import grid, search
from app.backtest.sweep.cell_run import Outcome, Status
from app.backtest.sweep.grid import Cell
from app.backtest.sweep.search import ROUND, Search
from tests.app.backtest.sweep.sweeping import Sweeps, plain

pytest.importorskip("optuna")

AXES = [grid.axis("x=1:40"), grid.axis("y=0.1:4:0.1"), grid.axis("how=a,b,c")]


def hill(cell: Cell) -> float | None:
    """Highest at x=30, y=1.0, how=b; nothing for y above 3.5."""
    x, y, how = cell.values
    if float(y) > 3.5:
        return None
    return -((int(x) - 30) ** 2) - 100 * (float(y) - 1) ** 2 - 200 * (how != "b")


def outcome_of(cell: Cell, value: float | None) -> Outcome:
    status = Status.FAILED if value is None else Status.OK
    return Outcome(cell.number, status, 0.0, profit=value)


def searched(
    count: int, seed: int = 1, of: Callable[[Cell], float | None] = hill, axes: object = AXES
) -> list[Cell]:
    """The cells of a whole search."""
    plan = Search(axes, {}, count, seed, "profit")  # type: ignore[arg-type]
    outcomes: dict[int, Outcome] = {}
    while cells := plan.next_round():
        assert len(cells) <= ROUND
        # As workers end them: in any order.
        outcomes |= {cell.number: outcome_of(cell, of(cell)) for cell in reversed(cells)}
        plan.tell(outcomes)
    return plan.cells


def best_of(cells: list[Cell]) -> float:
    return max(value for cell in cells if (value := hill(cell)) is not None)


def test_the_same_seed_and_outcomes_choose_the_same() -> None:
    assert searched(35) == searched(35)
    assert searched(35) != searched(35, seed=2)
    assert searched(35)[:ROUND] == searched(35, of=lambda _: 0.0)[:ROUND]
    assert searched(35) != searched(35, of=lambda cell: -(hill(cell) or 0.0))


def test_it_finds_more_than_as_many_drawn_cells() -> None:
    better = 0
    for seed in range(5):
        drawn = best_of(grid.cells(AXES, {}, 60, seed))
        better += best_of(searched(60, seed)) > drawn
    assert better >= 4


def test_all_cells_differ_and_are_of_the_grid() -> None:
    small = [grid.axis("x=1:5"), grid.axis("how=a,b")]
    cells = searched(8, of=lambda cell: float(cell.values[0]), axes=small)
    assert [cell.number for cell in cells] == list(range(8))
    assert len({cell.values for cell in cells}) == 8
    every = searched(1000, of=lambda cell: float(cell.values[0]), axes=small)
    assert sorted(cell.values for cell in every) == sorted(
        cell.values for cell in grid.cells(small, {})
    )
    assert {cell.text for cell in every} == {cell.text for cell in grid.cells(small, {})}


def test_cells_without_a_result_are_no_end() -> None:
    assert len(searched(25, of=lambda _: None)) == 25


@pytest.mark.medium
def test_a_sweep_is_the_same_with_any_number_of_workers_and_after_a_stop(
    sweeps: Sweeps, tmp_path: Path
) -> None:
    wanted = ["--param", "short=2:20", "--param", "long=15:80:5", "--params", "bullish=60"]
    wanted += ["--ticks", "4000", "--optuna", "24", "--seed", "3"]
    assert sweeps.run(*wanted) == 0, sweeps.err
    assert "best by profit: --params " in sweeps.out
    rows = sweeps.rows()
    assert [int(row["cell"]) for row in rows] == list(range(24))
    assert len({(row["short"], row["long"]) for row in rows}) == 24
    assert {row["status"] for row in rows} <= {"ok", "invalid"}

    file = sweeps.folder / "sweep.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:14]))  # As after a kill.
    assert sweeps.run(*wanted, "--jobs", "1") == 0
    assert "sweep: 13 of 24 cells are in" in sweeps.out
    assert sweeps.rows() == rows

    other = Sweeps(tmp_path / "other", sweeps._capture)
    assert other.run(*wanted, "--jobs", "3") == 0
    assert other.rows() == rows

    assert other.run(*wanted[:-1], "4") == 1
    assert "with choice of cells optuna " in other.err


@pytest.mark.medium
def test_cells_that_fail_are_named_and_run_again(sweeps: Sweeps, tmp_path: Path) -> None:
    wanted = ["--strategy", plain(tmp_path), "--param", "a=0:9", "--param", "how=well,raise"]
    wanted += ["--ticks", "2000", "--optuna", "15"]
    assert sweeps.run(*wanted) == 1
    rows = sweeps.rows()
    assert {row["status"] for row in rows} == {"ok", "failed"}
    assert sweeps.run(*wanted) == 1
    assert sweeps.rows() == rows


@pytest.mark.medium
def test_what_it_found_is_the_same_in_four_processes(sweeps: Sweeps) -> None:
    wanted = ["--param", "short=3:9", "--param", "long=20:60:5", "--optuna", "6", "--verify", "1"]
    assert sweeps.run(*wanted) == 0, sweeps.err
    assert "verified: short=" in sweeps.out


def test_without_the_package_one_line_says_how_to_install_it(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> object:
        if name == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
        return importlib.import_module(name)

    monkeypatch.setattr(search, "importlib", type("absent", (), {"import_module": absent}))
    assert sweeps.run("--param", "short=5:9", "--optuna", "3") == 2
    assert "install it with .venv/bin/pip install optuna" in sweeps.err
    assert sweeps.err.count("\n") == 1


def test_it_is_one_way_to_choose(sweeps: Sweeps, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--param", "short=5:9", "--optuna", "3", "--random", "2"]) == 2
    assert "--optuna chooses the cells, and so does --random" in capsys.readouterr().err
