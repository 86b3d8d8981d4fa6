"""Chaos on the four host processes: killed, paused, files removed, bits flipped, at seeded ticks.

``python -m tests.chaos.run_host --runs 300 --seed 1`` compares each run with the backtest of the
same data and prints equal, or the first difference.  Run ``i`` has the seed ``seed + i``.  A run
whose shared memory was damaged may also stop with the reason, and another exit code than 0.
``--examples``: the strategies in data/strategies with all costs, in turn.
"""

import argparse
import functools
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from app.backtest import replay as backtest
from app.backtest.outcome import Outcome, first_difference, of_backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from tests.chaos.damage import STORE_FILES, flip, remove_store
from tests.chaos.host import PROCESSES, SEGMENTS, HostStack, StackFailed
from tests.chaos.plan import Choice, Fault, RunReport, bursts, draw, inject
from tests.support.paths import ROOT

CHOICES: Final = (
    Choice("kill", 5, PROCESSES),
    Choice("terminate", 2, PROCESSES),
    Choice("pause", 3, PROCESSES, longest_s=2.0),
    Choice("remove", 2, SEGMENTS),
    Choice("remove-store", 1, tuple(STORE_FILES)),
    Choice("flip", 2, ("book", "ring")),
)
DAMAGE: Final = frozenset({"flip"})
"""After one of these, a run may also stop with the reason."""
STOPPED: Final = re.compile(r" main stopped exit_code=[1-4] reason=.")
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


EXAMPLES: Final = tuple(
    f"data/strategies/{name}"
    for name in (
        "crossover.py:Crossover",
        "mean_reversion.py:MeanReversion",
        "market_making.py:MarketMaker",
        "pairs.py:Pairs",
        "momentum_pandas.py:Momentum",
    )
)
COSTS: Final = MappingProxyType(
    {
        "paper_slippage_bps": 0.3,
        "paper_half_spread_bps": 0.5,
        "paper_fee_per_share": 0.002,
        "paper_fee_bps": 0.1,
        "paper_fee_min": 0.05,
        "paper_impact_bps": 1.0,
        "paper_impact_qty": 50.0,
        "paper_borrow_bps_year": 5_000.0,
        "paper_latency_ms": 1500.0,
        "paper_fill_percent": 60,
        "risk_client_exposure_max": 60_000.0,
    }
)
"""All that an execution costs, latency, partial fills, and a limit that values holdings."""


class Scenario(NamedTuple):
    """The data and settings of a run; each has its own undisturbed outcome."""

    data_path: Path
    ticks: int
    paces: tuple[str, ...]
    settings: Mapping[str, object] = MappingProxyType({})


class Verdict(NamedTuple):
    """The result of one run; ``difference`` is None if the undisturbed outcome was reached.

    Or if the run stopped after damage, and said ``stopped``.
    """

    seed: int
    difference: str | None
    took_s: float
    report_path: Path
    stopped: str = ""


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


def example_scenarios() -> list[Scenario]:
    """The sample with each of the example strategies, and costs."""
    source = ROOT / "data" / "market_data.csv"
    ticks = source.read_bytes().count(b"\n") - 1
    return [
        Scenario(source, ticks, ("10000/s", "20000/s"), {"strategy": strategy, **COSTS})
        for strategy in EXAMPLES
    ]


@functools.cache
def undisturbed(data_path: Path, **changes: object) -> Outcome:
    """The outcome of the backtest, which every run must reach; cached."""
    settings = Settings.from_environ(
        {"DATA_PATH": str(data_path), "REPLAY": "once"}
        | {name.upper(): str(value) for name, value in changes.items()}
    )
    return of_backtest(backtest.run(settings, open_feed(settings)))


