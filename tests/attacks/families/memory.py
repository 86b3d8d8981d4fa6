"""Shared memory: a run whose segments are removed, damaged or taken ends in the same trades."""

import contextlib
import mmap
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from app.backtest.outcome import first_difference
from app.shared_memory_utils.segment import SegmentError
from app.shared_memory_utils.tick_ring import LATEST, LOSSLESS, TickRing
from tests.attacks.model import Attacker, Family
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
from tests.support.children import SHM
from tests.support.paths import ROOT

MEMORY = Family("Shared memory, while a run is on")
FOREIGN = Family("Shared memory, before the start")
ROWS = 14_000
SAME = "the same trades"


def short_file(folder: Path) -> Path:
    """A part of the sample."""
    path = folder / "ticks.csv"
    sample = (ROOT / "data" / "market_data.csv").read_text().splitlines(keepends=True)
    path.write_text("".join(sample[: ROWS + 1]))
    return path


@contextlib.contextmanager
def run(attacker: Attacker, **settings: object):  # type: ignore[no-untyped-def]
    """A run under way, at tick 3,000; afterwards its end, and whether its trades are the same."""
    path = short_file(attacker.folder)
    stack = HostStack(attacker.folder / "run", data_path=path, pace="10000/s", **settings)
    try:
        with stack:
            stack.wait_ready()
            stack.wait_until(
                "ticks", lambda: stack.counter("strategy", "ticks_consumed") >= 3000, 30
            )
            yield stack
            code = stack.wait(60)
            text = stack.log_path.read_text()
            if code == 0 and first_difference(stack.outcome(), undisturbed(path)) is None:
                attacker.see(SAME)
            elif code:
                attacker.see(f"exit code {code}")
                assert "Complete" not in text
    finally:
        attacker.own_log += stack.log_path.read_text()


RESTARTED = (
    "process_died fatal? metrics_restored? book_lost? book_stale? feed_lost? feed_stale? "
    "sentiment_lost? sentiment_unreachable? order_manager_lost? order_manager_unreachable? "
    "orders_unanswered? "
    "report_not_written? request_refused? order_held? history_lost? stopped?"
)
"""Which processes notice first, and with what in their hands, differs from run to run."""
AGAIN = f"{SAME}, the run is written again"


@MEMORY.attack("each of the four segments removed, one after the other", AGAIN,
               RESTARTED, small=True)  # fmt: skip
def removed(attacker: Attacker) -> None:
    with run(attacker) as stack:
        for kind in SEGMENTS:
            stack.remove(kind)
    _written_again(attacker)


def _written_again(attacker: Attacker) -> None:
    attacker.expect(attacker.own_log, "starting over from tick 0|is gone|was replaced|was removed",
                    "the run is written again")  # fmt: skip


