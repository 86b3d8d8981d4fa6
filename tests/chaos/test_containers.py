"""Kill any container, get the same trades.  ``make chaos`` does more runs."""

import contextlib
import os
import secrets
import signal
import time
from pathlib import Path

import pytest

from app.backtest.outcome import first_difference
from tests.chaos.compose.containers import Containers, build_for_examples
from tests.chaos.run_containers import run_once
from tests.chaos.run_host import example_scenarios, undisturbed
from tests.support.compose_stack import SERVICES, eventually
from tests.support.paths import ROOT

pytestmark = [
    pytest.mark.container,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("images"),
]

SAMPLE = ROOT / "data" / "market_data.csv"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(2))
def test_seeded_chaos(tmp_path: Path, number: int) -> None:
    seed = secrets.randbelow(10**6)
    verdict = run_once(seed, undisturbed(SAMPLE), 30_000, 5, tmp_path)
    assert verdict.difference is None, f"seed {seed}\n{verdict.report_path.read_text()}"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_seeded_chaos_of_the_example_with_pandas(tmp_path: Path) -> None:
    """Its images are built first.  ``make chaos EXAMPLES=1`` does more runs, of all examples."""
    build_for_examples()
    seed = secrets.randbelow(10**6)
    (example,) = (
        each.settings
        for each in example_scenarios()
        if "momentum" in str(each.settings["strategy"])
    )
    verdict = run_once(seed, undisturbed(SAMPLE, **example), 30_000, 5, tmp_path, example)
    assert verdict.difference is None, f"seed {seed}\n{verdict.report_path.read_text()}"


def consumed(stack: Containers) -> int:
    """Ticks consumed by the strategy."""
    return stack.counter("strategy", "ticks_consumed")


def test_trades_again_within_10_s_of_any_crash() -> None:
    """The process inside is killed; its container and the stack recover."""
    took_s = {}
    with Containers(REPLAY="walk", PACE="2000/s") as stack:
        for service in SERVICES:
            acked = stack.counter("order_manager", "orders_acked")
            eventually(
                lambda a=acked: stack.counter("order_manager", "orders_acked") > a, "orders", 30
            )
            pid = stack.inner_pid(service)
            assert pid is not None
            reached = stack.counter("orderbook", "ticks_received")
            os.kill(pid, signal.SIGKILL)
            started_s = time.monotonic()
            eventually(lambda r=reached: consumed(stack) > r, "ticks", 30)
            acked = stack.counter("order_manager", "orders_acked")
            eventually(
                lambda a=acked: stack.counter("order_manager", "orders_acked") > a, "an order", 30
            )
            took_s[service] = round(time.monotonic() - started_s, 2)
    print("seconds from SIGKILL to the next order:", took_s)
    assert max(took_s.values()) <= 10, took_s


@pytest.mark.parametrize("means", ["crash", "break_down"])
@pytest.mark.parametrize(
    "second", [("shm", "orderbook"), ("shm", "strategy"), SERVICES], ids="+".join
)
def test_same_trades_if_several_die_at_once_while_shared_memory_recovers(
    means: str, second: tuple[str, ...]
) -> None:
    """Once the engine gave up on whoever it tried to start while shm was down, and the run hung."""
    with Containers() as stack:
        eventually(lambda: consumed(stack) > 3000, "ticks", 60)
        getattr(stack, means)("shm")
        time.sleep(6)
        for service in second:
            with contextlib.suppress(OSError, IndexError):
                getattr(stack, means)(service)
        eventually(stack.run_is_over, "the end, without a human", 90)
        stack.compose("stop", "order_manager")
        assert first_difference(stack.outcome(), undisturbed(SAMPLE)) is None


def test_a_cut_gateway_link_shows_and_heals() -> None:
    with Containers() as stack:
        eventually(lambda: consumed(stack) > 3000, "ticks", 60)
        networks = stack.cut("gateway")
        try:
            eventually(lambda: stack.health("orderbook") == "unhealthy", "unhealthy", 20)
            assert stack.metrics("orderbook").state == "stale"
        finally:
            stack.reconnect("gateway", networks)
        eventually(lambda: stack.health("orderbook") == "healthy", "healthy", 20)
        eventually(stack.run_is_over, "the end", 60)
        stack.compose("stop", "order_manager")
        assert first_difference(stack.outcome(), undisturbed(SAMPLE)) is None
