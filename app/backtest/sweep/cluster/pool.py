"""The pool of a cluster: as that of this machine, it takes cells and gives their outcomes."""

import asyncio
import logging
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

from distributed import Client

from app.backtest.sweep.cell_run import Outcome, Task, source_digest
from app.backtest.sweep.cluster.crew import ClusterLost, Crew
from app.backtest.sweep.cluster.options import Cluster
from app.backtest.sweep.cluster.parcel import pack
from app.backtest.sweep.grid import Cell
from app.backtest.sweep.pool import PoolError
from app.market_data.sources.loader import storage_of

CONNECT_S: Final = 10.0
CLOSE_S: Final = 10.0
POLL_S: Final = 0.5

_Answer = Outcome | BaseException
_client: Final[Any] = Client
"""It has no types."""


class ClusterPool(AbstractContextManager["ClusterPool"]):
    """Dask's client in a thread of its own, connected when it is made.

    Raises:
        PoolError: no scheduler answers.
    """

    def __init__(self, cluster: Cluster, security: Any) -> None:
        self._cluster, self._security = cluster, security
        self._crew: Crew | None = None
        self._client: Any = None
        self._answers: SimpleQueue[_Answer] = SimpleQueue()
        self._connected: SimpleQueue[BaseException | None] = SimpleQueue()
        self._begun = asyncio.Event()
        _quiet()
        self._loop = asyncio.new_event_loop()
        self._main = self._loop.create_task(self._run())
        self._thread = threading.Thread(target=self._live, name="cluster", daemon=True)
        self._thread.start()
        try:
            problem = self._connected.get()
        except BaseException:
            self.__exit__()
            raise
        if problem is not None:
            self.__exit__()
            raise PoolError(f"--scheduler {cluster.address}: {_why(problem)}") from None

    def outcomes(self, task: Task, cells: Iterable[Cell]) -> Iterator[Outcome]:
        """Run the cells; their outcomes as they end.  The task is that of the first call.

        Raises:
            PoolError: the scheduler or all workers are lost, or a worker is unfit.
            OSError: the strategy's file cannot be read.
        """
        cells = list(cells)
        self._loop.call_soon_threadsafe(self._add, self._crew_of(task), cells)
        for _ in cells:
            yield self._next()

    def _crew_of(self, task: Task) -> Crew:
        if self._crew is None:
            strategy = task.settings.strategy
            parcel = pack(strategy)
            if source_digest(strategy) != task.source:
                raise PoolError(f"STRATEGY={strategy}: the file has changed meanwhile")
            self._crew = Crew(
                self._client,
                self._cluster.address,
                task,
                parcel,
                storage_of(task.settings),
                self._answers.put,
            )
        return self._crew

    def _add(self, crew: Crew, cells: list[Cell]) -> None:
        crew.add(cells)
        self._begun.set()

    def _next(self) -> Outcome:
        while True:
            with suppress(Empty):
                answer = self._answers.get(timeout=POLL_S)
                if isinstance(answer, BaseException):
                    raise answer
                return answer
            if not self._thread.is_alive():
                raise ClusterLost(f"the connection to {self._cluster.address} has ended")

    def _live(self) -> None:
        """The thread."""
        asyncio.set_event_loop(self._loop)
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._main)
        with suppress(Exception):
            _cancel_rest(self._loop)
        self._loop.close()

    async def _run(self) -> None:
        try:
            client = await _client(
                self._cluster.address,
                security=self._security,
                asynchronous=True,
                timeout=CONNECT_S,
                set_as_default=False,
                name="sweep",
            )
        except BaseException as error:
            self._connected.put(error)
            return
        self._client = client
        self._connected.put(None)
        try:
            await self._begun.wait()
            assert self._crew is not None
            await self._crew.work()
        except Exception as error:
            self._answers.put(error)
        finally:
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_S / 2):
                    await client.close()

    def __exit__(self, *_error: object) -> None:
        with suppress(RuntimeError):  # The loop has ended.
            self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(CLOSE_S)


def _cancel_rest(loop: asyncio.AbstractEventLoop) -> None:
    rest = asyncio.all_tasks(loop)
    for task in rest:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))


def _why(error: BaseException) -> str:
    """One line: what went wrong, and what that came from."""
    found = [error, *([error.__cause__] if error.__cause__ is not None else [])]
    texts = [" ".join(str(each).split()) or type(each).__name__ for each in found]
    return "no Dask scheduler answers: " + ": ".join(texts)


def _quiet() -> None:
    """What happens to the connection is told by the sweep, in a line."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    for name in ("distributed", "distributed.client", "tornado.application", *names):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # Versions are compared here, too, and by what decides results.
    warnings.filterwarnings("ignore", module="distributed")
