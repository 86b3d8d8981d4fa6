"""Brokers, sequencer and shards in containers: they trade as one machine does, through kills."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from app.backtest.outcome import of_store
from app.bus.shard_map import spread
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from tests.app.bus.feed.running import SAMPLE
from tests.app.bus.feed.trades import check_all
from tests.support.bus.history import expected, published
from tests.support.children import eventually
from tests.support.environ import default_environ
from tests.support.paths import ROOT
from tests.support.ports import free_ports

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(900)]

SHARDS = ("a", "b")


class ContainerCluster:
    """What images/cluster/cluster.sh runs, under names of its own."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.name = f"trading-test-{os.getpid()}"
        (port,) = free_ports(1)
        ports = ("PRICE", "SENTIMENT", "ORDER", "DASHBOARD", "PORTFOLIO")
        self.environ = {
            **default_environ(),
            "CLUSTER": self.name,
            "IMAGES": os.environ.get("IMAGES", "trading"),
            "BUS_KEYS": str(folder / "keys"),
            "DASHBOARD_PORT": "8080",
            "CONTROL_PORT": "9003",
            **settings,
            **{f"PUBLISHED_{name}_PORT": str(port + n) for n, name in enumerate(ports)},
        }

    def start(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run cluster.sh."""
        return subprocess.run(
            [ROOT / "images/cluster/cluster.sh", *arguments],
            env=self.environ | settings, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip

    def refusal(self, **settings: str) -> str:
        """The last line of ``cluster.sh up``, which fails with these settings."""
        done = self.start("up", **settings)
        assert done.returncode == 1, done
        return done.stderr.splitlines()[-1]

    def run(self, *arguments: str, check: bool = True, **settings: str) -> str:
        """Run cluster.sh; returns what it printed to stdout."""
        done = self.start(*arguments, **settings)
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
        yield made
    finally:
        made.run("down", "-v", check=False)


def orders_of(path: Path) -> int:
    connection = apsw.Connection(str(path))
    count = connection.execute("SELECT count(*) FROM orders").get
    connection.close()
    return int(count)


def is_published(containers: ContainerCluster, shard: str) -> bool:
    """Whether the bus has all of the shard's store."""
    status = containers.run(
        "shard", shard, "exec", "-T", "shard", "python3", "-m", "app.bus", "status", check=False
    )
    return bool(status) and json.loads(status)["lag_rows"] == 0


def has_ended(containers: ContainerCluster, shard: str) -> bool:
    """Whether the shard's strategy has come to the end of its run."""
    name = f"{containers.name}-{shard}-strategy-1"
    return containers.engine("inspect", "-f", "{{.State.Status}}", name).strip() == "exited"


def test_two_shards_trade_as_one_machine_through_kills(
    containers: ContainerCluster, tmp_path: Path
) -> None:
    """Sequencer, broker, gateway, publisher, strategy and order manager are killed."""
    containers.environ |= {"REPLAY": "once", "PACE": "150/s"}
    containers.run("up")
    name = containers.name
    for number, inside in enumerate(("gateway", "strategy", "order_manager"), 1):
        shard, other = SHARDS[number % 2], SHARDS[(number + 1) % 2]
        for victim in (
            "bus-sequencer", f"bus-broker-{number}", f"{shard}-{inside}", f"{other}-shard",
        ):  # fmt: skip
            containers.engine("kill", "--signal", "KILL", f"{name}-{victim}-1")
        time.sleep(2)
        # To the engine, its own kill is a manual stop.
        containers.run("up")
    outcomes, stores = {}, []
    for shard in SHARDS:
        eventually(
            lambda shard=shard: has_ended(containers, shard),
            f"{shard} is at its end",
            400,
            poll_s=1,
        )
        eventually(
            lambda shard=shard: is_published(containers, shard), f"{shard} is published", 120,
            poll_s=1, ignore=(ValueError,),
        )  # fmt: skip
        path = containers.store(shard, tmp_path)
        assert orders_of(path) > 200
        assert published(containers.published(shard)) == expected(path)
        outcomes[shard] = of_store(path)
        stores.append(f"{shard}={path}")
    symbols = open_feed(Settings(data_path=str(SAMPLE), replay="once")).symbols
    dealt = {shard: list(its) for shard, its in spread(symbols, SHARDS, 1).shards.items()}
    check_all(outcomes, tmp_path, SAMPLE, dealt)

    def is_equal() -> bool:
        """The portfolio's books, as they are now, against the stores."""
        books = tmp_path / f"books-{time.monotonic_ns()}"
        containers.engine("cp", f"{name}-bus-portfolio-1:/srv/out/.", str(books))
        command = [sys.executable, "-m", "app", "portfolio", "verify", *stores]
        command += ["--books", str(books / "portfolio.sqlite3")]
        return subprocess.run(command, cwd=ROOT, check=False).returncode == 0

    eventually(is_equal, "the portfolio has the sum of the stores", 60, poll_s=1)
    # Its own users only: no password of another shard, or of another process, is in a container.
    for service, secret, user in (
        ("shard", "bus_creds", "shard-b:"), ("gateway", "gateway_creds", "gateway-b:"),
    ):  # fmt: skip
        found = containers.run(
            "shard", "b", "exec", "-T", service, "sh", "-c", "cat /run/secrets/*_creds"
        )
        assert found.startswith(user), (secret, found.partition(":")[0])
        assert len(found.splitlines()) == 1


def test_a_shard_is_added_while_the_others_trade(
    containers: ContainerCluster, tmp_path: Path
) -> None:
    """Brokers are made anew, one at a time; the new shard trades what is moved to it."""
    containers.environ |= {"PACE": "500/s"}
    none = tmp_path / "none.json"
    assert containers.refusal(SHARD_MAP=str(none)) == f"cluster: SHARD_MAP={none}: no such file"
    part = tmp_path / "map.json"
    part.write_text(json.dumps({"version": 1, "shards": {"a": ["KO"], "b": ["F"]}}))
    part.chmod(0o644)
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    said = containers.refusal(SHARD_MAP=str(part))
    assert "and 7 more: in the data, on no shard: add it to one" in said
    containers.run("up")
    before = {shard: orders_of(containers.store(shard, tmp_path)) for shard in SHARDS}
    containers.run("up", SHARDS="a b c")
    assert "shard c runs and is not in SHARDS" in containers.refusal(SHARDS="a b")
    moved = containers.run(
        "bus", "run", "--rm", "-T", "setup", "python3", "-m", "app.bus", "move", "KO", "--to", "c"
    )
    assert "map version 3: KO from shard " in moved
    eventually(lambda: orders_of(containers.store("c", tmp_path)) > 20, "c trades", 120, poll_s=2)
    for shard in (*SHARDS, "c"):
        eventually(
            lambda shard=shard: is_published(containers, shard), f"{shard} is published", 120,
            poll_s=1, ignore=(ValueError,),
        )  # fmt: skip
        assert orders_of(containers.store(shard, tmp_path)) > before.get(shard, 0)
        compared = containers.run(
            "shard", shard, "run", "--rm", "--no-deps", "-T", "check", "compare"
        )
        assert compared.startswith("equal: "), compared
    # All that there is goes, although SHARDS is not set.
    containers.run("down", "-v")
    left = containers.engine("ps", "-aq", "--filter", f"name={containers.name}")
    assert left == ""
