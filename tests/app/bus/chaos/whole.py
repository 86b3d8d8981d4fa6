"""Three brokers, a sequencer, two shards and the portfolio, and what is done to them.

Forbidden outcomes: trades that are not those of one machine; an acknowledged order that is not on
the bus, or twice by its key; a portfolio that is not the sum of the stores; a part that stays down.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from app.bus.link import names
from app.bus.outbox.mark_file import read_status
from app.order_manager.store.files import mark_path
from tests.app.bus.chaos.disk import Disk, may_mount
from tests.app.bus.chaos.road import Road
from tests.app.bus.feed.running import SHARDS, Feed, kill
from tests.app.bus.feed.trades import check_all, end_receiver, finish
from tests.app.portfolio.on_bus.portfolio_process import PortfolioProcess
from tests.chaos.host import PROCESSES, HostStack
from tests.support.bus.broker import Broker, Cluster, cluster
from tests.support.bus.history import expected, published
from tests.support.bus.reading import read_out
from tests.support.children import eventually
from tests.support.paths import ROOT

PARTITION_S = 10.0
CATCH_UP_S = 120.0
STREAM_BYTES = 8 << 20
"""Of six streams, with some room on a broker's disk."""
STREAMS = [name(shard) for name in (names.md_stream, names.out_stream) for shard in SHARDS]


