"""Chaos on the containers: every service, the owner of the shared memory included.

``python -m tests.chaos.run_containers --runs 50 --seed 1`` (``make chaos``) compares each run with
the backtest of the same data and says equal, or shows the first difference.  Run ``i`` has the seed
``seed + i``.  It touches only containers of projects that it started itself.
"""

import argparse
import contextlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import docker
from docker.models.containers import Container

from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.snapshot import ProcessSnapshot, read_metrics
from tests.chaos.plan import Account, Choice, Fault, draw
from tests.chaos.run_host import Verdict, undisturbed
from tests.support.compose_stack import PROCESSES, SERVICES, ComposeStack
from tests.support.outcome import Outcome, first_difference, of_store
from tests.support.paths import ROOT

ON_NETWORK: Final = PROCESSES
CHOICES: Final = (
    Choice("crash", 4, SERVICES),
    Choice("kill", 2, SERVICES, longest_s=2.0),
    Choice("stop", 2, SERVICES, longest_s=2.0),
    Choice("restart", 2, SERVICES),
    Choice("pause", 2, SERVICES, longest_s=4.0),
    Choice("freeze", 2, PROCESSES, longest_s=4.0),
    Choice("disconnect", 2, ON_NETWORK, longest_s=5.0),
    Choice("fill", 1, ("volume",), longest_s=2.0),
)
PACE_TICKS_PER_S: Final = 4000
RUN_TIMEOUT_S: Final = 150.0
STALL_S: Final = 5.0
GRACE_S: Final = 2
FILLER: Final = "/srv/out/filler"


class ChaosFailed(Exception):
    """The run did not end; the text says what was seen last."""


class Containers(ComposeStack):
    """A project whose output volume lives in memory, kept alive and read by a container of ours."""

    PREFIX = "trading-chaos"

    def __init__(self, **settings: str) -> None:
        super().__init__(
            **{
                "COMPOSE_FILE": ":".join(_compose_files()),
                "REPLAY": "once",
                "PACE": f"{PACE_TICKS_PER_S}/s",
                "HEALTH_INTERVAL": "1s",
                "HEALTH_PAUSE_S": "0",
                **settings,
            }
        )
        self._keeper: Container | None = None

    def __enter__(self) -> Self:
        try:
            self.compose("up", "-d")
            self._keeper = self.client.containers.run(
                "trading-shm",
                ["sleep", "3600"],
                name=f"{self.project}-keeper",
                user="10001:10001",
                network_mode="none",
                labels={"com.docker.compose.project": self.project},
                volumes={f"{self.project}_output": {"bind": "/srv/out", "mode": "rw"}},
                detach=True,
                init=True,
            )
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for container in self.containers():
            with contextlib.suppress(docker.errors.APIError):
                container.remove(force=True, v=True)
        self.destroy()

    def service(self, name: str) -> Container:
        """The container of a service, its state looked up now."""
        return self.container(name)

    def inner_pid(self, service: str) -> int | None:
        """The process inside, as this host sees it; None while there is none."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            return self.pid(service)
        return None

    def metrics(self, service: str) -> ProcessSnapshot | None:
        """The counters of a service, read through any process that sees them; None without one."""
        for name in ("shm", *PROCESSES):
            pid = self.service(name).attrs["State"]["Pid"]
            with contextlib.suppress(MetricsError, OSError):
                if pid:
                    blocks = read_metrics(f"/proc/{pid}/root/dev/shm/trading_metrics")
                    return next((b for b in blocks if b.service == service), None)
        return None

    def counter(self, service: str, name: str) -> int:
        """One counter; 0 before the process has begun, and in a new shared memory."""
        block = self.metrics(service)
        return 0 if block is None else block.counters.get(name, 0)

    def run_is_over(self) -> bool:
        """Whether the strategy has said that the run is over, and ended."""
        strategy = self.service("strategy")
        state = strategy.attrs["State"]
        if state["Running"] or state["ExitCode"] != 0:
            return False
        return b"run_finished" in strategy.logs(tail=80)

    def start_the_dead(self) -> list[str]:
        """Start whatever is not running; the names of those that were not."""
        started = []
        for name in SERVICES:
            container = self.service(name)
            state = container.attrs["State"]
            if (
                state["Running"]
                or state["Restarting"]
                or (name == "strategy" and self.run_is_over())
            ):
                continue
            with contextlib.suppress(docker.errors.APIError):
                container.start()
                started.append(name)
        return started

    def fill(self) -> None:
        """Leave no free byte in the output volume."""
        assert self._keeper is not None
        self._keeper.exec_run(["dd", "if=/dev/zero", f"of={FILLER}", "bs=64k"])
        self._keeper.exec_run(["sh", "-c", f"cat /dev/zero >> {FILLER}"])

    def free(self) -> None:
        """Give the space back."""
        assert self._keeper is not None
        self._keeper.exec_run(["rm", "-f", FILLER])

    def outcome(self) -> Outcome:
        """What the order store in the volume holds."""
        assert self._keeper is not None
        self._keeper.reload()
        source = Path(f"/proc/{self._keeper.attrs['State']['Pid']}/root/srv/out")
        with tempfile.TemporaryDirectory() as folder:
            for path in source.glob("orders.sqlite3*"):
                shutil.copy(path, folder)
            return of_store(Path(folder) / "orders.sqlite3")

    def disconnect(self, service: str, for_s: float) -> None:
        """Take a container off the network, and put it back under its name."""
        network = self.client.networks.get(f"{self.project}_default")
        container = self.service(service)
        network.disconnect(container, force=True)
        time.sleep(for_s)
        network.connect(container, aliases=[service])


def _compose_files() -> list[str]:
    override = ROOT / "docker-compose.override.yml"
    files = ["docker-compose.yml", *([override.name] if override.exists() else [])]
    return [*files, "tests/chaos/volume.yml"]


def disturb(stack: Containers, fault: Fault) -> None:
    """Do it, and undo what the restart policy does not.

    Raises:
        APIError, OSError: it could not be done now.
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
    elif action == "disconnect":
        stack.disconnect(fault.target, for_s)
    else:
        _by_engine(stack.service(fault.target), action, for_s)


