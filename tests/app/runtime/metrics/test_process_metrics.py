"""Metrics blocks: ownership, restarts, races, segments that are refused."""

import os
import secrets
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from app.runtime.metrics import layout, process_metrics
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.metrics.snapshot import STAGE_COUNTER, ProcessSnapshot, read_metrics, unique_labels
from app.shared_memory_utils.segment import SHM_DIRECTORY, Segment
from tests.support.paths import ROOT

CHILD = """
import sys
from app.runtime.metrics.process_metrics import ProcessMetrics
name, service, instance = sys.argv[1:]
sys.stdin.readline()
metrics = ProcessMetrics.open(name, service, instance)
metrics.add(metrics_counter := {"strategy": "ticks_consumed", "gateway": "ticks_sent"}[service], 7)
metrics.histogram("order_ack_ns").record(1000) if service == "strategy" else None
metrics.set_state("ready")
print(metrics.restarts, metrics.get(metrics_counter), flush=True)
sys.stdin.readline()
metrics.close()
"""

Spawn = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def name() -> Iterator[str]:
    """A segment name for one test; the segment is removed afterwards."""
    name = f"test_metrics_{os.getpid()}_{secrets.token_hex(4)}"
    yield name
    (SHM_DIRECTORY / name).unlink(missing_ok=True)


@pytest.fixture
def spawn(name: str) -> Iterator[Spawn]:
    """Start owners of a block; each waits for a line, claims, prints, waits for another line."""
    children: list[subprocess.Popen[str]] = []

    def start(service: str = "strategy", instance: str = "") -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, name, service, instance],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def tell(child: subprocess.Popen[str]) -> None:
    assert child.stdin
    child.stdin.write("\n")
    child.stdin.flush()


def answer(child: subprocess.Popen[str]) -> list[int]:
    """The child's restarts and counter, once it owns its block."""
    assert child.stdout
    line = child.stdout.readline()
    assert line, "the child exited before it owned a block"
    return [int(word) for word in line.split()]


def kill(child: subprocess.Popen[str]) -> None:
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)


def only(name: str) -> ProcessSnapshot:
    (snapshot,) = read_metrics(name)
    return snapshot


def test_round_trip(name: str):
    metrics = ProcessMetrics.open(name, "strategy", "fast")
    metrics.add("ticks_consumed", 3)
    metrics.add("ticks_consumed")
    metrics.set("queue_depth", 2**63)
    metrics.counters[metrics.counter("batches")] += np.uint64(5)
    metrics.mark_event(1_000_000_000)
    metrics.mark_event(3_000_000_000)
    metrics.histogram("tick_to_ack_ns").record(53_000)
    metrics.histogram("order_ack_ns").buckets[10] = 4
    metrics.set_state("ready")

    snapshot = only(name)
    assert (snapshot.service, snapshot.instance, snapshot.pid) == ("strategy", "fast", os.getpid())
    assert (snapshot.state, snapshot.alive, snapshot.restarts) == ("ready", True, 0)
    assert snapshot.counters["ticks_consumed"] == metrics.get("ticks_consumed") == 4
    assert snapshot.counters["queue_depth"] == 2**63
    assert snapshot.counters["batches"] == 5
    assert snapshot.active_s == 2.0
    assert snapshot.events_per_s == 2.0
    assert snapshot.histograms["tick_to_ack_ns"].total == 1
    assert snapshot.histograms["order_ack_ns"].total == 4
    assert snapshot.histograms["tick_to_decision_ns"].total == 0
    assert 0 <= snapshot.heartbeat_age_s < 10
    assert abs(snapshot.started.timestamp() - time.time()) < 10
    metrics.close()
    assert not only(name).alive


@pytest.mark.parametrize("service", list(layout.COUNTERS))
def test_every_name_of_the_table_has_its_own_slot(name: str, service: str):
    metrics = ProcessMetrics.open(name, service)
    for value, counter in enumerate(layout.counter_names(service), start=1):
        metrics.set(counter, value)
    for value, histogram in enumerate(layout.histogram_names(service), start=1):
        metrics.histogram(histogram).record(value)
    snapshot = only(name)
    assert list(snapshot.counters.values()) == list(range(1, len(snapshot.counters) + 1))
    assert [h.max for h in snapshot.histograms.values()] == list(
        range(1, len(snapshot.histograms) + 1)
    )
    assert snapshot.events == snapshot.counters[STAGE_COUNTER[service]]
    metrics.close()


