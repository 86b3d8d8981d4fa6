"""What a client asks of a worker, and what it is answered; both travel as bytes."""

import pickle
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
