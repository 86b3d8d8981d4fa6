"""A process that runs cells, on the machine of a Dask worker.

Not a thread of that worker: a cell that takes its process along (out of memory, for example) is
then named as in a sweep on one machine, the worker stays, and a cell can be ended at once.
"""

import os
import subprocess
import sys
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from app.backtest.sweep.cell_run import Outcome, Status, Task, source_digest
from app.backtest.sweep.grid import Cell
from app.backtest.sweep.pool import JOIN_S, THREADS, become_worker, how_ended, run_cells
from app.strategy.base import load_strategy
from app.strategy.failure import StrategyError

PROJECT: Final = str(Path(__file__).parents[4])
MODULE: Final = "app.backtest.sweep.cluster.cell_process"


class CellError(Exception):
    """The process cannot run cells; the message says why."""


class CellProcess:
    """One process, and the pipe to it.  It dies with this one.

    ``folder``: the one in which it runs.
    """

    def __init__(self, task: Task, folder: str) -> None:
        self._task = task
        ours, theirs = Pipe()
        with theirs:
            # Dask's workers are daemons, which multiprocessing lets have no children.
            self._process = subprocess.Popen(
                [sys.executable, "-m", MODULE, str(theirs.fileno())],
                cwd=folder,
                env=_environ(),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._pipe = ours
        with suppress(OSError):  # It has died: await_ready() tells.
            ours.send(task)

    def await_ready(self) -> None:
        """Wait until it can run cells.

        Raises:
            CellError: it cannot; the message says why.
        """
        try:
            problem = self._pipe.recv()
        except (EOFError, OSError):
            raise CellError(f"a process ended before its first cell: {self._end()}") from None
        if problem is not None:
            raise CellError(problem)

    def run(self, cell: Cell) -> Outcome:
        """The outcome of a cell, as the pool of one machine tells it; it blocks meanwhile."""
        try:
            self._pipe.send(cell)
            outcome: Outcome = self._pipe.recv()
        except (EOFError, OSError):
            how = f"its process ended: {self._end()}"
            return Outcome(cell.number, Status.KILLED, 0.0, how)
        return outcome

    @property
    def alive(self) -> bool:
        """Whether it can run another cell."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it, whatever it does; a thread in :meth:`run` comes back."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Forget it; no thread may be in :meth:`run`."""
        self.kill()
        self._pipe.close()

    def _end(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(JOIN_S)
        return how_ended(self._process.returncode)


def _environ() -> dict[str, str]:
    """One thread for linear algebra, and the stack's own code although its folder is another."""
    found = os.environ.get("PYTHONPATH")
    paths = [PROJECT, found] if found else [PROJECT]
    return {THREADS: "1", **os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def strategy_problem(task: Task) -> str:
    """Why the strategy here is not the sweep's; empty if it is."""
    strategy = task.settings.strategy
    try:
        load_strategy(strategy)
    except StrategyError as error:
        return str(error)
    if source_digest(strategy) != task.source:
        module = strategy.rpartition(":")[0]
        return (
            f"STRATEGY={strategy}: the module {module} has another source than the client's: name "
            "its file instead, which is sent"
        )
    return ""


def main() -> None:
    """The process: takes the task, then cells, until the pipe closes."""
    become_worker()
    pipe = Connection(int(sys.argv[1]))
    with suppress(EOFError, OSError):
        task: Task = pipe.recv()
        if problem := strategy_problem(task):
            pipe.send(problem)
            return
        run_cells(task, pipe)


if __name__ == "__main__":
    main()
