"""The publisher against a real broker: each row once, whatever is lost, repeated or in its way."""

import asyncio
import random
import shutil
import time
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.bus.link import names
from app.bus.link.connection import BusRefused, BusUnavailable, Link
from app.bus.outbox.mark_file import MarkFile
from app.bus.outbox.publisher import WINDOW, Resync
from app.bus.outbox.rows import Item, Marks, items
from app.runtime.lifecycle import FatalError
from tests.app.bus.outbox.lives import NEW_SHARDS, Life, over
from tests.support.bus.broker import Cluster, cluster
from tests.support.bus.history import History, expected, published
from tests.support.bus.reading import read_out, read_stream

pytestmark = pytest.mark.medium


def check(broker: Cluster, shard: str, path: Path) -> None:
    assert published(read_out(broker, shard)) == expected(path)


@given(seed=st.integers(0, 10_000), lives=st.integers(1, 5), rows=st.integers(1, 60))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_publisher_that_dies_anywhere_leaves_each_row_once(
    broker: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    lives: int,
    rows: int,
) -> None:
    """Cut off after a random time, and the mark file sometimes lost, too."""
    shard, rng = next(NEW_SHARDS), random.Random(seed)
    path = tmp_path_factory.mktemp("store") / "orders.sqlite3"
    history = History(path, seed)

    async def cut(link: Link) -> None:
        life = Life(shard, path, rows)
        task = asyncio.ensure_future(life.publish(link))
        await asyncio.wait({task}, timeout=rng.choice((0.001, 0.005, 0.02)))
        # Nothing is awaited, as after SIGKILL: what is under way may still arrive.
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        life.end()

    for _ in range(lives):
        history.grow(rng.randint(1, 30))
        over(broker, shard, cut)
        if rng.random() < 0.3:
            for file in path.parent.glob("*.outbox*"):
                file.unlink()
    life = Life(shard, path, rows)
    over(broker, shard, life.publish)
    assert life.publisher.marks == life.store.last()
    life.end()
    history.close()
    check(broker, shard, path)


def test_rows_that_are_committed_while_it_publishes_are_not_missed(
    broker: Cluster, shard: str, tmp_path: Path
) -> None:
    path = tmp_path / "orders.sqlite3"
    history = History(path, 3)
    life = Life(shard, path, 16)

    async def both(link: Link) -> None:
        growing = asyncio.ensure_future(asyncio.to_thread(history.grow, 300))
        await life.publisher.sync(link)
        while not growing.done():
            await life.publisher.publish_new(link)
            await asyncio.sleep(0)
        await life.publisher.publish_new(link)

    over(broker, shard, both)
    life.end()
    history.close()
    check(broker, shard, path)


