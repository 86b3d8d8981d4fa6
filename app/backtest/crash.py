"""``python -m app crash``: crash one process of a running stack, and check its recovery."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import apsw
import click

from app.backtest.compare import CompareError, Comparer, NoOrdersYet
from app.config.loading import settings_or_exit
from app.config.settings import Settings, SettingsError
from app.market_data.sources.errors import DataError
from app.model.wire.frames import json_frame
from app.order_manager.store.files import store_path
from app.order_manager.store.schema import StoreError
from app.runtime.container import ipc_owner
from app.runtime.container.health import HEALTHY_STATES
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.snapshot import ProcessSnapshot, read_metrics
from app.runtime.net.access import connect_orders
from app.runtime.net.receive import read_until
from app.shared_memory_utils.segment import SegmentError
from app.strategy.failure import StrategyError

SERVICES: Final = ("gateway", "orderbook", "strategy", "order_manager")
FREEZE_S: Final = 3.0
HEARTBEAT_AGE_S_MAX: Final = 1.0
ANSWER_TIMEOUT_S: Final = 1.0
NEXT_ORDER_TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.01

Stack = dict[str, ProcessSnapshot]
"""Service -> its newest process; of several strategies, the first."""


class CrashError(Exception):
    """The fault is not possible, or the stack did not recover; the message says why."""


class Before(NamedTuple):
    """What is compared with the state after the fault."""

    started: datetime
    ticks_sent: int
    ticks_lost: int
    run_is_over: bool


def mend() -> str:
    """How to start a container that the engine leaves down; empty outside containers."""
    return "; docker compose up -d starts what is down" if ipc_owner.deployment() else ""


class Watch:
    """Reads a stack's shared counters and asks its order manager."""

    def __init__(self, settings: Settings, service: str) -> None:
        self._settings, self._service = settings, service

    def stack(self) -> Stack:
        """The newest process of each service.

        Raises:
            CrashError: no stack runs here.
        """
        try:
            blocks = read_metrics(self._settings.shm_metrics)
        except (MetricsError, SegmentError) as error:
            raise CrashError(str(error)) from None
        found: Stack = {}
        for block in blocks:
            known = found.get(block.service)
            if known is None or (block.alive, block.started) > (known.alive, known.started):
                found[block.service] = block
        return found

    def before(self) -> Before:
        """The state before the fault.

        Raises:
            CrashError: the stack does not run, or is already in trouble.
        """
        stack = self.stack()
        problem = self._problem(stack)
        if problem:
            raise CrashError(f"the stack is not healthy before the crash: {problem}{mend()}")
        return Before(
            stack[self._service].started,
            stack["gateway"].events,
            stack["strategy"].counters["ticks_lost"],
            stack["strategy"].state == "done",
        )

    def _problem(self, stack: Stack) -> str:
        """The first service that does not work; empty if all do."""
        for service in SERVICES:
            block = stack.get(service)
            if block is None or not (block.alive or block.state == "done"):
                return f"{service} does not run"
            if block.state not in HEALTHY_STATES:
                return f"{service} is {block.state}"
            if block.alive and block.heartbeat_age_s > HEARTBEAT_AGE_S_MAX:
                return f"{service} is silent"
        return "" if self._order_manager_answers() else "order_manager does not answer"

    def _order_manager_answers(self) -> bool:
        try:
            with connect_orders(self._settings, ANSWER_TIMEOUT_S) as connection:
                connection.sendall(json_frame(b'{"op":"ping"}'))
                return bool(json.loads(read_until(connection)[:-1])["ok"])
        except (OSError, ValueError):
            return False

    def problem_after(self, before: Before, killed: bool) -> str:
        """What keeps the stack from being recovered; empty when it is."""
        try:
            stack = self.stack()
        except CrashError as error:
            return str(error)
        problem = self._problem(stack)
        if problem:
            return problem
        if killed and stack[self._service].started == before.started:
            return f"{self._service} was not restarted"
        if not before.run_is_over and stack["strategy"].events <= before.ticks_sent:
            return "the strategy has no tick from after the crash"
        return ""


def signal_process(service: str, pid: int, number: int) -> None:
    """Send a signal to a process of the stack on this host.

    Raises:
        CrashError: there is no such process here.
    """
    with contextlib.suppress(OSError):
        if f"app.{service}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            os.kill(pid, number)
            return
    raise CrashError(f"no process of {service} with id {pid} here; in containers: make crash")