class Publisher:
    """``python -m app.bus shard`` beside a stack."""

    def __init__(self, stack: HostStack, shard: str) -> None:
        self.stack, self._environ = stack, {**stack.environ, "SHARD": shard}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def store(self) -> Path:
        """The order store that it publishes."""
        return self.stack.folder / "orders.sqlite3"

    def start(self) -> None:
        """Start it."""
        with (self.stack.folder / "shard.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.bus", "shard"],
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, *, forget: bool = False) -> None:
        """SIGKILL; ``forget``: what it remembers beside the store is lost, too."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait(20)
        if forget:
            for file in self.store.parent.glob("*.outbox*"):
                file.unlink()

    def is_level(self) -> bool:
        """Whether the stream has all of the store."""
        status = read_status(mark_path(str(self.store)))
        rows = sum(map(len, expected(self.store).values()))
        return status is not None and sum(status[k] for k in ("orders", "fills", "changes")) == rows


class Whole:
    """All parts of one run, in one folder; a context that ends them."""

    def __init__(self, folder: Path, seed: int, pace: str = "1500/s") -> None:
        self.folder, self.rng, self.pace = folder, random.Random(seed), pace
        self.done: list[str] = []
        """The faults so far."""
        self._ends = ExitStack()

    def __enter__(self) -> "Whole":
        try:
            self._start()
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def _start(self) -> None:
        ends = self._ends
        self.bus: Cluster = ends.enter_context(cluster(3, stream_bytes=STREAM_BYTES))
        self.disks = self._disks() if may_mount() else {}
        self.feed = Feed(self.folder, self.bus)
        ends.callback(self.feed.close)
        self.stacks: dict[str, HostStack] = {}
        self.roads: dict[str, Road] = {}
        self.publishers: dict[str, Publisher] = {}
        for shard in SHARDS:
            self.roads[shard] = road = Road([broker.port for broker in self.bus.brokers])
            ends.callback(road.close)
            stack = self.feed.stack(shard, bus_url=road.url)
            self.stacks[shard] = ends.enter_context(stack)
            self.publishers[shard] = publisher = Publisher(stack, shard)
            ends.callback(publisher.kill)
        self.portfolio = PortfolioProcess(self.bus, self.folder)
        ends.callback(lambda: self.portfolio.process and self.portfolio.end())
        self.sequencer = self.feed.start(pace=self.pace)
        for publisher in self.publishers.values():
            publisher.start()
        self.portfolio.start()
        for stack in self.stacks.values():
            stack.wait_ready()

    def _disks(self) -> dict[str, Disk]:
        """A disk of its own for each broker, which is empty so far."""
        made = {}
        for broker in self.bus.brokers:
            broker.kill()
            made[broker.name] = disk = Disk(self.bus.folder / f"{broker.name}.data")
            self._ends.callback(disk.close)
        self.bus.start()
        return made

    def pause(self, longest_s: float = 1.5) -> None:
        """A moment, drawn from the seed."""
        time.sleep(self.rng.uniform(0.0, longest_s))

    def draw(self, count: int) -> list[Callable[[], None]]:
        """So many faults: each of the rare ones once, the others again and again."""
        rare = [self.cut_off_a_shard, self.restart_everything]
        if self.disks:
            rare.append(self.fill_a_disk)
        often = [
            self.kill_a_leader,
            self.kill_a_broker,
            self.kill_a_process,
            self.kill_a_process,
            self.kill_a_publisher,
            self.kill_the_sequencer,
            self.kill_the_portfolio,
        ]
        faults = [self.rng.choice(rare), *self.rng.choices(often, k=count - 1)]
        self.rng.shuffle(faults)
        return faults

    def inject(self, faults: list[Callable[[], None]]) -> None:
        """All of them, one after the other."""
        for fault in faults:
            self.done.append(fault.__name__)
            fault()
            self.pause()

    # Faults; each leaves every part running

    def _down(self, *brokers: Broker) -> None:
        for broker in brokers:
            broker.kill()
        self.pause()
        for broker in brokers:
            broker.start()

    def kill_a_leader(self) -> None:
        self._down(self.bus.leader(self.rng.choice(STREAMS)))

    def kill_a_broker(self) -> None:
        self._down(self.rng.choice(self.bus.brokers))

    def kill_a_process(self) -> None:
        stack = self.stacks[self.rng.choice(sorted(SHARDS))]
        name = self.rng.choice([*PROCESSES, "receiver"])
        if name == "receiver":
            end_receiver(stack)
        else:
            stack.signal(name, signal.SIGKILL)

    def kill_a_publisher(self) -> None:
        publisher = self.publishers[self.rng.choice(sorted(SHARDS))]
        publisher.kill(forget=self.rng.random() < 0.3)
        self.pause()
        publisher.start()

    def kill_the_sequencer(self) -> None:
        kill(self.sequencer)
        self.pause()
        self.sequencer = self.feed.start(pace=self.pace)

    def kill_the_portfolio(self) -> None:
        self.portfolio.end()
        self.pause()
        self.portfolio.start()

    def cut_off_a_shard(self) -> None:
        road = self.roads[self.rng.choice(sorted(SHARDS))]
        road.cut()
        time.sleep(PARTITION_S)
        road.heal()

    def fill_a_disk(self) -> None:
        """A broker whose disk is full stops its JetStream; with room again, it is restarted."""
        broker = self.rng.choice(self.bus.brokers)
        disk = self.disks[broker.name]
        disk.fill()
        time.sleep(self.rng.uniform(1.0, 4.0))
        disk.free()
        broker.restart()

    def restart_everything(self) -> None:
        kill(self.sequencer)
        self.portfolio.end()
        for publisher in self.publishers.values():
            publisher.kill()
        for broker in self.bus.brokers:
            broker.kill()
        for stack in self.stacks.values():
            for name in PROCESSES:
                stack.signal(name, signal.SIGKILL)
        self.bus.start()
        self.sequencer = self.feed.start(pace=self.pace)
        for publisher in self.publishers.values():
            publisher.start()
        self.portfolio.start()

    # The end

    def check(self) -> dict[str, Any]:
        """Wait for the end of all, and compare; returns what was counted."""
        assert self.sequencer.wait(CATCH_UP_S) == 0, self.feed.log[-3000:]
        outcomes = finish(self.stacks)
        check_all(outcomes, self.folder)
        fills = 0
        for shard, publisher in self.publishers.items():
            eventually(publisher.is_level, f"{shard} is published", CATCH_UP_S, poll_s=0.2)
            rows = expected(publisher.store)
            assert published(read_out(self.bus, shard)) == rows, shard
            fills += len(rows["fills"])
        self.portfolio.wait_level(fills)
        stores = [f"{shard}={each.store}" for shard, each in self.publishers.items()]
        verified = subprocess.run(
            [sys.executable, "-m", "app", "portfolio", "verify", *stores],
            cwd=ROOT,
            env={**os.environ, **self.portfolio.environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert verified.returncode == 0, verified
        return {"orders": sum(len(each.orders) for each in outcomes.values()), "fills": fills}
