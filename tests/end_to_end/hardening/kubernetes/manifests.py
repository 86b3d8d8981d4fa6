"""The manifests as kustomize itself renders them, and what is asked of them.

Each rule is a function that returns the violations of a list of documents; the tests apply it to
the manifests, and to manifests that break it.
"""

import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.support.paths import ROOT

KUBECTL = Path(sys.executable).with_name("kubectl")
FOLDER = ROOT / "images" / "kubernetes"
BASE, EXAMPLE = FOLDER / "base", FOLDER / "overlays" / "example"
VERSIONS = ("1.33", kubernetes_validate.latest_version())
"""The first version in which sidecars are no longer new, and the latest that is known here."""

Document = dict[str, Any]


@cache
def rendered_text(folder: Path) -> str:
    """What ``kubectl kustomize`` prints; fails if it warns."""
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def rendered(folder: Path) -> list[Document]:
    """The documents, each a copy of its own."""
    return list(yaml.safe_load_all(rendered_text(folder)))


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    """By name."""
    return {d["metadata"]["name"]: d for d in documents if d["kind"] == kind}


def workloads(documents: list[Document]) -> dict[str, Document]:
    """Whatever makes Pods, by name."""
    kinds = ("StatefulSet", "Deployment", "Job")
    return {name: each for kind in kinds for name, each in of_kind(documents, kind).items()}


def pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Name and Pod spec of each workload."""
    for name, workload in workloads(documents).items():
        yield name, workload["spec"]["template"]["spec"]


def containers(pod: Document) -> list[Document]:
    """All of a Pod."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def every_container(documents: list[Document]) -> Iterator[tuple[str, Document, Document]]:
    """``pod/container``, the Pod, the container."""
    for name, pod in pods(documents):
        for container in containers(pod):
            yield f"{name}/{container['name']}", pod, container


def environ_of(documents: list[Document], container: Document) -> dict[str, str]:
    """The variables of a container; ``SHARD`` is that of the first Pod."""
    maps = of_kind(documents, "ConfigMap")
    found: dict[str, str] = {}
    for each in container.get("envFrom", ()):
        found |= maps[each["configMapRef"]["name"]]["data"]
    for each in container.get("env", ()):
        found[each["name"]] = each.get("value", "shard-0")
    return found


def bytes_of(quantity: str) -> int:
    """``256Mi`` as bytes."""
    number, unit = re.fullmatch(r"(\d+)([KMG]i)", quantity).groups()  # type: ignore[union-attr]
    return int(number) << {"Ki": 10, "Mi": 20, "Gi": 30}[unit]


# ---- The rules


def schemas_accept(documents: list[Document]) -> list[str]:
    """Strictly: a misspelled member is an error."""
    found = []
    for version in VERSIONS:
        for document in documents:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                found.append(f"{document['kind']} {document['metadata']['name']}: {error}")
    return found