def on_this_host(service: str, fault: str, stack: Stack) -> None:
    """Inject a fault with signals."""
    pid = stack[service].pid
    if fault == "kill":
        return signal_process(service, pid, signal.SIGKILL)
    signal_process(service, pid, signal.SIGSTOP)
    try:
        time.sleep(FREEZE_S)
    finally:
        signal_process(service, pid, signal.SIGCONT)
    return None


def from_outside() -> None:
    """Ask for the fault on standard output; a line on standard input says that it was injected."""
    print("ready", flush=True)
    if not sys.stdin.readline().strip():
        raise CrashError("the fault was not injected")


def wait_for(get_problem: Callable[[], str], timeout_s: float) -> float:
    """Poll until there is no problem; returns the time, CLOCK_MONOTONIC.

    Raises:
        CrashError: timeout; the message is the last problem.
    """
    deadline = time.monotonic() + timeout_s
    while problem := get_problem():
        if time.monotonic() > deadline:
            raise CrashError(f"not recovered within {timeout_s:g} s: {problem}{mend()}")
        time.sleep(POLL_S)
    return time.monotonic()


class Orders:
    """The stored orders of the run, compared with the backtest."""

    def __init__(self, settings: Settings) -> None:
        self._path = store_path(settings)
        self._comparer = Comparer(settings)
        self._last_tick = self._first_comparison()

    def _first_comparison(self) -> int:
        """The tick of the last order; waits for the first one of a run that has just begun."""
        deadline = time.monotonic() + NEXT_ORDER_TIMEOUT_S
        while True:
            try:
                return self._compare()[2]
            except NoOrdersYet:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _compare(self) -> tuple[int, int, int]:
        found = self._comparer.compare(self._path)
        last = max(order.tick for each in found for order in each.stored.orders)
        return sum(each.lost for each in found), sum(each.doubled for each in found), last

    def lost_and_doubled(self) -> tuple[int, int]:
        """Compare again, if possible after the first order since the crash."""
        deadline = time.monotonic() + NEXT_ORDER_TIMEOUT_S
        lost, doubled, last = self._compare()
        while last == self._last_tick and time.monotonic() < deadline:
            time.sleep(0.2)
            lost, doubled, last = self._compare()
        return lost, doubled


def crash(settings: Settings, service: str, fault: str, outside: bool, timeout_s: float) -> int:
    """Inject the fault, watch the recovery and print the result; returns the exit code."""
    if settings.trading_mode != "replay":
        raise CrashError("orders are compared with a backtest, which needs TRADING_MODE=replay")
    watch = Watch(settings, service)
    watch.before()  # fail early: the comparison reads all data
    orders = Orders(settings)
    before, stack = watch.before(), watch.stack()
    started_s = time.monotonic()
    if outside:
        from_outside()
    else:
        on_this_host(service, fault, stack)
    recovered_s = wait_for(lambda: watch.problem_after(before, fault == "kill"), timeout_s)
    lost, doubled = orders.lost_and_doubled()
    lost += watch.stack()["strategy"].counters["ticks_lost"] - before.ticks_lost
    print(f"recovered in {recovered_s - started_s:.1f} s, {lost} lost, {doubled} doubled")
    return 1 if lost or doubled else 0


@click.command()
@click.argument("service", type=click.Choice(SERVICES))
@click.option(
    "--fault", type=click.Choice(("kill", "freeze", "cut")), default="kill", show_default=True
)
@click.option("--timeout", "timeout_s", type=float, default=60.0, show_default=True)
@click.option("--outside", is_flag=True, hidden=True, help="images/crash.sh injects the fault")
def command(service: str, fault: str, timeout_s: float, outside: bool) -> int:
    """Exit code 0: recovered, nothing lost or doubled; 1: not; 2: wrong usage or settings.

    kill: SIGKILL.  freeze: SIGSTOP for 3 s.  cut: all its connections break (make crash on
    containers only).

    Recovered: all four processes are healthy, the killed one is a new one, the order manager
    answers, and the strategy has a tick that was sent after the fault.  Lost: ticks that the
    strategy did not see, and orders that a backtest of the same ticks sends and the store does not
    have.  Doubled: orders and fills that only the store has.
    """
    settings = settings_or_exit("crash")
    try:
        if fault == "cut" and not outside:
            raise CrashError("FAULT=cut disconnects a container from its network: containers only")
        return crash(settings, service, fault, outside, timeout_s)
    except (
        CrashError, CompareError, DataError, SettingsError, StoreError, StrategyError, OSError,
        apsw.Error,
    ) as error:  # fmt: skip
        print(f"crash: {error}", file=sys.stderr)
        return 1
