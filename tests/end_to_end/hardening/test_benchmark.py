"""The tables of images/README.md: what they claim about CIS Docker Benchmark and Scout is so."""

import json
import re
from collections.abc import Callable
from typing import Any

import docker
import pytest

from tests.end_to_end.hardening.test_images import inside
from tests.support.compose_stack import IMAGES, SERVICES, ComposeStack
from tests.support.paths import ROOT

PAGE = ROOT / "images/README.md"
if not PAGE.exists():
    pytest.skip("the image has no documentation", allow_module_level=True)

ROWS = dict(re.findall(r"^\| (S?\d[\d.]*) \| [^|]+ \| (yes|no) \|", PAGE.read_text(), re.MULTILINE))
Container = dict[str, Any]
PORTS = {
    "gateway": {"9001/tcp", "9002/tcp"},
    "order_manager": {"62000/tcp"},
    "dashboard": {"8080/tcp"},
}
Check = Callable[[Container, str], bool]
CHECKS: dict[str, Check] = {}


def instructions(name: str) -> list[str]:
    """The arguments of all instructions of a kind in the Dockerfile."""
    text = (ROOT / "images/Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(rf"^{name} (.+)$", text, re.MULTILINE)


def image_of(service: str) -> dict[str, Any]:
    """What the engine says about the image."""
    client = docker.from_env()
    try:
        found: dict[str, Any] = client.images.get(IMAGES[service]).attrs
        history = client.images.get(IMAGES[service]).history()
        return {**found, "History": history}
    finally:
        client.close()


def row(*numbers: str) -> Callable[[Check], Check]:
    """Register the check of a row: of a running container, and its service."""

    def register(check: Check) -> Check:
        CHECKS.update(dict.fromkeys(numbers, check))
        return check

    return register


def host(name: str, *allowed: object) -> Check:
    """A check that a value of ``HostConfig`` is one of those."""
    return lambda container, _: container["HostConfig"].get(name) in allowed


@row("4.1", "S1")
def user(container: Container, service: str) -> bool:
    return container["Config"]["User"] == image_of(service)["Config"]["User"] == "10001:10001"


@row("4.2", "S3")
def base_images(container: Container, service: str) -> bool:
    stages = {found.split()[-1] for found in instructions("FROM")}
    sources = {found.split()[0] for found in instructions("FROM")} - stages
    (default,) = (found for found in instructions("ARG") if found.startswith("PYTHON_IMAGE="))
    return sources == {"${PYTHON_IMAGE}", "scratch"} and "=python:3.13-slim" in default


@row("4.3")
def packages(container: Container, service: str) -> bool:
    status = inside(service, "grep", "^Package:", "/var/lib/dpkg/status")
    return len(status.split("\n")) < 80 and not re.search(r" (apt|dpkg|perl\S*|bash)\n", status)


@row("4.7")
def updates(container: Container, service: str) -> bool:
    found = [command for command in instructions("RUN") if "apt-get update" in command]
    return len(found) == 1 and "apt-get install" in found[0]


@row("4.8")
def setuid(container: Container, service: str) -> bool:
    return inside(service, "find", "/", "-xdev", "!", "-type", "l", "-perm", "/6000") == ""


@row("4.9")
def copy(container: Container, service: str) -> bool:
    history = [step["CreatedBy"] for step in image_of(service)["History"]]
    return not instructions("ADD") and not any("ADD " in step for step in history)


@row("4.10")
def secrets(container: Container, service: str) -> bool:
    image = image_of(service)
    text = json.dumps([image["Config"], image["History"]])
    return not re.search(r"token|password|secret|BEGIN|_KEY", text, re.IGNORECASE)


@row("4.11")
def verified(container: Container, service: str) -> bool:
    locks = "".join(path.read_text() for path in (ROOT / "images/locks").glob("*.txt"))
    packages = re.findall(r"^[a-z]\S*==", locks, re.MULTILINE)
    hashed = re.findall(r"^[a-z]\S*==.*\\\n +--hash=sha256:", locks, re.MULTILINE)
    installs = [command for command in instructions("RUN") if "-r /locks/" in command]
    return (
        len(packages) == len(hashed) > 0
        and len(installs) > 0
        and all("pip.sh" in command for command in installs)
        and "--require-hashes" in (ROOT / "images/pip.sh").read_text()
    )


@row("5.6")
def mounts(container: Container, service: str) -> bool:
    folders = ("data", "feed/data", "data/strategies", "out", "run", "live")
    own = {f"/srv/{folder}" for folder in folders}
    return all(
        mount["Destination"] in own | {f"/run/secrets/{name}" for name in SECRETS}
        and (mount["Type"] == "volume" or not mount["RW"])
        for mount in container["Mounts"]
    )


SECRETS = ("order_token", "order_tls_cert", "order_tls_key", "order_tls_ca")


@row("5.7")
def sshd(container: Container, service: str) -> bool:
    return inside(service, "find", "/usr", "-name", "*ssh*", "-path", "*bin/*") == ""


@row("5.8")
def privileged_ports(container: Container, service: str) -> bool:
    bound = [each for found in bindings(container).values() for each in found]
    return all(int(each["HostPort"]) >= 1024 for each in bound)


@row("5.9")
def ports(container: Container, service: str) -> bool:
    exposed = set(container["Config"].get("ExposedPorts") or ())
    return set(bindings(container)) == PORTS.get(service, set()) and exposed == set(
        bindings(container)
    )


@row("5.10")
def network(container: Container, service: str) -> bool:
    return container["HostConfig"]["NetworkMode"] != "host"


@row("5.11")
def memory(container: Container, service: str) -> bool:
    found = container["HostConfig"]
    return 0 < found["Memory"] <= 2**30 and found["Memory"] == found["MemorySwap"]


@row("5.14")
def interface(container: Container, service: str) -> bool:
    bound = [each for found in bindings(container).values() for each in found]
    return all(each["HostIp"] == "127.0.0.1" for each in bound)


@row("5.17")
def ipc(container: Container, service: str) -> bool:
    return container["HostConfig"]["IpcMode"].startswith(("shareable", "container:"))


@row("5.19")
def ulimits(container: Container, service: str) -> bool:
    return [each["Name"] for each in container["HostConfig"]["Ulimits"]] == ["nofile"]


@row("5.20")
def propagation(container: Container, service: str) -> bool:
    return all(mount["Propagation"] != "shared" for mount in container["Mounts"])


@row("5.22")
def seccomp(container: Container, service: str) -> bool:
    return "2" in re.findall(r"^Seccomp:\s+(\d)", status_of(container), re.MULTILINE)


@row("5.26")
def privileges(container: Container, service: str) -> bool:
    options = container["HostConfig"]["SecurityOpt"]
    return "no-new-privileges:true" in options and "NoNewPrivs:\t1" in status_of(container)


@row("5.27")
def health(container: Container, service: str) -> bool:
    return container["State"]["Health"]["Status"] in ("starting", "healthy")


@row("5.29")
def pids(container: Container, service: str) -> bool:
    return 0 < container["HostConfig"]["PidsLimit"] <= 64


@row("5.30")
def bridge(container: Container, service: str) -> bool:
    return "bridge" not in container["NetworkSettings"]["Networks"]


@row("5.32")
def engine_socket(container: Container, service: str) -> bool:
    return not any("docker.sock" in json.dumps(mount) for mount in container["Mounts"])


CHECKS |= {
    "5.4": lambda c, _: c["HostConfig"]["CapDrop"] == ["ALL"] and not c["HostConfig"]["CapAdd"],
    "5.5": host("Privileged", False),
    "5.13": host("ReadonlyRootfs", True),
    "5.16": host("PidMode", ""),
    "5.18": host("Devices", None, []),
    "5.21": host("UTSMode", ""),
    "5.25": host("CgroupParent", ""),
    "5.31": host("UsernsMode", ""),
}


def bindings(container: Container) -> dict[str, list[dict[str, str]]]:
    """The published ports."""
    return {k: v for k, v in container["NetworkSettings"]["Ports"].items() if v}


def status_of(container: Container) -> str:
    """The kernel's view of the container's first process."""
    with open(f"/proc/{container['State']['Pid']}/status") as file:
        return file.read()


def test_the_tables_have_every_row() -> None:
    wanted = [*(f"4.{n}" for n in range(1, 13)), *(f"5.{n}" for n in range(1, 33))]
    assert list(ROWS) == [*wanted, *(f"S{n}" for n in range(1, 8))]


def test_each_yes_has_a_check_and_each_no_a_reason() -> None:
    text = PAGE.read_text()
    assert {number for number, answer in ROWS.items() if answer == "yes"} == {*CHECKS, "S2"}
    assert re.findall(r"^\| \S+ \| [^|]+ \| no \| *\|", text, re.MULTILINE) == []


@pytest.mark.container
@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", CHECKS)
def test_a_yes_holds(running: ComposeStack, number: str) -> None:
    failed = [
        service
        for service in SERVICES
        if not CHECKS[number](running.container(service).attrs, service)
    ]
    assert failed == []


@pytest.mark.container
@pytest.mark.timeout(240)
def test_the_checks_see_a_container_that_is_not_locked_down(running: ComposeStack) -> None:
    """The same checks of an ordinary container that shares everything with the host."""
    options = {"pid_mode": "host", "ipc_mode": "host", "uts_mode": "host", "userns_mode": "host"}
    container = running.client.containers.create(
        *(IMAGES["shm"], ["sleep", "9"]),
        **options,  # type: ignore[arg-type]
        user="0",
        privileged=True,
        network_mode="bridge",
        ports={"80/tcp": 80},
        devices=["/dev/null:/dev/null0"],
        volumes={"/etc": {"bind": "/host", "mode": "rw,shared"}},
    )
    try:
        attrs = container.attrs
        attrs["NetworkSettings"]["Ports"] = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "80"}]}
        of_inspect = ["4.1", "5.4", "5.5", "5.6", "5.8", "5.9", "5.11", "5.13", "5.14", "5.16"]
        of_inspect += ["5.17", "5.18", "5.20", "5.21", "5.30", "5.31", "S1"]
        assert [number for number in of_inspect if CHECKS[number](attrs, "shm")] == []
    finally:
        container.remove(force=True)


@pytest.mark.container
@pytest.mark.timeout(240)
@pytest.mark.parametrize("service", SERVICES)
def test_limits_of_cpu_and_swap(running: ComposeStack, service: str) -> None:
    found = running.container(service).attrs["HostConfig"]
    assert 0 < found["NanoCpus"] <= 1e9
    assert found["MemorySwap"] == found["Memory"]


@pytest.mark.container
@pytest.mark.timeout(700)
@pytest.mark.parametrize("service", SERVICES)
def test_no_package_declares_an_agpl_licence(sboms: dict[str, str], service: str) -> None:
    licences = re.findall(r'"(?:expression|id|name)": "([^"]*)"', sboms[service])
    assert any("MIT" in licence for licence in licences)
    assert [each for each in licences if "AGPL" in each.upper() or "AFFERO" in each.upper()] == []