def pods_are_restricted(documents: list[Document]) -> list[str]:
    """What the level "restricted" of the Pod Security Standards asks, and no token."""
    found = []
    for name, pod in pods(documents):
        context = pod.get("securityContext", {})
        wanted = {
            "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }  # fmt: skip
        found += [f"{name}: {k}" for k, v in wanted.items() if context.get(k) != v]
        for member in ("automountServiceAccountToken", "enableServiceLinks"):
            if pod.get(member) is not False:
                found.append(f"{name}: {member}")
        for member in ("hostNetwork", "hostIPC", "hostPID", "shareProcessNamespace"):
            if member in pod:
                found.append(f"{name}: {member}")
        kinds = {"emptyDir", "configMap", "secret", "persistentVolumeClaim"}
        found += [f"{name}: volume {v['name']}" for v in pod["volumes"] if not kinds & v.keys()]
    for name, _, container in every_container(documents):
        wanted = {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        if container.get("securityContext") != wanted:
            found.append(f"{name}: securityContext")
    return found


def every_container_has_limits(documents: list[Document]) -> list[str]:
    """CPU and memory, asked for and limited; memory is never overcommitted within a shard."""
    found = []
    for name, _, container in every_container(documents):
        resources = container.get("resources", {})
        for kind in ("requests", "limits"):
            if set(resources.get(kind, {})) != {"cpu", "memory"}:
                found.append(f"{name}: {kind}")
    return found


def volumes_exist(documents: list[Document]) -> list[str]:
    """Each mount has its volume, and no two mounts of a container are at one place."""
    found = []
    for workload in workloads(documents).values():
        spec = workload["spec"]
        pod = spec["template"]["spec"]
        known = {each["name"] for each in pod["volumes"]}
        known |= {each["metadata"]["name"] for each in spec.get("volumeClaimTemplates", ())}
        for container in containers(pod):
            mounts = container["volumeMounts"]
            found += [f"{container['name']}: {m['name']}" for m in mounts if m["name"] not in known]
            paths = [m["mountPath"] for m in mounts]
            found += [f"{container['name']}: {p} twice" for p in set(paths) if paths.count(p) > 1]
    return found


def references_exist(documents: list[Document]) -> list[str]:
    """ConfigMaps and claims by name; selectors of services, budgets and policies by labels."""
    found = []
    maps, claims = of_kind(documents, "ConfigMap"), of_kind(documents, "PersistentVolumeClaim")
    for name, pod in pods(documents):
        named = [v["configMap"] for v in pod["volumes"] if "configMap" in v]
        named += [e["configMapRef"] for c in containers(pod) for e in c.get("envFrom", ())]
        lacking = [n["name"] for n in named if n["name"] not in maps and not n.get("optional")]
        found += [f"{name}: ConfigMap {each}" for each in lacking]
        for volume in pod["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and claim not in claims:
                found.append(f"{name}: claim {claim}")
    labels = [w["spec"]["template"]["metadata"]["labels"] for w in workloads(documents).values()]
    outside = {"app.kubernetes.io/name": "nats"}
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
        for name, document in of_kind(documents, kind).items():
            spec = document["spec"]
            selector = spec.get("podSelector", spec.get("selector", {}))
            wanted = selector.get("matchLabels", selector)
            if wanted != outside and not any(wanted.items() <= each.items() for each in labels):
                found.append(f"{kind} {name}: selects nobody")
    services = of_kind(documents, "Service")
    for name, workload in of_kind(documents, "StatefulSet").items():
        if workload["spec"]["serviceName"] not in services:
            found.append(f"{name}: service {workload['spec']['serviceName']}")
    return found


USERS = {
    "shard/gateway": "gateway-$(SHARD)",
    "shard/outbox": "shard-$(SHARD)",
    "sequencer/sequencer": "sequencer",
    "portfolio/portfolio": "portfolio",
    "bus-setup/bus-setup": "setup",
}
"""Container -> the user of the bus that it is; the others are none."""


def _of_accounts() -> dict[str, Any]:
    """The names in images/cluster/accounts.py, which makes the users."""
    return runpy.run_path(str(ROOT / "images/cluster/accounts.py"))


def shards_of(documents: list[Document]) -> list[str]:
    """The names of the shards: those of the Pods."""
    count = of_kind(documents, "StatefulSet")["shard"]["spec"]["replicas"]
    return [f"shard-{number}" for number in range(count)]


def secrets_are_where_they_are_needed(documents: list[Document]) -> list[str]:
    """Credentials of the bus: each its own.  The order store: not in reach of a strategy."""
    store = {"shard/order-manager", "shard/outbox"}
    found = []
    for name, pod, container in every_container(documents):
        mounts = container["volumeMounts"]
        secrets = {v["name"]: v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}
        bus = [m for m in mounts if secrets.get(m["name"], "").startswith("bus")]
        own = {(m["mountPath"], m.get("subPath") or m.get("subPathExpr") or "") for m in bus}
        user, kind = USERS.get(name, ""), name.partition("/")[0]
        if not user:
            wanted = set()
        elif kind == "shard":
            wanted = {("/srv/bus/creds", user), ("/srv/bus/ca.crt", "ca.crt")}
        else:
            # A secret with nothing but creds and ca.crt, which no other Pod has.
            wanted = {("/srv/bus", "")}
        if own != wanted or not all(m.get("readOnly") for m in bus):
            found.append(f"{name}: the bus's credentials")
        elif user and secrets[bus[0]["name"]] != f"bus-{'shards' if kind == 'shard' else user}":
            found.append(f"{name}: the credentials of others")
        has = any(m["name"] == "store" and m.get("subPath") == "out" for m in mounts)
        if has != (name in store):
            found.append(f"{name}: the order store")
        if any(m["name"] == "store" and "subPath" not in m for m in mounts):
            found.append(f"{name}: the whole volume")
    return found


def processes_have_what_they_require(documents: list[Document]) -> list[str]:
    """Each client of the bus is a user of it, in the account whose requests it names."""
    accounts, shards = _of_accounts(), shards_of(documents)
    known, found = accounts["users_of"](shards), []
    for name, _, container in every_container(documents):
        environ = environ_of(documents, container)
        if name not in USERS:
            continue
        user = USERS[name].replace("$(SHARD)", environ.get("SHARD", ""))
        if user not in known:
            found.append(f"{name}: no user {user}")
        central = accounts["account_of"](user) == "TRADING"
        if environ.get("BUS_API", accounts["API"]) != accounts["API" if central else "SHARD_API"]:
            found.append(f"{name}: BUS_API")
        needed = {"BUS_URL", "BUS_CREDS", "BUS_TLS_CA", *MORE.get(name, ())}
        found += [f"{name}: {each}" for each in sorted(needed) if not environ.get(each)]
        if name == "bus-setup/bus-setup" and container.get("args") != shards:
            found.append(f"{name}: makes {container.get('args')} for {shards}")
    return found + [f"no container {name}" for name in sorted(set(USERS) - _names(documents))]


MORE = {
    "shard/gateway": ("DATA_PATH", "SHARD", "LIVE_RECORD", "RUN_DIR"),
    "shard/outbox": ("SHARD", "OUTPUT_DIR", "ORDER_MANAGER_HOST", "RUN_DIR"),
    "sequencer/sequencer": ("DATA_PATH", "SHARD_MAP", "RUN_DIR"),
    "portfolio/portfolio": ("PORTFOLIO_HOST", "ORDER_TOKEN_FILE", "OUTPUT_DIR"),
}
"""What else a process of the bus does not start without, or not do its work."""


def _names(documents: list[Document]) -> set[str]:
    return {name for name, _, _ in every_container(documents)}


def nobody_talks_to_others(documents: list[Document]) -> list[str]:
    """A policy for all Pods lets nothing through; the others open single ports."""
    policies = of_kind(documents, "NetworkPolicy")
    shut = [p for p in policies.values() if p["spec"]["podSelector"] == {}]
    found = []
    if not any(
        set(p["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not p["spec"].get("ingress") and not p["spec"].get("egress")
        for p in shut
    ):  # fmt: skip
        found.append("no policy denies everything")
    for name, policy in policies.items():
        for way, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(way, ()):
                if not rule.get(peers) or not rule.get("ports"):
                    found.append(f"{name}: {way} is open")
    return found


Rule = Callable[[list[Document]], list[str]]
RULES: tuple[Rule, ...] = (
    schemas_accept,
    pods_are_restricted,
    every_container_has_limits,
    volumes_exist,
    references_exist,
    secrets_are_where_they_are_needed,
    processes_have_what_they_require,
    nobody_talks_to_others,
)
