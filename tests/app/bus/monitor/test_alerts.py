"""The alerts of the cluster, evaluated by a real Prometheus: each fires for its reason, alone."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.bus.figures import figures_text as bus_text
from app.bus.link.access import bus_access
from app.bus.outbox.figures import status_figures
from app.config.settings import Settings
from app.portfolio.intake.following import Following, Progress
from app.portfolio.intake.heartbeats import Heartbeats
from app.portfolio.page.counts import Counts
from app.portfolio.page.figures import figures_text as portfolio_text
from tests.app.bus.monitor.answers import BROKERS, Brokers
from tests.app.dashboard.observability.prometheus import FOLDER, Prometheus, prometheus_tools
from tests.app.portfolio.fill_messages import Told
from tests.app.portfolio.portfolios import limited, messages, opened
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

RULES = (FOLDER / "cluster_alerts.yml").read_text()
ALERTS = set(re.findall(r"- alert: (\w+)", RULES))


class Page:
    """Serves one text as metrics."""

    def __init__(self) -> None:
        self.text: bytes | None = b""
        """None: an error, as of a process that is down."""
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = page.text
                self.send_response(200 if body is not None else 503)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.target = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Parts:
    """Brokers, a publisher and a portfolio, healthy at first, and what they show."""

    def __init__(self, folder: Path) -> None:
        self.pages = {job: Page() for job in ("bus", "shard", "portfolio")}
        self._folder, self._nth = folder, 0
        self.heal()

    def heal(self) -> None:
        """All is well, whatever was."""
        self._nth += 1
        self.brokers = Brokers()
        self.status: dict[str, Any] = {
            "shard": "a", "connected": True, "restricted": False, "published": 9, "resyncs": 0,
            "refused": 0, "orders": 5, "fills": 4, "changes": 0, "lag_rows": 0, "lag_s": 0.0,
        }  # fmt: skip
        self.down: set[str] = set()
        self.heard, self.silent_s = True, 0.0
        """Whether the shard's heartbeats come."""
        self.portfolio = opened(self._folder / f"{self._nth}.sqlite3", limited(exposure=2000))
        self.portfolio.know("a")
        self.progress = Progress(reading=True)
        self.progress.take(1, 0, time.monotonic())
        self.show()

    def show(self) -> None:
        """Serve it."""
        self.progress.heard_s = time.monotonic() if self.progress.pending == 0 else 0.0
        settings = Settings(bus_url="nats://127.0.0.1:4222")
        following: Any = Following(self.portfolio, bus_access(settings), settings, ["a"])
        following.link, following.progress["a"] = object(), self.progress
        self.portfolio.caught_up("a")
        following.heartbeats = Heartbeats(lambda: self.silent_s)
        following.heartbeats.begin()
        self.silent_s += 0 if self.heard else 60
        texts = {
            "bus": self.brokers.text(),
            "shard": bus_text(status_figures(self.status)),
            "portfolio": portfolio_text(self.portfolio, following, Counts()),
        }
        for job, page in self.pages.items():
            page.text = None if job in self.down else texts[job]


def _stream_without_leader(parts: Parts) -> None:
    for name in BROKERS:
        parts.brokers.stream("OUT_a", name)["cluster"].pop("leader")
        parts.brokers.stream("OUT_a", name)["config"]["num_replicas"] = 0


def _nobody(parts: Parts) -> None:
    parts.brokers.connected = False
    for answers in (parts.brokers.varz, parts.brokers.jsz, parts.brokers.healthz):
        answers.clear()


def _no_meta_leader(parts: Parts) -> None:
    for each in parts.brokers.jsz.values():
        each["meta_cluster"]["leader"] = ""


def _broker(name: str, where: str, **changed: Any) -> Callable[[Parts], None]:
    return lambda parts: getattr(parts.brokers, where)[name].update(changed)


def _pass_limit(parts: Parts) -> None:
    parts.portfolio.take("a", messages(Told(qty=30)))
    assert parts.portfolio.unsent
    for control in list(parts.portfolio.state.unsent_controls()):
        parts.portfolio.control_arrived(control, 1)


def _pass_limit_unheard(parts: Parts) -> None:
    parts.portfolio.take("a", messages(Told(qty=30)))


def _status(**changed: Any) -> Callable[[Parts], None]:
    return lambda parts: parts.status.update(changed)


def _lost(parts: Parts) -> None:
    parts.portfolio.skip_to("a", 6, 5)


def _behind(parts: Parts) -> None:
    parts.progress.pending, parts.progress.level_s = 7, time.monotonic() - 60


def _unread(parts: Parts) -> None:
    parts.brokers.stream("MD_a")["consumer_detail"][0]["num_pending"] = 10_000


