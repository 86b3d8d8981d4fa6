"""The stack in containers, from outside: what a Compose user sees, and what keeps it safe."""

import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.chaos.run_host import undisturbed
from tests.support.compose_stack import PROCESSES, SERVICES, ComposeStack, eventually
from tests.support.outcome import first_difference, of_store
from tests.support.paths import ROOT, SHARED_DATA

pytestmark = [
    pytest.mark.container,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("images"),
]

IMAGES = {service: f"trading-{service.replace('_', '-')}" for service in SERVICES}
SEGMENTS = ("SHM_PRICE_BOOK", "SHM_METADATA", "SHM_TICK_RING", "SHM_METRICS")

MakeStack = Callable[..., ComposeStack]


@pytest.fixture(scope="module")
def running(images: None) -> Iterator[ComposeStack]:
    """One endless stack for the tests that leave it as they found it."""
    stack = ComposeStack(PACE="2000/s", REPLAY="walk", HEALTH_PAUSE_S="0")
    try:
        stack.up()
        yield stack
    finally:
        stack.destroy()


def consumed(stack: ComposeStack) -> int:
    """Ticks that all strategies have consumed."""
    return sum(block["ticks_consumed"] for block in stack.counters())


def wait_until_flowing(stack: ComposeStack, timeout_s: float = 30) -> None:
    """Ticks reach the strategy, now."""
    before = eventually("counters", lambda: stack.counters() and [consumed(stack)], timeout_s)[0]
    eventually("more ticks consumed", lambda: consumed(stack) > before, timeout_s)


def health_checks(stack: ComposeStack) -> dict[str, str]:
    """When each container's last health check was begun."""
    return {c.name: c.attrs["State"]["Health"]["Log"][-1]["Start"] for c in stack.containers()}


def wait_until_healthy(stack: ComposeStack, timeout_s: float = 40) -> None:
    """Every container runs and calls itself healthy."""
    eventually("all healthy", lambda: {stack.health(s) for s in SERVICES} == {"healthy"}, timeout_s)


# ---- Compose file and images


@pytest.mark.parametrize("arguments", [[], ["--profile", "*"]])
def test_config_is_clean(compose_stack: MakeStack, arguments: list[str]) -> None:
    done = compose_stack().compose(*arguments, "config", "--quiet")
    assert done.stderr == ""


def test_shell_comes_before_env_file(compose_stack: MakeStack) -> None:
    stack = compose_stack(REPLAY="once", PACE="max")
    services = json.loads(stack.compose("config", "--format", "json").stdout)["services"]
    for process in PROCESSES:
        environment = services[process]["environment"]
        assert environment["REPLAY"] == "once"
        assert environment["PACE"] == "max"
        assert environment["SEED"] == "42"
        assert environment["BIND_HOST"] == "0.0.0.0"


@pytest.mark.parametrize("service", PROCESSES)
def test_image_adds_at_most_200_mb_to_its_base(service: str) -> None:
    client = docker.from_env()
    image = client.images.get(IMAGES[service])
    # shm is the base and one small file
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
    eventually("an order acknowledged", lambda: stack.counters()[0]["orders_acked"], 5)
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
    for service, path in (("gateway", "/srv/data/x"), ("strategy", "/srv/data/strategies/x")):
        code, output = running.run_in(service, "touch", path)
        assert code != 0
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

    order = {"side": "BUY", "symbol": symbol.decode(), "qty": 1, "price": float(price)}
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
    """The check sees that the work stands still, not merely that a process exists."""
    pid = running.pid("orderbook")
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually("unhealthy", lambda: running.health("orderbook") == "unhealthy", 30)
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually("healthy again", lambda: running.health("orderbook") == "healthy", 30)
    wait_until_flowing(running)


def test_restart_of_orderbook_recovers(running: ComposeStack) -> None:
    wait_until_flowing(running)
    running.compose("restart", "orderbook")
    wait_until_healthy(running)
    wait_until_flowing(running)
    assert all(block["ticks_lost"] == 0 for block in running.counters())


@pytest.mark.parametrize("service", SERVICES)
def test_crash_of_one_process_is_survived(running: ComposeStack, service: str) -> None:
    """That of the memory's owner takes the others along: their memory has no future."""
    wait_until_flowing(running)
    concerned = SERVICES if service == "shm" else (service,)
    before = {s: running.started_at(s) for s in concerned}
    running.crash(service)
    for one in concerned:
        eventually(f"{one} starts again", lambda s=one: running.started_at(s) != before[s], 30)
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

    eventually("three strategies consume", all_consume, 20)


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
    eventually("ten orders", lambda: stack.counters()[0]["orders_acked"] == 10, 20)


