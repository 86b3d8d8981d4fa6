"""The publisher process beside an order manager: kills, controls, and a bus that is lost."""

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.bus.link import names, streams
from app.bus.link.access import bus_access
from app.bus.link.connection import Link
from app.bus.outbox.controls import consumer_name, ensure_consumer
from app.config.settings import Settings
from tests.app.bus.outbox.desk import controls, mode, send_orders
from tests.support.bus.broker import Cluster, cluster
from tests.support.bus.history import expected, published
from tests.support.bus.reading import read_out
from tests.support.bus.shard import ShardProcess
from tests.support.children import eventually
from tests.support.orders.process import OrderManagerProcess

pytestmark = pytest.mark.medium


@pytest.fixture
def broker() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[OrderManagerProcess]:
    with OrderManagerProcess(tmp_path) as made:
        yield made


def send_control(broker: Cluster, shard: str, *bodies: dict[str, Any] | bytes) -> None:
    async def run() -> None:
        access = bus_access(Settings.from_environ(broker.environ()))
        async with await Link.open(access, "test") as link:
            await streams.ensure(link, streams.control(), broker.replicas)
            for body in bodies:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                await link.js.publish(names.control_subject(shard), data)

    asyncio.run(run())


@pytest.mark.slow
def test_every_acknowledged_order_is_published_once_through_kills(
    broker: Cluster, manager: OrderManagerProcess
) -> None:
    """With one broker; test_chaos.py has three, and a short version."""
    rng = random.Random(1)
    with ShardProcess(broker, manager) as shard:
        for number in range(6):
            send_orders(manager, number * 40, 40)
            if number % 2:
                shard.kill()
                send_orders(manager, 1000 + number * 5, 5)
                shard.start()
            else:
                broker.brokers[0].restart()
            send_orders(manager, 2000 + number * 40, rng.randint(1, 40))
        broker.wait_ready()
        kinds = expected(manager.store_path)
        shard.wait_published(sum(map(len, kinds.values())))
        assert shard.stop() == 0
    assert published(read_out(broker, "a")) == kinds
    assert len(kinds["orders"]) > 255


def test_controls_are_taken_in_their_order_and_each_once(
    broker: Cluster, manager: OrderManagerProcess
) -> None:
    reduce = {"id": "c1", "mode": "reduce", "reason": "gross over 1,000,000", "by": "portfolio"}
    with ShardProcess(broker, manager) as shard:
        send_control(broker, "b", {"id": "other", "mode": "halt"})
        send_control(broker, "a", reduce, b"{nonsense", {"id": "c2", "mode": "stop"})
        eventually(lambda: mode(manager) == "reduce", "reduce")
        send_control(broker, "a", {"id": "c3", "mode": "halt"}, reduce)
        eventually(lambda: "id=c3" in shard.log(), "c3 is taken")
        shard.kill()
        send_control(broker, "a", reduce)
        shard.start()
        send_control(broker, "a", {"id": "c4", "mode": "resume", "by": "ops"})
        eventually(lambda: mode(manager) == "active", "active")
        assert shard.stop() == 0
    assert controls(manager) == [
        (1, "gross over 1,000,000 (control c1 by portfolio)"),
        (2, "halt (control c3 by ?)"),
        (0, "resume (control c4 by ops)"),
    ]
    assert shard.log().count("control_refused") == 2


def test_a_control_loosens_nothing_that_is_stricter(
    broker: Cluster, manager: OrderManagerProcess
) -> None:
    def taken(shard: ShardProcess, control: str, wanted: str, holds: str) -> None:
        send_control(broker, "a", {"id": control, "mode": wanted, "reason": "x" * 200})
        eventually(lambda: f"id={control} " in shard.log(), f"{control} is taken")
        assert mode(manager) == holds
        (line,) = (
            line for line in shard.log().splitlines() if f"control_taken id={control} " in line
        )
        assert f"holds={holds}" in line

    with ShardProcess(broker, manager) as shard, manager.client() as operator:
        taken(shard, "c1", "halt", "halted")
        taken(shard, "c2", "reduce", "halted")
        taken(shard, "c3", "resume", "active")
        operator.ask({"op": "halt", "reason": "by hand"})
        taken(shard, "c4", "reduce", "halted")
        taken(shard, "c5", "halt", "halted")
        operator.ask({"op": "halt", "kill": True, "reason": "by hand"})
        for number, wanted in enumerate(("reduce", "halt", "resume")):
            taken(shard, f"k{number}", wanted, "killed")
        operator.ask({"op": "resume"})
        taken(shard, "c6", "reduce", "reduce")
    assert [found for found, _ in controls(manager)] == [2, 0, 2, 2, 3, 0, 1]


OURS = "bus lost for 3.0 s, ON_BUS_LOSS=halt, before: "


