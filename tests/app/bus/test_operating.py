"""Every command of the page on operating a cluster, in its order, on a cluster in containers."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.bus.monitor.test_brokers import series
from tests.app.bus.test_cluster import ContainerCluster, orders_of
from tests.app.dashboard.observability.prometheus import prometheus_tools
from tests.support.bus.history import expected, published
from tests.support.children import eventually
from tests.support.docs import markdown
from tests.support.docs.markdown import Block
from tests.support.paths import ROOT
from tests.support.ports import free_ports

PAGE = ROOT / "images/cluster/operating.md"
if not PAGE.exists():
    pytest.skip("the image has no documentation", allow_module_level=True)
BLOCKS = [block for block in markdown.blocks(PAGE) if block.commands]

STATUS = ("python3", "-m", "app.bus", "status")
COMMAND_S = 300
SETTLED_S = 180


class Operator:
    """Runs the page's commands; its files go to a folder of the test's."""

    def __init__(self, cluster: ContainerCluster, folder: Path) -> None:
        self.cluster, self._folder = cluster, folder
        self.shards = ["a", "b"]

    def run(self, block: Block) -> None:
        """All commands of a block, each of which must exit with 0; then all must be well."""
        for command in block.commands:
            if 'SHARDS="a b c"' in command:
                self.shards = ["a", "b", "c"]
                self.cluster.environ["SHARDS"] = "a b c"
            done = subprocess.run(
                ["bash", "-c", command.replace("build/backup", str(self._folder / "backup"))],
                cwd=ROOT, env=self.cluster.environ, capture_output=True, text=True,
                errors="replace", timeout=COMMAND_S, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
            tail = f"{done.stdout[-2000:]}{done.stderr[-3000:]}"
            assert done.returncode == 0, f"{block.where}: {command}\n{tail}"
        self.settle(block.where)

    def settle(self, where: str, rows: int = 100) -> None:
        """Until all brokers have everything, and the streams what the stores have."""
        eventually(self._brokers_are_whole, f"{where}: the brokers", SETTLED_S, poll_s=1)
        for shard in self.shards:

            def is_level(shard: str = shard) -> bool:
                out = self.cluster.run("shard", shard, "exec", "-T", "shard", *STATUS, check=False)
                status = json.loads(out)
                return bool(status["connected"] and status["lag_rows"] <= rows)

            eventually(
                is_level, f"{where}: shard {shard}", SETTLED_S, poll_s=1,
                ignore=(ValueError, KeyError),
            )  # fmt: skip

    def _brokers_are_whole(self) -> bool:
        out = self.cluster.run(
            "bus", "exec", "-T", "monitor", "python3", "-m", "app.bus", "monitor", "--once",
            check=False,
        )  # fmt: skip
        found = series(out.encode())
        copies = [value for (name, *_), value in found.items() if name.endswith("_stream_copies")]
        return found.get(("trading_bus_brokers",)) == 3 and copies != [] and min(copies) == 3


@pytest.fixture
def operator(images: None, tmp_path: Path) -> Iterator[Operator]:
    cluster = ContainerCluster(tmp_path, PACE="500/s")
    cluster.run("build")
    image = f"{cluster.name}-prometheus"
    broker = f"{cluster.environ.get('IMAGES', 'trading')}-broker"
    _prometheus_image(image, broker, tmp_path / "prometheus")
    cluster.environ["PROMETHEUS_IMAGE"] = image
    (port,) = free_ports(1)
    cluster.environ["PUBLISHED_PROMETHEUS_PORT"] = str(port)
    try:
        cluster.run("up")
        yield Operator(cluster, tmp_path)
    finally:
        cluster.run("bus", "--profile", "observability", "down", "-v", check=False)
        cluster.run("down", "-v", check=False)
        subprocess.run(["docker", "image", "rm", "-f", image], capture_output=True, check=False)


def _prometheus_image(name: str, base: str, folder: Path) -> None:
    """Debian's program in place of the official image, which needs a registry."""
    folder.mkdir()
    (folder / "prometheus").write_bytes((prometheus_tools() / "prometheus").read_bytes())
    (folder / "prometheus").chmod(0o755)
    (folder / "Dockerfile").write_text(
        f'FROM {base}\nCOPY prometheus /bin/prometheus\nENTRYPOINT ["/bin/prometheus"]\n'
    )
    subprocess.run(["docker", "build", "-q", "-t", name, folder], check=True, capture_output=True)


def _scraped(operator: Operator) -> dict[tuple[str, str], str]:
    """(job, shard) of Prometheus's targets -> whether it reaches them."""
    port = operator.cluster.environ["PUBLISHED_PROMETHEUS_PORT"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/targets", timeout=5) as answer:
        found = json.load(answer)["data"]["activeTargets"]
    return {(t["labels"]["job"], t["labels"].get("shard", "")): t["health"] for t in found}


def _compare(operator: Operator, folder: Path) -> None:
    """Stores, streams and portfolio have the same."""
    cluster, stores = operator.cluster, []
    for shard in operator.shards:
        cluster.run("shard", shard, "stop", "strategy")
    operator.settle("at the end", rows=0)
    for shard in operator.shards:
        path = cluster.store(shard, folder)
        # The last one is new, and has one symbol.
        assert orders_of(path) > (50 if shard != "c" else 0)
        assert published(cluster.published(shard)) == expected(path)
        stores.append(f"{shard}={path}")

    def is_equal() -> bool:
        cluster.run("bus", "cp", "portfolio:/srv/out/.", str(folder / "books"))
        command = [sys.executable, "-m", "app", "portfolio", "verify", *stores]
        command += ["--books", str(folder / "books/portfolio.sqlite3")]
        return subprocess.run(command, cwd=ROOT, check=False).returncode == 0

    eventually(is_equal, "the portfolio has the sum of the stores", 60, poll_s=2)


@pytest.mark.container
@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_every_command_of_the_page(operator: Operator, tmp_path: Path) -> None:
    assert len(BLOCKS) > 10
    for block in BLOCKS:
        operator.run(block)
        if "up -d prometheus" in block.text:
            wanted = {("bus", ""), ("shard", "a"), ("shard", "b"), ("portfolio", "")}
            eventually(
                lambda w=wanted: _scraped(operator) == dict.fromkeys(w, "up"),
                "Prometheus reaches all", 60, poll_s=1, ignore=(OSError,),
            )  # fmt: skip
    _compare(operator, tmp_path)
