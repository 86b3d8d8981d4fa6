"""A timer for an epoll loop: CLOCK_MONOTONIC, nanoseconds, absolute, one shot.

The timeout of ``epoll_wait`` has a resolution of 1 ms, and timer slack adds 50 us to it.
"""

import ctypes
import os
import sys
import time
from typing import Final

from app.model.timestamps import NS_PER_S

_ABSOLUTE: Final = 1
_NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | os.O_CLOEXEC

if sys.version_info >= (3, 13):

    def _create() -> int:
        return os.timerfd_create(time.CLOCK_MONOTONIC, flags=_NONBLOCK_CLOEXEC)

    def _set(descriptor: int, at_ns: int) -> None:
        os.timerfd_settime_ns(descriptor, flags=_ABSOLUTE, initial=at_ns)

else:

    class _Spec(ctypes.Structure):
        """``struct itimerspec``."""

        _fields_ = (
            ("interval_s", ctypes.c_long),
            ("interval_ns", ctypes.c_long),
            ("value_s", ctypes.c_long),
            ("value_ns", ctypes.c_long),
        )

    _libc = ctypes.CDLL(None, use_errno=True)

    def _create() -> int:
        descriptor: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        return descriptor

    def _set(descriptor: int, at_ns: int) -> None:
        spec = _Spec(0, 0, at_ns // NS_PER_S, at_ns % NS_PER_S)
        if _libc.timerfd_settime(descriptor, _ABSOLUTE, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")


class Timer:
    """``fileno()`` becomes readable at the time last given to :meth:`arm`.

    Wait for it edge-triggered (EPOLLET): each expiry is one event and needs no read.
    """

    def __init__(self) -> None:
        self._descriptor = _create()

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._descriptor

    def arm(self, at_ns: int) -> None:
        """Fire once when CLOCK_MONOTONIC reaches ``at_ns`` (above 0); at once if that is past."""
        _set(self._descriptor, at_ns)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)
