"""ON_BUS_LOSS: what holds while the bus is lost, or nobody publishes, whatever the reason."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.bus.outbox.desk import controls, mode, send_orders
from tests.support.bus.broker import Broker, Cluster, cluster
from tests.support.bus.shard import ShardProcess
from tests.support.children import eventually
from tests.support.orders.process import OrderManagerProcess

pytestmark = pytest.mark.medium

LOSS_S = 2.0


def rules(rule: str) -> dict[str, object]:
    """Settings of both processes."""
    return {"on_bus_loss": rule, "bus_loss_s": LOSS_S}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[OrderManagerProcess]:
    with OrderManagerProcess(tmp_path, **rules("halt")) as made:
        yield made


def becomes(manager: OrderManagerProcess, wanted: str, why: str) -> None:
    eventually(lambda: mode(manager) == wanted, f"{wanted}: {why}", 40)


@contextlib.contextmanager
def at_work(folder: Path, rule: str) -> Iterator[tuple[OrderManagerProcess, ShardProcess, Broker]]:
    """An order manager, its publisher and their only broker, which has the first orders."""
    with (
        cluster() as broker,
        OrderManagerProcess(folder, **rules(rule)) as manager,
        ShardProcess(broker, manager, **rules(rule)) as shard,
    ):
        eventually(lambda: shard.log().count("bus_connected"), "it is connected")
        becomes(manager, "active", "the bus is there")
        send_orders(manager, 0, 5)
        shard.wait_published(10)
        (server,) = broker.brokers
        yield manager, shard, server


def is_ours(entry: tuple[int, str], rule: str) -> bool:
    mode_no, reason = entry
    wanted = {"reduce": 1, "halt": 2}[rule]
    return mode_no == wanted and reason.startswith("bus lost for ") and f"={rule}, " in reason


def test_it_holds_without_a_publisher_and_while_one_is_dead_or_frozen(
    broker: Cluster, manager: OrderManagerProcess
) -> None:
    becomes(manager, "halted", "none was started")
    with ShardProcess(broker, manager, **rules("halt")) as shard:
        becomes(manager, "active", "it is there")
        shard.kill()
        becomes(manager, "halted", "it is dead")
        shard.start()
        becomes(manager, "active", "it is there again")
        assert shard.process is not None
        shard.process.send_signal(signal.SIGSTOP)
        becomes(manager, "halted", "it is frozen")
        shard.process.send_signal(signal.SIGCONT)
        becomes(manager, "active", "it goes on")
    found = controls(manager)
    assert all(is_ours(entry, "halt") for entry in found[::2])
    assert set(found[1::2]) == {(0, "the bus is back")}
    assert len(found) >= 6


def test_it_holds_while_the_publisher_ends_again_and_again(
    broker: Cluster, manager: OrderManagerProcess, tmp_path: Path
) -> None:
    """With the password of nobody, as after a change at the brokers that it was not told."""
    accounts = "accounts { A { jetstream: enabled, users: [{ user: a, password: right }] } }"
    with cluster(accounts=accounts) as closed:
        wrong = ShardProcess(closed, manager, bus_user="a", bus_password="wrong", **rules("halt"))

        def is_restricted() -> bool:
            """As a supervisor does: it is started again."""
            if wrong.process is None or wrong.process.poll() is not None:
                wrong.kill()
                wrong.start()
            return mode(manager) == "halted"

        eventually(is_restricted, "halted", 40)
        wrong.kill()
        assert "does not let the user 'a' in" in wrong.log()
    assert len(controls(manager)) == 1


@pytest.mark.parametrize("rule", [pytest.param("reduce", marks=pytest.mark.slow), "halt"])
def test_a_lost_bus_restricts_trading_until_it_is_back(rule: str, tmp_path: Path) -> None:
    wanted = {"reduce": "reduce", "halt": "halted"}[rule]
    with at_work(tmp_path, rule) as (manager, shard, server):
        server.kill()
        becomes(manager, wanted, "the bus is lost")
        assert mode(manager) == wanted
        # Whoever restarts them does not make them forget whose doing this was.
        shard.kill()
        manager.environ["ORDER_PORT"] = str(manager.port)
        manager.kill()
        manager.start()
        assert mode(manager) == wanted
        shard.start()
        server.start()
        becomes(manager, "active", "the bus is back")
        restricted, back = controls(manager)[-2:]
    assert is_ours(restricted, rule)
    assert restricted[1].endswith("before: active")
    assert back == (0, "the bus is back")


def test_what_somebody_else_has_set_meanwhile_stays(tmp_path: Path) -> None:
    with at_work(tmp_path, "reduce") as (manager, shard, server):
        server.kill()
        killed_ns = time.time_ns()
        becomes(manager, "reduce", "the bus is lost")
        eventually(lambda: shard.status()["restricted"], "it says so")
        with manager.client() as client:
            client.ask({"op": "halt", "reason": "by hand"})
        # A status is up to a second old: whatever is connected after this one is so again.
        eventually(
            lambda: (now := shard.status())["at_ns"] > killed_ns and not now["connected"],
            "it says that the bus is lost",
        )
        server.start()
        eventually(lambda: shard.status()["connected"], "the bus is back")
        eventually(lambda: not shard.status()["restricted"], "nothing of it is left")
        assert mode(manager) == "halted"


def test_an_operator_who_resumes_while_the_bus_is_lost_has_the_last_word(
    manager: OrderManagerProcess,
) -> None:
    becomes(manager, "halted", "nobody publishes")
    with manager.client() as client:
        client.ask({"op": "resume", "reason": "I know"})
    time.sleep(2 * LOSS_S)
    assert mode(manager) == "active"
    assert [entry[0] for entry in controls(manager)] == [2, 0]


def test_continue_changes_nothing_and_says_nothing_to_the_order_manager(tmp_path: Path) -> None:
    with (
        cluster() as broker,
        OrderManagerProcess(tmp_path, bus_loss_s=0.5) as manager,
        ShardProcess(broker, manager, bus_loss_s=0.5) as shard,
    ):
        send_orders(manager, 0, 5)
        shard.wait_published(10)
        broker.brokers[0].kill()
        eventually(lambda: "bus_unavailable" in shard.log(), "it is lost")
        time.sleep(1.0)
        send_orders(manager, 5, 5)
        broker.brokers[0].start()
        shard.wait_published(20)
        assert controls(manager) == []


def test_a_rule_that_the_order_manager_does_not_have_is_said(
    broker: Cluster, tmp_path: Path
) -> None:
    with (
        OrderManagerProcess(tmp_path) as manager,
        ShardProcess(broker, manager, **rules("halt")) as shard,
    ):
        eventually(
            lambda: "ON_BUS_LOSS=halt here, and continue at the" in shard.log(), "it says so"
        )
