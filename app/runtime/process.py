"""What all four processes share: settings, log, signals, placement, metrics, exit code."""

import os
import sys
from collections.abc import Callable

from app.config import EXIT_SETTINGS, Settings, settings_or_exit
from app.runtime import ipc_owner
from app.runtime.lifecycle import (
    EXIT_FAULT,
    EXIT_OK,
    FatalError,
    RunFailed,
    Stop,
    tell_supervisor,
)
from app.runtime.log import get_logger, setup_logging
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.placement import TIME_SLICES_NS, pin, set_time_slice
from app.shared_memory_utils.segment import SegmentError


def run_process(
    service: str, body: Callable[[Settings, ProcessMetrics, Stop], int], instance: str = ""
) -> int:
    """Set up ``service``, run ``body``, and return the exit code."""
    try:
        settings = settings_or_exit(service)
    except SystemExit:
        return settings_exit_code()
    setup_logging(service, settings.log_level, settings.log_format)
    log = get_logger()
    stop = Stop()
    stop.install()
    ipc_owner.watch(stop.on_shm_owner_death)
    metrics: ProcessMetrics | None = None
    code, reason, state = EXIT_FAULT, "", "failed"
    try:
        pin(getattr(settings, f"{service}_cpus"))
        if service in TIME_SLICES_NS:
            set_time_slice(TIME_SLICES_NS[service])
        metrics = ProcessMetrics.open(settings.shm_metrics, service, instance)
        metrics.set_state("starting")
        code = body(settings, metrics, stop)
        if stop.shm_owner_died:
            code = EXIT_FAULT
            raise FatalError("the container that owns /dev/shm has died; restarting in a new one")
        state = "done" if code == EXIT_OK else "failed"
    except RunFailed as error:
        code, reason = error.exit_code, str(error)
        if code != EXIT_FAULT:
            state = "done" if error.over else "draining"
    except FatalError as error:
        reason = str(error)
        log.error("fatal", error=reason, **error.details)
        if error.final:
            tell_supervisor(reason)
    except (SegmentError, MetricsError) as error:
        reason = str(error)
        log.error("fatal", error=reason)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        log.exception("bug")
    finally:
        if metrics is not None:
            metrics.set_state(state)
            metrics.close()
        if code != EXIT_SETTINGS:  # the reason, already printed, is the last line
            log_stopped(code, reason)
    return settings_exit_code() if code == EXIT_SETTINGS else code


def settings_exit_code() -> int:
    """The exit code of a process with invalid settings: EXIT_SETTINGS, but 0 where that would loop.

    An engine with the policy ``on-failure`` restarts every container that does not exit with 0, and
    the same settings fail again.  Compose sets ``RESTART_POLICY``.  The services that depend on
    this one are not started, so ``docker compose up`` fails.
    """
    on_failure = os.environ.get("RESTART_POLICY", "").startswith("on-failure")
    return EXIT_OK if on_failure else EXIT_SETTINGS


def log_stopped(code: int, reason: str) -> None:
    """The last line of every process: its exit code and, unless all is well, the reason."""
    log = get_logger()
    if code == EXIT_OK:
        log.info("stopped", exit_code=code)
    else:
        log.error("stopped", exit_code=code, reason=reason or "see above")
    sys.stderr.flush()
