"""Failures of checkpoints and of writing positions are counted and logged."""

import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from app.order_manager.store import checkpoint
from tests.support.orders.faulty_disk import FaultyDisk
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager
from tests.support.orders.server import running


class Warnings(list[tuple[str, dict[str, Any]]]):
    """A logger that keeps its warnings."""

    def warning(self, event: str, **details: Any) -> None:
        """Keep one."""
        self.append((event, details))


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> Warnings:
    kept = Warnings()
    monkeypatch.setattr(checkpoint, "log", kept)
    monkeypatch.setattr(checkpoint, "POSITIONS_IDLE_S", 0.0)
    return kept


def test_a_failed_write_of_positions_is_counted_and_logged(
    path: Path, disk: FaultyDisk, warnings: Warnings
) -> None:
    manager = Manager(path)
    manager.ask({**ORDER, "id": 1})
    disk.failing = apsw.FullError
    manager.store.maintain(idle=True)
    assert manager.store.checkpointer.take_errors() == {"position_write_errors": 1}
    assert warnings == [
        ("positions_not_written", {"path": str(path), "reason": "FullError: on purpose"})
    ]
    disk.failing = None
    manager.store.maintain(idle=True)
    assert not manager.store.checkpointer.unwritten
    assert not manager.store.checkpointer.take_errors()
    manager.close()


def test_a_failed_checkpoint_is_counted_and_logged(
    path: Path, disk: FaultyDisk, warnings: Warnings
) -> None:
    manager = Manager(path)
    manager.ask({**ORDER, "id": 1})
    manager.store.maintain(idle=True)
    checkpointer = manager.store.checkpointer
    checkpointer.wal_pages = 9000
    disk.failing = apsw.IOError
    manager.store.maintain(idle=False)
    assert checkpointer.take_errors() == {"checkpoint_errors": 1}
    assert warnings == [("checkpoint_failed", {"path": str(path), "reason": "IOError: on purpose"})]
    assert checkpointer.wal_pages >= 9000, "it stays due"
    disk.failing = None
    manager.store.maintain(idle=False)
    assert checkpointer.wal_pages == 0
    assert manager.ask({**ORDER, "id": 2})[0]["ok"] is True
    manager.close()


def test_positions_that_closing_cannot_write_are_counted_and_logged(
    path: Path, disk: FaultyDisk, warnings: Warnings
) -> None:
    manager = Manager(path)
    manager.ask({**ORDER, "id": 1})
    disk.failing = apsw.FullError
    manager.close()
    assert manager.store.checkpointer.take_errors() == {"position_write_errors": 1}
    assert [event for event, _ in warnings] == ["positions_not_written"]


def test_a_failure_that_lasts_is_logged_now_and_then_and_always_counted(
    path: Path, disk: FaultyDisk, warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager(path)
    manager.ask({**ORDER, "id": 1})
    disk.failing = apsw.FullError
    for _ in range(5):
        manager.store.maintain(idle=True)
    assert len(warnings) == 1
    later_s = time.monotonic() + checkpoint.WARNING_INTERVAL_S
    with monkeypatch.context() as clock:
        clock.setattr(time, "monotonic", lambda: later_s)
        for _ in range(5):
            manager.store.maintain(idle=True)
    assert len(warnings) == 2
    assert manager.store.checkpointer.take_errors() == {"position_write_errors": 10}
    disk.failing = None
    manager.close()


def test_the_server_publishes_both_counters(
    tmp_path: Path, disk: FaultyDisk, warnings: Warnings
) -> None:
    with running(tmp_path) as server, server.client() as client:
        assert client.ask({**ORDER, "id": 1})["ok"] is True
        assert server.metrics is not None
        disk.failing = apsw.FullError
        server.server._store.checkpointer.wal_pages = 9000
        deadline = time.monotonic() + 10
        names = ("position_write_errors", "checkpoint_errors")
        while not all(server.metrics.get(name) for name in names):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        disk.failing = None
    assert {event for event, _ in warnings} == {"positions_not_written", "checkpoint_failed"}


def test_a_repeated_order_leaves_the_log_free_for_a_checkpoint(
    path: Path, warnings: Warnings
) -> None:
    manager = Manager(path)
    manager.ask({**ORDER, "id": 1})
    assert manager.ask({**ORDER, "id": 1})[0]["duplicate"] is True
    manager.store.checkpointer.wal_pages = 9000
    manager.store.maintain(idle=True)
    assert warnings == []
    assert manager.store.checkpointer.wal_pages == 0
    manager.close()
