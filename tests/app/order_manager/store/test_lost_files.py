"""Files of a store that are removed or replaced under a running order manager."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from app.order_manager.store import open_files
from app.order_manager.store.schema import StoreError
from app.order_manager.store.store import OrderStore, StoreUnavailableError
from app.order_manager.store.tools import restore, verify
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager
from tests.support.orders.process import OrderManagerProcess

pytestmark = pytest.mark.medium

LOST = [
    ("",),
    ("-wal",),
    ("-shm",),
    ("", "-wal", "-shm"),
    ("", "-wal", "-shm", ".lock"),
    (".lock",),
]


def acked(client: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Send an order until it is acknowledged."""
    deadline = time.monotonic() + 20
    while not (answer := client.ask(order))["ok"]:
        assert (answer["code"], answer["retryable"]) == ("STORE_UNAVAILABLE", True)
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize("lost", LOST, ids="+".join)
@pytest.mark.parametrize("pause_s", [0.0, 0.6])
def test_no_acknowledged_order_is_lost_with_a_file_that_is_removed(
    tmp_path: Path, lost: tuple[str, ...], pause_s: float
) -> None:
    """With a pause the maintenance finds it, without one a commit soon after; then a kill follows.

    A commit looks only at the files that have the orders, and not each commit looks.
    """
    with OrderManagerProcess(tmp_path) as process:
        with process.client() as client:
            for n in range(50):
                assert client.ask({**ORDER, "id": n, "client": "me"})["ok"]
            for tail in lost:
                Path(f"{process.store_path}{tail}").unlink()
            time.sleep(pause_s)
            answers = [acked(client, {**ORDER, "id": n, "client": "me"}) for n in range(50, 100)]
            assert not any("duplicate" in answer for answer in answers)
        process.kill()
        if pause_s or {"", "-wal"} & set(lost):
            assert "store_files_lost" in process.log()
            assert "store_files_restored" in process.log()
        process.start()
        with process.client() as client:
            for n in range(100):
                assert client.ask({**ORDER, "id": n, "client": "me"})["duplicate"] is True
        assert process.stop() == 0
        assert verify(str(process.store_path)) == []


@pytest.mark.parametrize("pause_s", [2 * open_files.LOOK_EVERY_NS / 1e9, 0.6])
def test_a_store_that_is_replaced_ends_the_process_and_keeps_both(
    tmp_path: Path, pause_s: float
) -> None:
    other = tmp_path / "other.sqlite3"
    Manager(other, "run").close()
    with OrderManagerProcess(tmp_path / "store", run_id="run") as process:
        with process.client() as client:
            assert client.ask({**ORDER, "id": 1, "client": "me"})["ok"]
            os.replace(other, process.store_path)
            time.sleep(pause_s)
            if pause_s < 0.1:
                assert client.ask({**ORDER, "id": 2, "client": "me"})["ok"] is False
        assert process.process is not None
        assert process.process.wait(timeout=20) == 1
        last = process.log().splitlines()[-1]
        assert "replaced by another file" in last
        assert "store restore" in last
        (rescued,) = process.store_path.parent.glob("*.rescued-*")
        process.start()
        with process.client() as client:
            assert "duplicate" not in client.ask({**ORDER, "id": 1, "client": "me"})
        assert process.stop() == 0
    manager = Manager(rescued, "run")
    assert manager.ask({**ORDER, "id": 1, "client": "me"})[0]["duplicate"] is True
    manager.close()


def test_a_folder_that_is_removed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_files, "LOOK_EVERY_NS", 0)
    path = tmp_path / "folder" / "orders.sqlite3"
    manager = Manager(path)
    manager.ask({**ORDER, "id": 1})
    shutil.rmtree(path.parent)
    (answer,) = manager.ask({**ORDER, "id": 2})
    assert (answer["code"], answer["retryable"]) == ("STORE_UNAVAILABLE", True)
    manager.store.probe()
    manager.service._retry_store()
    again = manager.ask({**ORDER, "id": 1}, {**ORDER, "id": 2})
    assert [a["ok"] for a in again] == [True, True]
    assert "duplicate" in again[0]
    assert "duplicate" not in again[1], "what was refused was not stored"
    manager.close()
    assert verify(str(path)) == []


