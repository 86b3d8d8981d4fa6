"""The stack and the floor in containers: over Docker's bridge, placed by CPU sets."""

import contextlib
import functools
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator

import numpy as np

from app.runtime.metrics.histogram import HistogramSnapshot
from app.runtime.metrics.layout import BUCKET_SLOTS
from tests.bench.model import RATE_PER_S, Absent, Context, Figures, Placement
from tests.bench.subjects import floor, ticks
from tests.bench.subjects.ours import EVERY_TICK, LATENCY_HISTOGRAMS, LATENCY_SYMBOLS
from tests.bench.subjects.stack import percentiles
from tests.support.paths import ROOT

IMAGES = ("shm", "gateway", "orderbook", "strategy", "order-manager")
# The feed starts while the engine still starts containers: these seconds are not measured.
SETTLE_S = 3
DATA_MOUNT = "/srv/data"

# Runs in the orderbook's container, which has the shared memory and does not end with the run.
SAMPLER = """
import json, sys, time
from app.runtime.metrics.snapshot import read_metrics
segment, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def at(events):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for block in read_metrics(segment):
            if block.service == "strategy" and block.events >= events:
                return block
        time.sleep(0.05)
    raise SystemExit(f"strategy did not reach tick {events}")
def shown(block):
    counts = {}
    for name, histogram in block.histograms.items():
        places = histogram.counts.nonzero()[0]
        counts[name] = [places.tolist(), histogram.counts[places].tolist()]
    return {"counters": block.counters, "histograms": counts}
print(json.dumps([shown(at(first)), shown(at(last))]))
"""


@functools.cache
def _problem() -> str:
    """Why containers cannot run here; empty if they can."""
    if shutil.which("docker") is None:
        return "no docker command"
    checks = {
        "no Docker engine answers": ["docker", "info"],
        "no Compose plugin": ["docker", "compose", "version"],
        "images are not built (make images)": [
            "docker", "image", "inspect", *(f"trading-{name}" for name in IMAGES),
        ],
    }  # fmt: skip
    for problem, command in checks.items():
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=15)
        except (OSError, subprocess.SubprocessError):
            return problem
    return ""


def _docker(*arguments: str) -> str:
    done = subprocess.run(
        ["docker", *arguments], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


@contextlib.contextmanager
def _empty_containers(count: int) -> Iterator[list[str]]:
    """Sleeping containers on a new bridge; yields the ``PID:IP`` of each."""
    name = f"bench-floor-{secrets.token_hex(4)}"
    started: list[str] = []
    _docker("network", "create", name)
    try:
        for _ in range(count):
            command = ["run", "--detach", "--rm", "--network", name, "--entrypoint", "sleep"]
            started.append(_docker(*command, "trading-shm", "600"))
        where = "{{.State.Pid}}:{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        yield [_docker("inspect", "--format", where, container) for container in started]
    finally:
        if started:
            _docker("rm", "--force", *started)
        _docker("network", "rm", name)


def floor_chain(context: Context, place: Placement) -> Figures:
    """The floor with a disk sync before each ACK, its processes inside containers."""
    if problem := _problem():
        raise Absent(problem)
    if os.geteuid() != 0:
        raise Absent("needs root to enter the containers")
    with _empty_containers(4) as into:
        return floor.chain(context, place, commit=True, into="/".join(into))


class ContainersFailed(Exception):
    """A Compose command failed."""


class Containers:
    """One Compose project with a unique name and free ports, removed with its volume."""

    def __init__(self, changes: dict[str, str]) -> None:
        self._project = f"bench{secrets.token_hex(4)}"
        self._environment = {**os.environ, **changes}

    def compose(self, *arguments: str, timeout_s: float = 120) -> str:
        """Run one Compose command; returns its output.

        Raises:
            ContainersFailed: it failed; the text has the end of its error output.
        """
        done = subprocess.run(
            ["docker", "compose", "--project-name", self._project, *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if done.returncode:
            raise ContainersFailed(
                f"docker compose {arguments[0]}: exit code {done.returncode}: {done.stderr[-300:]}"
            )
        return done.stdout

    def __enter__(self) -> "Containers":
        try:
            self.compose("up", "--detach", "--no-build")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.compose("down", "--volumes", "--timeout", "3")


def _snapshot(places_and_counts: list[list[int]]) -> HistogramSnapshot:
    counts = np.zeros(BUCKET_SLOTS, np.uint64)
    places, values = places_and_counts
    counts[places] = values
    return HistogramSnapshot(counts)


def latency(context: Context, place: Placement) -> Figures:
    """Tick to ACK at the fixed rate, one order per tick."""
    if problem := _problem():
        raise Absent(problem)
    settle = SETTLE_S * RATE_PER_S
    rows = settle + context.latency_ticks
    prices = ticks.price_file(context.data_dir, rows, LATENCY_SYMBOLS, rising=True)
    sentiment = ticks.sentiment_file(context.data_dir, LATENCY_SYMBOLS)
    changes = {
        "DATA_DIR": str(context.data_dir),
        "DATA_PATH": f"{DATA_MOUNT}/{prices.name}",
        "SENTIMENT_PATH": f"{DATA_MOUNT}/{sentiment.name}",
        "PACE": f"{RATE_PER_S}/s",
        "REPLAY": "once",
        "PUBLISHED_PRICE_PORT": "0",
        "PUBLISHED_SENTIMENT_PORT": "0",
        "PUBLISHED_ORDER_PORT": "0",
        "SHM_METRICS": "bench_metrics",
        "GATEWAY_CPUS": place.gateway,
        "ORDERBOOK_CPUS": place.orderbook,
        "STRATEGY_CPUS": place.strategy,
        "ORDER_MANAGER_CPUS": place.order_manager,
        **{name.upper(): str(value) for name, value in EVERY_TICK.items()},
    }
    with Containers(changes) as containers:
        sampler = ["exec", "-T", "orderbook", "python3", "-c", SAMPLER, "bench_metrics"]
        before, after = json.loads(containers.compose(*sampler, str(settle), str(rows)))
    orders = after["counters"]["orders_acked"] - before["counters"]["orders_acked"]
    rejected = after["counters"]["orders_rejected"]
    # The first sample may be late by one poll and one counter update.
    if orders < 0.7 * context.latency_ticks or rejected:
        raise AssertionError(f"{orders} orders acknowledged, {rejected} rejected")
    figures: Figures = {}
    for figure, name in LATENCY_HISTOGRAMS.items():
        if name in after["histograms"]:
            change = _snapshot(after["histograms"][name]) - _snapshot(before["histograms"][name])
            figures.update(percentiles(figure, change))
    return figures
