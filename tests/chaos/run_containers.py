"""Chaos on the containers: faults on every service, the owner of the shared memory included.

``python -m tests.chaos.run_containers --runs 100 --seed 1`` (``make chaos``) compares each run with
the backtest of the same data and prints equal, or the first difference.  Run ``i`` has the seed
``seed + i``.  Only containers of its own Compose projects are touched.

``--examples`` (``make chaos EXAMPLES=1``): the strategies in data/strategies with all costs, in
turn, in images of their own, with pandas.
"""

import argparse
import contextlib
import functools
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import docker
from docker.models.containers import Container

from app.backtest.outcome import Outcome, first_difference
from tests.chaos.compose.containers import PACE_TICKS_PER_S, Containers, build_for_examples
from tests.chaos.damage import STORE_FILES, flip, remove_store
from tests.chaos.plan import Choice, Fault, RunReport, bursts, draw, inject
from tests.chaos.run_host import (
    DAMAGE,
    Scenario,
    Verdict,
    example_scenarios,
    run_seeds,
    undisturbed,
)
from tests.support.compose_stack import PROCESSES, SERVICES
from tests.support.paths import ROOT

ON_NETWORK: Final = PROCESSES
SEGMENTS: Final = ("price_book", "trading_metadata", "tick_ring", "trading_metrics")
CHOICES: Final = (
    Choice("crash", 4, SERVICES),
    Choice("break", 2, SERVICES),
    Choice("kill", 2, SERVICES, longest_s=2.0),
    Choice("stop", 2, SERVICES, longest_s=2.0),
    Choice("restart", 2, SERVICES),
    Choice("pause", 2, SERVICES, longest_s=4.0),
    Choice("freeze", 2, PROCESSES, longest_s=4.0),
    Choice("disconnect", 2, ON_NETWORK, longest_s=5.0),
    Choice("fill", 1, ("volume",), longest_s=2.0),
    Choice("remove", 1, SEGMENTS),
    Choice("remove-store", 1, tuple(STORE_FILES)),
    Choice("flip", 1, ("price_book", "tick_ring")),
)
RUN_TIMEOUT_S: Final = 600.0
"""From the last fault on.  Some seconds do, but the machine may have much else to do."""
STALL_S: Final = 5.0
GRACE_S: Final = 2


class ChaosFailed(Exception):
    """The run did not end; the text has its last state."""


class RunStopped(Exception):
    """The run ended before its end; the text is the strategy's last line."""


def disturb(stack: Containers, fault: Fault, seed: int) -> None:
    """Inject the fault, and undo what the restart policy does not.

    Raises:
        APIError, OSError: not possible in the current state.
    """
    action, for_s = fault.action, fault.for_s
    if action == "fill":
        stack.fill()
        time.sleep(for_s)
        stack.free()
    elif action in ("crash", "freeze"):
        pid = stack.inner_pid(fault.target)
        if pid is None:
            raise ProcessLookupError(f"{fault.target} does not run")
        os.kill(pid, signal.SIGKILL if action == "crash" else signal.SIGSTOP)
        if action == "freeze":
            time.sleep(for_s)
            os.kill(pid, signal.SIGCONT)
    elif action == "break":
        stack.break_down(fault.target)
    elif action in ("remove", "flip"):
        for folder in stack.shared_memory():
            if action == "remove":
                (folder / fault.target).unlink(missing_ok=True)
            elif not flip(folder / fault.target, f"{seed}/{fault}"):
                raise FileNotFoundError(fault.target)
            break
    elif action == "remove-store":
        _remove_store(stack, fault.target)
    elif action == "disconnect":
        stack.disconnect(fault.target, for_s)
    else:
        _by_engine(stack.service(fault.target), action, for_s)


def _remove_store(stack: Containers, which: str) -> None:
    """Where the order manager has been up for a moment, and so will notice."""
    pid = stack.inner_pid("order_manager")
    time.sleep(0.5)
    block = stack.metrics("order_manager")
    if (
        pid is None
        or pid != stack.inner_pid("order_manager")
        or not block
        or block.state != "ready"
    ):
        raise ProcessLookupError("order_manager is not ready")
    remove_store(stack.store_folder(), which)


def _by_engine(container: Container, action: str, for_s: float) -> None:
    """Faults that the engine itself can inject."""
    if action == "pause":
        container.pause()
        time.sleep(for_s)
        container.unpause()
    elif action == "restart":
        container.restart(timeout=GRACE_S)
    else:
        container.kill() if action == "kill" else container.stop(timeout=GRACE_S)
        time.sleep(for_s)
        container.start()


