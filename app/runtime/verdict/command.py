"""``python -m app verdict``: wait for the end of the containers' run; its verdict is the exit code.

The service ``verdict`` of docker-compose.yml runs it.  Starting that service starts the stack.
"""

import contextlib
import os
import sys
import time
from typing import Final

from dotenv import dotenv_values

from app.config.loading import EXIT_SETTINGS, load_settings, print_settings_error
from app.config.settings import Settings, SettingsError
from app.runtime.container import ipc_owner
from app.runtime.lifecycle import EXIT_FAULT, EXIT_INCOMPLETE, Stop
from app.runtime.log import get_logger, print_text, setup_logging
from app.runtime.metrics import report, report_files
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.snapshot import read_metrics
from app.runtime.process import log_stopped, one_line
from app.runtime.verdict.life import read_lives
from app.runtime.verdict.stall import StallWatch
from app.runtime.verdict.watch import End, Watch
from app.shared_memory_utils.segment import SegmentError

log = get_logger()

POLL_S: Final = 0.1
PROGRESS_EVERY_S: Final = 10.0
LAST_LOOK_S: Final = 1.0
DEADLINE_GRACE_S: Final = 6.0
"""At the deadline the strategy writes the report; this is how long it may take."""


class Verdict:
    """Waits for the end of one run."""

    def __init__(self, settings: Settings, strategies: int, stop: Stop) -> None:
        self._settings, self._stop = settings, stop
        self._owner_died = False
        ipc_owner.watch(self._on_owner_death)
        self._started_s = time.monotonic()
        self._watch = Watch(
            ipc_owner.epoch(),
            strategies,
            settings.stall_timeout_s,
            now_s=self._started_s,
            owner_died=lambda: self._owner_died,
        )
        self._stall = StallWatch(settings)
        self._next_progress_s = self._started_s + PROGRESS_EVERY_S

    def _on_owner_death(self) -> None:
        self._owner_died = True

    def wait(self) -> End:
        """The end of the run."""
        while not self._stop:
            now_s = time.monotonic()
            end = self._watch.check(read_lives(self._settings.run_dir), now_s)
            if end is None and not self._owner_died:
                stalled = self._stall.check(now_s)
                end = End(EXIT_FAULT, stalled) if stalled else None
            if end is None and self._is_overdue(now_s):
                seconds = f"{self._settings.deadline_s:g}"
                end = End(EXIT_INCOMPLETE, f"DEADLINE_S={seconds}: not over within {seconds} s")
            if end is not None:
                return end
            if now_s >= self._next_progress_s:
                self._next_progress_s = now_s + PROGRESS_EVERY_S
                self._log_progress()
            time.sleep(POLL_S)
        return self._end_at_stop()

    def _end_at_stop(self) -> End:
        """Compose stops all containers when one of them ends: that may be the end of the run."""
        until_s = time.monotonic() + LAST_LOOK_S
        while time.monotonic() < until_s:
            end = self._watch.check(read_lives(self._settings.run_dir), time.monotonic())
            if end is not None:
                return end
            time.sleep(POLL_S)
        return End(EXIT_INCOMPLETE, self._stop.reason)

    def _is_overdue(self, now_s: float) -> bool:
        deadline_s = self._settings.deadline_s
        return bool(deadline_s) and now_s - self._started_s > deadline_s + DEADLINE_GRACE_S

    def _log_progress(self) -> None:
        # After the owner's death, this process still sees the memory of the dead one.
        if self._owner_died:
            return
        try:
            processes = read_metrics(self._settings.shm_metrics)
        except (MetricsError, SegmentError):
            return
        strategies = [p for p in processes if p.service == "strategy"]
        log.info(
            "progress",
            ticks=min((p.events for p in strategies), default=0),
            of=max((p.counters.get("ticks_total", 0) for p in processes), default=0),
            orders=sum(p.counters["orders_sent"] for p in strategies),
            took_s=round(time.monotonic() - self._started_s, 1),
        )

    def result(self, end: End) -> report.Report:
        """The report of the run; written here if no strategy has written it."""
        found = report_files.read(self._settings.output_dir) if end.reported else None
        if found is not None and found.exit_code == end.exit_code:
            return found
        fault = end.exit_code == EXIT_FAULT
        refused = end.exit_code == EXIT_SETTINGS
        made = report.of_failure(end.reason, fault=fault, refused=refused)
        if not self._owner_died and not refused:
            try:
                made = report.collect(self._settings, end.reason, fault=fault)
            except (MetricsError, SegmentError) as error:
                log.warning("no_figures", error=str(error))
        report_files.write_or_log(made, self._settings.output_dir)
        return made


def refuse(service: str, problem: SettingsError) -> int:
    """Report invalid settings; returns the exit code."""
    reason = f"invalid settings: {one_line(problem)}"
    output_dir = os.environ.get("OUTPUT_DIR") or dotenv_values(".env").get("OUTPUT_DIR")
    made = report.of_failure(reason, refused=True)
    report_files.write_or_log(made, output_dir or Settings().output_dir)
    print_settings_error(service, problem)
    return EXIT_SETTINGS


def strategies_of(settings: Settings) -> int:
    """How many strategies the run has.

    Raises:
        SettingsError: this is no run that a verdict can be given on.
    """
    problems = []
    if settings.replay != "once":
        problems.append(f"REPLAY={settings.replay}: never ends; a verdict needs REPLAY=once")
    if not settings.run_dir or not ipc_owner.epoch():
        problems.append(
            "verdict: watches the containers of a stack (docker compose run --rm -T verdict); "
            "on this host, the exit code of python -m app run is the verdict"
        )
    text = os.environ.get("STRATEGIES", "1")
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        problems.append(f"STRATEGIES={text}: must be a number from 1 to 1000")
    if problems:
        raise SettingsError("\n".join(problems))
    return int(text)


def main() -> int:
    """Wait for the end of the run.

    Exit code 0: complete; 1: a fault; 2: invalid settings; 3: incomplete; 4: an expectation missed.
    Everything goes to standard output: an engine does not keep the order of two streams, and the
    last line must be the last.
    """
    with contextlib.redirect_stderr(sys.stdout):
        return judge()


def judge() -> int:
    """Wait, report, and print the verdict; returns the exit code."""
    try:
        settings = load_settings()
        setup_logging("verdict", settings.log_level, settings.log_format)
        strategies = strategies_of(settings)
    except SettingsError as error:
        return refuse("verdict", error)
    stop = Stop()
    stop.install()
    verdict = Verdict(settings, strategies, stop)
    end = verdict.wait()
    result = verdict.result(end)
    print_text("report", report.to_text(result), verdict=result.verdict)
    log_stopped(end.exit_code, end.reason if end.exit_code else result.verdict)
    return end.exit_code
