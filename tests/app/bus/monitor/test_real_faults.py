"""Real faults become alerts: brokers and a publisher are killed, a limit is passed."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.app.dashboard.observability.prometheus import FOLDER, Prometheus, prometheus_tools
from tests.app.portfolio.on_bus.portfolio_process import PortfolioProcess
from tests.support.bus.accounts import Bus, bus_with_accounts
from tests.support.bus.shard import ShardProcess
from tests.support.children import die_with_parent
from tests.support.environ import default_environ
from tests.support.orders.frames import ORDER
from tests.support.orders.process import OrderManagerProcess
from tests.support.paths import ROOT
from tests.support.ports import free_ports

pytestmark = [pytest.mark.medium, pytest.mark.slow, pytest.mark.timeout(300)]


class Cluster:
    """Three brokers, a shard without strategy, monitor, portfolio, and Prometheus."""

    def __init__(self, bus: Bus, manager: OrderManagerProcess, folder: Path) -> None:
        self.bus, self.manager = bus, manager
        watched, published = free_ports(2)
        self._environ = default_environ() | bus.cluster.environ(
            BUS_METRICS_PORT=watched, **bus.settings("monitor")
        )
        self.shard = ShardProcess(
            bus.cluster, manager, on_bus_loss="reduce", bus_loss_s=2,
            bus_metrics_port=published, **bus.settings("shard-a"),
        )  # fmt: skip
        self.portfolio = PortfolioProcess(
            bus.cluster, folder, portfolio_exposure_max=5000, **bus.settings("portfolio")
        )
        (folder / "shards.json").write_text(
            json.dumps([{"targets": [f"127.0.0.1:{published}"], "labels": {"shard": "a"}}])
        )
        self._log = (folder / "monitor.log").open("wb")
        self._monitor: subprocess.Popen[bytes] | None = None
        targets = {
            "monitor:9102": f"127.0.0.1:{watched}",
            "portfolio:8081": f"127.0.0.1:{self.portfolio.port}",
            "/etc/shards.json": str(folder / "shards.json"),
        }
        self.prometheus = Prometheus(
            prometheus_tools(), folder, targets, "cluster.yml", window_s=10
        )

    def start(self) -> None:
        self.shard.start()
        self.portfolio.start()
        self._monitor = subprocess.Popen(
            [sys.executable, "-m", "app.bus", "monitor"], cwd=ROOT, env=self._environ,
            stdout=self._log, stderr=self._log, preexec_fn=die_with_parent,
        )  # fmt: skip

    def orders(self, first: int, count: int, qty: int = 1) -> None:
        with self.manager.client() as client:
            for number in range(first, first + count):
                order = {**ORDER, "side": "BUY", "qty": qty, "id": number, "client": "desk"}
                assert client.ask(order)["ok"]

    def firing(self) -> set[str]:
        """The alerts that fire; shard b has streams and no publisher, so it is silent."""
        labels = [
            each["labels"]
            for each in self.prometheus.ask("alerts")["alerts"]
            if each["state"] == "firing"
        ]
        return {each["alertname"] for each in labels if each.get("shard") != "b"}

    def wait_for(self, *alerts: str) -> None:
        """Until at least these fire."""
        self._wait_for(lambda: set(alerts) <= self.firing(), f"{alerts}")

    def wait_well(self, *but: str) -> None:
        """Until no alert fires but these, which do."""
        self._wait_for(lambda: self.firing() == set(but), f"only {but}")

    def _wait_for(self, holds: Callable[[], bool], what: str) -> None:
        try:
            self.prometheus.wait_for(holds, what, deadline_s=60)
        except AssertionError as error:
            found = self.prometheus.query('{__name__=~"trading_bus_.*(leader|brokers).*"}')
            known = [(each["metric"], each["value"][1]) for each in found]
            raise AssertionError(f"{error}; fires: {self.firing()}; {known}") from None

    def close(self) -> None:
        self.prometheus.stop()
        self.shard.kill()
        if self._monitor is not None:
            self._monitor.kill()
            self._monitor.wait(20)
        if self.portfolio.process is not None:
            self.portfolio.end()
        self._log.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "watch").mkdir()
    with (
        bus_with_accounts(tmp_path / "bus", 3) as bus,
        OrderManagerProcess(tmp_path, run_id="r1", on_bus_loss="reduce", bus_loss_s=2) as manager,
    ):
        made = Cluster(bus, manager, tmp_path / "watch")
        try:
            made.start()
            made.prometheus.wait_for(
                lambda: len(made.prometheus.query("up == 1")) == 3, "three scrapes"
            )
            made.orders(1, 5)
            made.shard.wait_published(10)
            # Certificates of tests hold for a day.
            made.wait_well("CertificateExpires")
            yield made
        finally:
            made.close()


def test_what_is_killed_is_an_alert_and_ends_when_it_is_back(running: Cluster) -> None:
    brokers = running.bus.cluster.brokers
    own = "CertificateExpires"
    text = (FOLDER / "grafana" / "cluster.json").read_text()
    panels = [target["expr"] for each in json.loads(text)["panels"] for target in each["targets"]]
    running.prometheus.wait_for(
        lambda: all(running.prometheus.query(each) for each in panels), "every panel", 40
    )

    running.shard.kill()
    running.wait_for("PublisherDown")
    running.shard.start()
    running.wait_well(own)

    brokers[0].kill()
    running.wait_for("BrokerDown", "BrokersMissing", "CopiesMissing")
    brokers[0].start()
    running.wait_well(own)

    brokers[0].kill()
    brokers[1].kill()
    running.orders(6, 5)
    running.wait_for(
        "BrokerDown", "BusNoMajority", "StreamLeaderless", "BusLossRestricts", "PublisherBehind"
    )
    brokers[2].kill()
    running.wait_for("BusDown", "PortfolioNotReading")
    running.bus.cluster.start()
    running.shard.wait_published(20)
    running.wait_well(own)

    # Twice the limit; the shard is told, and takes what it is told.
    running.orders(11, 1, qty=100)
    running.wait_well(own, "GlobalLimitPassed")
    with running.manager.client() as client:
        assert client.ask({"op": "limits"})["mode"] == "reduce"