def test_unknown_names_raise(name: str):
    with pytest.raises(KeyError, match="no service 'broker'"):
        ProcessMetrics.open(name, "broker")
    assert not (SHM_DIRECTORY / name).exists()
    metrics = ProcessMetrics.open(name, "gateway")
    for use in (metrics.add, metrics.get, metrics.counter):
        with pytest.raises(KeyError, match="fills"):
            use("fills")
    with pytest.raises(KeyError, match="gateway has no histogram 'order_ack_ns'"):
        metrics.histogram("order_ack_ns")
    with pytest.raises(ValueError, match="no state 'free'"):
        metrics.set_state("free")
    with pytest.raises(ValueError, match="instance name"):
        ProcessMetrics.open(name, "gateway", "x" * 97)
    metrics.close()


def test_a_successor_continues_a_killed_owners_counters(name: str, spawn: Spawn):
    first = spawn()
    tell(first)
    assert answer(first) == [0, 7]
    assert only(name).alive
    kill(first)

    dead = only(name)
    assert (dead.alive, dead.state, dead.counters["ticks_consumed"]) == (False, "ready", 7)

    second = spawn()
    tell(second)
    assert answer(second) == [1, 14]
    snapshot = only(name)
    assert (snapshot.alive, snapshot.pid, snapshot.restarts) == (True, second.pid, 1)
    assert snapshot.started > dead.started
    assert snapshot.histograms["order_ack_ns"].total == 2


def test_two_living_owners_of_one_name_have_one_block_each(name: str, spawn: Spawn):
    children = [spawn(), spawn()]
    for child in children:
        tell(child)
        assert answer(child) == [0, 7]
    both = read_metrics(name)
    assert {snapshot.pid for snapshot in both} == {child.pid for child in children}
    assert unique_labels(both) == ["strategy#1", "strategy#2"]

    kill(children[0])
    successor = spawn()
    tell(successor)
    assert answer(successor) == [1, 14]
    assert len(read_metrics(name)) == 2


def test_another_instance_starts_at_zero(name: str, spawn: Spawn):
    child = spawn(instance="a")
    tell(child)
    answer(child)
    kill(child)
    metrics = ProcessMetrics.open(name, "strategy", "b")
    assert (metrics.restarts, metrics.get("ticks_consumed")) == (0, 0)
    assert [s.label for s in read_metrics(name)] == ["strategy/a", "strategy/b"]
    metrics.close()


def test_eight_racing_creators_share_one_segment_and_never_a_block(name: str, spawn: Spawn):
    children = [spawn() for _ in range(8)]
    for child in children:
        tell(child)
    assert [answer(child) for child in children] == [[0, 7]] * 8
    snapshots = read_metrics(name)
    assert {snapshot.pid for snapshot in snapshots} == {child.pid for child in children}
    assert all(snapshot.alive for snapshot in snapshots)


def test_blocks_run_out_only_while_their_owners_are_alive(name: str):
    owners = [ProcessMetrics.open(name, "strategy", str(i)) for i in range(layout.BLOCK_COUNT)]
    with pytest.raises(MetricsError, match="all 24 blocks have a living owner"):
        ProcessMetrics.open(name, "gateway")

    for owner in owners[3:6]:
        owner.add("ticks_consumed", 9)
        owner.histogram("order_ack_ns").record(1)
    owners[5].close()
    owners[3].close()
    fresh = ProcessMetrics.open(name, "strategy", "new")
    assert (fresh.restarts, fresh.get("ticks_consumed")) == (0, 0)
    assert fresh.histogram("order_ack_ns").snapshot().total == 0
    left = {s.instance for s in read_metrics(name)}
    assert "3" not in left, "the block that has been dead the longest goes first"
    assert {"4", "5", "new"} <= left
    for owner in [*owners, fresh]:
        owner.close()


def test_close_releases_the_block_even_under_a_numpy_view(name: str):
    metrics = ProcessMetrics.open(name, "orderbook")
    view = metrics.counters
    buckets = metrics.histogram("book_update_ns").buckets
    metrics.close()
    metrics.close()
    assert not only(name).alive
    view[0] += np.uint64(1)
    buckets[0] += np.uint64(1)
    successor = ProcessMetrics.open(name, "orderbook")
    assert (successor.restarts, successor.get("ticks_received")) == (1, 1)
    successor.close()


def test_an_interrupted_claim_is_invisible_and_its_block_is_reused(name: str):
    metrics = ProcessMetrics.open(name, "gateway")
    metrics.close()
    segment = Segment.attach(name)
    struct.pack_into("=Q", segment.buf, layout.block_offset(0), 3)
    assert read_metrics(name) == []
    assert layout.read_liveness(name) == []
    successor = ProcessMetrics.open(name, "orderbook")
    assert (only(name).service, successor.restarts) == ("orderbook", 0)
    successor.close()
    segment.close()


