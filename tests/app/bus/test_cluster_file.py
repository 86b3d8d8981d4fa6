"""The Compose files of the cluster: the sequencer gets what a gateway gets; all locked down."""

import re

import pytest

from tests.support.paths import ROOT

yaml = pytest.importorskip("yaml", reason="the images have no YAML")
if not (ROOT / "images/cluster").exists():
    pytest.skip("the image has no Compose files of the cluster", allow_module_level=True)

STACK = (ROOT / "docker-compose.yml").read_text()
CLUSTER = yaml.safe_load((ROOT / "images/cluster/docker-compose.yml").read_text())
SHARD = yaml.safe_load((ROOT / "images/cluster/shard.yml").read_text())
LONG_LIVED = ("broker-1", "broker-2", "broker-3", "sequencer", "monitor", "portfolio")


def test_the_sequencer_gets_all_that_decides_what_a_feed_is() -> None:
    """In the stack's settings: what is from DATA_PATH to SKIP_BAD_ROWS, and what makes ticks."""
    settings = re.findall(r"[A-Z_]+", STACK.partition("x-settings")[2].partition("}")[0])
    data = settings[settings.index("DATA_PATH") : settings.index("SKIP_BAD_ROWS") + 1]
    wanted = {*data, "SENTIMENT_EVERY_TICKS", "SEED", "PACE", "REPLAY"}
    environment = CLUSTER["services"]["sequencer"]["environment"]
    assert wanted <= set(settings)
    assert {name for name in wanted if name in environment and environment[name] is None} == wanted


@pytest.mark.parametrize("name", [*LONG_LIVED, "setup", "shard"])
def test_it_is_locked_down(name: str) -> None:
    service = (CLUSTER["services"] | SHARD["services"])[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["dns"] == "127.0.0.1"
    assert service["pids_limit"] <= 256
    assert service["mem_limit"]
    if name != "setup":
        assert service["memswap_limit"] == service["mem_limit"]
        assert service["cpus"]
        assert service["healthcheck"]["test"][0] == "CMD"


def test_each_has_the_credentials_of_one_user() -> None:
    files = {name: each["file"] for name, each in (CLUSTER["secrets"] | SHARD["secrets"]).items()}
    users = {}
    for name, service in (CLUSTER["services"] | SHARD["services"]).items():
        sources = [s if isinstance(s, str) else s["source"] for s in service.get("secrets", ())]
        paths = [files[source] for source in sources if "/creds/" in files.get(source, "")]
        users[name] = [path.rpartition("/creds/")[2] for path in paths]
    assert users == {
        "broker-1": [],
        "broker-2": [],
        "broker-3": [],
        "setup": ["setup"],
        "monitor": ["monitor"],
        "prometheus": [],
        "grafana": [],
        "sequencer": ["sequencer"],
        "portfolio": ["portfolio"],
        "gateway": ["gateway-${SHARD:?the name of this shard}"],
        "shard": ["shard-${SHARD:?the name of this shard}"],
    }
