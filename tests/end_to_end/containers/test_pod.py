"""A shard as a Pod, without a cluster: the engine's containers share what those of a Pod share.

A sandbox owns the IPC and the network namespace, as the pause container of a Pod does; images,
commands, variables, users, limits and mounts are those of the rendered manifests.  ``/dev/shm`` is
a folder of a tmpfs that each container mounts, as an ``emptyDir`` of medium Memory is.
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

pytest.importorskip("kubernetes_validate", reason="the images have no Kubernetes schemas")

from app.backtest.outcome import first_difference, of_store
from tests.chaos.run_host import undisturbed
from tests.end_to_end.hardening.kubernetes.manifests import (
    BASE,
    Document,
    bytes_of,
    containers,
    environ_of,
    pods,
    rendered,
)
from tests.support.children import eventually
from tests.support.paths import ROOT

pytestmark = [
    pytest.mark.container,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("images"),
]

PROCESSES = ("gateway", "orderbook", "order-manager", "strategy")
UID = 10001
DATA = ROOT / "data" / "market_data.csv"
RUN = {"DATA_PATH": "data/market_data.csv", "REPLAY": "once", "BUS_URL": "", "LOG_FORMAT": "text"}
"""Instead of the bus, which the other containers of the Pod would need."""


class Pod:
    """The sandbox and the containers of one shard; always removed."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.documents = rendered(BASE)
        self.spec: Document = dict(pods(self.documents))["shard"]
        self.settings = RUN | settings
        self.folder = folder
        self.name = f"trading-test-pod-{secrets.token_hex(4)}"
        self.memory = Path("/dev/shm") / self.name
        self.engine = docker.from_env()
        self.made: list[Container] = []
        for each in (self.memory, *(folder / part for part in ("run", "live", "out", "reports"))):
            each.mkdir()
            os.chown(each, 0, UID)
            each.chmod(0o2770)
        folder.chmod(0o755)

    def start(self, names: tuple[str, ...] = PROCESSES) -> None:
        """The sandbox, then the sidecar, and when its probe passes the processes, all at once."""
        self.made.append(
            self.engine.containers.run(
                "trading-shm", ["sleep", "3600"], name=f"{self.name}-sandbox", detach=True,
                ipc_mode="shareable", network_mode="none", init=True,
            )
        )  # fmt: skip
        self.run("shm")
        eventually(lambda: self.probe("shm"), "the sidecar has started", 30.0, poll_s=0.1)
        for name in names:
            self.run(name)

    def run(self, name: str) -> None:
        """Start one container of the manifest."""
        container = self.of(name)
        limits = container["resources"]["limits"]
        sandbox = f"container:{self.name}-sandbox"
        self.made.append(
            self.engine.containers.run(
                container["image"],
                container.get("command"),
                name=f"{self.name}-{name}",
                detach=True,
                ipc_mode=sandbox,
                network_mode=sandbox,
                user=f"{UID}:{UID}",
                read_only=container["securityContext"]["readOnlyRootFilesystem"],
                cap_drop=container["securityContext"]["capabilities"]["drop"],
                security_opt=["no-new-privileges:true"],
                mem_limit=bytes_of(limits["memory"]),
                environment=environ_of(self.documents, container) | self.settings,
                volumes=self._volumes(container),
                tmpfs={"/tmp": "size=16m"},
                restart_policy={"Name": "on-failure"},  # as the kubelet, but for a run that is over
            )
        )

    def _volumes(self, container: Document) -> list[str]:
        sources = {"dev-shm": lambda _: self.memory, "store": lambda m: self.folder / m["subPath"]}
        mounted = [
            f"{sources[mount['name']](mount)}:{mount['mountPath']}"
            for mount in container["volumeMounts"]
            if mount["name"] in sources
        ]
        return [*mounted, f"{ROOT / 'data'}:/srv/data:ro"]

    def of(self, name: str) -> Document:
        """The container of the manifest."""
        return next(each for each in containers(self.spec) if each["name"] == name)

    def __getitem__(self, name: str) -> Container:
        return next(each for each in self.made if each.name == f"{self.name}-{name}")

    def probe(self, name: str, kind: str = "startupProbe") -> bool:
        """Whether a probe passes."""
        code: int = self[name].exec_run(self.of(name)[kind]["exec"]["command"]).exit_code
        return code == 0

    def logs(self) -> str:
        """The end of every container's log."""
        return "\n".join(c.logs(tail=15).decode() for c in self.made[1:])

    def wait_end(self) -> None:
        """Wait for the end of the strategy's run, and that it was complete."""

        def ended() -> bool:
            return b" run_finished complete=True " in self["strategy"].logs(tail=5)

        eventually(ended, f"the run ends\n{self.logs()}", 120.0, poll_s=0.2)

    def close(self) -> None:
        """Remove everything."""
        for each in reversed(self.made):
            each.remove(force=True)
        shutil.rmtree(self.memory, ignore_errors=True)


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    folder = tmp_path / "store"
    folder.mkdir()
    made = Pod(folder, PACE="max")
    try:
        yield made
    finally:
        made.close()


def test_a_shard_trades_in_a_pod_as_in_the_backtest(pod: Pod) -> None:
    pod.start()
    for name in ("gateway", "orderbook", "order-manager"):
        eventually(lambda name=name: pod.probe(name), f"{name} is healthy", 60.0, poll_s=0.2)
    pod.wait_end()
    assert first_difference(of_store(pod.folder / "out/orders.sqlite3"), undisturbed(DATA)) is None
    assert {path.name for path in pod.memory.iterdir()} >= {"ipc_owner", "price_book", "tick_ring"}


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["order-manager", "strategy", "shm"])
def test_a_killed_container_of_a_pod_is_started_again_and_trades_the_same(
    pod: Pod, victim: str
) -> None:
    pod.settings["PACE"] = "6000/s"
    pod.start()

    def trades() -> bool:
        return pod["order-manager"].logs().count(b"Received Order") > 20

    eventually(trades, "orders are filled", 60.0, poll_s=0.1)
    pod[victim].kill()
    time.sleep(0.5)
    pod[victim].start()  # the engine itself restarts none that was killed on request
    pod.wait_end()
    assert first_difference(of_store(pod.folder / "out/orders.sqlite3"), undisturbed(DATA)) is None
