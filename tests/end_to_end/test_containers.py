"""The running stack in containers, seen from outside: health, isolation, recovery, resources."""

import json
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.support.compose_stack import IMAGES, PROCESSES, SERVICES, ComposeStack, eventually

pytestmark = [
    pytest.mark.container,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("images"),
]

SEGMENTS = ("SHM_PRICE_BOOK", "SHM_METADATA", "SHM_TICK_RING", "SHM_METRICS")

MakeStack = Callable[..., ComposeStack]


@pytest.fixture(scope="module")
def running(images: None) -> Iterator[ComposeStack]:
    """One endless stack, shared by the tests that leave it unchanged."""
    stack = ComposeStack(PACE="2000/s", REPLAY="walk", HEALTH_PAUSE_S="0")
    try:
        stack.up()
        yield stack
    finally:
        stack.destroy()


def consumed(stack: ComposeStack) -> int:
    """Ticks consumed, over all strategies."""
    return sum(block["ticks_consumed"] for block in stack.counters())


def wait_until_flowing(stack: ComposeStack, timeout_s: float = 30) -> None:
    """Wait until the strategies consume more ticks."""
    before = eventually(lambda: stack.counters() and [consumed(stack)], "counters", timeout_s)[0]
    eventually(lambda: consumed(stack) > before, "more ticks consumed", timeout_s)


def health_checks(stack: ComposeStack) -> dict[str, str]:
    """Start time of each container's last health check."""
    return {c.name: c.attrs["State"]["Health"]["Log"][-1]["Start"] for c in stack.containers()}


def wait_until_healthy(stack: ComposeStack, timeout_s: float = 40) -> None:
    """Wait until every container runs and is healthy."""
    eventually(lambda: {stack.health(s) for s in SERVICES} == {"healthy"}, "all healthy", timeout_s)


# ---- Images


@pytest.mark.parametrize("service", PROCESSES)
def test_image_adds_at_most_200_mb_to_its_base(service: str) -> None:
    client = docker.from_env()
    image = client.images.get(IMAGES[service])
    # The shm image is the base and one small file.
    base = client.images.get(IMAGES["shm"])
    assert image.attrs["Size"] - base.attrs["Size"] <= 200 * 1000 * 1000


def test_builder_leaves_nothing_private_in_the_images() -> None:
    client = docker.from_env()
    for service in SERVICES:
        found = client.containers.run(
            IMAGES[service],
            ["sh", "-c", "ls -d /ca /venv /site /usr/bin/gcc /srv/.env 2>/dev/null; true"],
            remove=True,
        )
        assert found.decode() == "", service


# ---- A running stack


def test_ready_in_time_and_acknowledges_orders(compose_stack: MakeStack) -> None:
    names = {name: f"test_{secrets.token_hex(4)}" for name in SEGMENTS}
    stack = compose_stack(**names)
    assert stack.up() <= 15
    ready = time.monotonic()
    eventually(lambda: stack.counters()[0]["orders_acked"], "an order acknowledged", 5)
    assert time.monotonic() - ready <= 5

    stack.compose("stop")
    codes = {c.name: c.attrs["State"]["ExitCode"] for c in stack.containers()}
    assert len(codes) == len(SERVICES)
    assert set(codes.values()) == {0}, (codes, stack.logs())
    assert stack.down() <= 15
    assert stack.containers() == []
    assert not set(names.values()) & set(os.listdir("/dev/shm"))


def test_down_of_a_running_stack_takes_less_than_15_s(compose_stack: MakeStack) -> None:
    stack = compose_stack(PACE="max")
    stack.up()
    assert stack.down() <= 15


