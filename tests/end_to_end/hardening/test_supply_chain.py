"""``make sbom``, ``make audit`` and ``make pin``."""

import contextlib
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.end_to_end.hardening.conftest import make
from tests.end_to_end.hardening.fake_registry import serve
from tests.end_to_end.hardening.test_images import LOCKS, inside, locked, python_of
from tests.support.compose_stack import IMAGES, SERVICES
from tests.support.paths import ROOT
from tests.support.ports import free_ports

if not (ROOT / "images/supply_chain").exists():
    pytest.skip("the image has no Dockerfile", allow_module_level=True)

VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()))
"""


def packages(*locks: str) -> dict[tuple[str, str], str]:
    """Name and version -> the block with the hashes, of lock files below the project."""
    found = {}
    for lock in locks:
        text = (ROOT / lock).read_text()
        for name, version, block in re.findall(
            r"^([\w.-]+)==(\S+)((?:.*\\\n)*.*)$", text, re.MULTILINE
        ):
            found[name, version] = block
    return found


# ---- SBOM


def of_kind(sbom: str, kind: str) -> list[dict[str, object]]:
    """The components whose package URL is of a kind."""
    components = json.loads(sbom)["components"]
    return [each for each in components if each.get("purl", "").startswith(f"pkg:{kind}/")]


@pytest.mark.container
@pytest.mark.timeout(700)
@pytest.mark.parametrize("service", SERVICES)
def test_an_sbom_lists_the_packages_that_are_in_the_image(
    sboms: dict[str, str], service: str
) -> None:
    sbom = sboms[service]
    described = json.loads(sbom)["metadata"]["component"]
    assert (described["name"], described["type"]) == (IMAGES[service], "container")

    blocks = packages(*(f"images/locks/{lock}" for lock in LOCKS[service]))
    found = of_kind(sbom, "pypi")
    for each in found:
        name = re.sub(r"[-_.]+", "-", str(each["name"])).lower()
        (wheel,) = each["hashes"]  # type: ignore[misc]
        assert wheel["alg"] == "SHA-256"
        assert f"sha256:{wheel['content']}" in blocks[name, str(each["version"])], name
        assert each["licenses"], name
    assert len(found) == len(locked(python_of(service), *LOCKS[service]))

    installed = inside(service, "grep", "-A9", "^Package:", "/var/lib/dpkg/status")
    names = re.findall(r"^Package: (\S+)$", installed, re.MULTILINE)
    assert len(names) > 20
    binary = [each for each in of_kind(sbom, "deb") if "arch=source" not in str(each["purl"])]
    assert sorted(str(each["name"]) for each in binary) == sorted(names)


@pytest.mark.container
@pytest.mark.parametrize("service", SERVICES)
def test_an_sbom_is_valid_cyclonedx(sboms: dict[str, str], service: str) -> None:
    def problem(text: str) -> str:
        command = [ROOT / "build/supply_chain/bin/python", "-c", VALIDATE]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert problem(sboms[service]) == "None"
    assert problem(sboms[service].replace('"container"', '"barrel"')) != "None"


@pytest.mark.container
@pytest.mark.parametrize("image", ["sweep", "shard", "portfolio", "broker"])
def test_an_image_of_several_machines_has_an_sbom_if_it_is_built(
    sboms: dict[str, str], image: str
) -> None:
    client = docker.from_env()
    if not client.images.list(f"trading-{image}"):
        pytest.skip(f"trading-{image} is not built here")
    text = (ROOT / f"build/sbom/trading-{image}.cdx.json").read_text()
    assert json.loads(text)["metadata"]["component"]["name"] == f"trading-{image}"
    names = {str(each["name"]).lower() for each in of_kind(text, "pypi")}
    assert names >= {
        "sweep": {"distributed"}, "shard": {"nats-py"}, "portfolio": {"nats-py"}, "broker": set(),
    }[image]  # fmt: skip


# ---- Audit


@contextlib.contextmanager
def advisories(vulnerable: str = "", status: int = 200) -> Iterator[tuple[str, set[str]]]:
    """The address of a service like osv.dev that knows of one vulnerable package, and what it
    was asked for."""
    asked: set[str] = set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = query["package"]["name"]
            asked.add(f"{name}=={query['version']}")
            affected = {
                "package": {"name": name, "ecosystem": "PyPI"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}],
            }
            found = {"id": "PYSEC-0-1", "summary": "-", "affected": [affected]}
            found["published"] = "2026-01-01T00:00:00Z"  # type: ignore[assignment]
            answer = json.dumps({"vulns": [found]} if name == vulnerable else {}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    (port,) = free_ports(1)
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/v1/query", asked
        finally:
            server.shutdown()
            thread.join()


def locks() -> list[str]:
    """All lock files, below the project."""
    return ["requirements.lock", *(f"images/locks/{p.name}" for p in ROOT.glob("images/locks/*"))]


@pytest.mark.medium
def test_every_locked_package_is_audited_also_those_for_another_python() -> None:
    with advisories() as (url, asked):
        done = make("audit", AUDIT_URL=url)
    wanted = {f"{name}=={version}" for name, version in packages(*locks())}
    assert asked == wanted
    assert (done.returncode, done.stdout) == (
        0,
        f"audit: {len(wanted)} packages, no known vulnerability\n",
    )


@pytest.mark.medium
def test_a_vulnerable_package_fails_the_audit_even_where_offline_is_fine() -> None:
    with advisories("msgspec") as (url, _):
        done = make("audit", AUDIT_URL=url, AUDIT_OFFLINE_OK="1")
    assert done.returncode != 0
    assert re.fullmatch(r"audit: msgspec \S+: PYSEC-0-1, fixed in: 99\n", done.stdout)


@pytest.mark.medium
@pytest.mark.parametrize("status", [None, 404, 503])
@pytest.mark.parametrize("offline_ok", ["", "1"])
def test_an_audit_without_advisories_says_so(status: int | None, offline_ok: str) -> None:
    """None: nothing listens there."""
    with advisories(status=status or 200) as (url, _):
        if status is None:
            url = url.replace("127.0.0.1", "127.0.0.2")
        done = make("audit", AUDIT_URL=url, AUDIT_OFFLINE_OK=offline_ok)
    assert (done.returncode == 0) == bool(offline_ok), done
    assert done.stdout.startswith("audit: NOT DONE, the advisories cannot be reached: ")
    assert done.stdout.count("\n") == 1


def test_ci_audits_within_two_minutes() -> None:
    assert "AUDIT_OFFLINE_OK=1 timeout 120 make audit" in (ROOT / ".ci/run").read_text()


# ---- Pin


def pin(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``make pin`` in another project."""
    script = folder / "images/supply_chain/pin.sh"
    if not script.exists():
        script.parent.mkdir(parents=True)
        shutil.copy(ROOT / "images/supply_chain/pin.sh", script)
    return subprocess.run([script], capture_output=True, text=True, timeout=60)


