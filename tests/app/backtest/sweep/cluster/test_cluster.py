"""A sweep on a Dask cluster: the table of the local sweep, whatever happens to the workers."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.app.backtest.sweep.cluster.dask_cluster import DaskCluster, children, environ
from tests.app.backtest.sweep.sweeping import SAMPLE, plain, rows_of
from tests.support.children import eventually
from tests.support.paths import ROOT

pytestmark = [pytest.mark.medium, pytest.mark.timeout(240)]

BAD = ("--param", "how=well,raise,die,leave", "--param", "a=1:4", "--params", "b=3")
SLOW = ("--param", "how=well,slow", "--param", "a=1:9", "--params", "b=0.5", "--ticks", "25")
"""Half of the cells take half a second on the cluster, none on this machine."""
CELLS = 18


class Running:
    """``app sweep`` in a process group of its own."""

    def __init__(self, out: Path, *arguments: str, cwd: Path = ROOT, path: Path = ROOT) -> None:
        self.out = out
        command = [sys.executable, "-m", "app", "sweep", "--data", str(SAMPLE), "--out", str(out)]
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=cwd,
            env=environ(path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self, code: int = 0) -> tuple[str, str]:
        """Its output and errors; it must end with this exit code."""
        out, err = self.process.communicate(timeout=120)
        assert self.process.returncode == code, f"{out}\n{err}"
        return out, err

    def await_rows(self, count: int) -> None:
        """Wait until so many cells are written down."""
        path = self.out / "sweep.csv"

        def there() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            return path.read_text().count("\n") > count

        eventually(there, f"{count} rows", 60, ignore=(OSError,))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[dict[str, str]]]:
    """Arguments of a sweep that takes seconds on the cluster, and its rows."""
    folder = tmp_path_factory.mktemp("slow")
    arguments = ["--strategy", plain(folder), *SLOW]
    Running(folder / "local", *arguments, "--jobs", "2").end()
    return arguments, rows_of(folder / "local")


def profit(folder: Path) -> list[list[float]]:
    found: list[list[float]] = np.load(folder / "daily_profit.npy").tolist()
    return found


def test_the_table_is_that_of_a_local_sweep(cluster: DaskCluster, tmp_path: Path) -> None:
    """Also where cells are refused, raise, or take their process along; nothing is left."""
    arguments = ["--strategy", plain(tmp_path), *BAD, "--ticks", "2000"]
    out, err = Running(tmp_path / "far", *arguments, "--scheduler", cluster.address).end(1)
    Running(tmp_path / "local", *arguments).end(1)
    wanted = rows_of(tmp_path / "local")
    assert rows_of(tmp_path / "far") == wanted
    assert {row["status"] for row in wanted} == {"ok", "invalid", "failed", "killed"}
    assert str(profit(tmp_path / "far")) == str(profit(tmp_path / "local"))
    assert "3 ok, 4 invalid, 3 failed, 6 killed" in out
    assert "sweep: killed: b=3 how=die a=1: its process ended: signal 9 (SIGKILL)" in err
    assert "distributed" not in err
    assert cluster.cell_processes() == []
    assert cluster.scratch() == []


HELPED = """
from helper import THRESHOLD
from app.strategy import Param, Strategy


class Helped(Strategy):
    level = Param(100.0)

    def on_tick(self, tick):
        return "BUY" if tick.price < self.level * THRESHOLD else "SELL"
"""


@pytest.mark.slow
def test_a_strategy_is_sent_with_the_files_beside_it(cluster: DaskCluster, tmp_path: Path) -> None:
    """Named relative to a folder that the workers do not have."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "helped.py").write_text(HELPED)
    (folder / "helper.py").write_text("THRESHOLD = 1.1\n")
    arguments = ["--strategy", "mine/helped.py:Helped", "--param", "level=50:200:50"]
    far = Running(tmp_path / "far", *arguments, "--scheduler", cluster.address, cwd=tmp_path)
    far.end()
    Running(tmp_path / "local", *arguments, cwd=tmp_path).end()
    rows = rows_of(tmp_path / "far")
    assert rows == rows_of(tmp_path / "local")
    assert len({row["trades_hash"] for row in rows}) > 1


@pytest.mark.slow
def test_a_search_chooses_the_same_cells(cluster: DaskCluster, tmp_path: Path) -> None:
    """Its rounds use what the workers have."""
    arguments = ["--param", "short=2:20", "--param", "long=25:200:5", "--optuna", "24"]
    Running(tmp_path / "far", *arguments, "--scheduler", cluster.address).end()
    Running(tmp_path / "local", *arguments).end()
    assert rows_of(tmp_path / "far") == rows_of(tmp_path / "local")


Slow = tuple[list[str], list[dict[str, str]]]


