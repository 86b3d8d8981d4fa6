"""What a client asks of a worker, and what it is answered.

They travel as bytes, in a function that travels by value: so the scheduler needs Dask only.
"""

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

from app.backtest.sweep.cell_run import Task
from app.backtest.sweep.cluster.parcel import Parcel
from app.backtest.sweep.grid import Cell


class Open(NamedTuple):
    """Make room for a sweep: answered by a session, which lives as long as the client holds it.

    ``total``: ticks.  ``memory_bytes_max`` and ``free_bytes_min``: of the client's storage.
    """

    sweep: str
    parcel: Parcel
    total: int
    memory_bytes_max: int
    free_bytes_min: int


class Take(NamedTuple):
    """Bytes of the ticks, which come beside it, begin at ``at``."""

    at: int


class Begin(NamedTuple):
    """All bytes were sent; ``digest``: their SHA-256."""

    task: Task
    digest: str


class Run(NamedTuple):
    """Run a cell: answered by its outcome."""

    cell: Cell


Request = Open | Take | Begin | Run


class Unfit(NamedTuple):
    """The worker cannot take part; ``reason`` is one line."""

    reason: str


class Gone(NamedTuple):
    """The worker has nothing of this sweep, or no longer."""


def encode(message: object) -> bytes:
    """A request or an answer, as bytes."""
    return pickle.dumps(message, pickle.HIGHEST_PROTOCOL)


def decode(data: bytes) -> Any:
    """What was encoded."""
    return pickle.loads(data)


def asking() -> Callable[..., Any]:
    """A function that answers a request where it runs."""

    def ask(request: bytes, *held: Any) -> Any:
        from app.backtest.sweep.cluster.session import answer

        return answer(request, *held)

    return ask


def looking() -> Callable[[], str]:
    """A function that returns the digest of the stack's sources, or why there is none."""

    def look() -> str:
        try:
            from app.backtest.sweep.cluster.fitness import stack_digest
        except ImportError as error:
            return f"none that can be used ({error})"
        return stack_digest()

    return look


def closing() -> Callable[[str], None]:
    """A function that ends what a worker does for a sweep."""

    def close(sweep: str) -> None:
        from app.backtest.sweep.cluster.session import close as close_session

        close_session(sweep)

    return close
