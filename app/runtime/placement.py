"""Where a process runs: its CPUs and its time slice.

Linux (EEVDF) lets the running task finish its slice, milliseconds by default, unless the woken task
has asked for a shorter one (``PREEMPT_SHORT``; set as ``sched_runtime`` of ``SCHED_OTHER`` since
Linux 6.12, no privilege needed).  Each task's share of the core stays the same.
"""

import ctypes
import os
import platform
import struct
from typing import Final

from app.runtime.lifecycle import FatalError

TIME_SLICES_NS = {"orderbook": 400_000, "strategy": 100_000}
"""The gateway wakes the orderbook; the orderbook and the order manager wake the strategy.  Each has
a shorter slice than the process that wakes it, so on a shared core it runs at once, before the
other has finished its counting and logging.  The other processes keep the system's slice, 1.4 ms on
two cores."""

SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
"""System call numbers; neither Python nor glibc before 2.41 has a function for it."""

SCHED_ATTR: Final = struct.Struct("=IIQiIQQQ")
"""``struct sched_attr``: size, policy, flags, nice, priority, runtime, deadline, period (ns)."""


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


def set_time_slice(slice_ns: int) -> bool:
    """Ask for a slice of 0.1 to 100 ms; return whether the system call succeeded.

    A kernel before 6.12 accepts the call and changes nothing.  A process that runs under another
    scheduling policy is left alone.
    """
    number = SCHED_SETATTR.get(platform.machine())
    if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attr = SCHED_ATTR.pack(SCHED_ATTR.size, os.SCHED_OTHER, 0, nice, 0, slice_ns, 0, 0)
    return int(ctypes.CDLL(None).syscall(number, 0, attr, 0)) == 0
