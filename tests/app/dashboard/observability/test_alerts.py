"""Alert rules and Grafana's panels, evaluated by a real Prometheus that scrapes a real endpoint."""

import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.config.settings import Settings
from app.dashboard.prometheus import metrics_answer
from app.kernel import _kernel
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.tick_ring import TickRing
from tests.app.dashboard.observability.prometheus import (
    FOLDER,
    Prometheus,
    prometheus_tools,
)
from tests.chaos.host import HostStack
from tests.support.ports import free_ports

pytestmark = pytest.mark.medium

SERVICES = ("gateway", "orderbook", "strategy", "order_manager")
ALERTS = set(re.findall(r"- alert: (\w+)", (FOLDER / "alerts.yml").read_text()))


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder of prometheus and promtool."""
    return prometheus_tools()


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
    prometheus = Prometheus(tools, tmp_path, {"dashboard:8080": endpoint.target})
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
        targets = {"dashboard:8080": f"127.0.0.1:{port}"}
        prometheus = Prometheus(tools, tmp_path / "prometheus", targets)
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
