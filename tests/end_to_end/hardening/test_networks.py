"""Who can reach whom: between the containers, from this host, and to the world outside."""

import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from tests.support.compose_stack import IMAGES, PROCESSES, ComposeStack, eventually

pytestmark = [
    pytest.mark.container,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("images"),
]

PORTS = {"gateway": (9001, 9002, 9003), "order_manager": (62000,), "dashboard": (8080,)}
MAY_CONNECT = {
    ("orderbook", "gateway"),
    ("strategy", "gateway"),
    ("strategy", "order_manager"),
    ("dashboard", "gateway"),
    ("dashboard", "order_manager"),
    # It shares a network with each of them; what it tells them are figures.
    *((process, "dashboard") for process in PROCESSES),
}

# Prints the addresses among its arguments that answer.
_CONNECT = """
import socket, sys
for target in sys.argv[1:]:
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
        print(target)
    except OSError:
        pass
"""

_LISTEN = """
import socket
with socket.create_server(("", 8099)) as server:
    print("ready", flush=True)
    while True:
        server.accept()[0].close()
"""


def answering(stack: ComposeStack, service: str, targets: list[str]) -> list[str]:
    """Those of ``targets`` that a process in the container of ``service`` can connect to."""
    code, output = stack.run_in(service, "python3", "-c", _CONNECT, *targets)
    assert code == 0, output
    return output.split()


def addresses(stack: ComposeStack, service: str) -> list[str]:
    """The addresses of a container, on every network."""
    networks = stack.container(service).attrs["NetworkSettings"]["Networks"]
    return [network["IPAddress"] for network in networks.values()]


@pytest.mark.parametrize("target", PORTS)
@pytest.mark.parametrize("source", PROCESSES)
def test_a_container_reaches_only_whom_it_talks_to(
    running: ComposeStack, source: str, target: str
) -> None:
    """By name and by address: that a name is unknown would not stop anybody."""
    if source == target:
        return
    by_name, *others = (
        [f"{h}:{p}" for p in PORTS[target]] for h in [target, *addresses(running, target)]
    )
    found = answering(running, source, [*by_name, *(each for part in others for each in part)])
    if (source, target) in MAY_CONNECT:
        assert set(by_name) <= set(found), "an address that the name has does not answer"
    else:
        assert found == []


def test_the_owner_of_the_memory_has_no_network(running: ComposeStack) -> None:
    code, output = running.run_in("shm", "ls", "/sys/class/net")
    assert (code, output.split()) == (0, ["lo"])


def ip(*arguments: str) -> None:
    """Run ``ip``; fails with its output."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (arguments, done.stderr)


@pytest.fixture(scope="module")
def outside() -> Iterator[str]:
    """``HOST:PORT`` of a server behind this host, in a network namespace with a link to it."""
    name = f"tr{secrets.token_hex(4)}"
    net = f"198.18.{secrets.randbelow(256)}"
    ip("netns", "add", name)
    server = None
    try:
        ip("link", "add", f"{name}h", "type", "veth", "peer", "name", f"{name}n", "netns", name)
        ip("address", "add", f"{net}.1/30", "dev", f"{name}h")
        ip("link", "set", f"{name}h", "up")
        ip("-n", name, "address", "add", f"{net}.2/30", "dev", f"{name}n")
        ip("-n", name, "link", "set", f"{name}n", "up")
        command = ["ip", "netns", "exec", name, sys.executable, "-c", _LISTEN]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield f"{net}.2:8099"
    finally:
        if server:
            server.kill()
            server.wait()
        ip("netns", "delete", name)


def test_the_world_outside_can_be_reached_from_an_ordinary_network(outside: str) -> None:
    """Without this, the next test would prove nothing."""
    client = docker.from_env()
    network = client.networks.create(f"trading-test-{secrets.token_hex(4)}")
    try:
        output = client.containers.run(
            IMAGES["shm"], ["python3", "-c", _CONNECT, outside], network=network.id, remove=True
        )
    finally:
        network.remove()
        client.close()
    assert output.decode().split() == [outside]


@pytest.mark.parametrize("service", PROCESSES)
def test_no_process_reaches_the_world_outside(
    running: ComposeStack, outside: str, service: str
) -> None:
    """Neither those on internal networks nor those with published ports."""
    assert answering(running, service, [outside]) == []


@pytest.mark.parametrize("service", PROCESSES)
def test_no_name_outside_is_looked_up(running: ComposeStack, service: str) -> None:
    """The engine passes questions on to the container's own loopback, where nobody answers."""
    assert running.container(service).attrs["HostConfig"]["Dns"] == ["127.0.0.1"]
    code, output = running.run_in(service, "getent", "hosts", service)
    assert code == 0, "names of the stack are the engine's own"
    assert output.split()[0] in addresses(running, service)


