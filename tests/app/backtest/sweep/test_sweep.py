"""A sweep with real workers: results, bad cells, dying workers, resuming, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from app.__main__ import main
from app.backtest import replay as backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from tests.app.backtest.sweep.sweeping import SAMPLE, Sweeps, plain, rows_of
from tests.support.environ import default_environ
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium


def test_each_cell_is_the_backtest_with_its_parameters(
    sweeps: Sweeps, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = sweeps.run("--param", "short=5:20:5", "--param", "long=10,40", "--params", "bullish=60")
    assert code == 0
    assert "5 ok, 3 invalid" in sweeps.out
    assert sweeps.err == ""
    rows = sweeps.rows()
    profit = np.load(sweeps.folder / "daily_profit.npy")
    assert [(row["short"], row["long"]) for row in rows] == [
        (short, long) for short in ("5", "10", "15", "20") for long in ("10", "40")
    ]
    settings = Settings(data_path=str(SAMPLE), replay="once")
    feed = open_feed(settings)
    for row in rows:
        params = f"short={row['short']} long={row['long']} bullish=60"
        arguments = ["--data", str(SAMPLE), "--params", params, "--out", str(tmp_path / "one")]
        code = main(["backtest", *arguments, "--no-plot"])
        shown = capsys.readouterr()
        if row["status"] == "invalid":
            assert code == 2
            assert row["note"] in shown.err
            assert "must be below long" in row["note"]
            assert row["trades_hash"] == row["profit"] == ""
            continue
        assert code == 0
        assert f"trades hash {row['trades_hash']}" in " ".join(shown.out.split())
        one = backtest.run(Settings(**{**as_dict(settings), "strategy_params": params}), feed)
        assert int(row["orders"]) == len(one.orders) > 50
        assert int(row["filled"]) == len([order for order in one.orders if order.filled_qty])
        assert float(row["profit"]) == one.curve.equity[-1]
        assert profit[int(row["cell"])].tolist() == one.curve.daily.profit
        assert float(row["total_return"]) == pytest.approx(one.curve.equity[-1] / 100_000)
    best = max((row for row in rows if row["profit"]), key=lambda row: float(row["profit"]))
    assert f"--params 'short={best['short']} long={best['long']}" in sweeps.out.replace(
        "bullish=60 ", ""
    )


def as_dict(settings: Settings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}


def test_a_cell_that_fails_or_dies_is_named_and_the_others_run(
    sweeps: Sweeps, tmp_path: Path
) -> None:
    arguments = ["--strategy", plain(tmp_path), "--param", "how=well,raise,die,leave"]
    arguments += ["--param", "a=1:5", "--params", "b=3", "--ticks", "2000"]
    assert sweeps.run(*arguments) == 1
    rows = sweeps.rows()
    assert len(rows) == 20
    for row in rows:
        wanted = {"well": "ok", "raise": "failed", "die": "killed", "leave": "killed"}[row["how"]]
        assert row["status"] == ("invalid" if row["a"] == "3" else wanted), row
    notes = {row["how"]: row["note"] for row in rows if row["a"] == "1"}
    assert "RuntimeError: no more (" in notes["raise"]
    assert "tick 700" in notes["raise"]
    assert notes["die"] == "its process ended: signal 9 (SIGKILL)"
    assert notes["leave"] == "its process ended: exit code 7"
    assert "sweep: killed: b=3 how=die a=1: its process ended: signal 9" in sweeps.err
    assert "and 7 more, in sweep.csv" in sweeps.err
    assert "4 ok, 4 invalid, 4 failed, 8 killed" in sweeps.out
    # It goes on with what did not finish: here that fails again, and nothing else runs.
    assert sweeps.run(*arguments) == 1
    assert "8 of 20 cells are in" in sweeps.out
    assert sweeps.rows() == rows


WATCHED = """
import os
from pathlib import Path
from app.strategy import Param, Strategy


