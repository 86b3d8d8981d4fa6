"""Old runs are removed as a whole; the size of a store and its volume are watched."""

import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.__main__ import main
from app.bus.link.names import out_stream
from app.bus.outbox.mark_file import MarkFile
from app.bus.outbox.rows import Marks
from app.model.timestamps import DAY_NS
from app.order_manager.store import room
from app.order_manager.store.files import mark_path
from app.order_manager.store.prune import prune_at_start, prune_file
from app.order_manager.store.room import RoomWatch
from app.order_manager.store.schema import StoreError
from app.order_manager.store.tools import reading, verify
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager
from tests.support.orders.server import running

pytestmark = pytest.mark.medium

RUNS = ("january", "february", "march")
RESTING = {**ORDER, "client": "ann", "type": "LIMIT", "tif": "GTC", "price": 1}


def store_of_runs(path: Path, cancel: bool = False) -> dict[str, list[int]]:
    """A store with a run 90, 60 and 30 days ago; returns the order numbers of each."""
    numbers: dict[str, list[int]] = {}
    for days, run in zip((90, 60, 30), RUNS, strict=True):
        manager = Manager(path, run)
        manager.service._clock = lambda days=days: time.time_ns() - days * DAY_NS
        answers = manager.ask(
            *({**ORDER, "client": client, "id": n} for n in range(40) for client in ("ann", "bob")),
            {**RESTING, "id": 100},
            {"op": "halt", "client": "bob"},
        )
        if cancel:
            manager.ask({"op": "cancel", "client": "ann", "id": 100})
        numbers[run] = [a["order"]["order_no"] for a in answers if "order" in a]
        manager.close()
    return numbers


@pytest.mark.parametrize("keep_days", [0, 45, 75, 100])
def test_old_runs_are_removed_and_the_others_are_as_before(path: Path, keep_days: int) -> None:
    numbers = store_of_runs(path)
    kept = [run for days, run in zip((90, 60, 30), RUNS, strict=True) if days <= keep_days]
    kept = kept or ["march"]  # the latest stays
    positions = {}
    for run in RUNS:
        manager = Manager(path, run)
        positions[run] = manager.ask({"op": "positions"})
        manager.close()
    before = path.stat().st_size
    assert main(["store", "--store", str(path), "prune", "--keep-days", str(keep_days)]) == 0
    assert verify(str(path)) == []
    assert (path.stat().st_size < before) is (len(kept) < 3)
    for run in RUNS:
        manager = Manager(path, run)
        assert (manager.ask({"op": "positions"}) == positions[run]) is (run in kept)
        (again,) = manager.ask({**ORDER, "client": "ann", "id": 3})
        assert ("duplicate" in again) is (run in kept)
        assert run in kept or again["order"]["order_no"] > max(numbers["march"])
        manager.close()
    assert verify(str(path)) == []