def reached(port: int) -> bool:
    """Whether a published port answers; the engine's proxy accepts even for a dead container."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.settimeout(2)
            connection.sendall(b"{}*\r\n\r\n")  # no order, no feed's request, and no HTTP
            return bool(connection.recv(64))
    except OSError:
        return False


@pytest.mark.parametrize("service", PORTS)
def test_published_ports_answer_again_after_a_cut(
    compose_stack: Callable[..., ComposeStack], service: str
) -> None:
    stack = compose_stack()
    stack.up()
    ports = {"gateway": stack.price_port, "order_manager": stack.order_port}
    port = ports.get(service, stack.page_port)
    assert reached(port)
    networks = stack.cut(service)
    try:
        assert len(networks) == {"dashboard": 4}.get(service, 2)
        assert not reached(port)
        assert not answering(stack, "strategy", [f"{service}:{p}" for p in PORTS[service]])
    finally:
        stack.reconnect(service, networks)
    eventually(lambda: reached(port), "the published port", 20)
    eventually(lambda: stack.health("strategy") == "healthy", "healthy", 40)


def cpu_stat(container: Container) -> dict[str, int]:
    """The counters of the container's CPU quota; of control groups, version 1 or 2."""
    groups = Path(f"/proc/{container.attrs['State']['Pid']}/cgroup").read_text().splitlines()
    places = {}
    for group in groups:
        _, controllers, path = group.split(":", 2)
        places.update(dict.fromkeys(controllers.split(","), path))
    folder = f"cpu{places['cpu']}" if "cpu" in places else places[""].lstrip("/")
    text = Path("/sys/fs/cgroup", folder, "cpu.stat").read_text()
    return {key: int(value) for key, value in (line.split() for line in text.splitlines())}


def test_the_cpu_limits_do_not_throttle_at_full_pace(running: ComposeStack) -> None:
    """At full pace a process needs a CPU at most; the limit is for what gets out of hand."""

    def stats() -> dict[str, dict[str, int]]:
        return {s: cpu_stat(running.container(s)) for s in PROCESSES}

    before = stats()
    time.sleep(5)  # measurement window
    after = stats()
    periods = {s: after[s]["nr_periods"] - before[s]["nr_periods"] for s in PROCESSES}
    assert all(count > 5 for count in periods.values()), "a quota is set, and the process works"
    throttled = {s: after[s]["nr_throttled"] - before[s]["nr_throttled"] for s in PROCESSES}
    assert sum(throttled.values()) <= 0.01 * sum(periods.values()), (throttled, periods)


def test_a_limit_that_is_too_low_shows(images: None) -> None:
    """The counters of the test above, of a container that its limit slows down."""
    client = docker.from_env()
    container = client.containers.run(
        *(IMAGES["shm"], ["python3", "-c", "while True: pass"]), nano_cpus=50_000_000, detach=True
    )
    try:
        container.reload()
        eventually(lambda: cpu_stat(container)["nr_throttled"] > 2, "a throttled container", 30)
    finally:
        container.remove(force=True)
        client.close()
