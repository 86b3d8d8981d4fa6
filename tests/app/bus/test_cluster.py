"""Three brokers and two shards in containers: what the stores have is on the bus, through kills."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from tests.support.bus.history import expected, published
from tests.support.children import eventually
from tests.support.environ import default_environ
from tests.support.paths import ROOT
from tests.support.ports import free_ports

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(900)]

SHARDS = ("a", "b")


class ContainerCluster:
    """What images/cluster/cluster.sh runs, under names of its own."""

    def __init__(self, folder: Path) -> None:
        self.name = f"trading-test-{os.getpid()}"
        (port,) = free_ports(1)
        ports = ("PRICE", "SENTIMENT", "ORDER", "DASHBOARD", "PORTFOLIO")
        self.environ = {
            **default_environ(),
            "CLUSTER": self.name,
            "SHARDS": " ".join(SHARDS),
            "BUS_KEYS": str(folder / "keys"),
            "DASHBOARD_PORT": "8080",
            "CONTROL_PORT": "9003",
            "PACE": "500/s",
            **{f"PUBLISHED_{name}_PORT": str(port + n) for n, name in enumerate(ports)},
        }

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run cluster.sh; returns what it printed to stdout."""
        done = subprocess.run(
            [ROOT / "images/cluster/cluster.sh", *arguments],
            env=self.environ, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def engine(self, *arguments: str) -> str:
        """Run docker."""
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    def store(self, shard: str, folder: Path) -> Path:
        """A copy of the shard's order store."""
        path = folder / f"{shard}-{time.monotonic_ns()}.sqlite3"
        with path.open("wb") as file:
            subprocess.run(
                [ROOT / "images/cluster/cluster.sh", "shard", shard, "exec", "-T", "order_manager",
                 "python3", "-m", "app", "store", "backup", "-"],
                env=self.environ, stdout=file, timeout=120, check=True,
            )  # fmt: skip
        return path

    def published(self, shard: str) -> list[dict]:
        """What is on the bus."""
        lines = self.run(
            "bus", "run", "--rm", "-T", "setup", "python3", "-m", "app.bus", "read", shard
        )
        return [json.loads(line) for line in lines.splitlines() if line.startswith("{")]


@pytest.fixture
def containers(images: None, tmp_path: Path) -> Iterator[ContainerCluster]:
    made = ContainerCluster(tmp_path)
    made.run("build")
    try:
        made.run("up")
        yield made
    finally:
        made.run("down", "-v", check=False)


def orders_of(path: Path) -> int:
    connection = apsw.Connection(str(path))
    count = connection.execute("SELECT count(*) FROM orders").get
    connection.close()
    return int(count)


def test_two_shards_publish_all_their_orders_through_kills(
    containers: ContainerCluster, tmp_path: Path
) -> None:
    name = containers.name
    for number in (1, 2, 3):
        containers.engine("kill", "--signal", "KILL", f"{name}-bus-broker-{number}-1")
        containers.engine("kill", "--signal", "KILL", f"{name}-{SHARDS[number % 2]}-shard-1")
        time.sleep(2)
        # To the engine, its own kill is a manual stop.
        containers.run("bus", "up", "-d", "--wait", "broker-1", "broker-2", "broker-3")
        for shard in SHARDS:
            containers.run("shard", shard, "up", "-d")
    stores = []
    for shard in SHARDS:
        containers.run("shard", shard, "stop", "strategy")

        def is_complete(shard: str = shard) -> bool:
            status = containers.run(
                "shard", shard, "exec", "-T", "shard", "python3", "-m", "app.bus", "status",
                check=False,
            )  # fmt: skip
            return bool(status) and json.loads(status)["lag_rows"] == 0

        eventually(is_complete, f"{shard} is complete", 120, poll_s=1, ignore=(ValueError,))
        path = containers.store(shard, tmp_path)
        assert orders_of(path) > 50
        assert published(containers.published(shard)) == expected(path)
        stores.append(f"{shard}={path}")

    def is_equal() -> bool:
        """The portfolio's books, as they are now, against the stores."""
        books = tmp_path / f"books-{time.monotonic_ns()}"
        containers.engine("cp", f"{name}-bus-portfolio-1:/srv/out/.", str(books))
        command = [sys.executable, "-m", "app", "portfolio", "verify", *stores]
        command += ["--books", str(books / "portfolio.sqlite3")]
        return subprocess.run(command, cwd=ROOT, check=False).returncode == 0

    eventually(is_equal, "the portfolio has the sum of the stores", 60, poll_s=1)
    # Its own users only: no password of another shard is in the container.
    creds = containers.run("shard", "b", "exec", "-T", "shard", "cat", "/run/secrets/bus_creds")
    assert creds.startswith("shard-b:")
