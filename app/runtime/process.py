"""What the four processes have in common: settings, log, placement, signals, one block of
metrics."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from app.config import Settings, settings_or_exit
from app.runtime import ipc_owner
from app.runtime.log import get_logger, setup_logging
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.time_slice import set_time_slice
from app.segment import SegmentError

EXIT_OK, EXIT_FAULT, EXIT_INCOMPLETE = 0, 1, 3
POLL_S = 0.25
"""How long a process may sleep before it looks at its stop flag and beats."""

TIME_SLICES_NS = {"orderbook": 400_000, "strategy": 100_000}
"""The gateway wakes the orderbook; the orderbook and the order manager wake the strategy.  Each has
a shorter slice than who wakes it, so it runs at once where they share a core, and what its waker
has still to count and log comes later.  The others have the system's own, 1.4 ms on two cores."""


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

    def sleep(self, stop: Stop, beat: Callable[[], None]) -> None:
        """Wait, in pieces, so that a stop is noticed and the heartbeat goes on."""
        until_s = time.monotonic() + self.delay_s()
        while not stop and (left_s := until_s - time.monotonic()) > 0:
            beat()
            time.sleep(min(left_s, POLL_S))


def parse_cpus(text: str) -> set[int]:
    """``"0,2-3"`` as ``{0, 2, 3}``."""
    cpus: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def pin(cpus: str) -> None:
    """Keep this process on ``cpus``; empty means anywhere.

    Raises:
        FatalError: none of them exists here.
    """
    if not cpus:
        return
    try:
        os.sched_setaffinity(0, parse_cpus(cpus))
    except OSError as error:
        raise FatalError(
            f"CPUs {cpus}: {error.strerror}; this machine has 0-{(os.cpu_count() or 1) - 1}"
        ) from error


def run_process(
    service: str, body: Callable[[Settings, ProcessMetrics, Stop], int], instance: str = ""
) -> int:
    """Set up ``service``, run ``body`` in it, and turn what ends it into an exit code."""
    settings = settings_or_exit(service)
    setup_logging(service, settings.log_level, settings.log_format)
    log = get_logger()
    stop = Stop()
    stop.install()
    ipc_owner.watch(stop.lose_memory)
    metrics: ProcessMetrics | None = None
    code = EXIT_FAULT
    try:
        pin(getattr(settings, f"{service}_cpus"))
        if service in TIME_SLICES_NS:
            set_time_slice(TIME_SLICES_NS[service])
        metrics = ProcessMetrics.open(settings.shm_metrics, service, instance)
        metrics.set_state("starting")
        code = body(settings, metrics, stop)
        if stop.memory_lost:
            code = EXIT_FAULT
            raise FatalError("the container that owns /dev/shm has died; restarting in a new one")
    except (FatalError, SegmentError, MetricsError) as error:
        log.error("fatal", error=str(error))
    except Exception:
        log.exception("bug")
    finally:
        if metrics is not None:
            metrics.set_state("done" if code == EXIT_OK else "failed")
            metrics.close()
        log.info("stopped", exit_code=code)
        sys.stderr.flush()
    return code
