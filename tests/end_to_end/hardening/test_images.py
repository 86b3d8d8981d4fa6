"""What is in the images, and above all what is not."""

import json
import re
import tarfile
from pathlib import Path

import docker
import pytest
from packaging.markers import Marker

from tests.support.compose_stack import IMAGES, SERVICES
from tests.support.paths import ROOT

pytestmark = [pytest.mark.container, pytest.mark.usefixtures("images")]

BASE = ("base.txt",)
LOCKS = {
    "shm": (),
    **dict.fromkeys(("orderbook", "strategy"), BASE),
    "gateway": (*BASE, "bus.txt", "data.txt", "live.txt"),
    "order_manager": (*BASE, "data.txt", "order_manager.txt"),
    "dashboard": (*BASE, "data.txt", "dashboard.txt"),
}
# Finds all of sys.path, and of the places where other Pythons look.
_DISTRIBUTIONS = """
import glob, importlib.metadata as m, json, sys
paths = {*sys.path, *glob.glob("/usr/**/*-packages", recursive=True), "/srv/site"}
print(json.dumps(sorted({d.name for d in m.distributions(path=sorted(paths))})))
"""
PROGRAMS_GONE = (
    *("apt", "apt-get", "dpkg", "dpkg-query", "dpkg-deb", "perl", "pip", "pip3", "bash", "openssl"),
    *("su", "mount", "passwd", "useradd", "tar", "awk", "curl", "wget", "gcc", "cc", "ld", "make"),
)
PROGRAMS_KEPT = ("sh", "sleep", "cat", "kill", "timeout", "touch", "rm", "python3", "health")
PLACES_GONE = (
    *("*/ensurepip", "*/pip", "*/pip-*", "*/setuptools*", "/usr/lib/apt", "/var/lib/apt"),
    *("/etc/apt", "/usr/share/perl*", "/strip.sh", "*.pyx", "*/include/python3*"),
)


def inside(service: str, *command: str, user: str = "0") -> str:
    """The output of a command in a new container of an image, by default as root, so that
    nothing is hidden."""
    client = docker.from_env()
    try:
        output: bytes = client.containers.run(
            IMAGES[service],
            list(command),
            remove=True,
            user=user,
            network_mode="none",
            environment={"PYTHONDONTWRITEBYTECODE": "1"},
        )
    finally:
        client.close()
    return output.decode()


def python_of(service: str) -> str:
    """The version of Python in an image."""
    return inside(service, "python3", "--version").split()[1]


def locked(python: str, *names: str) -> set[str]:
    """The packages of lock files that a Python of this version gets."""
    text = "".join((ROOT / "images/locks" / name).read_text() for name in names)
    found = re.findall(r"^([a-z0-9-]+)==\S+ ; (.+) \\$", text, re.MULTILINE)
    assert len(found) == len(re.findall("^[a-z0-9-]+==", text, re.MULTILINE))
    environ = {"python_full_version": python}
    return {name for name, marker in found if Marker(marker).evaluate(environ)}


@pytest.mark.parametrize("service", SERVICES)
def test_no_file_changes_the_user(service: str) -> None:
    found = inside(service, "find", "/", "-xdev", "!", "-type", "l", "-perm", "/6000")
    assert found == ""


def test_a_file_that_changes_the_user_would_be_found() -> None:
    """The search above, in an image with one."""
    search = "chmod u+s /usr/bin/env; find / -xdev ! -type l -perm /6000"
    assert inside("shm", "sh", "-c", search) == "/usr/bin/env\n"


@pytest.mark.parametrize("service", SERVICES)
def test_programs_that_no_process_needs_are_gone(service: str) -> None:
    script = 'for name; do command -v "$name"; done; true'
    names = (*PROGRAMS_GONE, *PROGRAMS_KEPT)
    found = inside(service, "sh", "-c", script, "sh", *names).split()
    assert {path.rpartition("/")[2] for path in found} == set(PROGRAMS_KEPT)


@pytest.mark.parametrize("service", SERVICES)
def test_what_programs_leave_behind_is_gone(service: str) -> None:
    tests = [word for place in PLACES_GONE for word in ("-o", "-path", place)][1:]
    assert inside(service, "find", "/", "-xdev", "(", *tests, ")", "-print") == ""


def test_no_layer_hides_what_a_later_one_removes(tmp_path: Path) -> None:
    """Whoever has the image has all its layers, so what is removed must be in none."""
    archive = tmp_path / "image.tar"
    client = docker.from_env()
    try:
        with archive.open("wb") as file:
            file.writelines(client.images.get(IMAGES["order_manager"]).save())
    finally:
        client.close()
    found: dict[str, int] = {}
    with tarfile.open(archive) as image:
        (manifest,) = json.load(image.extractfile("manifest.json"))  # type: ignore[arg-type]
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=image.extractfile(layer)) as files:
                found.update({member.name: member.mode for member in files})
    assert {"usr/bin/sh", "srv/app/order_manager/server.py"} <= found.keys()
    hidden = [n for n in found if re.search(r"/\.wh\.|bin/(apt|dpkg|perl|pip|bash|gcc)", n)]
    assert hidden == []
    assert [name for name, mode in found.items() if mode & 0o6000] == []


@pytest.mark.parametrize("service", SERVICES)
def test_only_the_packages_that_the_process_runs_are_there(service: str) -> None:
    output = inside(service, "python3", "-c", _DISTRIBUTIONS)
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in json.loads(output)}
    assert names == locked(python_of(service), *LOCKS[service])


@pytest.mark.parametrize("service", SERVICES)
def test_its_user_may_write_only_to_output_and_temporary_folders(service: str) -> None:
    """Even without Compose, whose root file system is read-only."""
    script = "find / -xdev -writable '(' -type f -o -type d ')' 2>/dev/null; true"
    found = set(inside(service, "sh", "-c", script, user="10001:10001").split())
    assert found == {"/srv/live", "/srv/out", "/srv/run", "/tmp", "/var/tmp"}


@pytest.mark.parametrize("service", SERVICES)
def test_what_the_image_says_about_itself(service: str) -> None:
    client = docker.from_env()
    try:
        config = client.images.get(IMAGES[service]).attrs["Config"]
    finally:
        client.close()
    assert config["User"] == "10001:10001"
    assert config["WorkingDir"] == "/srv"
    assert config["Cmd"][0] == "python3"
    assert not config.get("ExposedPorts")
    environ = dict(each.split("=", 1) for each in config["Env"])
    assert environ["PATH"].startswith("/usr/local/bin:/usr/bin:")
    assert environ.keys() == {"PATH", "LANG", "PYTHONUNBUFFERED", "OPENBLAS_NUM_THREADS"}