def test_where_nothing_can_be_saved_nothing_is_acknowledged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_files, "LOOK_EVERY_NS", 0)
    manager = Manager(path)
    manager.ask({**ORDER, "id": 1})
    path.unlink()

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(manager.store._files, "rescue", full)
        for _ in range(3):
            assert manager.ask({**ORDER, "id": 2})[0]["code"] == "STORE_UNAVAILABLE"
            manager.store.maintain(idle=True)
            with pytest.raises(StoreUnavailableError):
                manager.store.probe()
    manager.service._retry_ns = 0
    assert manager.ask({**ORDER, "id": 1}, {**ORDER, "id": 2})[1]["ok"]
    manager.close()
    assert verify(str(path)) == []


def refused(*_: object) -> None:
    raise PermissionError(13, "Permission denied")


FAILURES = [
    ("os.replace", refused),
    ("app.order_manager.store.open_files.OpenFiles.remove_log", refused),
    ("app.order_manager.store.files.take_lease", refused),
    ("apsw.Connection", refused),
]
"""What can fail after the files are closed."""


@pytest.mark.parametrize(("name", "fails"), FAILURES, ids=[name for name, _ in FAILURES])
def test_a_store_that_cannot_be_opened_again_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fails: Any
) -> None:
    """The orders are in the copy meanwhile, and no empty store takes their place."""
    monkeypatch.setattr(open_files, "LOOK_EVERY_NS", 0)
    manager = Manager(path)
    manager.ask({**ORDER, "id": 1})
    for lost in (path, Path(f"{path}.lock")):
        lost.unlink()
    with monkeypatch.context() as patch:
        if name == "apsw.Connection":
            # The first connection is the one that writes the copy.
            rescue = manager.store._files.rescue

            def rescue_then_fail(*args: Any) -> None:
                rescue(*args)
                patch.setattr("app.order_manager.store.store.apsw.Connection", broken)

            def broken(*_: object) -> None:
                raise apsw.CantOpenError("unable to open database file")

            patch.setattr(manager.store._files, "rescue", rescue_then_fail)
        else:
            patch.setattr(name, fails)
        for _ in range(3):
            manager.store.maintain(idle=True)
            assert manager.ask({**ORDER, "id": 2})[0]["code"] == "STORE_UNAVAILABLE"
            with pytest.raises(StoreUnavailableError):
                manager.store.probe()
        if name != "apsw.Connection":
            assert not path.exists()
            with pytest.raises(StoreError, match=r"store restore|another order manager"):
                OrderStore.open(str(path))
    manager.store.maintain(idle=True)
    manager.service._retry_ns = 0
    first, second = manager.ask({**ORDER, "id": 1}, {**ORDER, "id": 2})
    assert first["duplicate"] is True
    assert second["ok"] is True
    manager.close()
    assert verify(str(path)) == []
    assert not list(path.parent.glob("*.rescued-*"))


@pytest.mark.parametrize("there", [False, True], ids=["missing", "empty"])
def test_a_start_does_not_begin_anew_beside_saved_orders(path: Path, there: bool) -> None:
    manager = Manager(path)
    manager.ask({**ORDER, "id": 1})
    manager.close()
    copy = path.with_name(f"{path.name}.rescued-20260101T000000")
    os.replace(path, copy)
    if there:
        path.touch()
    with pytest.raises(StoreError) as refused:
        OrderStore.open(str(path))
    assert f"store restore {copy}" in str(refused.value)
    restore(str(copy), str(path))
    manager = Manager(path)
    assert manager.ask({**ORDER, "id": 1})[0]["duplicate"] is True
    manager.close()


def test_a_file_in_the_way_is_not_overwritten(path: Path) -> None:
    manager = Manager(path)
    manager.ask({**ORDER, "id": 1})
    path.unlink()
    path.write_text("mine")
    with pytest.raises(StoreError, match="replaced by another file"):
        manager.store.maintain(idle=True)
    assert path.read_text() == "mine"
    with pytest.raises(StoreError):
        manager.store.probe()
    manager.crash()
    assert path.read_text() == "mine"
