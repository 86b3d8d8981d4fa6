"""What all four processes share: settings, log, signals, placement, metrics, exit code."""

import os
import sys
from collections.abc import Callable

from app.config.loading import EXIT_SETTINGS, load_settings, print_settings_error
from app.config.settings import Settings, SettingsError
from app.kernel.compiled import MEND, plain_modules
from app.runtime.container import ipc_owner
from app.runtime.container.keeper import EXIT_NEW_RUN
from app.runtime.lifecycle import (
    EXIT_FAULT,
    EXIT_OK,
    NEW_RUN,
    FatalError,
    RunFailed,
    Stop,
    tell_supervisor,
)
from app.runtime.log import get_logger, setup_logging
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.placement import TIME_SLICES_NS, pin, set_time_slice
from app.runtime.verdict.life import LifeFile
from app.shared_memory_utils.segment import SegmentError


def run_process(
    service: str, body: Callable[[Settings, ProcessMetrics, Stop], int], instance: str = ""
) -> int:
    """Set up ``service``, run ``body``, and return the exit code."""
    life = LifeFile.begin(service)
    try:
        settings = load_settings()
    except SettingsError as error:
        print_settings_error(service, error)
        return _end(life, EXIT_SETTINGS, f"invalid settings: {one_line(error)}", final=True)
    setup_logging(service, settings.log_level, settings.log_format)
    if life and service == "strategy" and settings.replay == "once" and life.run_is_over:
        return _repeat_end(life)
    log = get_logger()
    _warn_of_plain_modules()
    stop = Stop()
    stop.install()
    ipc_owner.watch(stop.on_shm_owner_death)
    metrics: ProcessMetrics | None = None
    code, reason, state, final = EXIT_FAULT, "", "failed", False
    try:
        if life:
            life.announce()
        _place(settings, service, instance)
        metrics = ProcessMetrics.open(settings.shm_metrics, service, instance)
        metrics.on_new_run = stop.on_new_run
        metrics.set_state("starting")
        code = body(settings, metrics, stop)
        if stop.shm_owner_died:
            code = EXIT_FAULT
            raise FatalError("the container that owns /dev/shm has died; restarting in a new one")
        state = "done" if code == EXIT_OK else "failed"
        final = code == EXIT_OK and service == "strategy" and settings.replay == "once"
    except SettingsError as error:
        print_settings_error(service, error)
        code, reason, final = EXIT_SETTINGS, f"invalid settings: {one_line(error)}", True
    except RunFailed as error:
        code, reason, final = error.exit_code, str(error), error.final
        if code != EXIT_FAULT:
            state = "done" if error.over else "draining"
    except FatalError as error:
        reason, final = str(error), error.final
        log.error("fatal", error=reason, **error.details)
    except (SegmentError, MetricsError) as error:
        reason = str(error)
        log.error("fatal", error=reason)
    except (Exception, SystemExit) as error:  # also that of a strategy, whose code is not ours
        reason = f"{type(error).__name__}: {error}"
        log.exception("bug")
    finally:
        if metrics is not None:
            if not metrics.is_of_this_run:  # whatever has ended it
                code, reason, state, final = EXIT_NEW_RUN, NEW_RUN, "draining", False
            metrics.set_state(state)
            metrics.close()
        if final and code in (EXIT_FAULT, EXIT_SETTINGS):
            tell_supervisor(reason)
        if code != EXIT_SETTINGS:  # the reason, already printed, is the last line
            log_stopped(code, reason)
    return _end(life, code, reason, final=final)


def _warn_of_plain_modules() -> None:
    if modules := plain_modules():
        get_logger().warning("not_compiled", modules=",".join(modules), effect="slow", mend=MEND)


def _place(settings: Settings, service: str, instance: str) -> None:
    """CPUs, time slice, and what it does on request."""
    pin(getattr(settings, f"{service}_cpus", ""))
    if service in TIME_SLICES_NS:
        set_time_slice(TIME_SLICES_NS[service])
    if settings.chaos:
        # Imported here: every other stack does without.
        from app.runtime.chaos.listener import listen

        listen(settings, f"{service}-{instance}" if instance else service)


def _end(life: LifeFile | None, code: int, reason: str, *, final: bool) -> int:
    """Record the end; return the exit code, which is 0 where another one would loop.

    An engine with the policy ``on-failure`` restarts every container that does not exit with 0.
    Where that cannot help, the first life exits with the true code, so that Compose and people see
    it, and the restarted one with 0.  Compose sets ``RESTART_POLICY``.
    """
    loops = code != EXIT_OK and os.environ.get("RESTART_POLICY", "").startswith("on-failure")
    if life is None:
        # Nothing remembers the first life: only invalid settings fail so early that nobody waits.
        return EXIT_OK if loops and code == EXIT_SETTINGS else code
    life.end(code, reason, final=final)
    failed_before = bool(life.previous and life.previous.final and life.previous.exit_code)
    return EXIT_OK if loops and final and failed_before else code


def _repeat_end(life: LifeFile) -> int:
    """A restarted strategy whose run is over: it says so again, and trades nothing."""
    previous = life.previous
    assert previous is not None
    hint = "docker compose down ends the run, so that the next up begins a new one"
    log = get_logger()
    log.warning("run_is_over", hint=hint)
    log_stopped(previous.exit_code, previous.reason)
    return _end(life, previous.exit_code, previous.reason, final=True)


def one_line(error: Exception) -> str:
    """The message of an error, its lines joined."""
    return "; ".join(line.strip() for line in str(error).splitlines())


def log_stopped(code: int, reason: str) -> None:
    """The last line of every process: its exit code and, unless all is well, the reason."""
    log = get_logger()
    if code in (EXIT_OK, EXIT_NEW_RUN):
        log.info("stopped", exit_code=code, **({"reason": reason} if reason else {}))
    else:
        log.error("stopped", exit_code=code, reason=reason or "see above")
    sys.stderr.flush()