def test_ctrl_c_ends_it_and_the_same_command_goes_on_here(
    cluster: DaskCluster, tmp_path: Path, slow: Slow
) -> None:
    arguments, wanted = slow
    running = Running(tmp_path / "far", *arguments, "--scheduler", cluster.address)
    running.await_rows(10)
    os.killpg(running.process.pid, signal.SIGINT)
    out, err = running.end(130)
    done = len(rows_of(running.out))
    assert 10 <= done < CELLS
    assert err.strip().splitlines()[-1] == (
        f"sweep: interrupted; {done} of {CELLS} cells are in {running.out}; "
        "the same command goes on"
    )
    assert out == ""
    assert cluster.cell_processes() == [], "a cell runs on"
    out, _ = Running(tmp_path / "far", *arguments).end()
    assert f"{done} of {CELLS} cells are in" in out
    assert rows_of(tmp_path / "far") == wanted


def test_a_killed_client_leaves_nothing(cluster: DaskCluster, tmp_path: Path, slow: Slow) -> None:
    running = Running(tmp_path / "far", *slow[0], "--scheduler", cluster.address)
    running.await_rows(10)
    assert len(cluster.cell_processes()) == 2
    running.process.kill()
    running.process.communicate()
    # The cells that run come to their end: Dask does not interrupt them.
    eventually(lambda: not cluster.cell_processes(), "no cell runs", 60)
    eventually(lambda: not cluster.scratch(), "no file is left", 60)


@pytest.mark.parametrize("successor", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_worker_killed_in_the_middle_changes_nothing(
    own_folder: Path, tmp_path: Path, slow: Slow, successor: bool
) -> None:
    """Its cells run again: by the other one, or by the one that Dask starts in its place."""
    arguments, wanted = slow
    with DaskCluster(own_folder, workers=0 if successor else 2) as cluster:
        if successor:
            cluster.add_worker("--nworkers", "1")
        running = Running(tmp_path / "far", *arguments, "--scheduler", cluster.address)
        running.await_rows(10)
        cell = cluster.cell_processes()[0]
        os.kill(parent(cell), signal.SIGKILL)
        out, err = running.end()
    assert f"cells: {CELLS} ok" in out
    assert rows_of(tmp_path / "far") == wanted
    # Each cell is written down once.
    assert (tmp_path / "far/sweep.csv").read_text().count("\n") == CELLS + 1
    assert "killed" not in err


def parent(pid: int) -> int:
    """Of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
def test_a_worker_that_comes_later_takes_part(own_folder: Path, tmp_path: Path, slow: Slow) -> None:
    """The sweep waits for the first, and goes on with the second when the first is killed."""
    arguments, wanted = slow
    with DaskCluster(own_folder, workers=0) as cluster:
        running = Running(tmp_path / "far", *arguments, "--scheduler", cluster.address)
        line = running.process.stderr.readline()  # type: ignore[union-attr]
        assert line == f"sweep: waiting for a worker of {cluster.address}\n"
        first = cluster.add_worker()
        running.await_rows(10)
        cluster.add_worker()
        eventually(lambda: len(cluster.cell_processes()) == 2, "both run cells", 60)
        first.kill()
        running.end()
    assert rows_of(tmp_path / "far") == wanted


def test_a_lost_scheduler_is_one_line_and_the_same_command_goes_on(
    own_folder: Path, tmp_path: Path, slow: Slow
) -> None:
    with DaskCluster(own_folder) as cluster:
        running = Running(tmp_path / "far", *slow[0], "--scheduler", cluster.address)
        running.await_rows(10)
        cluster.scheduler.kill()
        out, err = running.end(1)
        done = len(rows_of(running.out))
        assert err.strip().splitlines()[-1] == (
            f"sweep: the scheduler {cluster.address} is lost: its connection has closed; {done} of "
            f"{CELLS} cells are in {running.out}; the same command goes on"
        )
        assert "Traceback" not in err
        assert out == ""
        eventually(lambda: not cluster.cell_processes(), "no cell runs", 60)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_200_cells_on_two_workers_one_of_them_killed(own_folder: Path, tmp_path: Path) -> None:
    """The whole sample for each cell; the one that is killed is started again, as usual."""
    arguments = ["--param", "short=2:11", "--param", "long=20:210:10"]
    Running(tmp_path / "local", *arguments).end()
    wanted = rows_of(tmp_path / "local")
    assert [row["status"] for row in wanted] == ["ok"] * 200
    with DaskCluster(own_folder, workers=0) as cluster:
        cluster.add_worker("--nworkers", "1")
        cluster.add_worker("--nworkers", "1")
        eventually(lambda: len(workers_of(cluster)) == 2, "both workers", 60)
        running = Running(tmp_path / "far", *arguments, "--scheduler", cluster.address)
        running.await_rows(20)
        os.kill(workers_of(cluster)[0], signal.SIGKILL)
        out, err = running.end()
    assert "cells: 200 ok" in out
    assert "killed" not in err
    rows = rows_of(tmp_path / "far")
    assert [row["trades_hash"] for row in rows] == [row["trades_hash"] for row in wanted]
    assert rows == wanted
    assert len({row["trades_hash"] for row in rows}) > 150
    assert str(profit(tmp_path / "far")) == str(profit(tmp_path / "local"))
    assert (tmp_path / "far/sweep.csv").read_text().count("\n") == 201


def workers_of(cluster: DaskCluster) -> list[int]:
    """The processes that nannies watch."""
    pids = [pid for nanny in cluster.workers for pid in children(nanny.pid)]
    return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