@pytest.mark.container
def test_pin_writes_the_digest_of_the_tag_and_a_new_one_later(images: None, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    tag = f"127.0.0.1:{port}/python:3.13-slim"
    env = tmp_path / ".env"
    env.write_text(f"# base image\nPYTHON_IMAGE={tag}\nDATA_DIR=./data\n")
    client = docker.from_env()
    pulled = []
    try:
        with serve(port) as registry:
            for text in (b"first", b"second"):
                digest = registry.push(text)
                done = pin(tmp_path)
                pulled.append(f"{tag}@{digest}")
                assert done.returncode == 0, done
                assert env.read_text() == (
                    f"# base image\nPYTHON_IMAGE={tag}@{digest}\nDATA_DIR=./data\n"
                )
                # What the build asks for, with the tag meaning something else by now.
                assert client.images.get(pulled[-1]).attrs["RepoDigests"]
            assert pulled[0] != pulled[1]
            pinned = env.read_text()
        done = pin(tmp_path)
        assert done.returncode == 1
        assert f"pin: cannot pull {tag}" in done.stderr
        assert "pin: .env is unchanged" in done.stderr
        assert env.read_text() == pinned
    finally:
        for name in pulled:
            with contextlib.suppress(docker.errors.ImageNotFound):
                client.images.remove(client.images.get(name).id, force=True)
        client.close()