@pytest.mark.parametrize("service", SERVICES)
def test_container_is_locked_down(running: ComposeStack, service: str) -> None:
    host = running.container(service).attrs["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Init"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert [limit["Name"] for limit in host["Ulimits"]] == ["nofile"]
    assert host["LogConfig"]["Type"] == "json-file"
    assert {"max-size", "max-file"} <= host["LogConfig"]["Config"].keys()
    assert host["RestartPolicy"]["Name"] == "on-failure"

    code, output = running.run_in(
        service, "sh", "-c", "id -u; grep -E 'CapEff|NoNew' /proc/1/status"
    )
    assert code == 0
    assert output.split() == ["10001", "CapEff:", "0000000000000000", "NoNewPrivs:", "1"]
    for path in ("/x", "/srv/x", "/srv/app/x", "/usr/x", "/etc/x"):
        code, output = running.run_in(service, "touch", path)
        assert code != 0
        assert "Read-only file system" in output or "Permission denied" in output


def test_data_and_strategies_are_read_only_inside(running: ComposeStack) -> None:
    data, strategies = "/srv/data/x", "/srv/data/strategies/x"
    places = {
        "gateway": [data],
        "strategy": [strategies],
        "dashboard": ["/srv/feed/data/x", strategies],
    }
    for service, path in ((name, path) for name in places for path in places[name]):
        code, output = running.run_in(service, "touch", path)
        assert code != 0
        assert "Read-only file system" in output


def test_only_the_order_manager_has_the_store(running: ComposeStack) -> None:
    for service in PROCESSES:
        code, output = running.run_in(service, "ls", "/srv/out")
        assert code == 0
        assert ("orders.sqlite3" in output.split()) == (service == "order_manager"), service
    code, output = running.run_in("strategy", "touch", "/srv/out/x")
    assert code == 0, output
    for service in ("gateway", "orderbook", "dashboard"):  # they write nothing
        code, output = running.run_in(service, "touch", "/srv/out/x")
        assert "Read-only file system" in output


def test_processes_share_the_memory_of_shm(running: ComposeStack) -> None:
    owner = running.container("shm")
    assert owner.attrs["HostConfig"]["IpcMode"] == "shareable"
    for service in PROCESSES:
        container = running.container(service)
        assert container.attrs["HostConfig"]["IpcMode"] == f"container:{owner.id}"
    listings = {running.run_in(service, "ls", "/dev/shm")[1] for service in SERVICES}
    assert len(listings) == 1
    assert {"price_book", "tick_ring", "trading_metadata"} <= set(listings.pop().split())


def test_ports_are_published_on_loopback_only(running: ComposeStack) -> None:
    published = {
        service: running.container(service).attrs["NetworkSettings"]["Ports"]
        for service in PROCESSES
    }
    for ports in published.values():
        for bindings in ports.values():
            assert all(binding["HostIp"] == "127.0.0.1" for binding in bindings or [])
    assert not any(published["strategy"].values())


def test_plain_clients_reach_the_published_ports(running: ComposeStack) -> None:
    with socket.create_connection(("127.0.0.1", running.price_port), 5) as prices:
        received = b""
        while received.count(b"*") < 4:
            received += prices.recv(65536)
    symbols, _timestamp, symbol, price = received.split(b"*")[:4]
    assert symbols.startswith(b"SYMBOLS|")
    assert symbol in symbols[len(b"SYMBOLS|") :].split(b",")

    # The market moves on before the order arrives: name a price that reaches it.
    order = {"side": "BUY", "symbol": symbol.decode(), "qty": 1, "price": 2 * float(price)}
    with socket.create_connection(("127.0.0.1", running.order_port), 5) as orders:
        orders.sendall(json.dumps(order).encode() + b"*")
        answer = b""
        while not answer.endswith(b"*"):
            answer += orders.recv(65536)
    assert json.loads(answer[:-1])["ok"] is True


def test_logs_are_one_line_per_event(running: ComposeStack) -> None:
    for process in PROCESSES:
        lines = running.container(process).logs().decode().splitlines()
        assert lines
        assert all(line[:2] == "20" and "Z " in line for line in lines), lines[:5]


def test_frozen_orderbook_is_unhealthy(running: ComposeStack) -> None:
    """The check looks at the heartbeat, not only at the process."""
    pid = running.pid("orderbook")
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: running.health("orderbook") == "unhealthy", "unhealthy", 30)
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: running.health("orderbook") == "healthy", "healthy again", 30)
    wait_until_flowing(running)


def test_restart_of_orderbook_recovers(running: ComposeStack) -> None:
    wait_until_flowing(running)
    running.compose("restart", "orderbook")
    wait_until_healthy(running)
    wait_until_flowing(running)
    assert all(block["ticks_lost"] == 0 for block in running.counters())


