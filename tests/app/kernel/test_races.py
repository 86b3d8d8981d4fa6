"""Races between a writer process at full pace and two reader processes.

Three outcomes are forbidden: a *torn* tick (fields of two ticks in one), a sequence that goes
*backwards*, a *stale* slot after a wrap (a record that does not belong to its position).
"""

import json
import time

import pytest

from app.kernel import _kernel
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.tick_ring import TickRing
from tests.support.children import Child, Spawn, eventually
from tests.support.kernel.helpers import PLAIN_FIRST, needs_compiled
from tests.support.kernel.race_workers import DISTINCT_MIN, Findings, Writer

pytestmark = pytest.mark.medium

RUN = "from tests.support.kernel.race_workers import main; main()"
SHORT_READS = 300_000
LONG_READS = 50_000_000
"""Per reader; the two readers of a long run make 10**8."""
FOREVER = 10**15


def start(spawn: Spawn, *arguments: object, plain: bool = False) -> Child:
    child = spawn(PLAIN_FIRST + RUN if plain else RUN, *arguments)
    assert child.line() == "up"
    return child


def result(child: Child, deadline_s: float = 60) -> Findings:
    """A reader's findings, checked for forbidden outcomes."""
    found = Findings(**json.loads(child.line(deadline_s)))
    assert (found.torn, found.backwards, found.stale) == (0, 0, 0), found.first_bad
    return found


def race(
    spawn: Spawn,
    name: str,
    role: str,
    policy: str,
    reads: int,
    deadline_s: float,
    plain: tuple[bool, bool, bool] = (False, False, False),
) -> None:
    """``plain``: whether the writer and each of the two readers have the plain kernel."""
    writer = start(spawn, "writer", name, policy, plain=plain[0])
    readers = [start(spawn, role, name, reads, plain=each) for each in plain[1:]]
    for reader in readers:
        found = result(reader, deadline_s)
        assert found.reads >= reads
        assert found.distinct >= DISTINCT_MIN
        rate = found.reads / found.seconds / 1e6
        print(f"{role}: {found.reads:,} reads, {rate:.2f} M/s, lost {found.lost:,}")
        assert role != "lossless" or found.lost == 0
    writer.kill()


@pytest.mark.parametrize(
    ("role", "policy"), [("book", "latest"), ("latest", "latest"), ("lossless", "lossless")]
)
class TestRaces:
    def test_short(self, name: str, spawn: Spawn, role: str, policy: str) -> None:
        race(spawn, name, role, policy, SHORT_READS, 60)

    @needs_compiled
    @pytest.mark.parametrize("plain", [(True, False, False), (False, True, False)])
    def test_with_the_plain_kernel_on_one_side(
        self,
        name: str,
        spawn: Spawn,
        role: str,
        policy: str,
        plain: tuple[bool, bool, bool],
    ) -> None:
        race(spawn, name, role, policy, SHORT_READS // 6, 60, plain)

    @pytest.mark.slow
    @pytest.mark.timeout(1200)
    def test_1e8_reads(self, name: str, spawn: Spawn, role: str, policy: str) -> None:
        race(spawn, name, role, policy, LONG_READS, 1100)


@pytest.mark.parametrize("policy", ["latest", "lossless"])
def test_writers_killed_in_mid_write_and_their_successors(
    name: str, spawn: Spawn, policy: str
) -> None:
    """The writer is always inside a write; each successor takes over while the readers read."""
    writer = start(spawn, "writer", name, policy)
    ring = TickRing.attach(f"{name}_ring")
    readers = [start(spawn, "book", name, FOREVER), start(spawn, policy, name, FOREVER)]
    for _ in range(12):
        before = ring.state.published
        eventually(lambda at=before: ring.state.published > at + 20_000, "ticks flow")
        writer.kill()
        writer = start(spawn, "writer", name, policy)
        assert ring.is_current(), "taken over, not replaced"
    writer.kill()
    last = Writer(name, policy)
    published, next_seq, _, _ = last.kernel.state
    assert published == next_seq, "no tick twice, none missing"
    last.kernel.finish(next_seq)
    for reader in readers:
        found = result(reader)
        assert found.distinct > 12, "ticks of every writer were seen"
        assert policy == "latest" or found.lost == 0
    book = last.book.read_tick("A")
    assert book is not None
    assert book[3] >= next_seq - 1, "the book is never behind the ring"


def test_a_writer_killed_in_mid_write_leaves_the_book_readable(name: str, spawn: Spawn) -> None:
    for _ in range(5):
        writer = start(spawn, "writer", name, "latest")
        with SharedPriceBook(name=f"{name}_book", create=False) as book:
            first = book.read_tick("A")
            eventually(lambda old=first, b=book: b.read_tick("A") != old, "ticks flow")
            writer.kill()
            tick = book.read_tick("A")
            assert tick is not None
            assert tick == book.read_tick("A")
            price, _, recv_ns, seq = tick
            assert (price, recv_ns) == (seq % 3000 + 1.5, seq // 3000)


@needs_compiled
def test_multi_field_reads_per_second(
    name: str, spawn: Spawn, capsys: pytest.CaptureFixture[str]
) -> None:
    """From Python while the writer runs at full pace; the target is a million a second."""
    start(spawn, "writer", name, "latest")
    with SharedPriceBook(name=f"{name}_book", create=False) as book:
        eventually(lambda: book.read_tick("A"), "a first tick")
        read, reads = book.read_tick, 200_000
        rates = []
        for _ in range(5):
            started = time.process_time()
            for _ in range(reads):
                read("A")
            rates.append(reads / (time.process_time() - started))
        get, rates_direct = _kernel.BookView(book.buffer).get, []
        for _ in range(5):
            started = time.process_time()
            for _ in range(reads):
                get(0)
            rates_direct.append(reads / (time.process_time() - started))
    with capsys.disabled():
        print(
            f"\nmulti-field reads per CPU second, writer at full pace: read_tick "
            f"{sorted(rates)[2] / 1e6:.2f} M, kernel view {sorted(rates_direct)[2] / 1e6:.2f} M"
        )
    assert max(rates) > 300_000, "a third of the target, to allow for other load"