def test_a_control_that_is_looser_than_a_lost_bus_holds_after_it(
    broker: Cluster, manager: OrderManagerProcess
) -> None:
    with manager.client() as client:
        client.ask({"op": "halt", "reason": OURS + "active"})
    send_control(broker, "a", {"id": "c1", "mode": "reduce", "by": "portfolio"})
    with ShardProcess(broker, manager):
        eventually(lambda: mode(manager) == "reduce", "reduce")
    assert controls(manager) == [
        (2, OURS + "active"),
        (2, OURS + "reduce (reduce (control c1 by portfolio))"),
        (1, "the bus is back"),
    ]


def test_a_control_that_a_dead_publisher_had_is_waited_for(
    broker: Cluster, manager: OrderManagerProcess
) -> None:
    """It is delivered again after a while; until then the lost bus's restriction stays."""

    async def receive_and_die() -> None:
        access = bus_access(Settings.from_environ(broker.environ()))
        async with await Link.open(access, "test") as link:
            await ensure_consumer(link, "a")
            place = await link.js.pull_subscribe_bind(
                durable=consumer_name("a"), stream=names.CONTROL_STREAM
            )
            assert len(await place.fetch(1, timeout=5)) == 1

    with manager.client() as client:
        client.ask({"op": "halt", "reason": OURS + "active"})
    send_control(broker, "a", {"id": "c1", "mode": "halt"})
    asyncio.run(receive_and_die())
    with ShardProcess(broker, manager) as shard:
        eventually(lambda: "id=c1" in shard.log(), "it is taken")
    assert controls(manager) == [(2, OURS + "active"), (2, "halt (control c1 by ?)")]


def test_a_control_waits_for_an_order_manager_that_is_down(
    broker: Cluster, manager: OrderManagerProcess
) -> None:
    port = manager.port
    with ShardProcess(broker, manager) as shard:
        manager.kill()
        send_control(broker, "a", {"id": "c1", "mode": "halt"})
        eventually(lambda: "control_waits" in shard.log(), "it waits")
        manager.environ["ORDER_PORT"] = str(port)
        manager.start()
        eventually(lambda: mode(manager) == "halted", "halted")


def test_the_status_says_how_far_the_stream_is(
    broker: Cluster, manager: OrderManagerProcess
) -> None:
    shard = ShardProcess(broker, manager)
    nothing = shard.command("status")
    assert nothing.returncode == 1
    assert "nothing has published" in nothing.stderr
    with shard:
        send_orders(manager, 0, 7)
        shard.wait_published(14)
        eventually(lambda: shard.status()["lag_rows"] == 0, "no lag")
        broker.brokers[0].kill()
        eventually(lambda: not shard.status()["connected"], "it is lost")
        send_orders(manager, 7, 3)
        status = eventually(
            lambda: found if (found := shard.status())["lag_rows"] == 6 else None, "the lag"
        )
        assert status["orders"] == 7
        told = shard.command("status")
        assert told.returncode == 1
        assert json.loads(told.stdout)["lag_rows"] == 6
        assert status["lag_s"] > 0


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        ({"shard": ""}, 2, "SHARD: required here"),
        ({"BUS_URL": ""}, 2, "BUS_URL: required here"),
        ({"BUS_REPLICAS": 3, "reconnect_delay_ms_max": 60}, None, "BUS_REPLICAS=3"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    broker: Cluster,
    manager: OrderManagerProcess,
    settings: dict[str, object],
    code: int | None,
    says: str,
) -> None:
    given = {name.upper(): value for name, value in settings.items()}
    with ShardProcess(broker, manager, **given) as shard:
        if code is not None:
            assert shard.wait() == code
        line = eventually(
            lambda: next((line for line in shard.log().splitlines() if says in line), ""), says
        )
        assert "Traceback" not in shard.log()
        assert line


def test_a_broker_without_jetstream_ends_it_with_one_line(manager: OrderManagerProcess) -> None:
    with cluster(jetstream=False) as broker, ShardProcess(broker, manager) as shard:
        assert shard.wait() == 1
        assert "runs without JetStream" in shard.log()
        assert "Traceback" not in shard.log()


def test_setup_makes_all_that_shards_need_and_can_be_repeated(
    broker: Cluster, manager: OrderManagerProcess
) -> None:
    shard = ShardProcess(broker, manager)
    for _ in range(2):
        done = shard.command("setup", "a", "b")
        assert done.returncode == 0, done.stderr
        assert "streams=CONTROL,MAP,MD_a,OUT_a,MD_b,OUT_b" in done.stdout + done.stderr
    assert shard.command("setup").returncode == 2
    assert "SHARD=A:" in shard.command("setup", "A").stderr
    assert shard.command().returncode == 2
