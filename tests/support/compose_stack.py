"""A Compose project for one test: free ports, a unique name, always removed."""

import io
import json
import os
import secrets
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import docker
from docker.models.containers import Container

from tests.support import children
from tests.support.environ import default_environ
from tests.support.paths import ROOT
from tests.support.ports import free_ports

PROCESSES = ("gateway", "orderbook", "strategy", "order_manager", "dashboard")
SERVICES = ("shm", *PROCESSES)
IMAGES = {service: f"trading-{service.replace('_', '-')}" for service in SERVICES}

# Runs in a container of the stack; prints every block of the metrics segment as JSON.
_COUNTERS = """
import json, os
from app.runtime.metrics.snapshot import read_metrics
name = os.environ["SHM_METRICS"]
print(json.dumps([[b.service, b.instance, b.state, b.restarts, b.counters]
                  for b in read_metrics(name)]))
"""

T = TypeVar("T")


def _child_of(pid: int) -> int:
    """Its first child.  Raises OSError or IndexError if there is none."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def eventually(get: Callable[[], T], what: str, deadline_s: float) -> T:
    """Like that of ``children``, but an error from the engine means: try again."""
    ignore = (docker.errors.APIError, subprocess.CalledProcessError, ValueError)
    return children.eventually(get, what, deadline_s, poll_s=0.1, ignore=ignore)


class ComposeStack:
    """One Compose project; ``settings`` override .env, as a user's shell does."""

    PREFIX = "trading-test"

    def __init__(self, **settings: str) -> None:
        self.project = f"{self.PREFIX}-{secrets.token_hex(4)}"
        self.price_port, self.sentiment_port, self.order_port, self.page_port = free_ports(4)
        self.environ = {
            **default_environ(),
            "COMPOSE_PROJECT_NAME": self.project,
            "PUBLISHED_PRICE_PORT": str(self.price_port),
            "PUBLISHED_SENTIMENT_PORT": str(self.sentiment_port),
            "PUBLISHED_ORDER_PORT": str(self.order_port),
            "PUBLISHED_DASHBOARD_PORT": str(self.page_port),
            "DASHBOARD_PORT": "8080",
            "CONTROL_PORT": "9003",
            "DATA_DIR": "",  # as settings: whatever the shell says
            "STRATEGY_DIR": "",
            **settings,
        }
        self.client = docker.from_env()

    def compose(
        self, *arguments: str, check: bool = True, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker compose ...`` on this project; fails with its output unless it exits 0."""
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=ROOT,
            env=self.environ,
            text=True,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(
                f"docker compose {' '.join(arguments)}: exit code {done.returncode}\n"
                f"{done.stdout[-4000:]}{done.stderr[-4000:]}\n{self.logs()}"
            )
        return done

    def up(self, *arguments: str) -> float:
        """``up -d --wait``; returns the seconds it took."""
        started = time.monotonic()
        self.compose("up", "-d", "--wait", *arguments)
        return time.monotonic() - started

    def logs(self, service: str = "", tail: str = "60") -> str:
        """The last log lines of one service, or of all; ``tail="all"``: every line."""
        arguments = ["docker", "compose", "logs", "--no-color", "--tail", tail]
        return subprocess.run(
            [*arguments, service] if service else arguments,
            cwd=ROOT,
            env=self.environ,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        ).stdout

    def containers(self, service: str = "") -> list[Container]:
        """All containers of the project or of one service, running or not."""
        labels = [f"com.docker.compose.project={self.project}"]
        if service:
            labels.append(f"com.docker.compose.service={service}")
        return self.client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)

    def container(self, service: str) -> Container:
        """The one container of ``service``."""
        (found,) = self.containers(service)
        return found

    def run_in(self, service: str, *command: str) -> tuple[int, str]:
        """Exit code and output of a command in the container of ``service``."""
        code, output = self.container(service).exec_run(list(command))
        return code, output.decode()

    def counters(self, service: str = "strategy") -> list[dict[str, int]]:
        """Counters and restarts of every process of ``service``, read from shared memory."""
        code, output = self.run_in("orderbook", "python3", "-c", _COUNTERS)
        if code:
            raise ValueError(output)
        return [
            {**counters, "restarts": restarts}
            for name, _, _, restarts, counters in json.loads(output)
            if name == service
        ]

    def crash(self, service: str) -> None:
        """SIGKILL the process inside: it starts again in its container."""
        os.kill(self.pid(service), 9)

    def break_down(self, service: str) -> None:
        """SIGKILL its init: unlike after ``docker kill``, the restart policy applies."""
        pid = self.container(service).attrs["State"]["Pid"]
        if not pid:  # 0 would be the process group of this test
            raise ProcessLookupError(f"{service} does not run")
        os.kill(pid, 9)

    def cut(self, service: str) -> list[str]:
        """Disconnect a container from all its networks; returns them, for :meth:`reconnect`."""
        container = self.container(service)
        networks = list(container.attrs["NetworkSettings"]["Networks"])
        for network in networks:
            self.client.networks.get(network).disconnect(container, force=True)
        return networks

    def reconnect(self, service: str, networks: list[str]) -> None:
        """Connect a container again, under the name of its service."""
        for network in networks:
            self.client.networks.get(network).connect(self.container(service), aliases=[service])

    def pid(self, service: str) -> int:
        """The host's process id of ``service``: the only child of the keeper, that of the init."""
        return _child_of(_child_of(self.container(service).attrs["State"]["Pid"]))

    def health(self, service: str) -> str:
        """``starting``, ``healthy`` or ``unhealthy``; the container's state if it does not run."""
        state = self.container(service).attrs["State"]
        return str(state["Health"]["Status"] if state["Running"] else state["Status"])

    def started_at(self, service: str) -> str:
        """When the container of ``service`` was last started."""
        return str(self.container(service).attrs["State"]["StartedAt"])

    def file_from(self, service: str, path: str) -> bytes:
        """A file of the container of ``service``, running or not, volumes included."""
        chunks, _ = self.containers(service)[0].get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            member = archive.extractfile(Path(path).name)
            assert member is not None, path
            return member.read()

    def down(self) -> float:
        """Remove everything, volumes included; returns the seconds it took."""
        started = time.monotonic()
        self.compose("down", "--volumes", "--remove-orphans")
        return time.monotonic() - started

    def destroy(self) -> None:
        """``down`` that never fails: for the end of a test that may have failed."""
        down = ("down", "--volumes", "--remove-orphans", "--timeout", "2")
        self.compose(*down, check=False)
        left = self.containers()  # of a "run" whose command was interrupted
        for container in left:
            container.remove(force=True)
        if left:
            self.compose(*down, check=False)
        self.client.close()
