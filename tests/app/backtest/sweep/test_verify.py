"""Cells through the four processes: equal hashes, and a difference that is found."""

from pathlib import Path

import pytest

from app.backtest.sweep.cell_run import Outcome, Status
from app.backtest.sweep.verify import chosen
from tests.app.backtest.sweep.sweeping import SAMPLE, Sweeps
from tests.support.children import eventually

TWO_FACED = """
import os
from app.strategy import Param, Strategy


class TwoFaced(Strategy):
    a = Param(100, low=1)

    def on_tick(self, tick):
        live = "TRADING_SUPERVISED" in os.environ
        if live and tick.seq == 1000 and self.a == 300:
            raise RuntimeError("only here")
        shift = 1 if live and self.a == 200 else 0
        return "BUY" if (tick.seq + shift) // self.a % 2 else "SELL"
"""


@pytest.fixture
def data(tmp_path: Path) -> str:
    """The sample's first 3,000 ticks."""
    path = tmp_path / "some.csv"
    path.write_text("".join(SAMPLE.read_text().splitlines(keepends=True)[:3001]))
    return str(path)


@pytest.mark.medium
def test_the_four_processes_trade_the_same(
    sweeps: Sweeps, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Settings of the user's own stack do not reach it.
    own = {"PACE": "1/s", "REPLAY": "once", "EXPECT_ORDERS_MIN": "1000000", "START_PAUSED": "true"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    before = {path.name for path in Path("/dev/shm").iterdir()}
    monkeypatch.setenv("ORDER_QTY", "3")
    arguments = ["--data", data, "--param", "short=3,4,50", "--param", "long=9,15"]
    assert sweeps.run(*arguments, "--verify", "2", "--seed", "3") == 0
    verified = [line for line in sweeps.out.splitlines() if line.startswith("verified: ")]
    assert len(verified) == 2
    rows = {f"short={row['short']} long={row['long']}": row for row in sweeps.rows()}
    for line in verified:
        row = rows[line.split(": ")[1]]
        assert line.endswith(f"{row['orders']} orders, hash {row['trades_hash']}")
    best = max((row for row in rows.values() if row["profit"]), key=lambda r: float(r["profit"]))
    assert verified[0].endswith(best["trades_hash"])
    left = {path.name for path in Path("/dev/shm").iterdir()} - before
    # Another test's stack may run just now; its segments go with it.
    segments = [Path("/dev/shm") / name for name in left if name.startswith("sweep_")]
    eventually(lambda: not any(each.exists() for each in segments), "no segment is left", 60)


@pytest.mark.medium
def test_a_difference_is_found_and_a_stack_that_fails_is_named(
    sweeps: Sweeps, data: str, tmp_path: Path
) -> None:
    path = tmp_path / "two_faced.py"
    path.write_text(TWO_FACED)
    arguments = ["--data", data, "--strategy", f"{path}:TwoFaced", "--param", "a=100,200,300"]
    assert sweeps.run(*arguments, "--verify", "3") == 1
    assert "verified: a=100: " in sweeps.out
    assert "a=200" not in sweeps.out.partition("cells:")[2]
    hashes = {row["a"]: row["trades_hash"] for row in sweeps.rows()}
    assert f"sweep: verify: a=200: hash {hashes['200']} in the sweep, " in sweeps.err
    assert "sweep: verify: a=300: the stack ended with code 1" in sweeps.err
    assert "only here" in sweeps.err


@pytest.mark.medium
def test_refuses_a_part_of_the_file(sweeps: Sweeps, data: str) -> None:
    arguments = ["--data", data, "--param", "short=3", "--ticks", "10", "--verify", "1"]
    assert sweeps.run(*arguments) == 2
    assert "leave out --ticks" in sweeps.err


def test_the_best_is_among_the_chosen() -> None:
    ranked = [Outcome(number, Status.OK, 0.0) for number in (7, 3, 5, 1, 0)]
    assert chosen([], 3, 1) == []
    assert chosen(ranked, 1, 1) == ranked[:1]
    assert sorted(each.number for each in chosen(ranked, 9, 1)) == [0, 1, 3, 5, 7]
    drawn = {tuple(each.number for each in chosen(ranked, 3, seed)) for seed in range(50)}
    assert all(each[0] == 7 and len(set(each)) == 3 for each in drawn)
    assert {number for each in drawn for number in each} == {7, 3, 5, 1, 0}
