"""The real four processes and the metrics that they keep in shared memory."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

from app.config.settings import Settings
from app.runtime.metrics.histogram import HistogramSnapshot
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.snapshot import ProcessSnapshot, read_metrics
from tests.bench.model import POINTS, Figures, Placement
from tests.support.children import die_with_parent
from tests.support.paths import ROOT
from tests.support.ports import free_ports

START_TIMEOUT_S = 30.0
RUN_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0
POLL_S = 0.02

Metrics = list[ProcessSnapshot]
"""The metrics of every process, in data order."""


class StackFailed(Exception):
    """A process died or made no progress; the text has the last lines of the logs."""


def settings_for(work_dir: Path, place: Placement, **changes: object) -> Settings:
    """Settings with free ports, unique segments, and a run that ends after the file."""
    token = secrets.token_hex(4)
    price_port, sentiment_port, order_port = free_ports(3)
    values: dict[str, object] = {
        "price_port": price_port,
        "sentiment_port": sentiment_port,
        "order_port": order_port,
        "control_port": 0,
        "shm_price_book": f"bench_{token}_book",
        "shm_metadata": f"bench_{token}_metadata",
        "shm_tick_ring": f"bench_{token}_ring",
        "shm_metrics": f"bench_{token}_metrics",
        "replay": "once",
        "output_dir": str(work_dir / token),
        "order_store_path": str(work_dir / token / "orders.sqlite3"),
        "gateway_cpus": place.gateway,
        "orderbook_cpus": place.orderbook,
        "strategy_cpus": place.strategy,
        "order_manager_cpus": place.order_manager,
    }
    return msgspec.convert({**values, **changes}, Settings)


class Stack:
    """The processes of one run; their segments and files are removed at the end.

    Each entry of ``strategies`` is one strategy process: its name, and settings that only it has.
    """

    def __init__(
        self,
        settings: Settings,
        strategies: dict[str, dict[str, object]] | None = None,
        order_manager: bool = True,
        feed: bool = True,
        dashboard: bool = False,
    ) -> None:
        self.settings = settings
        self.folder = Path(settings.output_dir)
        self._strategies = {} if strategies is None else strategies
        self._order_manager, self._feed, self._dashboard = order_manager, feed, dashboard
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            if self._order_manager:
                self._start("order_manager")
            if self._feed:
                self._start("gateway")
                self._start("orderbook")
            for name, changes in self._strategies.items():
                self._start("strategy", strategy_client=name, **changes)
            if self._dashboard:
                self._start("dashboard")
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self, service: str, **changes: object) -> None:
        settings = msgspec.structs.replace(self.settings, **changes) if changes else self.settings
        label = f"{service}/{changes['strategy_client']}" if changes else service
        with self._log_path(label).open("wb") as log:
            self._children[label] = subprocess.Popen(
                [sys.executable, "-m", f"app.{service}"],
                cwd=ROOT,
                env={**os.environ, **settings.to_environ()},
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def _log_path(self, label: str) -> Path:
        return self.folder / f"{label.replace('/', '_')}.log"

    def pid(self, service: str) -> int:
        """The process of a service of which there is one."""
        return self._children[service].pid

    def metrics(self) -> Metrics:
        """Current metrics of every process; empty before the first has started."""
        try:
            return read_metrics(self.settings.shm_metrics)
        except MetricsError:
            return []

    def wait(
        self, what: str, done: Callable[[Metrics], bool], timeout_s: float = RUN_TIMEOUT_S
    ) -> Metrics:
        """Poll the metrics until ``done``; returns them.

        Raises:
            StackFailed: a process failed, or timeout.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.metrics()
            if done(found):
                return found
            for label, child in self._children.items():
                if child.poll() not in (None, 0):
                    raise StackFailed(self._explain(f"{label} exited with {child.returncode}"))
            if time.monotonic() > deadline:
                raise StackFailed(self._explain(f"no {what} within {timeout_s:g} s"))
            time.sleep(POLL_S)

    def wait_ready(self) -> Metrics:
        """Wait until every process is ready or already done."""
        return self.wait(
            "readiness",
            lambda found: (
                len(found) == len(self._children)
                and all(each.state in ("ready", "draining", "done") for each in found)
            ),
            START_TIMEOUT_S,
        )

    def _explain(self, problem: str) -> str:
        tails = [problem]
        for label in self._children:
            lines = self._log_path(label).read_text(errors="replace").splitlines()
            tails += [f"  {label}: {line}" for line in lines[-3:]]
        return "\n".join(tails)

    def stop(self) -> None:
        """Stop the processes, strategies first, and remove their segments and files."""
        for child in reversed(self._children.values()):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for child in self._children.values():
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._children.clear()
        prefix = self.settings.shm_metrics.removesuffix("metrics")
        for path in Path("/dev/shm").glob(f"{prefix}*"):
            path.unlink(missing_ok=True)
        for path in sorted(self.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        self.folder.rmdir()

    def __exit__(self, *_: object) -> None:
        self.stop()


def of(found: Metrics, service: str) -> list[ProcessSnapshot]:
    """The metrics of one service: none, one, or one for each strategy."""
    return [each for each in found if each.service == service]


def percentiles(name: str, histogram: HistogramSnapshot) -> Figures:
    """``{name}_us_p50`` and so on of a shared histogram (bucket error up to 0.8 %)."""
    return {f"{name}_us_{point}": histogram.percentile(at) / 1e3 for point, at in POINTS}