def disturb(stack: HostStack, fault: Fault, seed: int) -> str:
    """Inject the fault; returns what was done."""
    missing = f"{fault}: not running"
    if fault.action == "remove":
        stack.remove(fault.target)
    elif fault.action == "flip":
        where = flip(Path("/dev/shm") / stack.segment(fault.target), f"{seed}/{fault}")
        return f"{fault}: {where}" if where else missing
    elif fault.action == "remove-store":
        return str(fault) if _remove_store(stack, fault.target) else f"{fault}: not now"
    elif fault.action == "kill":
        return str(fault) if stack.signal(fault.target, signal.SIGKILL) else missing
    elif fault.action == "terminate":
        return str(fault) if stack.signal(fault.target, signal.SIGTERM) else missing
    else:
        pid = stack.pid_of(fault.target)
        if pid is None or not stack.signal(fault.target, signal.SIGSTOP):
            return missing
        time.sleep(fault.for_s)
        if stack.pid_of(fault.target) == pid:
            stack.signal(fault.target, signal.SIGCONT)
    return str(fault)


def _remove_store(stack: HostStack, which: str) -> bool:
    """Where the order manager has been up for a moment, and so will notice."""
    pid = stack.pid_of("order_manager")
    time.sleep(0.5)
    block = stack.metrics("order_manager")
    if pid is None or pid != stack.pid_of("order_manager") or not block or block.state != "ready":
        return False
    return remove_store(stack.folder, which)


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
    own = folder / f"run-{seed}"
    if own.exists():
        shutil.rmtree(own)  # an earlier run's store would answer this one's orders
    stack = HostStack(own, data_path=scenario.data_path, pace=pace, **scenario.settings)
    try:
        with stack:
            stack.wait_ready()
            for burst in bursts(plan):
                if wait_for(stack, burst[0]):
                    inject(burst, lambda fault: disturb(stack, fault, seed), report)
                else:
                    report.note(f"{', '.join(map(str, burst))}: the run was over")
            code = stack.wait(RUN_TIMEOUT_S)
            outcome = stack.outcome()
        report.note(f"end of the run, exit code {code}: {outcome}")
        difference = first_difference(outcome, expected)
        if code and DAMAGE & {fault.action for fault in plan} and STOPPED.search(stack.tail(3)):
            report.close(f"Stopped: {stack.tail(1)}")
            return Verdict(seed, None, time.monotonic() - started_s, report.path, stack.tail(1))
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
    different = stopped = 0
    for seed in range(arguments.seed, arguments.seed + arguments.runs):
        verdict = run(seed, arguments.faults, arguments.out)
        how = "equal" if verdict.difference is None else f"different: {verdict.difference}"
        if verdict.stopped:
            how, stopped = f"stopped with the reason: {verdict.stopped}", stopped + 1
        print(f"seed {seed}: {how} ({verdict.took_s:.1f} s, {verdict.report_path})", flush=True)
        different += verdict.difference is not None
    equal = arguments.runs - different - stopped
    said = f", {stopped} stopped with the reason" if stopped else ""
    print(f"{equal} of {arguments.runs} runs equal{said}")
    return different > 0


def main(argv: list[str] | None = None) -> int:
    """Run them; 0 if all are equal."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run_host", description=__doc__)
    parser.add_argument("--scenario", type=int, help="only this one, counted from 0")
    parser.add_argument("--examples", action="store_true", help="the example strategies, in turn")
    known = functools.cache(scenarios)

    def run(seed: int, faults: int, folder: Path) -> Verdict:
        arguments = parser.parse_args(argv)
        chosen = arguments.scenario
        every = example_scenarios() if arguments.examples else known(folder)
        if arguments.examples and chosen is None:
            chosen = seed % len(every)
        scenario = (
            random.Random(f"{seed}/scenario").choice(every) if chosen is None else every[chosen]
        )
        expected = undisturbed(scenario.data_path, **scenario.settings)
        return run_once(seed, scenario, expected, faults, folder)

    return run_seeds(argv, parser, run, runs=300)


if __name__ == "__main__":
    raise SystemExit(main())
