"""The workers of a cluster, as they come and go: each gets the ticks once, then cells.

Dask carries requests and says who is there; which cell runs where is decided here.  So it is known
at which cells a worker was lost, and no worker gets a cell before it has been checked and has the
ticks.
"""

import asyncio
import sys
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Final

from distributed import KilledWorker

from app.backtest.sweep.cell_run import Outcome, Status, Task
from app.backtest.sweep.cluster.fitness import MEND, difference, facts_of, stack_digest
from app.backtest.sweep.cluster.parcel import Parcel
from app.backtest.sweep.cluster.pieces import Pieces
from app.backtest.sweep.cluster.requests import (
    Begin,
    Gone,
    Open,
    Request,
    Run,
    Take,
    Unfit,
    decode,
    encode,
)
from app.backtest.sweep.cluster.travelling import asking, closing, looking
from app.backtest.sweep.grid import Cell
from app.backtest.sweep.pool import QUEUED, PoolError
from app.market_data.storage.place import Storage

POLL_S: Final = 0.3
LOST_S: Final = 30.0
"""A scheduler that is silent for so long is lost; its loop may be busy for seconds."""
NOTICE_S: Final = 3.0
NO_WORKER_S: Final = 120.0
"""As long as a machine takes to start."""
LOSSES_MAX: Final = 3
"""A cell at which so many workers were lost is not given to another one."""
CLOSE_S: Final = 3.0


class ClusterLost(PoolError):
    """The sweep cannot go on; what has ended is kept."""


class _WorkerUnfit(Exception):
    """The worker cannot take part; the message is one line."""


class _SessionGone(Exception):
    """The worker has nothing of this sweep, or no longer."""


class _CallLost(_SessionGone):
    """Dask has dropped a call, or what it needs."""


