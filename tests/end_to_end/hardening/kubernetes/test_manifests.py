"""The Kubernetes manifests: valid, restricted, and of the same stack as Compose runs."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes_validate", reason="the images have no Kubernetes schemas")

from app.config.settings import Settings
from tests.end_to_end.hardening.kubernetes.manifests import (
    BASE,
    EXAMPLE,
    FOLDER,
    RULES,
    Document,
    Rule,
    bytes_of,
    containers,
    environ_of,
    every_container,
    every_container_has_limits,
    nobody_talks_to_others,
    of_kind,
    pods,
    pods_are_restricted,
    processes_have_what_they_require,
    references_exist,
    rendered,
    schemas_accept,
    secrets_are_where_they_are_needed,
    shards_of,
    volumes_exist,
    workloads,
)
from tests.support.paths import ROOT

COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "images/Dockerfile").read_text()
ENV = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", (ROOT / ".env").read_text(), re.MULTILINE))
NO_SETTINGS = {"RUN_DIR", "LOG_FORMAT"} - {name.upper() for name in Settings.__struct_fields__}

FOLDERS = pytest.mark.parametrize("folder", [BASE, EXAMPLE], ids=lambda path: path.name)


@FOLDERS
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_manifests_keep_the_rule(folder: Path, rule: Rule) -> None:
    assert rule(rendered(folder)) == []


# ---- The same stack as in Compose


def shard(documents: list[Document]) -> Document:
    return dict(pods(documents))["shard"]


@FOLDERS
def test_a_shard_has_the_processes_of_the_stack(folder: Path) -> None:
    services = set(re.findall(r"^    image: trading-([a-z-]+)$", COMPOSE, re.MULTILINE))
    own = {container["name"] for container in containers(shard(rendered(folder)))}
    assert own == services - {"tests", "verdict"} | {"outbox"}
    for name, _, container in every_container(rendered(folder)):
        image = container["image"].rpartition("/")[2].partition(":")[0]
        target = image.removeprefix("trading-").replace("-", "_")
        assert re.search(rf"^FROM \w+ AS {target}$", DOCKERFILE, re.MULTILINE), image
        if name.startswith("shard/") and container["name"] != "outbox":
            assert image == f"trading-{container['name']}"


def test_the_example_names_a_version_of_every_image() -> None:
    for name, _, container in every_container(rendered(EXAMPLE)):
        assert re.fullmatch(
            r"registry\.example/trading-[a-z-]+:\d+\.\d+\.\d+", container["image"]
        ), name


@FOLDERS
def test_probes_are_the_health_checks_of_compose(folder: Path) -> None:
    for name, _, container in every_container(rendered(folder)):
        probes = {
            kind: container[kind]["exec"]["command"]
            for kind in ("startupProbe", "readinessProbe", "livenessProbe")
            if kind in container
        }
        if name in ("shard/outbox", "bus-setup/bus-setup"):
            assert probes == {}
            continue
        if name == "shard/shm":
            assert list(probes.values()) == [["test", "-e", "/dev/shm/ipc_owner"]]
            continue
        service = container["name"].replace("-", "_")
        command = ["python3", "-S", "-m", "app.runtime.container.health", service]
        assert list(probes.values()) == [command] * 3
        if service not in ("portfolio", "sequencer"):
            assert f"[CMD, health, *pause, {', '.join(command)}]" in COMPOSE


@FOLDERS
def test_commands_are_modules_of_this_project(folder: Path) -> None:
    for name, _, container in every_container(rendered(folder)):
        if "command" not in container:
            continue
        python, dash_m, module, *_ = container["command"]
        assert (python, dash_m) == ("python3", "-m"), name
        assert (ROOT / module.replace(".", "/") / "__main__.py").exists(), name


@FOLDERS
def test_variables_are_settings_with_valid_values(folder: Path) -> None:
    documents = rendered(folder)
    for name, _, container in every_container(documents):
        environ = environ_of(documents, container)
        unknown = set(environ) - {each.upper() for each in Settings.__struct_fields__}
        assert unknown <= NO_SETTINGS, name
        Settings.from_environ(environ)


@FOLDERS
def test_of_a_shard_nothing_listens_outside_of_its_pod(folder: Path) -> None:
    documents = rendered(folder)
    for container in shard(documents)["containers"]:
        settings = Settings.from_environ(environ_of(documents, container))
        assert settings.bind_host == settings.gateway_host == "127.0.0.1"
        assert settings.order_manager_host == "127.0.0.1"
        assert not settings.dashboard_host
        assert not settings.order_published_host
        assert "ports" not in container
    assert "ports" not in of_kind(documents, "Service")["shard"]["spec"]


@FOLDERS
def test_all_of_a_shard_share_its_memory_and_its_run(folder: Path) -> None:
    documents = rendered(folder)
    pod = shard(documents)
    (memory,) = [each for each in pod["volumes"] if each["name"] == "dev-shm"]
    size = bytes_of(memory["emptyDir"]["sizeLimit"])
    assert memory["emptyDir"]["medium"] == "Memory"
    assert size == int(ENV["SHM_SIZE"].removesuffix("m")) << 20
    for container in containers(pod):
        mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
        assert mounts["/dev/shm"] == {"name": "dev-shm", "mountPath": "/dev/shm"}
        assert mounts["/srv/run"]["subPath"] == "run"
        if container["name"] in ("gateway", "orderbook", "strategy", "order-manager", "dashboard"):
            least = ENV[f"{container['name'].upper().replace('-', '_')}_MEMORY"]
            limit = bytes_of(container["resources"]["limits"]["memory"])
            assert limit >= bytes_of(least.upper() + "i"), container["name"]


@FOLDERS
def test_the_map_has_a_shard_for_every_pod(folder: Path) -> None:
    documents = rendered(folder)
    shards = json.loads(of_kind(documents, "ConfigMap")["shard-map"]["data"]["shards.json"])
    assert set(shards["shards"]) == set(shards_of(documents))


@FOLDERS
def test_ports_of_policies_are_those_that_are_used(folder: Path) -> None:
    documents = rendered(folder)
    policies = of_kind(documents, "NetworkPolicy")
    servers = of_kind(documents, "ConfigMap")["settings"]["data"]["BUS_URL"].split(",")
    ports = {rule["port"] for rule in policies["bus"]["spec"]["egress"][0]["ports"]}
    assert {int(server.rpartition(":")[2]) for server in servers} == ports
    (page,) = policies["portfolio"]["spec"]["ingress"][0]["ports"]
    service = of_kind(documents, "Service")["portfolio"]["spec"]["ports"]
    assert page["port"] == Settings().portfolio_port == service[0]["port"]


def test_the_namespace_refuses_what_is_not_restricted() -> None:
    labels = of_kind(rendered(BASE), "Namespace")["trading"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {d["metadata"].get("namespace", "trading") for d in rendered(EXAMPLE)} == {"trading"}


def test_every_file_is_used() -> None:
    named = "".join(path.read_text() for path in FOLDER.rglob("kustomization.yaml"))
    ours = [p for p in FOLDER.rglob("*.yaml") if "dask" not in p.parts]  # applied one by one
    files = {p.name for p in ours} - {"kustomization.yaml"}
    assert [name for name in sorted(files) if name not in named] == []


# ---- Each rule can fail


def _container(documents: list[Document], name: str) -> Document:
    return next(each for where, _, each in every_container(documents) if where == name)


Break = Callable[[list[Document]], Any]
BROKEN: list[tuple[Rule, Break]] = [
    (schemas_accept, lambda d: shard(d).update(conatiners=[])),
    (schemas_accept, lambda d: of_kind(d, "StatefulSet")["shard"]["spec"].update(replicas="two")),
    (pods_are_restricted, lambda d: shard(d).pop("automountServiceAccountToken")),
    (pods_are_restricted, lambda d: shard(d)["securityContext"].update(runAsNonRoot=False)),
    (pods_are_restricted, lambda d: shard(d).update(hostIPC=True)),
    (pods_are_restricted, lambda d: shard(d)["volumes"].append({"name": "x", "hostPath": {}})),
    (pods_are_restricted, lambda d: _container(d, "shard/outbox").pop("securityContext")),
    (every_container_has_limits, lambda d: _container(d, "shard/shm")["resources"].pop("limits")),
    (volumes_exist, lambda d: shard(d)["volumes"].pop()),
    (volumes_exist, lambda d: _container(d, "shard/gateway")["volumeMounts"].append(
        {"name": "tmp", "mountPath": "/tmp"})),
    (references_exist, lambda d: d.remove(of_kind(d, "ConfigMap")["settings"])),
    (references_exist, lambda d: d.remove(of_kind(d, "PersistentVolumeClaim")["feed"])),
    (references_exist, lambda d: of_kind(d, "Service")["portfolio"]["spec"]["selector"].update(
        {"app.kubernetes.io/name": "portfolios"})),
    (references_exist, lambda d: d.remove(of_kind(d, "Service")["shard"])),
    (secrets_are_where_they_are_needed, lambda d: _container(d, "shard/strategy")[
        "volumeMounts"].append({"name": "bus", "mountPath": "/srv/bus/creds", "subPath": "x"})),
    (secrets_are_where_they_are_needed, lambda d: _container(d, "shard/gateway")[
        "volumeMounts"][-2].pop("subPathExpr")),
    (secrets_are_where_they_are_needed, lambda d: _container(d, "shard/gateway")[
        "volumeMounts"][-2].update(subPathExpr="shard-$(SHARD)")),
    (secrets_are_where_they_are_needed, lambda d: workloads(d)["sequencer"]["spec"]["template"][
        "spec"]["volumes"][2]["secret"].update(secretName="bus-setup")),
    (processes_have_what_they_require, lambda d: of_kind(d, "ConfigMap")["shard-settings"][
        "data"].pop("BUS_API")),
    (processes_have_what_they_require, lambda d: of_kind(d, "ConfigMap")["settings"][
        "data"].update(BUS_API="BUS.API")),
    (processes_have_what_they_require, lambda d: _container(d, "sequencer/sequencer")["env"].pop()),
    (processes_have_what_they_require, lambda d: _container(d, "bus-setup/bus-setup")[
        "args"].pop()),
    (processes_have_what_they_require, lambda d: d.remove(workloads(d)["bus-setup"])),
    (secrets_are_where_they_are_needed, lambda d: _container(d, "shard/strategy")[
        "volumeMounts"].append({"name": "store", "mountPath": "/srv/all"})),
    (nobody_talks_to_others, lambda d: d.remove(of_kind(d, "NetworkPolicy")["nobody"])),
    (nobody_talks_to_others, lambda d: of_kind(d, "NetworkPolicy")["portfolio"]["spec"]["ingress"][
        0].pop("from")),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "break_it"), BROKEN, ids=[
    f"{rule.__name__}-{number}" for number, (rule, _) in enumerate(BROKEN)
])  # fmt: skip
def test_the_rule_finds_a_violation(rule: Rule, break_it: Break) -> None:
    documents = rendered(EXAMPLE)
    break_it(documents)
    assert rule(documents) != []


def test_every_rule_is_shown_to_fail() -> None:
    assert {rule for rule, _ in BROKEN} == set(RULES)
