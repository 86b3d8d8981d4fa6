"""How a process ends and how it waits: exit codes, stop flag, fatal errors, backoff."""

import os
import random
import signal
import time
from collections.abc import Callable
from types import FrameType

EXIT_OK, EXIT_FAULT, EXIT_INCOMPLETE = 0, 1, 3
POLL_S = 0.25
"""How long a process may sleep before it looks at its stop flag and beats."""


class FatalError(Exception):
    """What ends a process: one line with the thing, the value and the way out."""


class Stop:
    """Set by SIGTERM or SIGINT; the loops look at it, so no unit of work is cut in half.

    ``memory_lost``: it was not asked for, but the container that owns /dev/shm has died.
    """

    def __init__(self) -> None:
        self.requested = False
        self.memory_lost = False

    def install(self) -> None:
        """Take over the two signals."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._request)

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True

    def lose_memory(self) -> None:
        """Stop as if asked to; call it from any thread, the main one may be blocked in a call."""
        self.memory_lost = True
        os.kill(os.getpid(), signal.SIGTERM)

    def __bool__(self) -> bool:
        return self.requested


class Backoff:
    """Delays between attempts: doubling up to a limit, with full jitter.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(self, first_ms: int, limit_ms: int) -> None:
        self._first_ms, self._limit_ms = first_ms, limit_ms
        self._attempt = 0

    def reset(self) -> None:
        """The attempt succeeded."""
        self._attempt = 0

    def delay_s(self) -> float:
        """How long to wait before the next attempt."""
        ceiling_ms = min(self._limit_ms, self._first_ms << min(self._attempt, 20))
        self._attempt += 1
        return random.uniform(self._first_ms / 2, max(ceiling_ms, self._first_ms)) / 1000

    def sleep(self, stop: Stop, heartbeat: Callable[[], None]) -> None:
        """Wait, in pieces, so that a stop is noticed and the heartbeat goes on."""
        until_s = time.monotonic() + self.delay_s()
        while not stop and (left_s := until_s - time.monotonic()) > 0:
            heartbeat()
            time.sleep(min(left_s, POLL_S))
