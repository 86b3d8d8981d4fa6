"""Worker processes that run cells; one that dies costs its cell and is replaced."""

import ctypes
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe, connection, get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess, SpawnProcess
from typing import Final

from app.backtest.sweep.cell_run import Outcome, Status, Task, run_cell
from app.backtest.sweep.grid import Cell
from app.backtest.sweep.shared_ticks import SharedReader

PR_SET_PDEATHSIG: Final = 1
QUEUED: Final = 2
"""Cells that a worker has at a time: it begins the next while the first is written down."""
THREADS: Final = "OPENBLAS_NUM_THREADS"
JOIN_S: Final = 5.0


class PoolError(Exception):
    """No worker can run; the message says why."""


def work(pipe: Connection) -> None:
    """A worker: takes the task, then cells, until the pipe closes."""
    become_worker()
    with suppress(EOFError, OSError):
        task: Task = pipe.recv()
        run_cells(task, pipe)


def become_worker() -> None:
    """Die with the parent, and keep what a strategy prints out of the sweep's own output."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(2, 1)


def run_cells(task: Task, pipe: Connection) -> None:
    """Say that it is ready, then answer each cell by its outcome.

    Raises:
        EOFError, OSError: the pipe has closed.
    """
    reader = SharedReader(task.ticks)
    pipe.send(None)  # Ready.
    while True:
        pipe.send(run_cell(task, reader, pipe.recv()))


@dataclass
class Worker:
    """A process, the pipe to it, and the cells that it has; it runs the first of them."""

    process: ForkProcess | SpawnProcess
    pipe: Connection
    cells: deque[Cell] = field(default_factory=deque)
    ready: bool = False


class Pool(AbstractContextManager["Pool"]):
    """``jobs`` workers, started at once.

    The first ones are forks, which have all imports: make the pool before there is any thread.  A
    worker that takes another's place begins anew, since threads may run by then.
    """

    def __init__(self, jobs: int) -> None:
        # Else it starts with the first worker, and lets Ctrl-C through to that one.
        resource_tracker.ensure_running()
        self._task: Task | None = None
        fork = threading.active_count() == 1
        self._workers = [self._start(fork=fork) for _ in range(jobs)]
        self._waiting: deque[Cell] = deque()

    def outcomes(self, task: Task, cells: Iterable[Cell]) -> Iterator[Outcome]:
        """Run the cells; their outcomes as they end.  The task is that of the first call.

        Raises:
            PoolError: workers die before they run anything.
        """
        started, self._task, self._waiting = self._task is not None, task, deque(cells)
        for worker in self._workers:
            if started:
                self._fill(worker)
            else:
                self._instruct(worker)
        while True:
            busy = {worker.pipe: worker for worker in self._workers if worker.cells}
            if not busy:
                return
            for pipe in connection.wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                try:
                    outcome = worker.pipe.recv()
                except (EOFError, OSError):
                    yield self._replace(worker)
                    continue
                if outcome is None:
                    worker.ready = True
                    continue
                worker.cells.popleft()
                self._fill(worker)
                yield outcome

    def _start(self, *, fork: bool = False) -> Worker:
        ours, theirs = Pipe()
        context = get_context("fork") if fork else get_context("spawn")
        process = context.Process(target=work, args=(theirs,), daemon=True)
        with _ctrl_c_is_ours(), _one_thread():
            process.start()
        theirs.close()
        return Worker(process, ours)

    def _instruct(self, worker: Worker) -> None:
        with suppress(OSError):  # It has died: the next wait tells.
            worker.pipe.send(self._task)
        self._fill(worker)

    def _fill(self, worker: Worker) -> None:
        """Give it a cell, or two while there are enough for all."""
        many = len(self._waiting) > QUEUED * len(self._workers)
        while self._waiting and len(worker.cells) < (QUEUED if many else 1):
            cell = self._waiting.popleft()
            worker.cells.append(cell)
            with suppress(OSError):
                worker.pipe.send(cell)

    def _replace(self, worker: Worker) -> Outcome:
        """The outcome of the cell at which a worker died; another takes its place."""
        worker.pipe.close()
        worker.process.join(JOIN_S)
        how = how_ended(worker.process.exitcode)
        if not worker.ready:
            raise PoolError(f"a worker ended before its first cell: {how}")
        lost = worker.cells.popleft()
        self._waiting.extendleft(reversed(worker.cells))
        self._workers[self._workers.index(worker)] = successor = self._start()
        self._instruct(successor)
        return Outcome(lost.number, Status.KILLED, 0.0, f"its process ended: {how}")

    def __exit__(self, *_error: object) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join(JOIN_S)
            worker.pipe.close()


def how_ended(code: int | None) -> str:
    """An exit code as a reader knows it."""
    if code is None:
        return "it does not answer"
    return f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"


@contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """A process that starts here never sees the terminal's Ctrl-C, not even while it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _one_thread() -> Iterator[None]:
    """NumPy's linear algebra would start one thread per CPU in each worker."""
    before = os.environ.get(THREADS)
    os.environ[THREADS] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS]
