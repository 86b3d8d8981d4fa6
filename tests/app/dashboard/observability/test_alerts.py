"""Alert rules and Grafana's panels, evaluated by a real Prometheus that scrapes a real endpoint."""

import json
import os
import re
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.config.settings import Settings
from app.dashboard.prometheus import metrics_answer
from app.kernel import _kernel
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.tick_ring import TickRing
from tests.chaos.host import HostStack
from tests.support.children import eventually
from tests.support.paths import ROOT
from tests.support.ports import free_ports

pytestmark = pytest.mark.medium

FOLDER = ROOT / "images" / "observability"
SERVICES = ("gateway", "orderbook", "strategy", "order_manager")
ALERTS = set(re.findall(r"- alert: (\w+)", (FOLDER / "alerts.yml").read_text()))


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder of prometheus and promtool."""
    done = subprocess.run([FOLDER / "tools.sh"], capture_output=True, text=True, check=False)
    if done.returncode and os.environ.get("REQUIRE_CONTAINERS"):
        pytest.fail(done.stderr)
    if done.returncode:
        pytest.skip(done.stderr.strip())
    return Path(done.stdout.strip())


class Prometheus:
    """One with the configuration of the stack, but faster: it looks each half second."""

    def __init__(self, tools: Path, folder: Path, target: str) -> None:
        self.port = free_ports(1)[0]
        text = (FOLDER / "prometheus.yml").read_text()
        for old, new in (
            ("dashboard:8080", target),
            ("interval: 5s", "interval: 500ms"),
            ("/run/secrets/metrics_token", str(folder / "token")),
        ):
            assert old in text
            text = text.replace(old, new)
        (folder / "token").touch()
        (folder / "prometheus.yml").write_text(text)
        rules = (FOLDER / "alerts.yml").read_text()
        (folder / "alerts.yml").write_text(re.sub(r"\bfor: \w+", "for: 1s", rules))
        check = [tools / "promtool", "check", "config", folder / "prometheus.yml"]
        subprocess.run(check, check=True, capture_output=True)
        with (folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    tools / "prometheus",
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log, stderr=log, env={**os.environ, "GOMAXPROCS": "1"},
            )  # fmt: skip

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def query(self, expression: str) -> list[Any]:
        """The result of an expression now."""
        return list(self.ask("query", query=expression)["result"])

    def firing(self) -> set[str]:
        """The alerts that fire."""
        alerts = self.ask("alerts")["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def wait_for(self, holds: Callable[[], object], what: str, deadline_s: float = 30) -> None:
        """Until it is so."""
        eventually(holds, what, deadline_s, poll_s=0.2, ignore=(OSError, KeyError))

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class Endpoint:
    """Serves the metrics of a shared memory, as the dashboard does."""

    def __init__(self, settings: Settings) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = metrics_answer(settings)
                self.send_response(answer.status)
                self.send_header("content-type", answer.content_type)
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.target = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


class Memory:
    """The shared memory of a healthy stack, whose parts can be made sick."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings = settings
        self.blocks = {s: ProcessMetrics.open(settings.shm_metrics, s) for s in SERVICES}
        self.book = SharedPriceBook(["A"], f"{name}_book")
        self.ring = TickRing.open_writer(settings.shm_tick_ring, 64, "lossless")
        self.writer = _kernel.TickWriter(
            self.ring.buffer, self.book.buffer, _kernel.FieldParser(["A"])
        )
        for block in self.blocks.values():
            block.set_state("ready")
        self.blocks["order_manager"].set("store_free_bytes", 10**12)
        self.silent: set[str] = set()
        """Who gives no heartbeat: services, or ``ring``."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def _live(self) -> None:
        while not self._ended.wait(0.1):
            for service, block in list(self.blocks.items()):
                if service not in self.silent:
                    block.heartbeat()
            if "ring" not in self.silent:
                self.writer.heartbeat()
            manager = self.blocks["order_manager"]
            manager.add("orders_received")
            manager.add("orders_acked")
            self.blocks["strategy"].histogram("tick_to_ack_ns").record(2_000_000)

    def kill(self, service: str) -> None:
        """Its block loses its owner."""
        self.silent.add(service)
        self.blocks[service].close()
        del self.blocks[service]

    def close(self) -> None:
        """Leave the memory."""
        self._ended.set()
        self._thread.join()
        for block in self.blocks.values():
            block.close()
        del self.writer
        self.ring.close()
        self.book.unlink()


@pytest.fixture
def memory(name: str) -> Iterator[Memory]:
    settings = Settings(shm_metrics=f"{name}_metrics", shm_tick_ring=f"{name}_ring")
    made = Memory(settings, name)
    yield made
    made.close()


def test_each_alert_fires_when_it_should_and_only_then(
    tools: Path, tmp_path: Path, memory: Memory
) -> None:
    endpoint = Endpoint(memory.settings)
    prometheus = Prometheus(tools, tmp_path, endpoint.target)
    fired: set[str] = set()

    def fires(alert: str) -> None:
        prometheus.wait_for(lambda: alert in prometheus.firing(), alert)
        fired.add(alert)

    try:
        prometheus.wait_for(lambda: prometheus.query("trading_stack_up == 1"), "a scrape")
        time.sleep(4)
        assert prometheus.firing() == set()

        blocks, manager = memory.blocks, memory.blocks["order_manager"]
        manager.set("trading_mode", 2)
        fires("TradingHalted")
        assert prometheus.firing() == {"TradingHalted"}
        manager.set("trading_mode", 0)
        prometheus.wait_for(lambda: prometheus.firing() == set(), "trading again")

        memory.silent |= {"gateway", "ring"}
        fires("ProcessSilent")
        fires("FeedStale")
        assert prometheus.firing() == {"ProcessSilent", "FeedStale"}
        memory.silent.clear()
        prometheus.wait_for(lambda: prometheus.firing() == set(), "heartbeats again")

        memory.kill("orderbook")
        fires("ProcessDown")
        assert prometheus.firing() == {"ProcessDown"}

        blocks["strategy"].add("ticks_lost", 3)
        fires("TicksLost")
        manager.set("store_free_bytes", 1000)
        fires("DiskNearlyFull")
        manager.add("orders_rejected", 500)
        fires("OrdersRejected")
        for _ in range(2000):
            blocks["strategy"].histogram("tick_to_ack_ns").record(200_000_000)
        fires("SlowOrders")
        endpoint.stop()
        fires("StackUnreachable")
        assert fired == ALERTS
    finally:
        prometheus.stop()


def panels() -> list[str]:
    """Every expression of Grafana's dashboard."""
    found = json.loads((FOLDER / "grafana" / "dashboard.json").read_text())
    assert all(panel["title"] and panel["datasource"]["uid"] == "prometheus"
               for panel in found["panels"])  # fmt: skip
    return [target["expr"] for panel in found["panels"] for target in panel["targets"]]


