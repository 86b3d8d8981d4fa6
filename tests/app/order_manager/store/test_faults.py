"""A disk that is full or fails: nothing is acknowledged that is not stored."""

import random
import subprocess
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from app.order_manager.store.tools import verify
from tests.support.orders.faulty_disk import FaultyDisk
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager
from tests.support.orders.process import OrderManagerProcess


def test_an_error_in_encoding_fails_the_whole_batch(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager(path)

    def broken(*_acked: object) -> bytes:
        raise ZeroDivisionError("on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(manager.service, "_encode_ack", broken)
        first, pong = manager.ask({**ORDER, "id": 1}, {"op": "ping"})
        assert (first["ok"], first["code"], first["retryable"]) == (
            False,
            "STORE_UNAVAILABLE",
            True,
        )
        assert pong["ok"] is True
    answer = manager.ask({**ORDER, "id": 1})[0]
    while not answer["ok"]:
        time.sleep(0.02)
        answer = manager.ask({**ORDER, "id": 1})[0]
    assert "duplicate" not in answer, "nothing of the batch was stored"
    manager.close()


FAULTS = [
    (apsw.FullError, ("write",), 0),
    (apsw.FullError, ("write",), 1),
    (apsw.FullError, ("write",), 3),
    (apsw.IOError, ("write",), 0),
    (apsw.IOError, ("sync",), 0),
]


@pytest.mark.parametrize(("error", "operations", "after"), FAULTS)
def test_nothing_is_acknowledged_while_the_disk_fails_and_service_resumes_afterwards(
    path: Path,
    disk: FaultyDisk,
    error: type[apsw.Error],
    operations: tuple[str, ...],
    after: int,
) -> None:
    manager = Manager(path, trading_mode="live")
    kept = manager.ask({**ORDER, "id": 1})[0]
    disk.failing, disk.operations, disk.after = error, operations, after
    for n in range(2, 40):
        lost = manager.ask({**ORDER, "id": n}, {**ORDER, "id": n + 100}, {"op": "ping"})
        assert [a.get("code") for a in lost[:2]] == ["STORE_UNAVAILABLE"] * 2
        assert all(a["retryable"] for a in lost[:2])
        assert [a["id"] for a in lost[:2]] == [n, n + 100]
        time.sleep(0.005)
    assert disk.faults > 0
    assert manager.ask({"op": "ping"})[0]["ok"] is False
    disk.failing = None
    deadline = time.monotonic() + 5
    while not manager.ask({"op": "ping"})[0]["ok"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert manager.ask({**ORDER, "id": 1})[0] == {**kept, "duplicate": True}
    assert "duplicate" not in manager.ask({**ORDER, "id": 2})[0]
    assert manager.ask({"op": "positions"})[0]["positions"][0]["qty"] == 20
    manager.close()
    assert verify(str(path)) == []


def test_faults_at_random_moments(path: Path, disk: FaultyDisk) -> None:
    rng = random.Random(7)
    manager = Manager(path, trading_mode="live")
    acked: dict[int, dict[str, Any]] = {}
    for n in range(400):
        if rng.random() < 0.2:
            disk.failing = rng.choice((None, apsw.FullError, apsw.IOError))
            disk.operations = rng.choice((("write",), ("sync",), ("write", "sync")))
            disk.after = rng.randint(0, 6)
        answers = manager.ask(*({**ORDER, "id": i, "client": "c"} for i in (n, n // 2)))
        for order_id, answer in zip((n, n // 2), answers, strict=True):
            if answer["ok"]:
                order = answer["order"]
                assert acked.setdefault(order_id, order) == order
        # Let the next batch retry at once.
        manager.service._retry_ns = 0
    disk.failing = None
    manager.close()
    manager = Manager(path)
    assert len(acked) > 50
    for order_id, order in acked.items():
        again = manager.ask({**ORDER, "id": order_id, "client": "c"})[0]
        assert (again["order"], again["duplicate"]) == (order, True)
    manager.close()
    assert verify(str(path)) == []


def test_server_stays_up_on_a_full_volume(tmp_path: Path) -> None:
    """A file system that is really full, if this user may mount one."""
    mount = tmp_path / "volume"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a tmpfs")
    try:
        with (
            OrderManagerProcess(tmp_path / "log", output_dir=mount, trading_mode="live") as manager,
            manager.client(30) as client,
        ):
            assert client.ask({**ORDER, "id": 1})["ok"] is True
            filler = mount / "filler"
            with filler.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"x" * 65536)
                        file.flush()
                except OSError:
                    pass
            answers = []
            for n in range(2, 30_000):
                answers.append(client.ask({**ORDER, "id": n, "ts": "x" * 60}))
                if not answers[-1]["ok"]:
                    break
            assert answers[-1]["code"] == "STORE_UNAVAILABLE"
            assert answers[-1]["retryable"] is True
            filler.unlink()
            deadline = time.monotonic() + 10
            while not client.ask({"op": "ping"})["ok"]:
                assert time.monotonic() < deadline
            assert client.ask({**ORDER, "id": 1_000_000})["ok"] is True
            acked = sum(1 for answer in answers if answer["ok"]) + 2
            position = client.ask({"op": "positions"})["positions"][0]
            assert position["qty"] == 10 * acked
            assert manager.stop() == 0
        assert verify(str(mount / "orders.sqlite3")) == []
    finally:
        subprocess.run(["umount", str(mount)], check=False)
