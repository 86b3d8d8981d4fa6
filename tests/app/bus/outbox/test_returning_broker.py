"""A broker that was away catches up, and goes on with the others, while a shard publishes."""

import shutil
import threading
from pathlib import Path

import pytest

from app.bus.link import names
from app.bus.link.connection import BusUnavailable, Link
from tests.app.bus.outbox.lives import Life, over
from tests.support.bus.broker import Cluster, cluster
from tests.support.bus.history import History, expected, published
from tests.support.bus.reading import read_out
from tests.support.children import eventually

MANY = 2500
"""Batches whose rows are more than 8 MB with their headers: then brokers make snapshots."""


class Trading(threading.Thread):
    """A store that grows, and its publisher, until :meth:`end`."""

    def __init__(self, bus: Cluster, path: Path) -> None:
        super().__init__(daemon=True)
        self._bus, self._path, self._ended = bus, path, threading.Event()
        self.rows = 0
        """Published so far."""
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._trade()
        except BaseException as error:
            self._error = error

    def _trade(self) -> None:
        history = History(self._path, 15)
        history.grow(MANY)
        life = Life("a", self._path)

        async def go_on(link: Link) -> None:
            await life.publish(link)
            while not self._ended.wait(0.001):
                history.grow()
                await life.publish_more(link)
                self.rows = life.publisher.marks.total
            await life.publish(link)

        while not self._ended.is_set():
            try:
                over(self._bus, "a", go_on)
            except BusUnavailable:
                continue
        over(self._bus, "a", life.publish)
        life.end()
        history.close()

    def wait_for(self, rows: int) -> None:
        """Until so many rows more are published."""
        wanted = self.rows + rows
        eventually(lambda: self.rows >= wanted or self._error, f"{rows} rows more", 60)
        self._check()

    def end(self) -> None:
        """Publish what is left, and end."""
        self._ended.set()
        self.join(60)
        assert not self.is_alive()
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


@pytest.mark.medium
def test_a_broker_with_a_new_disk_gets_all_and_then_what_comes(tmp_path: Path) -> None:
    """What it gets in one piece it does not check; each message after that, it does."""
    path = tmp_path / "orders.sqlite3"
    with cluster(3) as bus:
        trading = Trading(bus, path)
        trading.start()
        for _ in range(2):
            trading.wait_for(500)
            leader = bus.leader(names.out_stream("a"))
            leader.kill()
            shutil.rmtree(bus.folder / f"{leader.name}.data")
            trading.wait_for(500)
            leader.start()
            eventually(leader.is_ready, f"{leader.name} has caught up", 60, poll_s=0.1)
        trading.end()
        bus.wait_ready()
        assert published(read_out(bus, "a")) == expected(path)