def process_of(stack: ComposeStack, service: str) -> int:
    """The process id of a service; 0 while it does not run."""
    try:
        return stack.pid(service)
    except (OSError, IndexError):
        return 0


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_process_starts_again_in_its_container(
    running: ComposeStack, service: str
) -> None:
    """Also the owner of the shared memory, and then nobody else restarts."""
    wait_until_flowing(running)
    started = {s: running.started_at(s) for s in SERVICES}
    before = {s: process_of(running, s) for s in SERVICES}
    running.crash(service)
    eventually(lambda: process_of(running, service) not in (0, before[service]), "another", 10)
    wait_until_healthy(running)
    wait_until_flowing(running)
    after = {s: process_of(running, s) for s in SERVICES}
    assert {s for s in SERVICES if after[s] != before[s]} == {service}
    assert {s: running.started_at(s) for s in SERVICES} == started


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_that_breaks_down_is_survived(running: ComposeStack, service: str) -> None:
    """With that of the shared memory the others start again, too: they need its new segments."""
    wait_until_flowing(running)
    restarted = SERVICES if service == "shm" else (service,)
    before = {s: running.started_at(s) for s in restarted}
    running.break_down(service)
    for one in restarted:
        eventually(lambda s=one: running.started_at(s) != before[s], f"{one} starts again", 30)
    wait_until_healthy(running)
    wait_until_flowing(running)


def test_processes_left_without_shared_memory_wait_for_it(running: ComposeStack) -> None:
    """Once the engine gave up on every container that it tried to start while shm was down."""
    wait_until_flowing(running)
    running.container("shm").kill()  # a manual stop, which the engine does not mend
    started = {s: running.started_at(s) for s in PROCESSES}
    eventually(lambda: not any(process_of(running, s) for s in PROCESSES), "the ends", 20)
    time.sleep(2)
    assert {s: running.health(s) == "exited" for s in PROCESSES} == dict.fromkeys(PROCESSES, False)
    assert "waiting_for_shm" in running.logs("orderbook")
    running.container("shm").start()
    for one in PROCESSES:
        eventually(lambda s=one: running.started_at(s) != started[s], f"{one} starts again", 30)
    wait_until_healthy(running)
    wait_until_flowing(running)


def test_restart_of_the_memory_owner_restarts_the_others(running: ComposeStack) -> None:
    running.compose("restart", "shm")
    wait_until_healthy(running)
    wait_until_flowing(running)


def test_three_strategies(compose_stack: MakeStack) -> None:
    stack = compose_stack(PACE="2000/s")
    stack.up("--scale", "strategy=3")
    assert len(stack.containers("strategy")) == 3

    def all_consume() -> bool:
        counts = [block["ticks_consumed"] for block in stack.counters()]
        return len(counts) == 3 and all(counts)

    eventually(all_consume, "three strategies consume", 20)


def test_strategy_file_needs_no_new_image(compose_stack: MakeStack, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from app.strategy.base import Strategy\n"
        "class Mine(Strategy):\n"
        "    def on_tick(self, tick):\n"
        "        return 'BUY'\n"
    )
    tmp_path.chmod(0o755)
    stack = compose_stack(
        STRATEGY_DIR=str(tmp_path), STRATEGY="data/strategies/mine.py:Mine", PACE="max"
    )
    stack.up()
    # Always BUY: one position, and so one order, for each of the ten symbols.
    eventually(lambda: stack.counters()[0]["orders_acked"] == 10, "ten orders", 20)


def test_idle_processes_use_no_cpu(compose_stack: MakeStack) -> None:
    """The feed waits for a second price subscriber, and no health check falls into the window."""
    stack = compose_stack(PRICE_SUBSCRIBERS="2", HEALTH_PAUSE_S="18")
    stack.up()
    pids = {service: stack.pid(service) for service in PROCESSES}

    def cpu_s(pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    wait_until_healthy(stack)
    checks = health_checks(stack)
    assert len(checks) == len(SERVICES)
    window_s = 5.0
    before = {service: cpu_s(pid) for service, pid in pids.items()}
    time.sleep(window_s)  # measurement window
    used = {service: (cpu_s(pid) - before[service]) / window_s for service, pid in pids.items()}
    assert all(part <= 0.02 for part in used.values()), used
    assert health_checks(stack) == checks


def test_resident_memory(running: ComposeStack) -> None:
    wait_until_flowing(running)

    def resident_mb(service: str) -> float:
        text = Path(f"/proc/{running.pid(service)}/status").read_text()
        (line,) = (line for line in text.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024 / 1e6

    used = {service: resident_mb(service) for service in PROCESSES}
    assert used["gateway"] < 130, used
    assert all(mb < 80 for service, mb in used.items() if service != "gateway"), used