def wait_for(stack: Containers, fault: Fault) -> bool:
    """Wait until the strategy reaches the fault's tick or stalls; False if the run is over."""
    seen, since_s = -1, time.monotonic()
    while True:
        tick = stack.counter("strategy", "ticks_consumed")
        if tick >= fault.tick:
            return True
        if tick != seen:
            seen, since_s = tick, time.monotonic()
        elif time.monotonic() - since_s > STALL_S:
            return not stack.run_is_over()
        time.sleep(0.05)


def wait_for_end(stack: Containers, report: RunReport) -> None:
    """Wait until the strategy has ended the run.

    Where the engine leaves a service down for :data:`STALL_S`, ``docker compose up -d`` is run.

    Raises:
        ChaosFailed: timeout, or the run is over but not complete.
    """
    deadline = time.monotonic() + RUN_TIMEOUT_S
    check_s = time.monotonic() + STALL_S
    while not stack.run_is_over():
        if time.monotonic() > deadline:
            states = {c.name: c.status for c in stack.containers()}
            raise ChaosFailed(f"no end within {RUN_TIMEOUT_S:g} s: {states}\n{stack.logs()}")
        if time.monotonic() > check_s:
            check_s = time.monotonic() + STALL_S
            if words := stack.has_stopped():
                raise RunStopped(words)
            if stopped := stack.stopped():
                stack.compose("up", "-d", check=False)
                report.note(f"docker compose up -d, since {', '.join(stopped)} was down")
        time.sleep(0.1)


def run_once(
    seed: int,
    expected: Outcome,
    ticks: int,
    faults: int,
    folder: Path,
    example: Mapping[str, object] = MappingProxyType({}),
) -> Verdict:
    """One run with faults.  ``example``: the settings of an example strategy."""
    plan = draw(seed, faults, ticks, CHOICES)
    report = RunReport(
        folder / f"chaos-containers-{seed}.md",
        f"Chaos on containers, seed {seed}",
        {
            "data": f"market_data.csv, {ticks} ticks",
            "pace": f"{PACE_TICKS_PER_S}/s",
            "settings": dict(example) or "default",
            "undisturbed": expected,
        },
    )
    started_s = time.monotonic()
    log = folder / f"chaos-containers-{seed}.log"
    difference: str | None
    stopped = ""
    try:
        changes = {name.upper(): str(value) for name, value in example.items()}
        with Containers(examples=bool(example), **changes) as stack:
            try:
                _disturb_all(stack, plan, seed, report)
                wait_for_end(stack, report)
                stack.compose("stop", "order_manager")
                outcome = stack.outcome()
            finally:
                log.write_text(stack.logs(tail="all"))
        report.note(f"end of the run: {outcome}")
        difference = first_difference(outcome, expected)
    except RunStopped as error:
        damaged = DAMAGE & {fault.action for fault in plan}
        stopped = str(error) if damaged else ""
        difference = None if damaged else f"stopped: {error}"
    except (ChaosFailed, AssertionError) as error:
        difference = f"no end: {error}"
    end = f"Stopped: {stopped}" if stopped else "Equal."
    report.close(end if difference is None else f"Different: {difference}")
    return Verdict(seed, difference, time.monotonic() - started_s, report.path, stopped)


def _disturb_all(stack: Containers, plan: list[Fault], seed: int, report: RunReport) -> None:
    def one(fault: Fault) -> str:
        try:
            disturb(stack, fault, seed)
            return str(fault)
        except (docker.errors.APIError, OSError, IndexError) as error:
            reason = getattr(error, "explanation", None) or error
            # An interrupted fault may have left the container stopped or paused.
            with contextlib.suppress(docker.errors.APIError):
                if fault.target in SERVICES:
                    container = stack.service(fault.target)
                    container.unpause() if container.status == "paused" else container.start()
            return f"{fault}: not possible now ({reason})"

    for burst in bursts(plan):
        if wait_for(stack, burst[0]):
            inject(burst, one, report)
        else:
            report.note(f"{', '.join(map(str, burst))}: the run was over")


def main(argv: list[str] | None = None) -> int:
    """Run them; 0 if all are equal."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.run_containers", description=__doc__
    )
    parser.add_argument("--examples", action="store_true", help="the example strategies, in turn")
    data = ROOT / "data" / "market_data.csv"
    ticks = data.read_bytes().count(b"\n") - 1

    @functools.cache
    def examples() -> list[Scenario]:
        build_for_examples()
        return example_scenarios()

    def run(seed: int, faults: int, folder: Path) -> Verdict:
        if not parser.parse_args(argv).examples:
            return run_once(seed, undisturbed(data), ticks, faults, folder)
        example = examples()[seed % len(examples())].settings
        return run_once(seed, undisturbed(data, **example), ticks, faults, folder, example)

    return run_seeds(argv, parser, run, runs=100)


if __name__ == "__main__":
    raise SystemExit(main())
