"""What the Compose file says: settings, secrets, and the services that only some profiles start."""

import json
from collections.abc import Callable

import pytest

from tests.support.compose_stack import PROCESSES, ComposeStack

pytestmark = [pytest.mark.container, pytest.mark.usefixtures("images")]

MakeStack = Callable[..., ComposeStack]


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


def test_only_who_serves_other_machines_has_their_tokens(compose_stack: MakeStack) -> None:
    done = compose_stack(ORDER_TOKEN_FILE="/etc/hostname").compose(
        "--profile", "*", "config", "--format", "json"
    )
    services = json.loads(done.stdout)["services"]
    mounted = {
        name
        for name, service in services.items()
        if any(each["source"] == "order_token" for each in service.get("secrets") or ())
    }
    named = {
        name
        for name, service in services.items()
        if service.get("environment", {}).get("ORDER_TOKEN_FILE")
    }
    assert mounted == named == {"gateway", "order_manager", "dashboard"}


@pytest.mark.parametrize("service", ["verdict", "check"])
def test_a_service_beside_the_stack_is_locked_down(compose_stack: MakeStack, service: str) -> None:
    done = compose_stack().compose("--profile", "*", "config", "--format", "json")
    config = json.loads(done.stdout)["services"][service]
    assert config["user"] == "10001:10001"
    assert config["read_only"] is True
    assert config["cap_drop"] == ["ALL"]
    assert config["security_opt"] == ["no-new-privileges:true"]
    assert config["restart"] == "no"
    assert int(config["mem_limit"]) > 0
    assert config["pids_limit"] > 0
    assert not config.get("ports")


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_what_watches_the_stack_is_locked_down(compose_stack: MakeStack, service: str) -> None:
    """Only the files that it needs, on loopback, and no name or network that the stack's have."""
    services = json.loads(
        compose_stack().compose("--profile", "observability", "config", "--format", "json").stdout
    )["services"]
    config = services[service]
    assert config["user"] == "10001:10001"
    assert config["read_only"] is True
    assert config["cap_drop"] == ["ALL"]
    assert config["security_opt"] == ["no-new-privileges:true"]
    assert int(config["mem_limit"]) == int(config["memswap_limit"]) > 0
    assert config["pids_limit"] > 0
    assert all(mount["read_only"] for mount in config["volumes"])
    assert [port["host_ip"] for port in config["ports"]] == ["127.0.0.1"]
    asked = services["dashboard" if service == "prometheus" else "prometheus"]
    assert set(config["networks"]) & set(asked["networks"]) == {"observability"}


def test_only_the_gateway_gets_a_way_out_for_a_live_feed(compose_stack: MakeStack) -> None:
    """And it keeps no foot in the network whose members have none."""
    both = ("-f", "docker-compose.yml", "-f", "images/live.yml")
    config = json.loads(
        compose_stack(DATA_PATH="wss://exchange/ws", LIVE_SYMBOLS="A")
        .compose(*both, "--profile", "*", "config", "--format", "json")
        .stdout
    )
    services = config["services"]
    assert set(services["gateway"]["networks"]) == {"feeds", "outside"}
    assert not services["gateway"].get("dns")
    assert not config["networks"]["outside"].get("internal")
    others = {name: service for name, service in services.items() if name != "gateway"}
    assert not [n for n, each in others.items() if "outside" in (each.get("networks") or ())]
    assert all(each.get("dns") == ["127.0.0.1"] for n, each in others.items() if n in PROCESSES)
    writers = [
        name
        for name, service in services.items()
        for volume in service.get("volumes") or ()
        if volume["target"] == "/srv/live" and not volume.get("read_only")
    ]
    assert writers == ["gateway"]
