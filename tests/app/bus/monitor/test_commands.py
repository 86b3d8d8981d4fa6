"""``monitor``, ``sizes`` and ``remove`` against a real broker, with the users of the cluster."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.bus.link import names
from app.bus.link.connection import Link
from tests.app.bus.monitor.test_brokers import series
from tests.support.bus.accounts import Bus, bus_with_accounts
from tests.support.children import eventually
from tests.support.environ import default_environ
from tests.support.paths import ROOT
from tests.support.ports import free_ports

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    """A broker with ten orders and 3,000 ticks of shard a."""
    with bus_with_accounts(tmp_path_factory.mktemp("accounts")) as made:

        async def fill(link: Link) -> None:
            for number in range(10):
                order = json.dumps({"event": "ack", "order_no": number, "pad": "x" * 300}).encode()
                await link.js.publish(names.orders_subject("a"), order)
                fill = json.dumps({"fill_no": number, "pad": "x" * 200}).encode()
                await link.js.publish(names.fills_subject("a"), fill)
            for nth in range(3):
                headers = {names.SEQ_FIRST: str(nth * 1000), names.SEQ_COUNT: "1000"}
                await link.js.publish(names.md_subject("a"), b"x" * 30_000, headers=headers)

        made.as_user("setup", fill)
        yield made


def run(bus: Bus, user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.bus", *arguments],
        cwd=ROOT, env=default_environ() | bus.cluster.environ(**bus.settings(user)),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_one_look(bus: Bus) -> None:
    done = run(bus, "monitor", "monitor", "--once")
    assert done.returncode == 0, done.stderr
    found = series(done.stdout.encode())
    assert found["trading_bus_brokers",] == found["trading_bus_connected",] == 1
    assert found["trading_bus_stream_messages", "OUT_a"] == 20
    assert found["trading_bus_stream_has_leader", "MD_a"] == 1
    assert found["trading_bus_controls_waiting", "a"] == 0
    assert found["trading_bus_broker_store_bytes", "broker0"] > 90_000


@pytest.mark.parametrize(
    ("user", "reason"),
    [("setup", "must be one of the system account"), ("shard-a", "take the user monitor")],
)
def test_another_user_is_told_so(bus: Bus, user: str, reason: str) -> None:
    done = run(bus, user, "monitor", "--once")
    assert done.returncode == 1
    assert reason in done.stderr


def test_it_serves_metrics_and_nothing_else(bus: Bus, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    environ = default_environ() | bus.cluster.environ(
        BUS_METRICS_PORT=port, **bus.settings("monitor")
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.bus", "monitor"], cwd=ROOT, env=environ, stdout=log,
            stderr=log,
        )  # fmt: skip

    def ask(path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bytes(answer.read())

    try:
        looked = eventually(
            lambda: series(ask("/metrics")).get(("trading_bus_brokers",)), "a look",
            ignore=(OSError,),
        )  # fmt: skip
        assert looked == 1
        with pytest.raises(urllib.error.HTTPError, match="404"):
            ask("/")
        taken = run(bus, "monitor", "monitor")
        assert taken.returncode == 2
        assert "BUS_METRICS_PORT" in taken.stderr
    finally:
        process.terminate()
        assert process.wait(20) == 0, (tmp_path / "log").read_text()


def test_sizes_of_an_order_and_of_a_tick(bus: Bus) -> None:
    done = run(bus, "setup", "sizes", "a", "b")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    order = float(rows["OUT_a"].rpartition("order: ")[2])
    assert 500 < order < 800  # an order and its fill, with what the broker adds
    assert 30 < float(rows["MD_a"].rpartition("tick: ")[2]) < 31
    assert rows["OUT_b"].endswith("order: none yet")
    assert run(bus, "setup", "sizes", "c").returncode == 1
    assert run(bus, "setup", "sizes").returncode == 2


def test_a_stream_is_removed_only_if_that_is_meant(bus: Bus) -> None:
    asked = run(bus, "setup", "remove", "MD_b")
    assert (asked.returncode, "0 messages" in asked.stderr) == (2, True)
    for wrong in ((), ("KV_x", "--yes"), ("MD_b", "--no")):
        assert run(bus, "setup", "remove", *wrong).returncode == 2
    assert run(bus, "shard-a", "remove", "OUT_a", "--yes").returncode == 1
    assert run(bus, "setup", "remove", "MD_b", "--yes").returncode == 0
    assert run(bus, "setup", "remove", "MD_b", "--yes").returncode == 1
    assert run(bus, "setup", "setup", "a", "b").returncode == 0
    assert "MD_b" in run(bus, "setup", "sizes", "a", "b").stdout
