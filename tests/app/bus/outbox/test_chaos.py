"""Three brokers, a publisher and an order manager, killed and frozen in turn while orders come.

Forbidden outcomes: an acknowledged order, fill or change that is not on the bus; one that is there
twice; one before its order; a publisher that stays down.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from tests.support.bus.broker import Cluster, cluster
from tests.support.bus.history import expected, published
from tests.support.bus.reading import read_out
from tests.support.bus.shard import ShardProcess
from tests.support.children import eventually
from tests.support.orders.frames import ORDER
from tests.support.orders.process import OrderManagerProcess


class Orders:
    """A client that sends orders without end, and each again until it is acknowledged."""

    def __init__(self, manager: OrderManagerProcess, lock: threading.Lock) -> None:
        self._manager, self._lock = manager, lock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._failed: BaseException | None = None
        self.acknowledged: set[int] = set()

    def _run(self) -> None:
        try:
            self._send()
        except BaseException as error:
            self._failed = error

    def check(self) -> None:
        """Fail with what has ended the thread, if something has."""
        if self._failed is not None:
            raise AssertionError(f"the client of the orders: {self._failed!r}") from self._failed

    def _send(self) -> None:
        number = 0
        while not self._stop.is_set():
            with self._lock:  # the order manager is not being restarted
                pass
            with contextlib.suppress(OSError, EOFError), self._manager.client(2) as client:
                while not self._stop.is_set():
                    order = {**ORDER, "id": number, "side": ("BUY", "SELL")[number % 2]}
                    answer = client.ask({**order, "client": "desk"})
                    assert answer["ok"], answer
                    self.acknowledged.add(number)
                    number += 1
                    time.sleep(0.002)

    def __enter__(self) -> "Orders":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)


class Chaos:
    """What is done to the parts; each fault leaves all of them running in the end."""

    def __init__(self, seed: int, bus: Cluster, manager: OrderManagerProcess) -> None:
        self.rng, self.bus, self.manager = random.Random(seed), bus, manager
        self.shard = ShardProcess(bus, manager, reconnect_delay_ms_max=300)
        self.lock = threading.Lock()

    def _pause(self) -> None:
        time.sleep(self.rng.uniform(0.0, 1.5))

    def kill_leader(self) -> None:
        """Of the stream that is published into."""
        leader = self.bus.leader("OUT_a")
        leader.kill()
        self._pause()
        leader.start()

    def kill_broker(self) -> None:
        broker = self.rng.choice(self.bus.brokers)
        broker.kill()
        self._pause()
        broker.start()

    def freeze_broker(self) -> None:
        broker = self.rng.choice(self.bus.brokers)
        broker.freeze()
        self._pause()
        broker.thaw()

    def kill_majority(self) -> None:
        two = self.rng.sample(self.bus.brokers, 2)
        for broker in two:
            broker.kill()
        self._pause()
        for broker in two:
            broker.start()

    def restart_everything(self) -> None:
        self.shard.kill()
        for broker in self.bus.brokers:
            broker.kill()
        self.kill_manager()
        for broker in self.bus.brokers:
            broker.start()
        self.shard.start()

    def kill_publisher(self) -> None:
        for _ in range(self.rng.randint(1, 3)):
            self.shard.kill()
            if self.rng.random() < 0.3:
                for file in self.manager.folder.glob("*.outbox*"):
                    file.unlink()
            self.shard.start()
            time.sleep(self.rng.uniform(0.3, 1.5))

    def kill_manager(self) -> None:
        with self.lock:
            self.manager.kill()
            self.manager.start()

    def run(self, faults: list[Callable[[], None]]) -> None:
        """All of it; fails if anything of the forbidden has happened."""
        manager, shard = self.manager, self.shard
        manager.environ["ORDER_PORT"] = str(manager.port)
        with shard, Orders(manager, self.lock) as orders:
            shard.wait_published(20)
            for fault in faults:
                fault()
                self._pause()
                orders.check()
            self.bus.wait_ready()
            wanted = len(orders.acknowledged) + 50

            def has_more() -> bool:
                orders.check()
                return len(orders.acknowledged) >= wanted

            eventually(has_more, "50 more orders are acknowledged", 60)
        with shard:
            kinds = expected(manager.store_path)
            shard.wait_published(sum(map(len, kinds.values())))
            assert shard.stop() == 0
        assert {row[3] for row in kinds["orders"]} >= orders.acknowledged
        assert published(read_out(self.bus, "a")) == kinds
        assert "Traceback" not in shard.log()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[tuple[Cluster, OrderManagerProcess]]:
    with cluster(3) as bus, OrderManagerProcess(tmp_path) as manager:
        yield bus, manager


@pytest.mark.medium
def test_leader_and_publisher_are_killed(parts: tuple[Cluster, OrderManagerProcess]) -> None:
    chaos = Chaos(0, *parts)
    chaos.run([chaos.kill_leader, chaos.kill_publisher])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(1, 13))
def test_everything_is_killed_at_random(
    parts: tuple[Cluster, OrderManagerProcess], seed: int
) -> None:
    chaos = Chaos(seed, *parts)
    faults = [
        chaos.kill_leader,
        chaos.kill_broker,
        chaos.freeze_broker,
        chaos.kill_majority,
        chaos.kill_publisher,
        chaos.kill_manager,
        chaos.restart_everything,
    ]
    chaos.run(chaos.rng.choices(faults, k=8))


def test_an_order_that_is_refused_is_told_at_once() -> None:
    refuses = MagicMock()
    refuses.client.return_value.__enter__.return_value.ask.return_value = {"ok": False, "code": "X"}
    with (
        Orders(refuses, threading.Lock()) as orders,
        pytest.raises(AssertionError, match="'code': 'X'"),
    ):
        eventually(orders.check, "it is told", 10)
