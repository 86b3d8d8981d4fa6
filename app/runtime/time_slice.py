"""Time slices: a woken task with a shorter slice preempts the running one.

Linux (EEVDF) lets the running task finish its slice, milliseconds by default, unless the woken task
has asked for a shorter one (``PREEMPT_SHORT``; set as ``sched_runtime`` of ``SCHED_OTHER`` since
Linux 6.12, no privilege needed).  Each task's share of the core stays the same.
"""

import ctypes
import os
import platform
import struct
from typing import Final

SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
"""System call numbers; neither Python nor glibc before 2.41 has a function for it."""

SCHED_ATTR: Final = struct.Struct("=IIQiIQQQ")
"""``struct sched_attr``: size, policy, flags, nice, priority, runtime, deadline, period (ns)."""


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
