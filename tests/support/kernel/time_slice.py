"""Read a process's time slice back from the kernel."""

import ctypes
import platform
from typing import Final

from app.runtime.placement import SCHED_ATTR

SCHED_GETATTR: Final = {"x86_64": 315, "aarch64": 275}
"""System call numbers."""


def time_slice_ns(pid: int = 0) -> int:
    """The slice of a process (0: this one); 0 if the kernel does not report it."""
    number = SCHED_GETATTR.get(platform.machine())
    attr = ctypes.create_string_buffer(SCHED_ATTR.size)
    if number is None or ctypes.CDLL(None).syscall(number, pid, attr, SCHED_ATTR.size, 0) != 0:
        return 0
    return int(SCHED_ATTR.unpack(attr.raw)[5])
