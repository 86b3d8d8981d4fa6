"""How a process ends and how it waits: exit codes, stop flag, fatal error, backoff."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from types import FrameType

EXIT_OK, EXIT_FAULT, EXIT_INCOMPLETE = 0, 1, 3
REASON_BYTES_MAX = 4096
POLL_S = 0.25
"""Longest sleep between two checks of the stop flag and two heartbeats."""


REASON_DESCRIPTOR = "REASON_DESCRIPTOR"
"""Environment variable: a descriptor to which a process writes why a restart cannot help."""


class FatalError(Exception):
    """Ends the process; the message is one line: what is wrong, its value, the remedy.

    ``final``: a restart would end in the same way.  ``details``: more fields of its log line.
    """

    def __init__(
        self, message: str, *, final: bool = False, details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.final, self.details = final, dict(details or {})


def tell_supervisor(reason: str) -> None:
    """Tell ``python -m app run``, if it started this process, not to restart it."""
    descriptor = os.environ.get(REASON_DESCRIPTOR)
    if descriptor:
        with contextlib.suppress(OSError, ValueError):
            os.write(int(descriptor), reason.encode("utf-8", "replace")[:REASON_BYTES_MAX])


class Stop:
    """True after SIGTERM or SIGINT; the loops check it between two units of work.

    ``shm_owner_died``: the process stops because the container that owns /dev/shm has died.
    """

    def __init__(self) -> None:
        self.requested = False
        self.shm_owner_died = False

    def install(self) -> None:
        """Handle the two signals."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._request)

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True

    def on_shm_owner_death(self) -> None:
        """Stop; may be called from any thread.  The signal interrupts a blocked main thread."""
        self.shm_owner_died = True
        os.kill(os.getpid(), signal.SIGTERM)

    def __bool__(self) -> bool:
        return self.requested


class Backoff:
    """Delays between attempts: random, with an upper bound that doubles up to a limit.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(self, first_ms: int, limit_ms: int) -> None:
        self._first_ms, self._limit_ms = first_ms, limit_ms
        self._attempt = 0

    def reset(self) -> None:
        """The attempt succeeded."""
        self._attempt = 0

    def delay_s(self) -> float:
        """Seconds to wait before the next attempt."""
        ceiling_ms = min(self._limit_ms, self._first_ms << min(self._attempt, 20))
        self._attempt += 1
        return random.uniform(self._first_ms / 2, max(ceiling_ms, self._first_ms)) / 1000

    def sleep(self, stop: Stop, heartbeat: Callable[[], None]) -> None:
        """Wait in short steps, so that a stop is noticed and heartbeats continue."""
        until_s = time.monotonic() + self.delay_s()
        while not stop and (left_s := until_s - time.monotonic()) > 0:
            heartbeat()
            time.sleep(min(left_s, POLL_S))