def _waiting(parts: Parts) -> None:
    parts.brokers.stream("CONTROL")["consumer_detail"][0]["num_pending"] = 1


def _not_current(parts: Parts) -> None:
    parts.brokers.stream("MD_a")["cluster"]["replicas"][0]["current"] = False


def _bounded(parts: Parts) -> None:
    parts.brokers.stream("OUT_a")["config"] |= {"max_bytes": 6000, "discard": "new"}
    # The oldest go: it is never full.
    parts.brokers.stream("MD_a")["config"] |= {"max_bytes": 6000, "discard": "old"}


SOON = (datetime.now(UTC) + timedelta(days=10)).isoformat()
FULL = {"stats": {"storage": 3_500_000_000}, "config": {"max_storage": 4_000_000_000}}
DOWN = {"BrokerDown", "BrokersMissing"}

FAULTS: list[tuple[set[str], Callable[[Parts], object]]] = [
    ({"BusUnwatched"}, lambda parts: parts.down.add("bus")),
    ({"BusDown", *DOWN}, _nobody),
    ({*DOWN, "CopiesMissing"}, lambda parts: parts.brokers.lose("broker-2")),
    ({"BusNoMajority"}, _no_meta_leader),
    ({"BrokerUnhealthy"}, _broker("broker-3", "healthz", status="unavailable")),
    ({"StreamLeaderless"}, _stream_without_leader),
    ({"CopiesMissing"}, _not_current),
    ({"BrokerNearlyFull"}, _broker("broker-2", "varz", jetstream=FULL)),
    ({"StreamNearlyFull"}, _bounded),
    ({"CertificateExpires"}, _broker("broker-1", "varz", tls_cert_not_after=SOON)),
    ({"ReaderBehind"}, _unread),
    ({"ControlsWaiting"}, _waiting),
    ({"PublisherDown"}, lambda parts: parts.down.add("shard")),
    ({"PublisherBehind"}, _status(lag_rows=9, lag_s=42.5)),
    ({"PublisherRefused"}, _status(refused=3)),
    ({"PublisherFenced"}, _status(resyncs=40)),
    ({"BusLossRestricts"}, _status(restricted=True)),
    ({"PortfolioDown"}, lambda parts: parts.down.add("portfolio")),
    ({"PortfolioNotReading"}, lambda parts: setattr(parts.progress, "reading", False)),
    ({"PortfolioBehind"}, _behind),
    ({"ShardSilent", "PortfolioBehind"}, lambda parts: setattr(parts, "heard", False)),
    ({"PortfolioWrong"}, _lost),
    ({"GlobalLimitPassed"}, _pass_limit),
    ({"GlobalLimitPassed", "ControlsUnsent"}, _pass_limit_unheard),
]  # fmt: skip
"""What is wrong, and exactly which alerts fire then."""


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder of prometheus and promtool."""
    return prometheus_tools()


@contextmanager
def watching(tools: Path, folder: Path, parts: Parts) -> Iterator[Prometheus]:
    """A Prometheus of the cluster."""
    (folder / "shards.json").write_text(
        json.dumps([{"targets": [parts.pages["shard"].target], "labels": {"shard": "a"}}])
    )
    targets = {
        "monitor:9102": parts.pages["bus"].target,
        "portfolio:8081": parts.pages["portfolio"].target,
        "/etc/shards.json": str(folder / "shards.json"),
    }
    made = Prometheus(tools, folder, targets, "cluster.yml", every="200ms", window_s=3)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    made = Parts(tmp_path)
    yield made
    for page in made.pages.values():
        page.close()


def test_each_alert_fires_for_its_reason_and_no_other(
    tools: Path, tmp_path: Path, parts: Parts
) -> None:
    with watching(tools, tmp_path, parts) as prometheus:
        prometheus.wait_for(lambda: len(prometheus.query("up == 1")) == 3, "three scrapes")
        time.sleep(1)
        assert prometheus.firing() == set()
        for alerts, break_it in FAULTS:
            break_it(parts)
            parts.show()
            prometheus.wait_for(lambda a=alerts: prometheus.firing() == a, f"{alerts}")
            parts.heal()
            prometheus.wait_for(lambda: prometheus.firing() == set(), f"all is well: {alerts}")
    assert set().union(*(alerts for alerts, _ in FAULTS)) == ALERTS


def test_the_page_on_operating_explains_each_alert() -> None:
    page = (ROOT / "images/cluster/operating.md").read_text()
    named = re.findall(r"^\| `(\w+)`", page.partition("## What each alert means")[2], re.MULTILINE)
    assert sorted(named) == sorted(ALERTS)