def test_a_real_stack_is_scraped_shown_and_its_faults_are_alerts(
    tools: Path, tmp_path: Path
) -> None:
    port = free_ports(1)[0]
    (tmp_path / "prometheus").mkdir()
    with HostStack(tmp_path, replay="walk", pace="500/s", dashboard_port=port) as stack:
        prometheus = Prometheus(tools, tmp_path / "prometheus", f"127.0.0.1:{port}")
        try:
            stack.wait_ready()
            prometheus.wait_for(lambda: prometheus.query('up{job="trading"} == 1'), "a scrape")
            prometheus.wait_for(
                lambda: all(prometheus.query(each) for each in panels()), "every panel", 40
            )
            sent = prometheus.query("trading_gateway_ticks_sent_total")[0]["value"][1]
            assert 0 < float(sent) <= stack.counter("gateway", "ticks_sent")
            assert prometheus.firing() <= {"SlowOrders"}  # a busy machine
            assert stack.command("orders", "halt", "--reason", "test").returncode == 0
            stack.hold_restarts()
            stack.signal("gateway", 9)
            for alert in ("TradingHalted", "ProcessDown", "FeedStale"):
                prometheus.wait_for(lambda a=alert: a in prometheus.firing(), alert)
            stack.allow_restarts()
            assert stack.command("orders", "resume").returncode == 0
            prometheus.wait_for(lambda: prometheus.firing() <= {"SlowOrders"}, "all is well")
        finally:
            prometheus.stop()