def test_idle_processes_use_no_cpu(compose_stack: MakeStack) -> None:
    """No tick flows while a second price subscriber is awaited; nobody is asked how he is."""
    stack = compose_stack(PRICE_SUBSCRIBERS="2", HEALTH_PAUSE_S="45")
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
    time.sleep(window_s)  # the length of the measurement
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


# ---- REPLAY=once: the container run as an integration test


def data_files() -> list[Path]:
    """The committed sample and real data beside the checkout."""
    names = (
        "equity_1min_3sym_utc.csv",
        "binance_spot_2sym_epoch_ns.csv",
        "tsla_ticks_us_utc.csv",
        "wiki_daily_5sym_2000_2013.csv",
    )
    return [ROOT / "data" / "market_data.csv", *(SHARED_DATA / name for name in names)]


def cases() -> list[tuple[Path, str]]:
    """Every file as fast as possible, and the sample at two paces more."""
    files = data_files()
    return [*((path, "max") for path in files), (files[0], "20000/s"), (files[0], "5000/s")]


@pytest.mark.parametrize(("path", "pace"), cases(), ids=lambda value: getattr(value, "stem", value))
def test_once_consumes_every_row_and_trades_like_the_backtest(
    compose_stack: MakeStack, path: Path, pace: str, tmp_path: Path
) -> None:
    if not path.exists():
        pytest.skip(f"{path} is not here; TRADING_SHARED_DATA names its folder")
    rows = path.read_bytes().count(b"\n") - 1
    stack = compose_stack(
        REPLAY="once", PACE=pace, DATA_DIR=str(path.parent), DATA_PATH=f"data/{path.name}"
    )
    done = stack.compose("up", "--exit-code-from", "strategy", check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    assert f"{rows:,}" in done.stdout, done.stdout[-6000:]
    codes = {c.name: c.attrs["State"]["ExitCode"] for c in stack.containers()}
    assert set(codes.values()) == {0}, (codes, done.stdout[-6000:])
    store = tmp_path / "orders.sqlite3"
    store.write_bytes(stack.file_from("order_manager", "/srv/out/orders.sqlite3"))
    assert first_difference(of_store(store), undisturbed(path)) is None


def test_once_leaves_its_report_in_the_volume(compose_stack: MakeStack) -> None:
    stack = compose_stack(REPLAY="once", PACE="max")
    stack.compose("up", "--exit-code-from", "strategy")
    volume = f"{stack.project}_output"
    listing = stack.client.containers.run(
        IMAGES["strategy"],
        ["find", "/srv/out", "-name", "performance_report.md"],
        volumes={volume: {"bind": "/srv/out", "mode": "ro"}},
        remove=True,
    )
    assert listing.decode().count("performance_report.md") == 1


def test_orders_with_token_and_tls(compose_stack: MakeStack, tmp_path: Path) -> None:
    """The files reach the two processes as secrets, and the check speaks TLS, too."""
    names = ("order_tls_cert", "order_tls_key", "order_token")
    certificate, key, token = (tmp_path / name for name in names)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=order_manager", "-addext", "subjectAltName=DNS:order_manager"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    token.write_text(secrets.token_hex(32))
    for path in (certificate, key, token):
        path.chmod(0o644)
    settings = {f"{name.upper()}_FILE": str(tmp_path / name) for name in names}
    stack = compose_stack(REPLAY="once", PACE="max", **settings)
    stack.compose("up", "--exit-code-from", "strategy")
    assert "Received Order" in stack.logs("order_manager")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"LONG_WINDOW_TICKS": "3"}, "LONG_WINDOW_TICKS"),
        ({"DATA_PATH": "data/none.csv"}, "data/none.csv"),
    ],
)
def test_run_that_cannot_start_ends(
    compose_stack: MakeStack, settings: dict[str, str], reason: str
) -> None:
    """Naming the service as well: with --exit-code-from alone, Compose waits for ever for the exit
    of a container whose dependency failed before it was started."""
    stack = compose_stack(**settings)
    done = stack.compose("up", "--exit-code-from", "strategy", "strategy", check=False)
    assert done.returncode == 1
    assert reason in stack.logs()


def test_suite_runs_in_its_own_image(compose_stack: MakeStack) -> None:
    """On the images' Python: what depends most on it."""
    modules = ("env", "kernel", "kernel_memory", "shared_memory", "tick_ring", "serialization")
    compose_stack().compose(
        *("run", "--rm", "-T", "tests", "python3", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("-m", "not slow", *(f"tests/test_{module}.py" for module in modules)),
    )
