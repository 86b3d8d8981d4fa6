"""Shared memory segments are removed or damaged under the running processes.

The run ends in the same trades, or with the reason; never in others, never "complete".
"""

import mmap
import re
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.backtest.outcome import first_difference
from tests.chaos.host import SEGMENTS, HostStack
from tests.chaos.run_host import undisturbed
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

SAMPLE = ROOT / "data" / "market_data.csv"
RING_TICKS = 65536
PUBLISHED, NEXT_SEQ, END_SEQ, CURSOR, RECORDS = 64, 80, 88, 256 + 8, 8192


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


@contextmanager
def opened(stack: HostStack, kind: str) -> Iterator[mmap.mmap]:
    with (
        (Path("/dev/shm") / stack.segment(kind)).open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as memory,
    ):
        yield memory


def word(memory: mmap.mmap, offset: int) -> int:
    return int(struct.unpack_from("<Q", memory, offset)[0])


def flip_published(ring: mmap.mmap) -> None:
    """Ticks that were never written become readable."""
    struct.pack_into("<Q", ring, PUBLISHED, word(ring, PUBLISHED) ^ 1 << 12)


def forge_end(ring: mmap.mmap) -> None:
    """The run seems to be over at the present tick."""
    struct.pack_into("<Q", ring, END_SEQ, word(ring, NEXT_SEQ))


def flip_unread_price(ring: mmap.mmap) -> None:
    """A price doubles, or the like, before the strategy reads it."""
    position = word(ring, CURSOR) + 20
    assert position < word(ring, PUBLISHED)
    ring[RECORDS + position % RING_TICKS * 32 + 14] ^= 0x10


def flip_header(ring: mmap.mmap) -> None:
    """Of the run's constants."""
    ring[24] ^= 1


@pytest.mark.parametrize("harm", [flip_published, forge_end, flip_unread_price, flip_header])
def test_a_damaged_ring(tmp_path: Path, harm: Callable[[mmap.mmap], None]) -> None:
    with HostStack(tmp_path, data_path=SAMPLE, pace="10000/s") as stack:
        stack.wait_ready()
        wait_for_tick(stack, 6000)
        # While the strategy does not read, there are unread ticks.
        assert stack.signal("strategy", signal.SIGSTOP)
        with opened(stack, "ring") as ring:
            read = word(ring, CURSOR)
            stack.wait_until("unread ticks", lambda: word(ring, PUBLISHED) > read + 1000, 10)
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
            stack.wait_until("silence", lambda: True, 1)
        with opened(stack, "book") as book:
            live = book[4096] & 1
            book[4096 + 16 + 24 * live + 14] ^= 0x10
        stack.wait_until("it is noticed", lambda: "damaged: " in stack.log_path.read_text(), 5)
        assert stack.signal("gateway", signal.SIGCONT)
        assert stack.wait(60) == 0, stack.tail()
        assert first_difference(stack.outcome(), undisturbed(SAMPLE)) is None