def _by_engine(container: Container, action: str, for_s: float) -> None:
    """What Docker itself offers."""
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
    """Until the strategy comes to the fault's tick, or stands still; False when the run is over."""
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


def wait_for_end(stack: Containers, account: Account) -> None:
    """Until the strategy has ended the run; starts again what the engine has given up.

    Raises:
        ChaosFailed: the time is over.
    """
    deadline = time.monotonic() + RUN_TIMEOUT_S
    look_s = time.monotonic() + STALL_S
    while not stack.run_is_over():
        if time.monotonic() > deadline:
            states = {c.name: c.status for c in stack.containers()}
            raise ChaosFailed(f"no end within {RUN_TIMEOUT_S:g} s: {states}\n{stack.logs()}")
        if time.monotonic() > look_s:
            look_s = time.monotonic() + STALL_S
            started = stack.start_the_dead()
            if started:
                account.note(f"start {', '.join(started)}, as an operator would")
        time.sleep(0.1)


def run_once(seed: int, expected: Outcome, ticks: int, faults: int, folder: Path) -> Verdict:
    """One run under faults."""
    plan = draw(seed, faults, ticks, CHOICES)
    account = Account(
        folder / f"chaos-containers-{seed}.md",
        f"Chaos on containers, seed {seed}",
        {
            "data": f"market_data.csv, {ticks} ticks",
            "pace": f"{PACE_TICKS_PER_S}/s",
            "undisturbed": expected,
        },
    )
    started_s = time.monotonic()
    log = folder / f"chaos-containers-{seed}.log"
    difference: str | None
    try:
        with Containers() as stack:
            try:
                _disturb_all(stack, plan, account)
                wait_for_end(stack, account)
                stack.compose("stop", "order_manager")
                outcome = stack.outcome()
            finally:
                log.write_text(stack.logs(tail="all"))
        account.note(f"end of the run: {outcome}")
        difference = first_difference(outcome, expected)
    except (ChaosFailed, AssertionError) as error:
        difference = f"no end: {error}"
    account.close("Equal." if difference is None else f"Different: {difference}")
    return Verdict(seed, difference, time.monotonic() - started_s, account.path)


def _disturb_all(stack: Containers, plan: list[Fault], account: Account) -> None:
    for fault in plan:
        if not wait_for(stack, fault):
            account.note(f"{fault}: the run was over")
            continue
        tick, at_s = stack.counter("strategy", "ticks_consumed"), time.monotonic()
        try:
            disturb(stack, fault)
            account.note(str(fault), tick, at_s)
        except (docker.errors.APIError, OSError) as error:
            reason = getattr(error, "explanation", None) or error
            account.note(f"{fault}: not possible now ({reason})", tick, at_s)
            # A fault that was cut short may have left the container down or paused.
            with contextlib.suppress(docker.errors.APIError):
                if fault.target in SERVICES:
                    container = stack.service(fault.target)
                    container.unpause() if container.status == "paused" else container.start()


def main(argv: list[str] | None = None) -> int:
    """Run them; 0 if every one is equal."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run_containers")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "out" / "chaos")
    arguments = parser.parse_args(argv)
    data = ROOT / "data" / "market_data.csv"
    expected, ticks = undisturbed(data), data.read_bytes().count(b"\n") - 1
    different = 0
    for seed in range(arguments.seed, arguments.seed + arguments.runs):
        verdict = run_once(seed, expected, ticks, arguments.faults, arguments.out)
        how = "equal" if verdict.difference is None else f"different: {verdict.difference}"
        print(f"seed {seed}: {how} ({verdict.took_s:.1f} s, {verdict.account})", flush=True)
        different += verdict.difference is not None
    print(f"{arguments.runs - different} of {arguments.runs} runs equal")
    return different > 0


if __name__ == "__main__":
    raise SystemExit(main())
