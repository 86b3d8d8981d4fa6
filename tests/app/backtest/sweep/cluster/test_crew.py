"""Workers come, go and forget at any moment: each cell has one outcome, in one event loop."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.backtest.sweep.cell_run import Outcome, Status, Task
from app.backtest.sweep.cluster import crew
from app.backtest.sweep.cluster.crew import ClusterLost, Crew
from app.backtest.sweep.cluster.fitness import stack_digest
from app.backtest.sweep.cluster.parcel import Parcel
from app.backtest.sweep.cluster.requests import Begin, Gone, Open, Run, Take, Unfit, decode, encode
from app.backtest.sweep.grid import Cell
from app.backtest.sweep.pool import PoolError
from app.backtest.sweep.shared_ticks import SharedTicks, TickMemory
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.market_data.storage.place import IN_MEMORY
from tests.app.backtest.sweep.sweeping import SAMPLE

PACKAGES = {"numpy": "2", "distributed": "1"}
SAME = {"host": {"python": "3.13.1", "machine": "x86_64"}, "packages": PACKAGES}
OTHER = {"host": {"python": "3.12.1", "machine": "x86_64"}, "packages": PACKAGES}


class Future:
    """As Dask's: it never ends if its worker does not live to end it."""

    def __init__(self, work: Any) -> None:
        self.task = asyncio.ensure_future(work)
        self.task.add_done_callback(lambda done: done.cancelled() or done.exception())

    @property
    def status(self) -> str:
        return "finished" if self.task.done() and not self.task.cancelled() else "pending"

    def __await__(self) -> Any:
        return self.task.__await__()

    def release(self) -> None:
        self.task.cancel()


class Cluster:
    """Dask's client and the workers behind it.  ``ran``: how often each cell has ended."""

    status = "running"

    def __init__(self, draw: random.Random, deadly: int | None = None) -> None:
        self._draw, self._deadly = draw, deadly
        self.threads: dict[str, int] = {}
        self.sessions: dict[str, Counter[str]] = {}
        self.versions: dict[str, Any] = {}
        self.ran: Counter[int] = Counter()
        self.forget = False
        self.closed: list[str] = []

    def join(self, name: str, threads: int = 1, versions: Any = SAME) -> None:
        self.threads[name], self.sessions[name] = threads, Counter()
        self.versions[name] = versions

    def lose(self, name: str) -> None:
        del self.threads[name]

    async def nthreads(self) -> dict[str, int]:
        return dict(self.threads)

    async def get_versions(self) -> dict[str, Any]:
        here = {name: self.versions[name] for name in self.threads}
        return {"client": SAME, "workers": here}

    async def scatter(self, piece: bytes, **_options: object) -> bytes:
        return piece

    async def run(self, _function: Any, _sweep: str, workers: list[str], **_options: Any) -> None:
        self.closed = workers

    def submit(
        self, _function: Callable[..., Any], *args: Any, workers: list[str], **_: Any
    ) -> Any:
        return Future(self._work(workers[0], *args))

    async def _work(self, name: str, request: bytes = b"", *held: Any) -> Any:
        for _ in range(self._draw.randrange(4)):
            await asyncio.sleep(0)
        if name not in self.threads:
            await asyncio.Event().wait()
        if not request:
            return stack_digest()
        wanted = decode(request)
        if isinstance(wanted, Open):
            return object()
        session = (await held[0], self.sessions[name])[1]
        match wanted:
            case Take():
                session["pieces"] += 1
            case Begin():
                if not session["pieces"]:
                    return encode(Gone())
                session["begun"] += 1
            case Run(cell):
                return await self._cell(name, session, cell)
        return encode(None)

    async def _cell(self, name: str, session: Counter[str], cell: Cell) -> bytes:
        if cell.number == self._deadly:
            self.lose(name)
            await asyncio.Event().wait()
        if self.forget:
            self.forget = False
            session.clear()
            if self._draw.random() < 0.5:
                raise CancelledError
        if not session["begun"]:
            return encode(Gone())
        await asyncio.sleep(0)
        if name not in self.threads:
            await asyncio.Event().wait()
        self.ran[cell.number] += 1
        return encode(Outcome(cell.number, Status.OK, 0.0))


