"""Shared memory segments are removed or damaged under the running processes.

The run ends in the same trades, or with the reason; never in others, never "complete".
"""

import mmap
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.backtest.outcome import first_difference
from tests.chaos.host import (
    PUBLISHED,
    SEGMENTS,
    HostStack,
    flip_book_price,
    flip_header,
    flip_published,
    flip_unread_price,
    forge_end,
    opened,
    word,
)
from tests.chaos.run_host import undisturbed
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

SAMPLE = ROOT / "data" / "market_data.csv"


def wait_for_tick(stack: HostStack, tick: int) -> None:
    stack.wait_until(
        f"tick {tick}", lambda: stack.counter("strategy", "ticks_consumed") >= tick, 30
    )


@pytest.mark.parametrize("kinds", [*[(kind,) for kind in SEGMENTS], SEGMENTS], ids="+".join)
def test_same_trades_after_segments_are_removed(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="10000/s") as stack:
        stack.wait_ready()
        wait_for_tick(stack, 8000)
        for kind in kinds:
            stack.remove(kind)
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
        stack.remove("ring")
        stack.allow_restarts()
        assert stack.wait(60) == 0, stack.tail()
        assert first_difference(stack.outcome(), undisturbed(SAMPLE)) is None


# ---- Damage


@pytest.mark.parametrize("harm", [flip_published, forge_end, flip_unread_price, flip_header])
def test_a_damaged_ring(tmp_path: Path, harm: Callable[[mmap.mmap], None]) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="10000/s") as stack:
        stack.wait_ready()
        wait_for_tick(stack, 6000)
        # While the strategy does not read, there are unread ticks.
        assert stack.signal("strategy", signal.SIGSTOP)
        with opened(stack, "ring") as ring:
            begin = word(ring, PUBLISHED)
            stack.wait_until("unread ticks", lambda: word(ring, PUBLISHED) > begin + 1000, 10)
            if harm is forge_end:
                assert stack.signal("orderbook", signal.SIGSTOP)
            harm(ring)
        assert stack.signal("strategy", signal.SIGCONT)
        if harm is forge_end:
            # The strategy must not believe it, even if it sees it before the orderbook does.
            stack.wait_until("a reaction", lambda: "stopped" in stack.tail(400), 10)
            assert stack.signal("orderbook", signal.SIGCONT)
        code = stack.wait(60)
        log = stack.log_path.read_text()
        if code:
            assert "Complete" not in log
            assert re.search(r"main stopped exit_code=[13] reason=.", log)
        else:
            assert first_difference(stack.outcome(), undisturbed(SAMPLE)) is None
    assert harm is forge_end or (code == 0 and "damaged: " in log), log[-3000:]


def test_a_damaged_book(tmp_path: Path) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="10000/s") as stack:
        stack.wait_ready()
        wait_for_tick(stack, 6000)
        # The orderbook would write over it soon.
        assert stack.signal("gateway", signal.SIGSTOP)
        consumed = -1
        while consumed != (consumed := stack.counter("orderbook", "ticks_received")):
            time.sleep(0.2)
        with opened(stack, "book") as book:
            flip_book_price(book)
        stack.wait_until("it is noticed", lambda: "damaged: " in stack.log_path.read_text(), 5)
        assert stack.signal("gateway", signal.SIGCONT)
        assert stack.wait(60) == 0, stack.tail()
        assert first_difference(stack.outcome(), undisturbed(SAMPLE)) is None