def test_a_claim_times_out_while_a_stopped_process_holds_the_claim_lock(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    ProcessMetrics.open(name, "gateway").close()
    monkeypatch.setattr("app.runtime.metrics.process_metrics.CLAIM_TIMEOUT_S", 0.05)
    segment = Segment.attach(name)
    assert segment.try_lock(layout.CLAIM_LOCK_BYTE)
    with pytest.raises(MetricsError, match="another process has been claiming"):
        ProcessMetrics.open(name, "gateway")
    segment.close()


def damaged_headers() -> list[tuple[str, bytes, str]]:
    good = layout.HEADER.unpack_from(layout.header_image())
    other = good[1] + 1
    return [
        ("version", layout.HEADER.pack(good[0], other, *good[2:]), f"layout {other}/"),
        ("names", layout.HEADER.pack(*good[:2], good[2] ^ 1, *good[3:]), "this build has 3/"),
        ("magic", layout.HEADER.pack(b"PRICBOOK", *good[1:]), "not a metrics segment"),
    ]


@pytest.mark.parametrize(
    ("header", "message"),
    [case[1:] for case in damaged_headers()],
    ids=[case[0] for case in damaged_headers()],
)
def test_a_segment_of_another_layout_is_refused_with_one_line(
    name: str, header: bytes, message: str
):
    Segment.create(name, header, layout.SEGMENT_BYTES).close()
    before = (SHM_DIRECTORY / name).read_bytes()
    for use in (
        lambda: ProcessMetrics.open(name, "gateway"),
        lambda: read_metrics(name),
        lambda: layout.read_liveness(name),
    ):
        with pytest.raises(MetricsError, match=message) as reject:
            use()
        assert name in str(reject.value)
        assert "\n" not in str(reject.value)
    assert (SHM_DIRECTORY / name).read_bytes() == before


@pytest.mark.parametrize("size", [8, 64, layout.SEGMENT_BYTES - 8])
def test_a_segment_that_is_too_short_is_refused(name: str, size: int):
    Segment.create(name, layout.header_image()[:size], size).close()
    for use in (read_metrics, layout.read_liveness):
        with pytest.raises(MetricsError, match=name):
            use(name)


def test_a_missing_segment_is_reported_with_one_line(name: str):
    for use in (read_metrics, layout.read_liveness):
        with pytest.raises(MetricsError, match=f"{name} does not exist"):
            use(name)


def test_liveness_is_read_without_numpy(name: str):
    metrics = ProcessMetrics.open(name, "orderbook")
    metrics.set_state("draining")
    before_ns = time.monotonic_ns()
    metrics.heartbeat()
    code = (
        "import sys; from app.runtime.metrics.layout import read_liveness\n"
        f"print(*read_liveness({name!r})[0], sep='|')\n"
        "assert 'numpy' not in sys.modules and 'msgspec' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    service, instance, state, heartbeat_ns, pid = result.stdout.strip().split("|")
    assert (service, instance, state) == ("orderbook", "", "draining")
    assert before_ns <= int(heartbeat_ns) <= time.monotonic_ns()
    assert int(pid) == os.getpid()
    metrics.close()


def test_snapshots_are_in_the_order_of_the_data_flow(name: str):
    owners = [ProcessMetrics.open(name, service) for service in reversed(STAGE_COUNTER)]
    assert [s.service for s in read_metrics(name)] == list(STAGE_COUNTER)
    for owner in owners:
        owner.close()


@pytest.mark.parametrize("owner", ["nobody", "another program"])
def test_a_removed_segment_is_created_again_with_all_figures(
    name: str, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    monkeypatch.setattr(process_metrics, "CHECK_EVERY_NS", 0)
    strategy = ProcessMetrics.open(name, "strategy")
    gateway = ProcessMetrics.open(name, "gateway")
    strategy.add("ticks_consumed", 7)
    buckets = strategy.histogram("order_ack_ns").buckets
    gateway.add("ticks_sent", 9)
    (SHM_DIRECTORY / name).unlink()
    if owner == "another program":
        (SHM_DIRECTORY / name).write_bytes(b"mine")
        with pytest.raises(MetricsError, match=f"{name}: 4 bytes, too short for a metrics"):
            strategy.heartbeat()
        assert (SHM_DIRECTORY / name).read_bytes() == b"mine"
    else:
        gateway.heartbeat()
        strategy.add("ticks_consumed", 1)  # before it has noticed
        strategy.heartbeat()
        buckets[3] += 5  # a view from before the removal
        found = {block.service: block for block in read_metrics(name)}
        assert all(block.alive for block in found.values())
        assert found["gateway"].counters["ticks_sent"] == 9
        assert found["strategy"].counters["ticks_consumed"] == 8
        assert found["strategy"].histograms["order_ack_ns"].total == 5
    del buckets
    strategy.close()
    gateway.close()
