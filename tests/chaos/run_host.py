"""Chaos on the four host processes: killed, paused, their segments removed, at seeded ticks.

``python -m tests.chaos.run_host --runs 200 --seed 1`` compares each run with the backtest of the
same data and prints equal, or the first difference.  Run ``i`` has the seed ``seed + i``.
"""

import argparse
import functools
import random
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from app.backtest import run as backtest
from app.backtest.outcome import Outcome, first_difference, of_backtest
from app.config import Settings
from app.market_data.sources.loader import open_feed
from tests.chaos.host import PROCESSES, SEGMENTS, HostStack, StackFailed
from tests.chaos.plan import Choice, Fault, RunReport, draw
from tests.support.paths import ROOT

CHOICES: Final = (
    Choice("kill", 5, PROCESSES),
    Choice("terminate", 2, PROCESSES),
    Choice("pause", 3, PROCESSES, longest_s=2.0),
    Choice("remove", 2, SEGMENTS),
)
RUN_TIMEOUT_S: Final = 90.0
STALL_S: Final = 4.0
"""If an earlier fault has stalled the run, the next one is injected after this time."""


MARKED_LIMITS: Final = MappingProxyType(
    {
        "paper_slippage_bps": 20.0,
        "paper_fill_percent": 60,
        "risk_client_exposure_max": 12000.0,
        "risk_client_daily_loss_max": 300.0,
    }
)


class Scenario(NamedTuple):
    """The data and settings of a run; each has its own undisturbed outcome."""

    data_path: Path
    ticks: int
    paces: tuple[str, ...]
    settings: Mapping[str, object] = MappingProxyType({})


class Verdict(NamedTuple):
    """The result of one run; ``difference`` is None if the undisturbed outcome was reached."""

    seed: int
    difference: str | None
    took_s: float
    report_path: Path


def scenarios(folder: Path) -> list[Scenario]:
    """The sample at moderate paces, ten copies of it at full pace, and tight settings.

    Then the sample with seven rows in each second and a sentiment in most rows.  Last, limits that
    value holdings, with slippage and partial fills: they halt trading in the middle of the run.
    """
    source = ROOT / "data" / "market_data.csv"
    header, *rows = source.read_text().splitlines()
    # Ten copies of one day, each on a date of its own.
    long = folder / "long.csv"
    with long.open("w") as file:
        file.write(header + "\n")
        for day in range(1, 11):
            file.writelines(f"2025-11-{day:02d}{row[10:]}\n" for row in rows)
    crowded = folder / "crowded.csv"
    with crowded.open("w") as file:
        file.write(header + ",sentiment\n")
        for at, row in enumerate(rows):
            moment = f"{at // 25200:02d}:{at // 420 % 60:02d}:{at // 7 % 60:02d}"
            file.write(f"2025-10-01 {moment}{row[19:]},{at * 37 % 101 if at % 5 else ''}\n")
    tight_ring = {"ring_capacity_ticks": 1024, "reader_grace_s": 0.05}
    tight_limits = {
        "risk_price_age_ms_max": 500,
        "risk_price_collar_bps": 5.0,
        "risk_client_orders_per_s_max": 300,
        "risk_client_notional_max": 3000.0,
        "risk_client_exposure_max": 15000.0,
        "heartbeat_timeout_s": 1.0,
    }
    paces = ("20000/s", "10000/s", "30000/s")
    return [
        Scenario(source, len(rows), paces),
        Scenario(long, 10 * len(rows), ("max", "100000/s")),
        Scenario(source, len(rows), paces, tight_ring),
        Scenario(source, len(rows), paces, tight_limits),
        Scenario(source, len(rows), ("10000/s",), {"order_mode": "every"}),
        Scenario(crowded, len(rows), paces),
        Scenario(source, len(rows), paces, MARKED_LIMITS),
    ]


@functools.cache
def undisturbed(data_path: Path, **changes: object) -> Outcome:
    """The outcome of the backtest, which every run must reach; cached."""
    settings = Settings.from_environ(
        {"DATA_PATH": str(data_path), "REPLAY": "once"}
        | {name.upper(): str(value) for name, value in changes.items()}
    )
    return of_backtest(backtest.run(settings, open_feed(settings)))