class Crew:
    """Runs cells on whatever workers there are.

    ``client``: a :class:`distributed.Client`, asynchronous.  ``put`` is called with each outcome.
    All methods belong to the client's event loop.
    """

    def __init__(
        self,
        client: Any,
        address: str,
        task: Task,
        parcel: Parcel,
        storage: Storage,
        put: Callable[[Outcome], None],
    ) -> None:
        self._client, self._address, self._task, self._put = client, address, task, put
        self._sweep = uuid.uuid4().hex
        self._pieces = Pieces(client, task.ticks)
        self._open = Open(
            self._sweep,
            parcel,
            task.ticks.total,
            storage.memory_bytes_max,
            storage.free_bytes_min,
        )
        self._waiting: deque[Cell] = deque()
        self._added = asyncio.Event()
        self._losses: Counter[int] = Counter()
        self._members: dict[str, asyncio.Task[None]] = {}
        self._slots: dict[str, int] = {}
        """Of the workers that run cells."""
        self._opened: set[str] = set()
        """Workers that may have something of this sweep."""
        self._ours: dict[str, str] = {}
        self._ended = False

    def add(self, cells: Iterable[Cell]) -> None:
        """Cells to run."""
        self._waiting.extend(cells)
        self._added.set()

    async def work(self) -> None:
        """Run cells until it is cancelled.

        Raises:
            PoolError: the scheduler is lost, no worker is there, or one of the first is unfit.
        """
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    await self._follow(group)
                finally:
                    self._ended = True
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            await self._close()

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        """Each worker that comes gets a coroutine, which is cancelled when the worker goes."""
        loop = asyncio.get_running_loop()
        seen_s, noticed = loop.time(), False
        while True:
            present: dict[str, int] = await self._of_scheduler(self._client.nthreads)
            for address in self._members.keys() - present.keys():
                self._members.pop(address).cancel()
            new = present.keys() - self._members.keys()
            versions = await self._versions() if new else {}
            for address in new & versions.keys():
                member = self._member(address, present[address], versions[address])
                self._members[address] = group.create_task(member)
            # One that was left out is no worker.
            if not all(member.done() for member in self._members.values()):
                seen_s, noticed = loop.time(), False
            silent_s = loop.time() - seen_s
            if silent_s > NOTICE_S and not noticed:
                noticed = True
                print(f"sweep: waiting for a worker of {self._address}", file=sys.stderr)
            if silent_s > NO_WORKER_S:
                raise ClusterLost(f"{self._address} has had no worker for {NO_WORKER_S:.0f} s")
            await asyncio.sleep(POLL_S)

    async def _versions(self) -> dict[str, dict[str, str]]:
        """What has to be equal, of each worker."""
        found = await self._of_scheduler(self._client.get_versions)
        self._ours = {**facts_of(found["client"]), "stack": stack_digest()}
        return {address: facts_of(each) for address, each in found["workers"].items()}

    async def _of_scheduler(self, question: Callable[[], Any]) -> Any:
        reason = "its connection has closed"
        try:
            if self._client.status == "running":
                # Not wait_for: until Python 3.12 it may swallow a cancellation.
                async with asyncio.timeout(LOST_S):
                    return await question()
        except TimeoutError:
            reason = f"it has not answered for {LOST_S:.0f} s"
        except ConnectionError:
            pass  # Dask's text differs with the moment at which it closed
        except OSError as error:
            text = " ".join(str(error).split())
            reason = reason if "(closed)" in text else text
        raise ClusterLost(f"the scheduler {self._address} is lost: {reason}")

    async def _member(self, address: str, slots: int, facts: dict[str, str]) -> None:
        """All that happens with one worker."""
        task = asyncio.current_task()
        try:
            await self._check(address, facts)
            # A lane that fails while this is cancelled hides that; and in Python 3.11 a lane that
            # fails leaves cancelling() above 0.
            while self._members.get(address) is task and not self._ended:
                with suppress(_SessionGone):
                    await self._serve(address, slots)
                await asyncio.sleep(POLL_S)
        except _WorkerUnfit as error:
            line = f"worker {address}: {error}"
            self._slots.pop(address, None)
            if not self._slots:
                raise PoolError(line) from None
            print(f"\nsweep: {line}; the others go on", file=sys.stderr)
        finally:
            self._slots.pop(address, None)

    async def _check(self, address: str, facts: dict[str, str]) -> None:
        ours = self._ours
        problem = difference(facts, {name: ours[name] for name in facts})
        if not problem:
            # By value, so it is asked only where Python is the same.
            stack = await self._call(address, looking())
            problem = difference({"stack": stack}, {"stack": ours["stack"]})
        if problem:
            raise _WorkerUnfit(f"it has {problem} as here: {MEND}")

    async def _serve(self, address: str, slots: int) -> None:
        """Give a worker the ticks, then cells.

        Raises:
            _SessionGone: it has dropped them.
            _WorkerUnfit: it cannot run cells.
        """
        session = self._submit(address, asking(), encode(self._open))
        self._opened.add(address)
        try:
            with self._pieces.loading():
                for start in self._pieces.starts:
                    await self._deliver(address, session, start)
            await self._ask(address, Begin(self._task, await self._pieces.digest()), session)
            self._slots[address] = slots
            try:
                async with asyncio.TaskGroup() as lanes:
                    for number in range(slots * QUEUED):
                        lanes.create_task(self._lane(address, session, ahead=number >= slots))
            except BaseExceptionGroup as errors:
                raise _first(errors) from None
        finally:
            session.release()

    async def _deliver(self, address: str, session: Any, start: int) -> None:
        while True:
            try:
                piece = await self._pieces.get(start, address)
                await self._ask(address, Take(start), session, piece)
                return
            except (_CallLost, OSError):
                # Another worker held the piece, and is gone; or the session is.
                self._pieces.lost(start)
                await asyncio.sleep(POLL_S)
                if session.status != "finished":
                    raise _SessionGone from None

    async def _lane(self, address: str, session: Any, *, ahead: bool) -> None:
        """One cell after another; ``ahead``: cells that wait at the worker for their turn."""
        while True:
            cell = await self._next(ahead=ahead)
            try:
                outcome = await self._ask(address, Run(cell), session)
            except asyncio.CancelledError:
                self._give_back(cell, lost=address not in self._members)
                raise
            except BaseException:
                self._give_back(cell, lost=False)
                raise
            self._put(outcome)

    async def _next(self, *, ahead: bool) -> Cell:
        """A cell; to wait at a worker only while there are enough for all."""
        while True:
            spare = QUEUED * sum(self._slots.values()) if ahead else 0
            if len(self._waiting) > spare:
                return self._waiting.popleft()
            self._added.clear()
            await self._added.wait()

    def _give_back(self, cell: Cell, *, lost: bool) -> None:
        self._losses[cell.number] += lost
        if self._losses[cell.number] < LOSSES_MAX:
            self._waiting.appendleft(cell)
            self._added.set()
            return
        note = f"{LOSSES_MAX} workers that had it were lost"
        self._put(Outcome(cell.number, Status.KILLED, 0.0, note))

    async def _ask(self, address: str, request: Request, *held: Any) -> Any:
        answer = await self._call(address, asking(), encode(request), *held)
        found = decode(answer) if isinstance(answer, bytes) else Gone()
        if isinstance(found, Unfit):
            raise _WorkerUnfit(found.reason)
        if isinstance(found, Gone):
            raise _SessionGone
        return found

    async def _call(self, address: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a function on a worker.

        Raises:
            _CallLost: Dask has dropped the call, or what it needs.
            _WorkerUnfit: the function failed, which it never does in a stack like this one.
        """
        future = self._submit(address, function, *arguments)
        try:
            return await future
        except (CancelledError, KilledWorker):
            raise _CallLost from None
        except Exception as error:
            cause = error.__cause__ or error
            raise _WorkerUnfit(f"{type(cause).__name__}: {' '.join(str(cause).split())}") from error
        finally:
            future.release()

    def _submit(self, address: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._client.submit(
            function,
            *arguments,
            key=f"sweep-{uuid.uuid4().hex}",
            workers=[address],
            allow_other_workers=False,
            pure=False,
        )

    async def _close(self) -> None:
        """End what the workers do: their processes at once, and a worker that hangs is left."""
        if self._client.status != "running":
            return
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                present = await self._client.nthreads()
                workers = [address for address in self._opened if address in present]
                await self._client.run(closing(), self._sweep, workers=workers, on_error="return")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
