"""Backup and restore."""

import json
import os
import subprocess
import sys
from pathlib import Path

import apsw

from app.__main__ import main
from app.order_manager.store.positions import rebuild_positions
from app.order_manager.store.tools import verify
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager, some_orders
from tests.support.orders.server import running
from tests.support.paths import ROOT


def test_backup_of_a_running_store_and_restore(tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite3"
    with running(tmp_path) as server, server.client() as client:
        client.send(b"".join(json.dumps({**ORDER, "id": n}).encode() + b"*" for n in range(5000)))
        for _ in range(100):
            client.read()
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        store = str(tmp_path / "orders.sqlite3")
        command = [sys.executable, "-m", "app", "store", "--store", store]
        run = [*command, "backup", str(copy)]
        done = subprocess.run(run, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for _ in range(4900):
            assert client.read()["ok"]
        refused = subprocess.run(
            [*command, "restore", str(copy)],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode == 1
        assert "stop it" in refused.stderr
    assert verify(str(copy)) == []
    assert main(["store", "--store", store, "restore", str(copy)]) == 0
    assert verify(store) == []
    kept = [p for p in tmp_path.iterdir() if ".replaced-" in p.name and not p.name.endswith("-wal")]
    assert len(kept) == 1
    manager = Manager(store)
    answer = manager.ask({**ORDER, "id": 0})[0]
    assert answer["duplicate"] is True
    manager.close()


def test_backup_and_restore_through_a_pipe(path: Path, tmp_path: Path) -> None:
    some_orders(path)
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "app", "store", "--store"]
    run = [*command, str(path), "backup", "-"]
    copy = subprocess.run(run, env=environ, capture_output=True, check=True).stdout
    other = tmp_path / "other" / "orders.sqlite3"
    run = [*command, str(other), "restore", "-"]
    subprocess.run(run, env=environ, input=copy, capture_output=True, check=True)
    assert verify(str(other)) == []
    assert len(rebuild_positions(apsw.Connection(str(other)))) == 2
    done = subprocess.run(run, env=environ, input=copy[:5000], capture_output=True, check=False)
    assert done.returncode == 1
    assert verify(str(other)) == []
    assert not [p for p in tmp_path.iterdir() if "streamed" in p.name]


def test_backup_refuses_to_overwrite_and_restore_checks_first(path: Path, tmp_path: Path) -> None:
    some_orders(path)
    target = tmp_path / "b"
    target.write_text("precious")
    assert main(["store", "--store", str(path), "backup", str(target)]) == 1
    assert target.read_text() == "precious"
    before = path.read_bytes()
    assert main(["store", "--store", str(path), "restore", str(target)]) == 1
    assert path.read_bytes() == before
    assert main(["store", "--store", str(tmp_path / "none"), "backup"]) == 1
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name]