@pytest.fixture(scope="module")
def ticks() -> Iterator[SharedTicks]:
    feed = open_feed(Settings(data_path=str(SAMPLE), replay="once"))
    with TickMemory(feed, 50) as memory:
        yield memory.shared


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "POLL_S", 0.001)


def crew_of(cluster: Cluster, ticks: SharedTicks, put: Callable[[Outcome], None]) -> Crew:
    task = Task(Settings(), ticks, 1.0, "source")
    return Crew(cluster, "tcp://there:8786", task, Parcel({}, "/"), IN_MEMORY, put)


def cells(count: int) -> list[Cell]:
    return [Cell(number, (str(number),), f"a={number}") for number in range(count)]


async def until(done: Callable[[], bool], working: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(30):
        while not done() and not working.done():
            await asyncio.sleep(0.001)


@settings(max_examples=40)
@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 40))
def test_each_cell_has_one_outcome_whatever_happens(
    seed: int, count: int, ticks: SharedTicks
) -> None:
    draw = random.Random(seed)
    cluster, found = Cluster(draw), list[Outcome]()

    async def disturb() -> None:
        for number in range(draw.randrange(12)):
            await asyncio.sleep(draw.random() * 0.004)
            names = list(cluster.threads)
            match draw.choice(("join", "lose", "forget")):
                case "join":
                    cluster.join(f"w{number}", draw.randrange(1, 4))
                case "lose" if names:
                    cluster.lose(draw.choice(names))
                case "forget":
                    cluster.forget = True
        cluster.join("last", 2)

    async def run() -> None:
        made = crew_of(cluster, ticks, found.append)
        working = asyncio.create_task(made.work())
        made.add(cells(count // 2))
        disturbing = asyncio.create_task(disturb())
        await asyncio.sleep(0.003)
        made.add(cells(count)[count // 2 :])
        await until(lambda: len(found) >= count, working)
        await disturbing
        working.cancel()
        await asyncio.wait([working])
        assert working.cancelled(), working.exception()

    asyncio.run(run())
    assert sorted(outcome.number for outcome in found) == list(range(count))
    lost = {outcome.number for outcome in found if outcome.status is Status.KILLED}
    assert set(cluster.ran) | lost == set(range(count))
    assert set(cluster.closed) <= set(cluster.threads)


def test_a_cell_that_takes_workers_along_is_given_up_and_the_others_run(
    ticks: SharedTicks,
) -> None:
    cluster, found = Cluster(random.Random(1), deadly=0), list[Outcome]()

    async def run() -> None:
        made = crew_of(cluster, ticks, found.append)
        working = asyncio.create_task(made.work())
        made.add(cells(6))
        names = (f"w{number}" for number in range(100))
        while len(found) < 6:
            if not cluster.threads:
                cluster.join(next(names))
            await asyncio.sleep(0.001)
        working.cancel()
        await asyncio.wait([working])

    asyncio.run(run())
    by_number = {outcome.number: outcome for outcome in found}
    assert by_number[0].status is Status.KILLED
    assert by_number[0].note == "3 workers that had it were lost"
    # A cell that waited beside it may have been as unlucky.
    assert sum(outcome.status is Status.OK for outcome in found) >= 4


def failing(cluster: Cluster, ticks: SharedTicks, then: Callable[[], None]) -> BaseException | None:
    """What the work ends with, if ``then`` happens when the first cell has ended."""

    async def run() -> BaseException | None:
        found: list[Outcome] = []
        made = crew_of(cluster, ticks, found.append)
        working = asyncio.create_task(made.work())
        made.add(cells(1))
        await until(lambda: bool(found), working)
        then()
        await asyncio.wait([working], timeout=10)
        assert working.done()
        return working.exception()

    return asyncio.run(run())


def test_a_scheduler_that_closes_or_is_silent_is_lost(
    ticks: SharedTicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "LOST_S", 0.05)
    cluster = Cluster(random.Random(1))
    cluster.join("w")
    error = failing(cluster, ticks, lambda: setattr(cluster, "status", "connecting"))
    assert isinstance(error, ClusterLost)
    assert str(error) == "the scheduler tcp://there:8786 is lost: its connection has closed"

    async def silent() -> dict[str, int]:
        await asyncio.sleep(60)
        return {}

    cluster = Cluster(random.Random(1))
    cluster.join("w")
    error = failing(cluster, ticks, lambda: setattr(cluster, "nthreads", silent))
    assert str(error) == "the scheduler tcp://there:8786 is lost: it has not answered for 0 s"


def test_without_a_worker_it_ends(
    ticks: SharedTicks, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(crew, "NO_WORKER_S", 0.05)
    monkeypatch.setattr(crew, "NOTICE_S", 0.01)
    cluster = Cluster(random.Random(1))
    cluster.join("w")
    error = failing(cluster, ticks, lambda: cluster.lose("w"))
    assert str(error) == "tcp://there:8786 has had no worker for 0 s"
    assert capsys.readouterr().err == "sweep: waiting for a worker of tcp://there:8786\n"


def test_an_unfit_worker_is_refused_at_first_and_left_out_later(
    ticks: SharedTicks, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster(random.Random(1))
    cluster.join("old", versions=OTHER)
    error = failing(cluster, ticks, lambda: None)
    assert isinstance(error, PoolError)
    wanted = "worker old: it has Python 3.12, not 3.13 as here: start scheduler, workers and this "
    assert str(error).startswith(wanted)

    cluster = Cluster(random.Random(1))
    cluster.join("w")

    def late() -> None:
        cluster.join("old", versions=OTHER)
        asyncio.get_running_loop().call_later(0.1, setattr, cluster, "status", "closed")

    assert isinstance(failing(cluster, ticks, late), ClusterLost)
    assert f"sweep: {wanted}" in capsys.readouterr().err


def test_one_that_was_left_out_is_no_worker(
    ticks: SharedTicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "NO_WORKER_S", 0.05)
    cluster = Cluster(random.Random(1))
    cluster.join("w")

    def late() -> None:
        cluster.join("old", versions=OTHER)
        asyncio.get_running_loop().call_later(0.1, cluster.lose, "w")

    assert str(failing(cluster, ticks, late)) == "tcp://there:8786 has had no worker for 0 s"


def test_the_only_worker_that_fails_later_ends_it(
    ticks: SharedTicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose processes cannot be started any more."""
    cluster = Cluster(random.Random(1))
    cluster.join("w")

    async def fail(*_: object) -> bytes:
        return encode(Unfit("no memory"))

    async def run() -> BaseException | None:
        made = crew_of(cluster, ticks, lambda _outcome: monkeypatch.setattr(cluster, "_cell", fail))
        working = asyncio.create_task(made.work())
        made.add(cells(9))
        await asyncio.wait([working], timeout=10)
        assert working.done()
        return working.exception()

    assert str(asyncio.run(run())) == "worker w: no memory"


def test_a_worker_without_room_says_so(ticks: SharedTicks, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(_name: str, request: bytes = b"", *_held: Any) -> Any:
        return encode(Unfit("/srv/run: no room for 9 MB")) if request else stack_digest()

    cluster = Cluster(random.Random(1))
    monkeypatch.setattr(cluster, "_work", work)
    cluster.join("w")
    error = failing(cluster, ticks, lambda: None)
    assert str(error) == "worker w: /srv/run: no room for 9 MB"
