"""Live prices in containers, as data/live.md says, from an exchange on this host."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from app.backtest.outcome import Outcome, of_store
from tests.app.market_data.live.fake_exchange import SYMBOLS, FakeExchange
from tests.support.compose_stack import ComposeStack, eventually
from tests.support.paths import ROOT
from tests.support.ports import free_ports

pytestmark = [
    pytest.mark.container,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("images"),
]

MakeStack = Callable[..., ComposeStack]
KILLS: Final = ("crash", "break", "kill", "crash", "kill")
"""The gateway's process, its container, and as ``docker kill`` does it: then ``up`` again."""


def live_stack(make: MakeStack) -> ComposeStack:
    override = ROOT / "docker-compose.override.yml"
    chosen = ["docker-compose.yml", *([override.name] if override.exists() else [])]
    return make(
        COMPOSE_FILE=":".join([*chosen, "images/live.yml"]),
        LIVE_SYMBOLS=",".join(SYMBOLS),
        LIVE_PING_S="2",
        HEALTH_PAUSE_S="0",
    )


def address_here(stack: ComposeStack) -> str:
    """This host's on the network that is the gateway's way out; nobody else is there."""
    stack.environ["DATA_PATH"] = "ws://nowhere.invalid/ws"
    stack.compose("create", "gateway")
    network = stack.client.networks.get(f"{stack.project}_outside")
    return str(network.attrs["IPAM"]["Config"][0]["Gateway"])


def counter(stack: ComposeStack, service: str, name: str) -> int:
    return stack.counters(service)[0][name]


def more_ticks(stack: ComposeStack) -> None:
    before = counter(stack, "strategy", "ticks_consumed")
    eventually(
        lambda: counter(stack, "strategy", "ticks_consumed") > before + 200, "the market", 90
    )


def kill_gateway(stack: ComposeStack, how: str) -> None:
    if how == "crash":
        stack.crash("gateway")
    elif how == "break":
        stack.break_down("gateway")
    else:
        stack.container("gateway").kill()
        stack.compose("up", "-d")


def settle(stack: ComposeStack, exchange: FakeExchange) -> int:
    """Let the exchange rest, until the strategy has every tick; returns their number."""
    exchange.paused = True
    seen = -1

    def quiet() -> bool:
        nonlocal seen
        before, seen = seen, counter(stack, "gateway", "ticks_sent")
        time.sleep(1)
        return seen == before > 0 and counter(stack, "strategy", "ticks_consumed") == seen

    eventually(quiet, "all ticks are consumed", 60)
    return seen


def outcome(stack: ComposeStack, folder: Path) -> Outcome:
    stack.compose("stop", "strategy", "order_manager")
    store = folder / "orders.sqlite3"
    store.write_bytes(stack.file_from("order_manager", "/srv/out/orders.sqlite3"))
    return of_store(store)


def without_client(found: Outcome) -> tuple[list[object], list[object]]:
    """A live run's client has another name than a replay's, after the data."""
    return (
        [line._replace(client="") for line in found.orders],
        [line._replace(client="") for line in found.fills],
    )


def test_killed_gateways_and_the_recording_replays_to_the_same_orders(
    compose_stack: MakeStack, tmp_path: Path
) -> None:
    stack = live_stack(compose_stack)
    (port,) = free_ports(1)
    host = address_here(stack)
    with FakeExchange(per_s=400, host=host, port=port) as exchange:
        stack.environ["DATA_PATH"] = exchange.url
        stack.up()
        for how in KILLS:
            more_ticks(stack)
            kill_gateway(stack, how)
        more_ticks(stack)
        ticks = settle(stack, exchange)
        missing = counter(stack, "gateway", "live_missing")
        assert missing > 0, "what was said while there was no gateway"
        assert ticks + missing <= exchange.played
        done = stack.compose("run", "--rm", "--no-deps", "-T", "check", "compare")
        assert done.stdout.startswith("equal: "), done.stdout
    # As the page on live prices says.
    stack.compose("cp", "gateway:/srv/live", str(tmp_path / "recordings"))
    (recording,) = (tmp_path / "recordings").glob("*.ticks")
    os.chmod(tmp_path / "recordings", 0o755)
    live = outcome(stack, tmp_path)
    stack.destroy()
    replay = compose_stack(
        DATA_DIR=str(tmp_path / "recordings"),
        DATA_PATH=f"data/{recording.name}",
        REPLAY="once",
        PACE="max",
    )
    ended = replay.compose("up", "--exit-code-from", "strategy", check=False)
    assert ended.returncode == 0, ended.stdout[-6000:]
    assert f"{ticks:,}" in ended.stdout
    replayed = outcome(replay, tmp_path)
    assert without_client(live) == without_client(replayed)
    assert len(live.orders) > 20
