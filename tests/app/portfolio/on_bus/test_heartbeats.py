"""A shard that is dead or cut off is seen in the lag, though its stream has nothing new."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bus.link.messages import HEARTBEAT_S
from app.portfolio.intake.heartbeats import LATE_S, Heartbeats
from tests.app.portfolio.on_bus.portfolio_process import PortfolioProcess, beat, make_streams
from tests.support.bus.accounts import bus_with_accounts
from tests.support.bus.broker import Cluster, cluster
from tests.support.bus.shard import ShardProcess
from tests.support.orders.frames import ORDER
from tests.support.orders.process import OrderManagerProcess


class Clock:
    """Set by the test."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_shard_is_silent_from_when_somebody_listens() -> None:
    clock = Clock()
    heartbeats = Heartbeats(clock)
    assert heartbeats.age_s("a") is None
    assert heartbeats.lag_s("a") == 0.0
    heartbeats.begin()
    clock.now_s += LATE_S
    heartbeats.begin()  # over the next connection
    assert heartbeats.age_s("a") == LATE_S
    assert heartbeats.lag_s("a") == 0.0
    clock.now_s += 1
    assert heartbeats.lag_s("a") == LATE_S + 1


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_lag_is_what_it_has_said_and_then_its_silence(said_s: float, silent_s: float) -> None:
    clock = Clock()
    heartbeats = Heartbeats(clock)
    heartbeats.begin()
    heartbeats.take("a", b'{"lag_rows": 3, "lag_s": %f, "more": 1}' % said_s)
    clock.now_s += silent_s
    lag_s = heartbeats.lag_s("a")
    assert lag_s >= said_s - 1e-3
    assert (lag_s > said_s + LATE_S / 2) == (clock.now_s - 100.0 > LATE_S)
    assert heartbeats.lag_s("b") == (heartbeats.age_s("b") if silent_s > LATE_S else 0.0)


@pytest.mark.parametrize(
    ("shard", "data"),
    [
        ("a", b""), ("a", b"{"), ("a", b"[]"), ("a", b'{"lag_s": -1}'), ("a", b'{"lag_s": "x"}'),
        ("a", b'{"lag_rows": -1}'), ("a", b"\xff"), ("A", b"{}"), ("", b"{}"),
    ],
)  # fmt: skip
def test_what_is_no_heartbeat_is_passed_over(shard: str, data: bytes) -> None:
    clock = Clock()
    heartbeats = Heartbeats(clock)
    heartbeats.begin()
    clock.now_s += 1
    heartbeats.take(shard, data)
    assert heartbeats.age_s(shard) == 1


def test_some_heartbeats_may_be_missing() -> None:
    assert LATE_S >= 4 * HEARTBEAT_S


@pytest.fixture
def bus() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


def lag_s(state: dict[str, Any]) -> float:
    (shard,) = state["shards"]
    return shard["lag_s"] or 0.0


@pytest.mark.medium
def test_a_publisher_that_is_dead_or_frozen_is_seen(bus: Cluster, tmp_path: Path) -> None:
    with (
        OrderManagerProcess(tmp_path / "stack") as manager,
        ShardProcess(bus, manager) as shard,
        PortfolioProcess(bus, tmp_path) as portfolio,
    ):
        with manager.client() as client:
            client.ask({**ORDER, "id": 1, "client": "desk"})
        shard.wait_published(2)

        def is_heard(state: dict[str, Any]) -> bool:
            shards = state["shards"]
            return bool(shards) and lag_s(state) == 0 and shards[0]["heartbeat_s"] < LATE_S

        portfolio.wait(is_heard, "it is heard")
        assert shard.process is not None
        shard.process.send_signal(signal.SIGSTOP)
        state = portfolio.wait(lambda state: lag_s(state) > LATE_S, "it is silent")
        assert state["shards"][0]["pending"] == 0, "its stream has nothing new"
        shard.process.send_signal(signal.SIGCONT)
        portfolio.wait(is_heard, "it is heard again")
        shard.kill()
        # Also by a portfolio that has never heard it.
        portfolio.end()
        portfolio.start()
        portfolio.wait(lambda state: bool(state["shards"]) and lag_s(state) > LATE_S, "silent")


@pytest.mark.medium
def test_what_the_store_has_and_the_stream_lacks_is_lag(bus: Cluster, tmp_path: Path) -> None:
    make_streams(bus, "a")
    with PortfolioProcess(bus, tmp_path) as portfolio:
        portfolio.wait(lambda state: bool(state["shards"]), "the shard is found")

        def said(state: dict[str, Any]) -> bool:
            beat(bus, "a", lag_rows=7, lag_s=123.5)
            return lag_s(state) >= 123.5

        portfolio.wait(said, "it says that it is behind")


@pytest.mark.medium
def test_heartbeats_pass_the_accounts_of_a_cluster(tmp_path: Path) -> None:
    with (
        bus_with_accounts(tmp_path / "accounts") as bus,
        OrderManagerProcess(tmp_path / "stack") as manager,
        ShardProcess(bus.cluster, manager, **bus.settings("shard-a")) as shard,
        PortfolioProcess(bus.cluster, tmp_path, **bus.settings("portfolio")) as portfolio,
    ):

        def heard(state: dict[str, Any]) -> bool:
            ages = {each["shard"]: each["heartbeat_s"] for each in state["shards"]}
            return ages.get("b", 0) > 2 * HEARTBEAT_S > ages.get("a", 99.0)

        portfolio.wait(heard, "a is heard, and b is not there")
        assert "bus_denied" not in shard.log()
        assert "denied" not in portfolio.text()