def test_the_setting_prunes_at_a_start(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite3"
    store_of_runs(path)
    settings = {"order_store_keep_days": 45, "run_id": "february"}
    with capture_logs() as lines, running(tmp_path, **settings, shard="a"):
        pass
    assert "store_keeps_unpublished" in [line["event"] for line in lines]
    with (
        capture_logs() as lines,
        running(tmp_path, **settings) as server,
        server.client() as client,
    ):
        assert client.ask({**ORDER, "client": "ann", "id": 3})["duplicate"] is True, "its own run"
    (pruned,) = [line for line in lines if line["event"] == "store_pruned"]
    assert pruned["runs"] == 1
    assert verify(str(path)) == []


def marks_of(path: Path, run: str) -> Marks:
    """The numbers that a run ends with."""
    with reading(str(path)) as store:
        ((store_id,),) = store.execute("SELECT store_id FROM identity")
        (last,) = store.execute(
            "SELECT max(order_no), max(fill_no), max(change_no) FROM orders JOIN clients "
            "USING(client_no) LEFT JOIN fills USING(order_no) LEFT JOIN order_changes "
            "USING(order_no) WHERE run_id = ?",
            (run,),
        )
    return Marks(store_id, *last)


def publish(path: Path, marks: Marks) -> None:
    """As its publisher does."""
    file = MarkFile(mark_path(str(path)))
    file.acknowledged(out_stream("a"), "today", marks.total, marks)
    file.close()


@pytest.mark.parametrize("lacks", ["", "last", "orders", "fills", "changes", "store"])
def test_of_a_shard_only_what_it_has_published_is_removed(path: Path, lacks: str) -> None:
    store_of_runs(path, cancel=True)
    january, february = marks_of(path, "january"), marks_of(path, "february")
    assert all(0 < ours < theirs for ours, theirs in zip(january[1:], february[1:], strict=True))
    with capture_logs() as lines:
        prune_at_start(str(path), 1, "", "a")
    (kept,) = lines
    assert (kept["event"], kept["runs"], kept["published"]) == (
        "store_keeps_unpublished", 2, "0:0:0"
    )  # fmt: skip
    if lacks == "store":
        publish(path, february._replace(store="another"))
    elif lacks == "last":
        publish(path, february)
    else:
        # One more: of the run that follows.  The run of the last published row stays.
        step = {name: no + 1 for name, no in february._asdict().items() if name != "store"}
        publish(path, february._replace(**step | ({lacks: step[lacks] - 1} if lacks else {})))
    with capture_logs() as lines:
        prune_at_start(str(path), 1, "", "a")
    told = {line["event"]: line["runs"] for line in lines}
    assert told == {
        "": {"store_pruned": 2},
        "store": {"store_keeps_unpublished": 2},
    }.get(lacks, {"store_pruned": 1, "store_keeps_unpublished": 1})
    assert verify(str(path)) == []


def test_the_command_keeps_what_a_shard_has_not_published(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store_of_runs(path)
    monkeypatch.setenv("SHARD", "a")
    Path(mark_path(str(path))).write_text("no database")
    assert main(["store", "--store", str(path), "prune", "--keep-days", "1"]) == 0
    assert "2 older runs kept: SHARD=a has not published them" in capsys.readouterr().out
    monkeypatch.setenv("SHARD", "")
    assert main(["store", "--store", str(path), "prune", "--keep-days", "1"]) == 0
    assert "2 runs removed" in capsys.readouterr().out


def test_a_store_in_use_is_not_pruned(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manager = Manager(path)
    manager.ask(ORDER)
    with pytest.raises(StoreError, match="another order manager"):
        prune_file(str(path), time.time_ns())
    assert main(["store", "--store", str(path), "prune", "--keep-days", "0"]) == 1
    assert "another order manager" in capsys.readouterr().err
    with capture_logs() as lines:
        prune_at_start(str(path), 1, "")
    assert [line["event"] for line in lines] == ["store_not_pruned"]
    manager.close()
    assert main(["store", "--store", str(path), "prune"]) == 2
    assert "ORDER_STORE_KEEP_DAYS" in capsys.readouterr().err


def test_sizes_are_in_the_metrics(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        client.ask(ORDER)
        server.server._room._next_look_s = 0.0
        deadline = time.monotonic() + 5
        while not server.count("store_bytes") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.count("store_bytes") >= (tmp_path / "orders.sqlite3").stat().st_size > 0
        assert server.count("store_free_bytes") > 0


def test_the_warning_comes_ahead_of_a_full_disk_and_not_too_often(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOOK_S", 0.0)
    path.write_bytes(b"x" * 1000)
    with capture_logs() as lines:
        enough = RoomWatch(str(path), 0).look()
        assert lines == []
        watch = RoomWatch(str(path), 1 << 62)
        for _ in range(5):
            assert watch.look() is not None
        monkeypatch.setattr(room, "WARNING_INTERVAL_S", 0.0)
        watch._next_warning_s = 0.0
        watch.look()
    assert enough is not None
    assert enough.store == 1000
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("warning", "disk_nearly_full")
    ] * 2
    assert "store prune" in lines[0]["mend"]
    assert RoomWatch(":memory:", 1 << 62).look() is None
