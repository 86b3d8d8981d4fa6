"""A stack on a host ends with its run: the proof has a verdict all the same."""

import mmap
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.backtest.proof.last_figures import Figures, LastFigures
from app.config.settings import Settings
from app.runtime.metrics.process_metrics import ProcessMetrics
from tests.app.backtest.proof.test_proof import RunningProof, all_equal, proving
from tests.chaos.host import HostStack

pytestmark = pytest.mark.medium


@contextmanager
def held(stack: HostStack) -> Iterator[RunningProof]:
    """A proof that has seen some orders, and stands still while the stack ends."""
    with proving(stack) as proof:
        proof.wait_for(lambda line: line["equal"] > 20, "orders", 60)
        proof.process.send_signal(signal.SIGSTOP)
        yield proof


def test_the_orders_that_it_missed_are_compared_by_their_digest(tmp_path: Path) -> None:
    with HostStack(tmp_path, pace="5000/s") as stack, held(stack) as proof:
        seen = proof.line["seen"]
        assert stack.wait(60) == 0, stack.tail()
        proof.process.send_signal(signal.SIGCONT)
        assert proof.end() == 0, proof.why()
        line = proof.line
        assert all_equal(seen + 100)(line), line
        assert line["note"] == f"the last {line['seen'] - seen:,} by their trades hash"
        assert line["ticks"] == 30_000
        assert line["hash"] in (tmp_path / "report.json").read_text()


def test_a_digest_that_is_another_turns_it_red(tmp_path: Path) -> None:
    with HostStack(tmp_path, pace="5000/s") as stack, held(stack) as proof:
        path = Path("/dev/shm") / stack.segment("metrics")
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            assert stack.wait(60) == 0, stack.tail()
            report = (tmp_path / "report.json").read_text()
            at = memory.find(
                int(report.partition('"trades_hash"')[2].split('"')[1], 16).to_bytes(8, "little")
            )
            assert at > 0
            memory[at] ^= 1
            proof.process.send_signal(signal.SIGCONT)
            assert proof.end() == 1, proof.why()
        found = proof.line["difference"]
        assert found["field"] == "trades hash"
        assert found["seen"] != found["expected"]
        assert "different: " in proof.why()


def test_of_a_run_that_was_cut_short_it_cannot_tell(tmp_path: Path) -> None:
    with HostStack(tmp_path, pace="2000/s") as stack, held(stack) as proof:
        assert stack._main is not None
        stack._main.terminate()
        assert stack.wait(60) == 3, stack.tail()
        proof.process.send_signal(signal.SIGCONT)
        assert proof.end() == 3
        assert "cannot tell: the stack ended before its last orders" in proof.why()


def test_only_the_figures_of_one_strategy_at_its_end_count(name: str) -> None:
    settings = Settings(shm_metrics=f"{name}_metrics", replay="once")
    figures = LastFigures(settings)
    figures.look()
    assert figures.at_end() is None
    one = ProcessMetrics.open(settings.shm_metrics, "strategy", "1")
    one.set("run_orders", 3)
    one.set("trades_hash", 77)
    one.set_state("ready")
    figures.look()
    assert figures.at_end() is None
    one.set_state("done")
    assert figures.at_end() == Figures(3, 77)
    one.set("trades_hash", 0)  # live, or with lost ticks
    assert figures.at_end() is None
    one.set("trades_hash", 77)
    two = ProcessMetrics.open(settings.shm_metrics, "strategy", "2")
    assert figures.at_end() is None
    two.close()
    walk = LastFigures(Settings(shm_metrics=settings.shm_metrics, replay="walk"))
    walk.look()
    assert walk.at_end() is None
    for each in (figures, walk):
        each.close()
    one.close()