class Watched(Strategy):
    a = Param(1)

    def on_tick(self, tick):
        for each in os.listdir("/proc/self/fd"):
            path = Path(f"/proc/self/fd/{each}")
            if path.is_symlink() and path.readlink().suffix == ".csv":
                raise RuntimeError(f"the worker reads {path.readlink()}")
        if self.a == 3 and tick.seq == 50:
            Path(__file__).write_text(Path(__file__).read_text() + "# changed")
        return "HOLD"
"""


def test_workers_read_no_file_and_notice_that_the_strategy_has_changed(
    sweeps: Sweeps, tmp_path: Path
) -> None:
    path = tmp_path / "watched.py"
    path.write_text(WATCHED)
    arguments = ["--strategy", f"{path}:Watched", "--param", "a=1:6", "--ticks", "100"]
    assert sweeps.run(*arguments, "--jobs", "1") == 1
    rows = sweeps.rows()
    assert [row["status"] for row in rows] == ["ok"] * 3 + ["failed"] * 3
    assert rows[5]["note"] == "the strategy's file has changed meanwhile"
    assert sweeps.run(*arguments) == 1
    assert "with strategy's source" in sweeps.err


def test_a_parameter_that_varies_and_is_fixed_is_refused(sweeps: Sweeps) -> None:
    assert sweeps.run("--param", "long=30,40", "--params", "short=3 long=50") == 2
    assert "long is in --param and in --params: give it once" in sweeps.err
    assert not (sweeps.folder / "sweep.csv").exists()


def test_without_a_cell_that_runs_the_first_reason_is_said(sweeps: Sweeps) -> None:
    assert sweeps.run("--param", "short=30,0") == 1
    assert "no cell ran; the first: short=30: must be below long=20" in sweeps.err
    assert "cells: 2 invalid, " in sweeps.out
    assert "ticks/s" not in sweeps.out, "none was replayed"


def test_goes_on_after_a_kill(sweeps: Sweeps, tmp_path: Path) -> None:
    arguments = ["--param", "short=2:9", "--param", "long=10,30"]
    assert sweeps.run(*arguments) == 0
    whole, table = sweeps.rows(), sweeps.out.partition("cells:")[0]
    path = sweeps.folder / "sweep.csv"
    lines = path.read_text().splitlines()
    # As a kill leaves it: some rows are missing, and the last one has no end.
    path.write_text("\n".join(lines[:8]) + "\n" + lines[8][:-9])
    assert sweeps.run(*arguments) == 0
    assert "7 of 16 cells are in" in sweeps.out
    assert sweeps.rows() == whole
    assert sweeps.out.partition("\n")[2].partition("cells:")[0] == table
    # A row whose profit by day is missing counts as not run.
    (sweeps.folder / "daily_profit.npy").unlink()
    assert sweeps.run(*arguments) == 0
    assert "cells are in" not in sweeps.out
    assert sweeps.rows() == whole
    assert sweeps.run(*arguments) == 0
    assert "16 of 16 cells are in" in sweeps.out


def test_refuses_the_folder_of_another_sweep(
    sweeps: Sweeps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = plain(tmp_path)
    arguments = ["--strategy", strategy, "--param", "a=1,2", "--ticks", "500"]
    assert sweeps.run(*arguments) == 0
    rows = sweeps.rows()
    changed = {
        "parameters a=1,2, not a=1,2,4": ["--param", "a=1,2,4"],
        "ticks 500, not 600": ["--ticks", "600"],
        "capital 100000.0, not 5.0": ["--capital", "5"],
        "shared parameters , not b=2": ["--params", "b=2"],
    }
    for part, change in changed.items():
        kept = [each for each in arguments if each != "--param" and not each.startswith("a=")]
        base = kept if change[0] == "--param" else arguments
        assert sweeps.run(*base, *change, "--jobs", "1") == 1
        assert f"has the cells of another sweep, with {part}" in sweeps.err
        assert f"choose another --out, or remove {sweeps.folder}" in sweeps.err
    monkeypatch.setenv("ORDER_QTY", "7")
    assert sweeps.run(*arguments, "--jobs", "1") == 1
    assert "with ORDER_QTY 10, not 7: choose another" in sweeps.err
    monkeypatch.setenv("ORDER_QTY", "10")
    path = Path(strategy.rpartition(":")[0])
    path.write_text(path.read_text() + "\n# changed\n")
    assert sweeps.run(*arguments, "--jobs", "1") == 1
    assert "with strategy's source" in sweeps.err
    assert sweeps.rows() == rows


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["--param", "shrt=5"], 2, "has no parameter shrt; did you mean short?"),
        (["--param", "short=5", "--params", "lon=5"], 2, "no parameter lon; did you mean long?"),
        (["--param", "short"], 2, "give NAME=low:high:step"),
        ([], 2, "Missing option '--param'"),
        (["--param", "short=5", "--strategy", "nothing:Here"], 1, "STRATEGY=nothing:Here"),
        (["--param", "short=5", "--data", "nothing.csv"], 1, "nothing.csv"),
        (["--param", "short=5", "--out", "/dev/null/x"], 1, "/dev/null"),
    ],
)
def test_refuses(sweeps: Sweeps, arguments: list[str], code: int, part: str) -> None:
    assert sweeps.run(*arguments) == code
    assert part in sweeps.err


def start(folder: Path, strategy: str) -> subprocess.Popen[str]:
    """A sweep of many slow cells, in a process group of its own."""
    arguments = ["--data", str(SAMPLE), "--out", str(folder), "--strategy", strategy]
    arguments += ["--param", "how=well,slow", "--param", "a=1:9", "--params", "b=0.5"]
    return subprocess.Popen(
        [sys.executable, "-m", "app", "sweep", *arguments, "--ticks", "1000", "--jobs", "2"],
        cwd=ROOT,
        env={**default_environ(), "SLOW": "yes"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def await_rows(folder: Path, count: int) -> None:
    deadline_s = time.monotonic() + 60
    path = folder / "sweep.csv"
    while not path.exists() or path.read_text().count("\n") <= count:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def await_nobody(group: int) -> None:
    """Wait until no process of the group is left."""
    deadline_s = time.monotonic() + 5
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline_s, "a worker is left"
        time.sleep(0.02)


def test_ctrl_c_ends_it_and_the_same_command_goes_on(sweeps: Sweeps, tmp_path: Path) -> None:
    strategy = plain(tmp_path)
    running = start(sweeps.folder, strategy)
    await_rows(sweeps.folder, 9)
    assert sweeps.run("--strategy", strategy, "--param", "a=1") == 1
    assert "another sweep runs in it" in sweeps.err
    pressed_s = time.monotonic()
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert time.monotonic() - pressed_s < 10
    assert running.returncode == 130
    done = len(rows_of(sweeps.folder))
    # Above it may be how far the loading is, where that takes long.
    assert err.strip().splitlines()[-1] == (
        f"sweep: interrupted; {done} of 18 cells are in {sweeps.folder}; the same command goes on"
    )
    assert out == ""
    await_nobody(running.pid)
    arguments = ["--strategy", strategy, "--param", "how=well,slow", "--param", "a=1:9"]
    assert sweeps.run(*arguments, "--params", "b=0.5", "--ticks", "1000") == 0
    assert f"{done} of 18 cells are in" in sweeps.out
    assert [row["status"] for row in sweeps.rows()] == ["ok"] * 18


def test_workers_do_not_outlive_it(sweeps: Sweeps, tmp_path: Path) -> None:
    running = start(sweeps.folder, plain(tmp_path))
    await_rows(sweeps.folder, 9)
    running.kill()
    running.communicate(timeout=30)
    await_nobody(running.pid)
