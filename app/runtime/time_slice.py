"""Time slices: who is woken and has a shorter one than who runs on that core goes first.

Linux lets whoever runs keep the core for its slice, milliseconds by default, unless it is woken for
that asks for a shorter one (EEVDF, ``PREEMPT_SHORT``; ``sched_runtime`` of ``SCHED_OTHER`` since
Linux 6.12, no privilege needed).  The share of the core that each gets stays the same.
"""

import ctypes
import os
import platform
import struct
from typing import Final

_SET: Final = {"x86_64": 314, "aarch64": 274}
_GET: Final = {"x86_64": 315, "aarch64": 275}
"""System call numbers; neither Python nor glibc before 2.41 has a function for them."""

_ATTR: Final = struct.Struct("=IIQiIQQQ")
"""``struct sched_attr``: size, policy, flags, nice, priority, runtime, deadline, period (ns)."""


def set_time_slice(slice_ns: int) -> bool:
    """Ask for a slice of 0.1 to 100 ms; whether this system can be asked.

    An older kernel takes the call and changes nothing.  A process that was given another scheduling
    policy keeps it.
    """
    number = _SET.get(platform.machine())
    if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attr = _ATTR.pack(_ATTR.size, os.SCHED_OTHER, 0, nice, 0, slice_ns, 0, 0)
    return int(ctypes.CDLL(None).syscall(number, 0, attr, 0)) == 0


def time_slice_ns(pid: int = 0) -> int:
    """The slice of a process, 0 where the kernel does not tell."""
    number = _GET.get(platform.machine())
    attr = ctypes.create_string_buffer(_ATTR.size)
    if number is None or ctypes.CDLL(None).syscall(number, pid, attr, _ATTR.size, 0) != 0:
        return 0
    return int(_ATTR.unpack(attr.raw)[5])
