"""How a process ends and how it waits: exit codes, stop flag, fatal error, backoff."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from types import FrameType

EXIT_OK, EXIT_FAULT, EXIT_INCOMPLETE, EXIT_EXPECTATION = 0, 1, 3, 4
"""All well; a fault; a run that is not complete; an expectation (EXPECT_...) that is missed.

2, for invalid settings, is in :mod:`app.config.loading`.
"""

SUPERVISED = "TRADING_SUPERVISED"
"""Environment variable of a process whose supervisor reports on the run."""

NEW_RUN = "the market has jumped back: this process starts again, for a new run"

REASON_BYTES_MAX = 4096

POLL_S = 0.25
"""Longest sleep between two checks of the stop flag and two heartbeats."""

DEADLINE_GRACE_S = 3.0
"""Time in which a process stops at its deadline, before it is interrupted."""


REASON_DESCRIPTOR = "REASON_DESCRIPTOR"
"""Environment variable: a descriptor to which a process writes why a restart cannot help."""


class FatalError(Exception):
    """Ends the process; the message is one line: what is wrong, its value, the remedy.

    ``final``: a restart would end in the same way.  ``details``: more fields of its log line.
    """

    def __init__(
        self,
        message: str,
        *,
        final: bool = False,
        details: Mapping[str, object] | None = None,
        exit_code: int = EXIT_FAULT,
    ) -> None:
        super().__init__(message)
        self.final, self.details, self.exit_code = final, dict(details or {}), exit_code


def tell_supervisor(reason: str) -> None:
    """Tell ``python -m app run``, if it started this process, not to restart it."""
    descriptor = os.environ.get(REASON_DESCRIPTOR)
    if descriptor:
        with contextlib.suppress(OSError, ValueError):
            os.write(int(descriptor), reason.encode("utf-8", "replace")[:REASON_BYTES_MAX])


class RunFailed(Exception):
    """Ends the process with ``exit_code``: the run is not complete, or an expectation is missed.

    The message is the reason, which has been logged or reported in full before.  ``over``: whether
    the run has ended; else the process would continue it after a restart.  ``final``: a restart
    would end in the same way.
    """

    def __init__(self, exit_code: int, reason: str, *, over: bool, final: bool = False) -> None:
        super().__init__(reason)
        self.exit_code, self.over, self.final = exit_code, over, over or final


class Overdue(BaseException):
    """The process does not stop, so its deadline ends it.

    Not an Exception: a strategy that hangs in a loop with ``except Exception`` must not catch it.
    """


class Stop:
    """True after SIGTERM or SIGINT; the loops check it between two units of work.

    ``shm_owner_died``: the process stops because the container that owns /dev/shm has died.
    ``new_run``: it stops because the stack has begun another run, and starts again for that.
    ``overdue``: it stops because of its deadline.  ``reason``: why the stop was requested.
    """

    def __init__(self) -> None:
        self.requested = self.overdue = False
        self.shm_owner_died = self.new_run = False
        self.reason = ""

    def install(self) -> None:
        """Handle the two signals."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._request)

    def _request(self, number: int, _frame: FrameType | None) -> None:
        self.reason = self.reason or f"stopped by {signal.Signals(number).name}"
        self.requested = True

    def set_deadline(self, at_s: float, seconds: float) -> None:
        """Stop at ``at_s`` (CLOCK_MONOTONIC), ``seconds`` after the start; main thread only.

        A process that still runs :data:`DEADLINE_GRACE_S` later gets :class:`Overdue` raised in
        its main thread, until :meth:`clear_deadline`.
        """

        def passed(_number: int, _frame: FrameType | None) -> None:
            if self.requested:
                raise Overdue(self.reason)
            self.reason = f"DEADLINE_S={seconds:g}: not over within {seconds:g} s"
            self.requested = self.overdue = True

        signal.signal(signal.SIGALRM, passed)
        left_s = max(at_s - time.monotonic(), 0.001)
        signal.setitimer(signal.ITIMER_REAL, left_s, DEADLINE_GRACE_S)

    def clear_deadline(self) -> None:
        """The process ends now, by itself."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def on_shm_owner_death(self) -> None:
        """Stop; may be called from any thread.  The signal interrupts a blocked main thread."""
        self.shm_owner_died = True
        os.kill(os.getpid(), signal.SIGTERM)

    def on_new_run(self) -> None:
        """Stop."""
        self.reason = self.reason or NEW_RUN
        self.requested = self.new_run = True

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
