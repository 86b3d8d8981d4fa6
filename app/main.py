"""Run the four processes on this host, with the dashboard, and print the report at the end.

    gateway -> orderbook -> strategy -> order manager

Each process starts when the one it depends on is ready.  A process that dies is restarted and
resumes where it left off.  The run ends on SIGTERM or SIGINT, at the end of a ``REPLAY=once``
run or at its deadline, or when a process keeps dying.  The dashboard only looks on: nothing waits
for it, and whether it lives changes nothing.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

import msgspec

from app.config.loading import EXIT_SETTINGS, load_settings, unknown_settings
from app.config.settings import Settings, SettingsError
from app.runtime.container.keeper import EXIT_NEW_RUN
from app.runtime.lifecycle import (
    EXIT_EXPECTATION,
    EXIT_FAULT,
    EXIT_INCOMPLETE,
    EXIT_OK,
    REASON_BYTES_MAX,
    REASON_DESCRIPTOR,
    SUPERVISED,
    FatalError,
    Overdue,
    Stop,
)
from app.runtime.log import get_logger, print_text, setup_logging
from app.runtime.metrics import report, report_files
from app.runtime.metrics.layout import MetricsError, read_liveness
from app.runtime.process import log_stopped
from app.runtime.run.run_id import new_run_id
from app.runtime.run.stack_segments import remove_leftovers, remove_segments, run_is_over
from app.runtime.verdict.command import refuse
from app.runtime.verdict.stall import StallWatch
from app.shared_memory_utils.segment import SegmentError

log = get_logger()

START_SEQUENCE = ("gateway", "orderbook", "order_manager", "strategy")
STOP_SEQUENCE = ("strategy", "orderbook", "gateway", "order_manager")
DASHBOARD = "dashboard"
DASHBOARD_STOP_S = 1.0
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02
RESTARTS_MAX, RESTARTS_WINDOW_S = 5, 60.0
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """Run in the child: if this supervisor is killed, the kernel sends the child SIGTERM."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Child:
    """One of the processes, when it was restarted, and when the next restart is due.

    ``reasons``: a descriptor from which to read why a restart cannot help; mostly empty.
    """

    service: str
    process: subprocess.Popen[bytes]
    reasons: int
    restarts_s: list[float] = field(default_factory=list)
    restart_at_s: float | None = None


