"""The end of a ``REPLAY=once`` run in the strategy: profit, report, verdict."""

import time
from typing import Final

import msgspec

from app.config.settings import Settings
from app.model.money import to_units
from app.runtime.lifecycle import EXIT_OK, RunFailed, Stop
from app.runtime.log import get_logger, print_text
from app.runtime.metrics.expectations import bits_of_money, money_of_bits
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.metrics.snapshot import read_metrics
from app.runtime.net.position_queries import Profit, profit_of

log = get_logger()

REPORT_SETTLE_S: Final = 2.0
PROFIT_PATIENCE_S: Final = 10.0
OTHERS_POLL_S: Final = 0.1
UNDER_WAY: Final = ("starting", "ready", "stale")


def settle(settings: Settings, metrics: ProcessMetrics, stop: Stop, client: str) -> Profit:
    """After the last tick: complete the figures of the report, and return the run's profit.

    ``client``: name of the orders.
    """
    metrics.set_state("done")
    latency = to_units(money_of_bits(metrics.get("latency_cost")))
    profit = profit_of(settings, client, PROFIT_PATIENCE_S, latency)
    _note_profit(metrics, profit)
    _await_others(settings, metrics, stop)
    return profit


def _note_profit(metrics: ProcessMetrics, profit: Profit) -> None:
    """Write the profit of the run into the counters, where every report finds it."""
    if not profit.problem:
        metrics.set("run_pnl", bits_of_money(profit.realized + profit.unrealized))
    metrics.set("run_pnl_known", int(not profit.problem))
    metrics.heartbeat()


def _await_others(settings: Settings, metrics: ProcessMetrics, stop: Stop) -> None:
    """Wait for the other strategies of the run: the report is that of the whole run."""

    def others_trade() -> bool:
        return any(
            block.service == "strategy"
            and block.state in UNDER_WAY
            and block.heartbeat_age_s < settings.stall_timeout_s
            for block in read_metrics(settings.shm_metrics)
        )

    while not stop and others_trade():
        metrics.heartbeat()
        time.sleep(OTHERS_POLL_S)


def report_run(
    settings: Settings,
    cut_short: str,
    *,
    profit: Profit | None = None,
    fault: bool = False,
    final: bool = True,
) -> int:
    """Write and print the report of a ``REPLAY=once`` run.

    ``profit`` is that of this strategy if the run has ended, else None.  The other
    processes publish their counters a few times a second: at the end of the run, wait for their
    last figures.  ``final``: a restart would not change the result.

    Raises:
        RunFailed: something is missing, or an expectation is missed.
    """
    # Imported here: rich, which draws the tables, takes 5 MB that a run needs only at its end.
    from app.runtime.metrics import report, report_files

    deadline = time.monotonic() + (REPORT_SETTLE_S if profit else 0)
    result = report.collect(settings, cut_short, fault=fault)
    while result.problems and time.monotonic() < deadline:
        time.sleep(0.05)
        result = report.collect(settings, cut_short, fault=fault)
    result = msgspec.structs.replace(result, profit=profit)
    print_text("report", report.to_text(result), verdict=result.verdict)
    path = report_files.write_or_log(result, settings.output_dir)
    log.info("run_finished", complete=not result.problems, report=str(path))
    if result.exit_code != EXIT_OK:
        raise RunFailed(result.exit_code, result.verdict, over=profit is not None, final=final)
    return EXIT_OK