def disturb(stack: HostStack, fault: Fault) -> bool:
    """Inject the fault; False if the process does not run."""
    if fault.action == "remove":
        stack.remove(fault.target)
        return True
    if fault.action == "kill":
        return stack.signal(fault.target, signal.SIGKILL)
    if fault.action == "terminate":
        return stack.signal(fault.target, signal.SIGTERM)
    pid = stack.pid_of(fault.target)
    if pid is None or not stack.signal(fault.target, signal.SIGSTOP):
        return False
    time.sleep(fault.for_s)
    return stack.pid_of(fault.target) == pid and stack.signal(fault.target, signal.SIGCONT)


def wait_for(stack: HostStack, fault: Fault) -> bool:
    """Wait until the strategy reaches the fault's tick or stalls; False if the run is over."""
    seen, since_s = -1, time.monotonic()
    while stack.running:
        tick = stack.counter("strategy", "ticks_consumed")
        if tick >= fault.tick:
            return True
        if tick != seen:
            seen, since_s = tick, time.monotonic()
        elif time.monotonic() - since_s > STALL_S:
            return True
        time.sleep(0.005)
    return False


def run_once(
    seed: int, scenario: Scenario, expected: Outcome, faults: int, folder: Path
) -> Verdict:
    """One run with faults."""
    pace = random.Random(f"{seed}/pace").choice(scenario.paces)
    plan = draw(seed, faults, scenario.ticks, CHOICES)
    report = RunReport(
        folder / f"chaos-{seed}.md",
        f"Chaos on host processes, seed {seed}",
        {
            "data": f"{scenario.data_path.name}, {scenario.ticks} ticks",
            "pace": pace,
            "settings": dict(scenario.settings) or "default",
            "undisturbed": expected,
        },
    )
    started_s = time.monotonic()
    stack = HostStack(
        folder / f"run-{seed}", data_path=scenario.data_path, pace=pace, **scenario.settings
    )
    try:
        with stack:
            stack.wait_ready()
            for fault in plan:
                if not wait_for(stack, fault):
                    report.note(f"{fault}: the run was over")
                    continue
                tick, at_s = stack.counter("strategy", "ticks_consumed"), time.monotonic()
                done = disturb(stack, fault)
                report.note(str(fault) if done else f"{fault}: not running", tick, at_s)
            code = stack.wait(RUN_TIMEOUT_S)
            outcome = stack.outcome()
        report.note(f"end of the run, exit code {code}: {outcome}")
        difference = first_difference(outcome, expected)
        if difference is None and code:
            difference = f"same outcome, but exit code {code}: {stack.tail(1)}"
    except StackFailed as error:
        difference = f"no end: {error}"
    report.close("Equal." if difference is None else f"Different: {difference}")
    return Verdict(seed, difference, time.monotonic() - started_s, report.path)


def run_seeds(
    argv: list[str] | None,
    parser: argparse.ArgumentParser,
    run: Callable[[int, int, Path], Verdict],
    runs: int,
) -> int:
    """Call ``run(seed, faults, folder)`` for every seed and print the results; 0 if all equal.

    The options ``--runs``, ``--seed``, ``--faults`` and ``--out`` are added to ``parser``.
    """
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "out" / "chaos")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    different = 0
    for seed in range(arguments.seed, arguments.seed + arguments.runs):
        verdict = run(seed, arguments.faults, arguments.out)
        how = "equal" if verdict.difference is None else f"different: {verdict.difference}"
        print(f"seed {seed}: {how} ({verdict.took_s:.1f} s, {verdict.report_path})", flush=True)
        different += verdict.difference is not None
    print(f"{arguments.runs - different} of {arguments.runs} runs equal")
    return different > 0


def main(argv: list[str] | None = None) -> int:
    """Run them; 0 if all are equal."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run_host", description=__doc__)
    parser.add_argument("--scenario", type=int, help="only this one, counted from 0")
    known = functools.cache(scenarios)

    def run(seed: int, faults: int, folder: Path) -> Verdict:
        chosen = parser.parse_args(argv).scenario
        every = known(folder)
        scenario = (
            random.Random(f"{seed}/scenario").choice(every) if chosen is None else every[chosen]
        )
        expected = undisturbed(scenario.data_path, **scenario.settings)
        return run_once(seed, scenario, expected, faults, folder)

    return run_seeds(argv, parser, run, runs=200)


if __name__ == "__main__":
    raise SystemExit(main())
