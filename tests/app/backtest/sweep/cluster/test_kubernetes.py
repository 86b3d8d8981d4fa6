"""The manifests of a sweep on Kubernetes: by its schemas, and locked down as the containers."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.paths import ROOT

FOLDER = ROOT / "images/kubernetes/dask"
if not FOLDER.exists():
    pytest.skip("the image has no manifests", allow_module_level=True)
yaml = pytest.importorskip("yaml")
kubernetes = pytest.importorskip("kubernetes_validate")

VERSION = "1.31"
"""The oldest minor version that Kubernetes' makers still mend, or older."""


def documents() -> Iterator[dict[str, Any]]:
    """All, with those of which the operator makes Pods and a Service from the cluster."""
    for file in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if document["kind"] != "DaskCluster":
                yield document
                continue
            assert document["apiVersion"] == "kubernetes.dask.org/v1"
            spec = document["spec"]
            assert set(spec) == {"idleTimeout", "worker", "scheduler"}
            for part in ("worker", "scheduler"):
                yield made("Pod", f"{part}", spec[part]["spec"])
            yield made("Service", "sweep-scheduler", spec["scheduler"]["service"])


def made(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


DOCUMENTS = list(documents())
PODS = [
    each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"]
    for each in DOCUMENTS
    if each["kind"] in ("Pod", "Job")
]


def test_there_is_what_a_sweep_needs() -> None:
    kinds = sorted(each["kind"] for each in DOCUMENTS)
    assert kinds == ["Job", "NetworkPolicy", "Pod", "Pod", "Service"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each["kind"])
def test_each_is_what_kubernetes_takes(document: dict[str, Any]) -> None:
    kubernetes.validate(document, VERSION, strict=True)


def test_a_wrong_name_would_be_found() -> None:
    wrong = copy.deepcopy(next(each for each in DOCUMENTS if each["kind"] == "Pod"))
    wrong["spec"]["containers"][0]["arguments"] = []
    with pytest.raises(kubernetes.ValidationError, match="arguments"):
        kubernetes.validate(wrong, VERSION, strict=True)


@pytest.mark.parametrize("pod", PODS, ids=lambda each: each["containers"][0]["name"])
def test_each_pod_is_restricted(pod: dict[str, Any]) -> None:
    """As the Pod Security Standard of that name demands, and no token, and limits."""
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
    assert all(each["emptyDir"]["sizeLimit"] for each in pod["volumes"] if "emptyDir" in each)


def test_only_clients_and_the_operator_reach_the_scheduler() -> None:
    (policy,) = (each["spec"] for each in DOCUMENTS if each["kind"] == "NetworkPolicy")
    (job,) = (each["spec"] for each in DOCUMENTS if each["kind"] == "Job")
    client = job["template"]["metadata"]["labels"]
    assert client == {"trading/sweep": "client"}
    (rule,) = policy["ingress"]
    allowed = [next(iter(each.values()))["matchLabels"] for each in rule["from"]]
    assert allowed == [
        policy["podSelector"]["matchLabels"],
        client,
        {"kubernetes.io/metadata.name": "dask-operator"},
    ]
    (service,) = (each["spec"] for each in DOCUMENTS if each["kind"] == "Service")
    assert service["type"] == "ClusterIP"