def test_two_runs_in_one_store_are_told_apart(broker: Cluster, shard: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite3"
    for run in ("monday", "tuesday"):
        history = History(path, 4, run)
        history.grow(20)
        history.close()
    life = Life(shard, path)
    over(broker, shard, life.publish)
    life.end()
    check(broker, shard, path)
    assert {row[0] for row in expected(path)["orders"]} == {"monday", "tuesday"}


def test_of_two_publishers_the_earlier_ends_and_no_row_is_there_twice(
    broker: Cluster, shard: str, tmp_path: Path
) -> None:
    """Two of the same store, as after a lease that was lost; the older one wakes up again."""
    path = tmp_path / "orders.sqlite3"
    history = History(path, 5)
    history.grow(20)
    zombie = Life(shard, path)
    time.sleep(0.001)
    heir = Life(shard, path, marks=tmp_path / "other.outbox")

    async def wake(link: Link) -> None:
        await zombie.publish(link)
        history.grow(20)
        await heir.publish(link)
        history.grow(20)
        with pytest.raises(Resync):
            await zombie.publisher.publish_new(link)
        with pytest.raises(FatalError, match="began later publishes this shard"):
            await zombie.publisher.sync(link)
        await heir.publisher.publish_new(link)

    over(broker, shard, wake)
    check(broker, shard, path)
    for each in (zombie, heir):
        each.end()
    history.close()


def test_a_second_publisher_of_one_store_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite3"
    first = Life("a", path)
    with pytest.raises(FatalError, match="another process publishes this order store"):
        Life("a", path)
    first.end()
    Life("a", path).end()


def refusal(broker: Cluster, shard: str, path: Path) -> str:
    life = Life(shard, path)
    with pytest.raises(BusRefused) as caught:
        over(broker, shard, life.publisher.sync)
    life.end()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_store_under_the_same_name_is_refused(
    broker: Cluster, shard: str, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        history = History(tmp_path / name / "orders.sqlite3", 6)
        history.grow(5)
        history.close()
    life = Life(shard, tmp_path / "one" / "orders.sqlite3")
    over(broker, shard, life.publish)
    life.end()
    text = refusal(broker, shard, tmp_path / "two" / "orders.sqlite3")
    assert "has orders of another store" in text
    assert "set another SHARD" in text


def test_an_older_copy_of_the_store_is_refused(broker: Cluster, shard: str, tmp_path: Path) -> None:
    """Its next orders would have the numbers of others, which are on the bus already."""
    path, copy = tmp_path / "orders.sqlite3", tmp_path / "copy.sqlite3"
    history = History(path, 7)
    history.grow(5)
    history.close()
    shutil.copy(path, copy)
    history = History(path, 8)
    history.grow(5)
    history.close()
    life = Life(shard, path)
    over(broker, shard, life.publish)
    life.end()
    assert "is an older copy" in refusal(broker, shard, copy)


def test_a_store_that_is_replaced_while_it_is_published_is_noticed(
    broker: Cluster, shard: str, tmp_path: Path
) -> None:
    path, copy = tmp_path / "orders.sqlite3", tmp_path / "copy.sqlite3"
    history = History(path, 9)
    history.grow(5)
    history.close()
    shutil.copy(path, copy)
    history = History(path, 10)
    history.grow(5)
    history.close()
    life = Life(shard, path)

    async def run(link: Link) -> None:
        await life.publish(link)
        for tail in ("-wal", "-shm"):
            Path(f"{path}{tail}").unlink(missing_ok=True)
        copy.replace(path)
        with pytest.raises(Resync, match="another file"):
            await life.publisher.publish_new(link)
        with pytest.raises(BusRefused, match="older copy"):
            await life.publisher.sync(link)

    over(broker, shard, run)
    life.end()


def test_messages_of_others_in_the_stream_are_passed_over(
    broker: Cluster, shard: str, tmp_path: Path
) -> None:
    """Nobody may write there; if somebody could, the shard's orders come all the same."""
    path = tmp_path / "orders.sqlite3"
    history = History(path, 11)
    life = Life(shard, path)

    async def run(link: Link) -> None:
        for number in range(3):
            history.grow(5)
            await life.publish(link)
            headers = {names.MARKS: "nonsense"} if number else None
            await link.js.publish(names.orders_subject(shard), b"{}", headers=headers)
            history.grow(5)
            with pytest.raises(Resync):
                await life.publisher.publish_new(link)
            await life.publish(link)

    over(broker, shard, run)
    life.end()
    history.close()
    bodies = [m.json for m in read_stream(broker, names.out_stream(shard))]
    assert published([body for body in bodies if body]) == expected(path)


def test_a_row_whose_place_somebody_else_has_taken_is_missed(
    broker: Cluster, shard: str, tmp_path: Path
) -> None:
    """Of rows under way, the first is refused, and the second would find the right number.

    The mark file is lost, too: what the stream has is enough.
    """
    path = tmp_path / "orders.sqlite3"
    history = History(path, 12)
    history.grow(100)
    life = Life(shard, path)
    last = life.store.last()
    assert last is not None
    begin = Marks(last.store)
    rows = list(items(life.store.page(begin), begin))
    assert len(rows) > WINDOW + 20
    life.end()
    history.close()

    async def intrude(link: Link) -> None:
        for row in rows[:10]:
            await put(link, row)
        await link.js.publish(names.orders_subject(shard), b"{}")
        for row in rows[11 : 10 + WINDOW]:
            await put(link, row)

    async def put(link: Link, row: Item) -> None:
        headers = {names.MARKS: row.marks.text(), names.MSG_ID: row.msg_id}
        headers |= {names.DIGESTS: row.digests.text()}
        await link.js.publish(names.orders_subject(shard), row.body, headers=headers)

    over(broker, shard, intrude)
    for file in path.parent.glob("*.outbox*"):
        file.unlink()
    text = refusal(broker, shard, path)
    assert "rows are missing before message 12" in text
    assert f"python -m app.bus remove OUT_{shard} --yes" in text


def test_what_a_broker_has_lost_is_published_again(tmp_path: Path) -> None:
    """A broker that comes back with files of before; the store is what counts."""
    path = tmp_path / "orders.sqlite3"
    history = History(path, 12)
    with cluster() as broker:
        (server,) = broker.brokers
        data, copy = broker.folder / "broker0.data", tmp_path / "copy"
        history.grow(10)
        life = Life("a", path)
        over(broker, "a", life.publish)
        server.kill()
        shutil.copytree(data, copy)
        server.start()
        broker.wait_ready()
        history.grow(10)
        over(broker, "a", life.publish)
        had = life.publisher.marks
        server.kill()
        shutil.rmtree(data)
        shutil.copytree(copy, data)
        server.start()
        broker.wait_ready()
        history.grow(10)
        over(broker, "a", life.publish)
        assert had.behind(life.publisher.marks)
        check(broker, "a", path)
        life.end()
    history.close()


def test_a_full_stream_loses_nothing_and_repeats_nothing(
    broker: Cluster, shard: str, tmp_path: Path
) -> None:
    path = tmp_path / "orders.sqlite3"
    history = History(path, 13)
    history.grow(100)
    history.close()
    life = Life(shard, path)

    async def publish_into_little(link: Link) -> None:
        found = await link.js.stream_info(names.out_stream(shard))
        await link.js.update_stream(found.config.evolve(max_bytes=100_000))
        await life.publish(link)

    with pytest.raises(BusUnavailable, match="a message is refused: maximum bytes exceeded"):
        over(broker, shard, publish_into_little)
    assert 0 < life.publisher.counts.published < 300
    life.end()
    life = Life(shard, path)
    over(broker, shard, life.publish, BUS_ORDERS_BYTES_MAX=4 << 20)
    life.end()
    check(broker, shard, path)


def test_the_mark_file_forgets_a_stream_that_was_made_again(tmp_path: Path) -> None:
    file = MarkFile(str(tmp_path / "orders.sqlite3.outbox"))
    life = Life("a", tmp_path / "orders.sqlite3", marks=tmp_path / "x.outbox")
    marks = life.publisher.marks._replace(store="abcd", orders=3)
    file.acknowledged("OUT_a", "monday", 3, marks)
    assert file.marks("OUT_a", "monday") == (3, marks)
    assert file.marks("OUT_a", "tuesday")[0] == 0
    file.take("x", "halt", 1)
    assert file.took("x")
    assert not file.took("y")
    file.close()
    life.end()
    db = apsw.Connection(str(tmp_path / "orders.sqlite3.outbox"))
    assert db.execute("SELECT count(*) FROM controls").get == 1
    db.close()
