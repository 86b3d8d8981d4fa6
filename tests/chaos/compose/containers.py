"""The containers of a chaos run: a Compose project whose output volume can be filled."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import docker
from docker.models.containers import Container

from app.backtest.outcome import Outcome, of_store
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.snapshot import ProcessSnapshot, read_metrics
from tests.support.compose_stack import SERVICES, ComposeStack
from tests.support.paths import ROOT

PACE_TICKS_PER_S: Final = 4000
BUILD_TIMEOUT_S: Final = 900.0
FILLER: Final = "/srv/out/filler"


class Containers(ComposeStack):
    """A project whose output volume is in memory; an extra container, the holder, keeps it."""

    PREFIX = "trading-chaos"

    def __init__(self, *, examples: bool = False, **settings: str) -> None:
        """``examples``: strategy and page have what the example strategies import."""
        super().__init__(
            **{
                "COMPOSE_FILE": ":".join(_compose_files(examples)),
                "REPLAY": "once",
                "PACE": f"{PACE_TICKS_PER_S}/s",
                "HEALTH_INTERVAL": "1s",
                "HEALTH_PAUSE_S": "0",
                **settings,
            }
        )
        self._holder: Container | None = None

    def __enter__(self) -> Self:
        try:
            self.compose("up", "-d")
            self._holder = self.client.containers.run(
                "trading-shm",
                ["sleep", "3600"],
                name=f"{self.project}-holder",
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

    def __exit__(self, *_: object) -> None:
        for container in self.containers():
            with contextlib.suppress(docker.errors.APIError):
                container.remove(force=True, v=True)
        self.destroy()

    def service(self, name: str) -> Container:
        """The container of a service, with its current state."""
        return self.container(name)

    def inner_pid(self, service: str) -> int | None:
        """The host's process id of a service; None while it does not run."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            return self.pid(service)
        return None

    def metrics(self, service: str) -> ProcessSnapshot | None:
        """The metrics of a service, read through any running container; None if there are none."""
        for folder in self.shared_memory():
            with contextlib.suppress(MetricsError, OSError):
                blocks = read_metrics(f"{folder}/trading_metrics")
                return next((b for b in blocks if b.service == service), None)
        return None

    def shared_memory(self) -> Iterator[Path]:
        """/dev/shm of every container that runs, seen from here."""
        for name in SERVICES:
            if pid := self.service(name).attrs["State"]["Pid"]:
                yield Path(f"/proc/{pid}/root/dev/shm")

    def counter(self, service: str, name: str) -> int:
        """One counter; 0 before the process has started, and in new shared memory."""
        block = self.metrics(service)
        return 0 if block is None else block.counters.get(name, 0)

    def run_is_over(self) -> bool:
        """Whether the strategy has logged the end of the run and exited with 0."""
        strategy = self.service("strategy")
        state = strategy.attrs["State"]
        if state["Running"] or state["ExitCode"] != 0:
            return False
        return b"run_finished" in strategy.logs(tail=80)

    def stopped(self) -> list[str]:
        """The services that do not run."""
        states = {name: self.service(name).attrs["State"] for name in SERVICES}
        return [name for name, s in states.items() if not (s["Running"] or s["Restarting"])]

    def has_stopped(self) -> str:
        """The last words of a strategy whose run is over, but not complete; empty if it is not."""
        if "strategy" not in self.stopped():
            return ""
        lines = self.service("strategy").logs(tail=200).decode().splitlines()
        said = [line for line in lines if "stopped exit_code=" in line and "reason=" in line]
        over = any("run_is_over" in line for line in lines)
        return said[-1] if said and over else ""

    def fill(self) -> None:
        """Fill the output volume to the last byte."""
        assert self._holder is not None
        self._holder.exec_run(["dd", "if=/dev/zero", f"of={FILLER}", "bs=64k"])
        self._holder.exec_run(["sh", "-c", f"cat /dev/zero >> {FILLER}"])

    def free(self) -> None:
        """Free the space again."""
        assert self._holder is not None
        self._holder.exec_run(["rm", "-f", FILLER])

    def store_folder(self) -> Path:
        """The folder of the order store, seen from here."""
        assert self._holder is not None
        return Path(f"/proc/{self._holder.attrs['State']['Pid']}/root/srv/out")

    def outcome(self) -> Outcome:
        """The outcome in the order store of the volume."""
        assert self._holder is not None
        self._holder.reload()
        with tempfile.TemporaryDirectory() as folder:
            for path in self.store_folder().glob("orders.sqlite3*"):
                shutil.copy(path, folder)
            return of_store(Path(folder) / "orders.sqlite3")

    def disconnect(self, service: str, for_s: float) -> None:
        """Disconnect a container from its networks, then reconnect it under its name."""
        networks = self.cut(service)
        time.sleep(for_s)
        self.reconnect(service, networks)


def _compose_files(examples: bool) -> list[str]:
    override = ROOT / "docker-compose.override.yml"
    files = ["docker-compose.yml", *([override.name] if override.exists() else [])]
    own = ["volume.yml", *(["examples.yml"] if examples else [])]
    return [*files, *(f"tests/chaos/compose/{name}" for name in own)]


def build_for_examples() -> None:
    """Build the two images that import an example strategy; nothing else needs pandas."""
    stack = Containers(examples=True)
    try:
        stack.compose("build", "strategy", "dashboard", timeout_s=BUILD_TIMEOUT_S)
    finally:
        stack.client.close()