class Supervisor:
    """Starts, watches and stops the processes."""

    def __init__(self, settings: Settings, stop: Stop) -> None:
        self.settings, self.stop = settings, stop
        self.children: dict[str, Child] = {}
        self.dashboard: Child | None = None
        run_id = settings.run_id or new_run_id()
        # NumPy's linear algebra starts one thread per CPU; the processes never use it.
        threads = {"OPENBLAS_NUM_THREADS": "1"}
        self.environ = {**threads, **os.environ, **settings.to_environ(), "RUN_ID": run_id}
        # The supervisor reports on a run that it stops, and keeps the deadline.
        self.environ |= {SUPERVISED: "1", "DEADLINE_S": "0"}
        self.verdict = ""
        """Of a run that has ended; empty while it has not."""

    def run(self) -> int:
        """Start, watch and stop all four; return the exit code of the run."""
        remove_leftovers(self.settings)
        started_s = time.monotonic()
        if self.settings.deadline_s:
            at_s = started_s + self.settings.deadline_s
            self.stop.set_deadline(at_s, self.settings.deadline_s)
        try:
            for service in START_SEQUENCE:
                self.children[service] = Child(service, *self._spawn(service))
                self._wait_ready(service)
            log.info("stack_ready", took_s=round(time.monotonic() - started_s, 3))
            if self.settings.dashboard_port:
                self.dashboard = Child(DASHBOARD, *self._spawn(DASHBOARD))
            return self._watch()
        finally:
            self.stop.clear_deadline()
            self._stop_all()

    def _spawn(self, service: str) -> tuple[subprocess.Popen[bytes], int]:
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            # A new session: Ctrl-C reaches only the supervisor, which stops the processes in order.
            process = subprocess.Popen(
                [sys.executable, "-m", f"app.{service}"],
                env=self.environ | {REASON_DESCRIPTOR: str(writing)},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(writing,),
                preexec_fn=_die_with_parent,
            )
        finally:
            os.close(writing)
        return process, reading

    def _end_if_final(self, child: Child, code: int) -> None:
        """End the run if the dead process has said that a restart cannot help.

        Raises:
            FatalError: with its reason.
        """
        with contextlib.suppress(BlockingIOError):
            reason = os.read(child.reasons, REASON_BYTES_MAX).decode("utf-8", "replace")
            if reason:
                exit_code = EXIT_SETTINGS if code == EXIT_SETTINGS else EXIT_FAULT
                raise FatalError(f"{child.service}: {reason}", exit_code=exit_code)

    def _wait_ready(self, service: str) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        child = self.children[service]
        while not self.stop:
            if self._state(child) in ("ready", "draining", "done"):
                return
            code = child.process.poll()
            if code == EXIT_NEW_RUN:
                self._start_again(child)
            elif code is not None:
                self._end_if_final(child, code)
                raise FatalError(f"{service} exited with code {code} before it was ready")
            if time.monotonic() > deadline:
                raise FatalError(f"{service} was not ready within {READY_TIMEOUT_S:g} s")
            time.sleep(POLL_S)

    def _state(self, child: Child) -> str:
        try:
            blocks = read_liveness(self.settings.shm_metrics)
        except MetricsError:
            return ""
        pid = child.process.pid
        return next((b.state for b in blocks if b.service == child.service and b.pid == pid), "")

    def _watch(self) -> int:
        """Wait for a stop or the end of the run; restart what dies meanwhile."""
        stall = StallWatch(self.settings)
        while not self.stop:
            if self.settings.replay == "once" and (problem := stall.check(time.monotonic())):
                raise FatalError(problem)
            for child in self.children.values():
                code = child.process.poll()
                if code is None:
                    continue
                if code == EXIT_NEW_RUN:
                    self._start_again(child)
                    continue
                if self._has_ended(child, code):
                    self.verdict = report.collect(self.settings).verdict
                    return code
                self._restart(child, code)
            self._tend_dashboard()
            time.sleep(POLL_S)
        return EXIT_OK if self.settings.replay != "once" else EXIT_INCOMPLETE

    def _has_ended(self, child: Child, code: int) -> bool:
        """Whether this is the strategy at the end of the run, not one that was cut short."""
        return (
            child.service == "strategy"
            and code in (EXIT_OK, EXIT_INCOMPLETE, EXIT_EXPECTATION)
            and self._state(child) == "done"
            and run_is_over(self.settings)
        )

    def _restart(self, child: Child, code: int) -> None:
        """Restart a dead process after a pause.  Does not block: call it until the process runs."""
        now_s = time.monotonic()
        if child.restart_at_s is None:
            self._end_if_final(child, code)
            child.restarts_s = [t for t in child.restarts_s if now_s - t < RESTARTS_WINDOW_S]
            often = len(child.restarts_s) >= RESTARTS_MAX and not self._was_asked_for(code)
            if code == EXIT_SETTINGS or often:
                raise FatalError(
                    f"{child.service} exited with code {code} "
                    f"({len(child.restarts_s)} restarts in {RESTARTS_WINDOW_S:g} s)"
                )
            log.warning("process_died", process=child.service, exit_code=code, action="restarting")
            child.restart_at_s = now_s + 0.05 * 2 ** min(len(child.restarts_s), RESTARTS_MAX)
        elif now_s >= child.restart_at_s:
            child.restart_at_s = None
            child.restarts_s.append(now_s)
            self._start_again(child)

    def _was_asked_for(self, code: int) -> bool:
        """Whether it has killed itself on request, which ends no run, however often."""
        return self.settings.chaos and code == -signal.SIGKILL

    def _start_again(self, child: Child) -> None:
        """Start it at once; for a new run, that is all there is to do."""
        os.close(child.reasons)
        child.process, child.reasons = self._spawn(child.service)

    def _tend_dashboard(self) -> None:
        """Restart it when it has died; do without it if that cannot help."""
        if self.dashboard is None or (code := self.dashboard.process.poll()) is None:
            return
        try:
            self._restart(self.dashboard, code)
        except FatalError as error:
            log.warning("dashboard_off", reason=str(error), action="the run goes on without it")
            self.dashboard = None

    def _stop_dashboard(self) -> None:
        """One that hangs delays nothing."""
        if self.dashboard is None:
            return
        try:
            self.dashboard.process.wait(DASHBOARD_STOP_S)
        except subprocess.TimeoutExpired:
            self.dashboard.process.kill()
            self.dashboard.process.wait()

    def _stop_all(self) -> None:
        """Stop the processes one by one; kill any that does not stop in time."""
        if self.dashboard is not None and self.dashboard.process.poll() is None:
            self.dashboard.process.terminate()
        for service in STOP_SEQUENCE:
            child = self.children.get(service)
            if child is None or child.process.poll() is not None:
                continue
            child.process.terminate()
            try:
                child.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                log.error("process_killed", process=service, after_s=STOP_TIMEOUT_S)
                child.process.kill()
                child.process.wait()
        self._stop_dashboard()


def _print_report(settings: Settings, cut_short: str, code: int) -> None:
    """Print the report of a run that has not ended; the strategy prints that of a run that has."""
    try:
        result = report.collect(settings, cut_short, fault=code == EXIT_FAULT)
        result = msgspec.structs.replace(result, refused=code == EXIT_SETTINGS)
    except (MetricsError, SegmentError, OSError) as error:
        log.error("report_not_written", error=str(error))
        return
    print_text("report", report.to_text(result), verdict=result.verdict)
    if path := report_files.write_or_log(result, settings.output_dir):
        log.info("report_written", path=str(path))


def main() -> int:
    """Run the stack; return its exit code.

    The settings are those of the environment, then of .env in this folder.  Ctrl-C ends the run
    and prints its report.

    Exit code 0: complete, or a run without an end was stopped, 1: fault, 2: invalid settings,
    3: incomplete run, 4: an expectation missed.
    """
    try:
        settings = load_settings()
    except SettingsError as error:
        return refuse("main", error)
    setup_logging("main", settings.log_level, settings.log_format)
    for name, nearest in unknown_settings():
        log.warning("unknown_setting", name=name, nearest=nearest)
    stop = Stop()
    stop.install()
    supervisor = Supervisor(settings, stop)
    code, reason = EXIT_FAULT, ""
    try:
        code = supervisor.run()
        reason = supervisor.verdict or stop.reason
    except Overdue:
        code, reason = EXIT_INCOMPLETE, stop.reason
    except (FatalError, SegmentError) as error:
        code, reason = getattr(error, "exit_code", EXIT_FAULT), str(error)
        log.error("fatal", error=reason)
    finally:
        if supervisor.children:
            once = settings.replay == "once"
            if not supervisor.verdict and (stop or once):
                cut_short = (reason or stop.reason) if once else ""
                _print_report(settings, cut_short, code)
            remove_segments(settings)
        elif settings.replay == "once":
            made = report.of_failure(reason, fault=code == EXIT_FAULT)
            report_files.write_or_log(made, settings.output_dir)
        log_stopped(code, reason)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