def replaced(stack: HostStack, kind: str) -> None:
    """By a copy of itself, which nobody has mapped."""
    path = SHM / stack.segment(kind)
    copy = path.with_name(f"{path.name}_copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def truncated(stack: HostStack, kind: str) -> None:
    """To one page: who touches the others gets SIGBUS."""
    os.truncate(SHM / stack.segment(kind), mmap.PAGESIZE)


for kind in ("book", "metadata", "ring"):

    @MEMORY.attack(f"the segment {kind} replaced by a copy", SAME, RESTARTED)
    def harmed(attacker: Attacker, kind: str = kind) -> None:
        with run(attacker) as stack:
            replaced(stack, kind)


for kind in ("book", "ring", "metrics"):

    @MEMORY.attack(
        f"the segment {kind} cut off after one page",
        "the same trades or an end with the reason",
        RESTARTED,
    )
    def cut_off(attacker: Attacker, kind: str = kind) -> None:
        with run(attacker) as stack:
            truncated(stack, kind)
            name = stack.segment(kind)
        if attacker.seen != {SAME}:
            assert re.search(rf"ERROR .*{name}", attacker.own_log), attacker.own_log[-3000:]
        attacker.seen = {"the same trades or an end with the reason"}


FLIPS: dict[str, Callable[[mmap.mmap], None]] = {
    "a bit flips in the ring's `published`": flip_published,
    "a bit flips in a price that the strategy has not read": flip_unread_price,
    "a bit flips in the ring's header": flip_header,
}
for name, flip in FLIPS.items():

    @MEMORY.attack(name, f"{SAME}, named as damaged", RESTARTED)
    def flipped(attacker: Attacker, flip: Callable[[mmap.mmap], None] = flip) -> None:
        with run(attacker) as stack:
            assert stack.signal("strategy", signal.SIGSTOP)
            with opened(stack, "ring") as ring:
                begin = word(ring, PUBLISHED)
                stack.wait_until("unread", lambda: word(ring, PUBLISHED) > begin + 100, 10)
                flip(ring)
            assert stack.signal("strategy", signal.SIGCONT)
        attacker.expect(attacker.own_log, "damaged: ", "named as damaged")


@MEMORY.attack("a bit flips in a price of the book", f"{SAME}, named as damaged", RESTARTED)
def flipped_in_the_book(attacker: Attacker) -> None:
    with run(attacker) as stack:
        assert stack.signal("gateway", signal.SIGSTOP)
        seen = -1
        while seen != (seen := stack.counter("orderbook", "ticks_received")):
            stack.wait_until("silence", lambda: True, 1)
        with opened(stack, "book") as book:
            flip_book_price(book)
        stack.wait_until("notice", lambda: "damaged: " in stack.log_path.read_text(), 5)
        assert stack.signal("gateway", signal.SIGCONT)
    attacker.expect(attacker.own_log, "damaged: ", "named as damaged")


@MEMORY.attack("the end of the run forged", "no complete run or the same trades", RESTARTED)
def forged_end(attacker: Attacker) -> None:
    with run(attacker) as stack:
        assert stack.signal("strategy", signal.SIGSTOP)
        assert stack.signal("orderbook", signal.SIGSTOP)
        with opened(stack, "ring") as ring:
            forge_end(ring)
        assert stack.signal("strategy", signal.SIGCONT)
        stack.wait_until("a reaction", lambda: "stopped" in stack.tail(400), 10)
        assert stack.signal("orderbook", signal.SIGCONT)
    assert attacker.seen <= {SAME, "exit code 1", "exit code 3"}, attacker.seen
    attacker.seen = {"no complete run or the same trades"}


@MEMORY.attack(
    "a reader that never reads, in a lossless ring of 1,024 ticks",
    "exit code 3, ended by `DEADLINE_S`",
    "stopped",
)
def never_reads(attacker: Attacker) -> None:
    with run(attacker, ring_capacity_ticks=1024, deadline_s=5) as stack:
        ring = TickRing.attach(stack.segment("ring"))
        try:
            ring.register("sleeper", LOSSLESS)
            stack.wait(30)
        finally:
            ring.close()
    last = attacker.own_log.splitlines()[-1]
    attacker.expect(last, "DEADLINE_S=5: not over", "ended by `DEADLINE_S`")


@MEMORY.attack("all other places of readers taken, and the strategy killed", SAME, RESTARTED)
def slots_taken(attacker: Attacker) -> None:
    with run(attacker) as stack:
        ring = TickRing.attach(stack.segment("ring"))
        try:
            stack.hold_restarts()
            assert stack.signal("strategy", signal.SIGKILL)
            for number in range(62):
                ring.register(f"taker{number}", LATEST)
            with pytest.raises(SegmentError, match="all reader slots are taken"):
                ring.register("one too many", LATEST)
            stack.allow_restarts()
            stack.wait(40)
        finally:
            ring.close()


# ---- Before the start


def folder(path: Path) -> None:
    path.mkdir()


def link(path: Path) -> None:
    path.symlink_to("/dev/null")


def file(path: Path) -> None:
    path.write_bytes(b"theirs" * 1000)


PLANTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a folder has the name of the book": ("book", folder),
    "a link has the name of the ring": ("ring", link),
    "a pipe has the name of the metadata": ("metadata", os.mkfifo),
    "another program's file has the name of the metrics": ("metrics", file),
}
for name, (kind, plant) in PLANTS.items():

    @FOREIGN.attack(name, "exit code 1, left alone, the last line names it",
                    "stopped fatal?", small=kind == "ring")  # fmt: skip
    def planted(
        attacker: Attacker, kind: str = kind, plant: Callable[[Path], object] = plant
    ) -> None:
        stack = HostStack(attacker.folder, data_path=short_file(attacker.folder))
        path = SHM / stack.segment(kind)
        plant(path)
        before = path.lstat()
        try:
            with stack:
                attacker.see(f"exit code {stack.wait(20)}")
                last = stack.tail(1)
                assert re.search(rf"{path.name}.*left alone", last), last
                attacker.see("the last line names it")
                if path.lstat().st_ino == before.st_ino:
                    attacker.see("left alone")
                attacker.own_log += stack.log_path.read_text()
                _remove(path)
        finally:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
