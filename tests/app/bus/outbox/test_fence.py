"""With which publisher, and which history of a store, a stream goes on: the fence."""

import asyncio
import shutil
import time
from pathlib import Path

import apsw
import pytest

from app.bus.link import names
from app.bus.link.connection import BusRefused, Link
from app.bus.outbox.publisher import PUBLISHER, Resync
from app.runtime.lifecycle import FatalError
from tests.app.bus.outbox.lives import Life, over
from tests.support.bus.broker import Cluster
from tests.support.bus.history import History, expected, published
from tests.support.bus.reading import read_out, read_stream

pytestmark = pytest.mark.medium


def grow(path: Path, seed: int, batches: int) -> None:
    history = History(path, seed)
    history.grow(batches)
    history.close()


def put_back(backup: Path, path: Path, *, in_place: bool) -> None:
    """As ``python -m app store restore`` does, or as ``cp`` does into the file that is there."""
    if in_place:
        source, target = (apsw.Connection(str(each)) for each in (backup, path))
        with target.backup("main", source, "main") as copying:
            copying.step()
        source.close()
        target.close()
        return
    for tail in ("-wal", "-shm"):
        Path(f"{path}{tail}").unlink(missing_ok=True)
    shutil.copy(backup, f"{path}.new")
    Path(f"{path}.new").replace(path)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("alive", [False, True])
def test_a_restored_store_that_has_grown_past_the_marks_is_refused(
    broker: Cluster, shard: str, tmp_path: Path, in_place: bool, alive: bool
) -> None:
    """``alive``: the publisher runs all the while, and has the file open."""
    path, backup = tmp_path / "orders.sqlite3", tmp_path / "backup.sqlite3"
    grow(path, 1, 5)
    shutil.copy(path, backup)
    grow(path, 2, 5)
    life = Life(shard, path)
    over(broker, shard, life.publish)
    had, before = life.publisher.marks, expected(path)
    if not alive:
        life.end()
    put_back(backup, path, in_place=in_place)
    grow(path, 3, 40)
    if not alive:
        life = Life(shard, path)
    now = life.store.last()
    assert now is not None
    assert now.store == had.store
    assert not now.behind(had)

    async def run(link: Link) -> None:
        with pytest.raises(BusRefused) as caught:
            await life.publish(link)
        text = str(caught.value)
        assert "\n" not in text
        for part in (f"OUT_{shard}", f"shard {shard}", "run run1", str(path), "another SHARD"):
            assert part in text

    over(broker, shard, run)
    life.end()
    assert published(read_out(broker, shard)) == before


def test_a_store_that_is_written_over_while_it_is_published_is_noticed(
    broker: Cluster, shard: str, tmp_path: Path
) -> None:
    """Over the connection that it has: nothing else makes it compare."""
    path, backup = tmp_path / "orders.sqlite3", tmp_path / "backup.sqlite3"
    grow(path, 1, 5)
    shutil.copy(path, backup)
    grow(path, 2, 5)
    life, before = Life(shard, path), expected(path)

    async def run(link: Link) -> None:
        await life.publish(link)
        put_back(backup, path, in_place=True)
        grow(path, 3, 40)
        with pytest.raises(Resync, match="is another one"):
            await life.publisher.publish_new(link)
        with pytest.raises(BusRefused, match="has gone on by itself"):
            await life.publisher.sync(link)

    over(broker, shard, run)
    life.end()
    assert published(read_out(broker, shard)) == before


def test_a_stream_of_a_version_without_digests_is_gone_on_with(
    broker: Cluster, shard: str, tmp_path: Path
) -> None:
    path = tmp_path / "orders.sqlite3"
    grow(path, 4, 5)
    life = Life(shard, path)

    async def run(link: Link) -> None:
        await life.publish(link)
        headers = {
            names.MARKS: life.publisher.marks.text(),
            PUBLISHER: "1790000000000000000 old:1",  # when it had begun, in ns
        }
        await link.js.publish(names.orders_subject(shard), b"{}", headers=headers)
        await asyncio.to_thread(grow, path, 5, 5)
        with pytest.raises(Resync):
            await life.publisher.publish_new(link)
        heir = Life(shard, path, marks=tmp_path / "other.outbox")
        await heir.publish(link)
        heir.end()

    over(broker, shard, run)
    life.end()
    bodies = [m.json for m in read_stream(broker, names.out_stream(shard))]
    assert published([body for body in bodies if body]) == expected(path)


def test_the_later_publisher_is_the_later_one_whatever_the_clocks_say(
    broker: Cluster, shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heir is on a machine whose clock is an hour late."""
    path = tmp_path / "orders.sqlite3"
    history = History(path, 6)
    history.grow(10)
    zombie = Life(shard, path)

    async def wake(link: Link) -> None:
        await zombie.publish(link)
        history.grow(10)
        with monkeypatch.context() as clock:
            late_ns = time.time_ns() - 3_600_000_000_000
            clock.setattr(time, "time_ns", lambda: late_ns)
            heir = Life(shard, path, marks=tmp_path / "other.outbox")
        await heir.publish(link)
        history.grow(10)
        with pytest.raises(Resync):
            await zombie.publisher.publish_new(link)
        with pytest.raises(FatalError, match="began later publishes this shard"):
            await zombie.publisher.sync(link)
        await heir.publisher.publish_new(link)
        heir.end()

    over(broker, shard, wake)
    zombie.end()
    history.close()
    assert published(read_out(broker, shard)) == expected(path)


def test_messages_that_a_killed_publisher_had_under_way_do_not_end_the_next_one(
    broker: Cluster, shard: str, tmp_path: Path
) -> None:
    """They arrive after the next one has asked for the stream's end: neither is the later one."""
    path = tmp_path / "orders.sqlite3"
    history = History(path, 5)
    history.grow(20)
    killed = Life(shard, path)
    heir = Life(shard, path, marks=tmp_path / "other.outbox")

    async def arrive_late(link: Link) -> None:
        await killed.publisher.sync(link)
        await heir.publisher.sync(link)
        await killed.publisher.publish_new(link)
        history.grow(20)
        with pytest.raises(Resync):
            await heir.publisher.publish_new(link)
        await heir.publish(link)
        with pytest.raises(FatalError, match="began later publishes this shard"):
            await killed.publisher.sync(link)

    over(broker, shard, arrive_late)
    for each in (killed, heir):
        each.end()
    history.close()
    assert published(read_out(broker, shard)) == expected(path)
