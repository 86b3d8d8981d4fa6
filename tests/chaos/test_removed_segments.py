"""Shared memory segments are removed under the running processes: the trades stay the same."""

import signal
from pathlib import Path

import pytest

from app.backtest.outcome import first_difference
from tests.chaos.host import HostStack
from tests.chaos.run_host import undisturbed
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

SAMPLE = ROOT / "data" / "market_data.csv"
KINDS = ("book", "metadata", "ring", "metrics")


def remove(stack: HostStack, kind: str) -> None:
    (Path("/dev/shm") / stack.segment(kind)).unlink()


def wait_for_tick(stack: HostStack, tick: int) -> None:
    stack.wait_until(
        f"tick {tick}", lambda: stack.counter("strategy", "ticks_consumed") >= tick, 30
    )


@pytest.mark.parametrize("kinds", [*[(kind,) for kind in KINDS], KINDS], ids="+".join)
def test_same_trades_after_segments_are_removed(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="10000/s") as stack:
        stack.wait_ready()
        wait_for_tick(stack, 8000)
        for kind in kinds:
            remove(stack, kind)
        assert stack.wait(60) == 0, stack.tail()
        assert first_difference(stack.outcome(), undisturbed(SAMPLE)) is None
    log = stack.log_path.read_text()
    for kind in kinds:
        assert stack.segment(kind) in log, f"{kind}: not named in the log"


def test_same_trades_if_the_ring_is_removed_while_the_orderbook_is_dead(tmp_path: Path) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="10000/s") as stack:
        stack.wait_ready()
        wait_for_tick(stack, 8000)
        stack.hold_restarts()
        assert stack.signal("orderbook", signal.SIGKILL)
        remove(stack, "ring")
        stack.allow_restarts()
        assert stack.wait(60) == 0, stack.tail()
        assert first_difference(stack.outcome(), undisturbed(SAMPLE)) is None
