"""Where a process runs: its CPUs and its time slice."""

import os

from app.runtime.lifecycle import FatalError

TIME_SLICES_NS = {"orderbook": 400_000, "strategy": 100_000}
"""The gateway wakes the orderbook; the orderbook and the order manager wake the strategy.  Each has
a shorter slice than the process that wakes it, so on a shared core it runs at once, before the
other has finished its counting and logging.  The other processes keep the system's slice, 1.4 ms on
two cores."""


def parse_cpus(text: str) -> set[int]:
    """``"0,2-3"`` as ``{0, 2, 3}``."""
    cpus: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def pin(cpus: str) -> None:
    """Pin this process to ``cpus``; empty means any CPU.

    Raises:
        FatalError: none of them exists on this machine.
    """
    if not cpus:
        return
    try:
        os.sched_setaffinity(0, parse_cpus(cpus))
    except OSError as error:
        raise FatalError(
            f"CPUs {cpus}: {error.strerror}; this machine has 0-{(os.cpu_count() or 1) - 1}"
        ) from error
