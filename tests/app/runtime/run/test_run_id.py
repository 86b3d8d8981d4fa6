"""The id that separates one deployment's orders from another's."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.config.settings import Settings
from app.runtime.container import ipc_owner
from app.runtime.lifecycle import FatalError
from app.runtime.run.run_id import resolve_run_id
from tests.support.children import eventually


def test_a_run_id_that_is_set_is_used(tmp_path: Path):
    assert resolve_run_id(Settings(run_id="mine", run_dir=str(tmp_path))) == "mine"
    assert not any(tmp_path.iterdir())


def test_without_a_folder_the_run_id_is_empty():
    assert resolve_run_id(Settings()) == ""


def test_a_generated_run_id_survives_restarts_and_is_new_in_a_new_folder(tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    name = resolve_run_id(Settings(run_dir=str(first)))
    assert name
    assert resolve_run_id(Settings(run_dir=str(first))) == name
    assert resolve_run_id(Settings(run_dir=str(second))) != name


def test_after_a_crash_before_the_id_was_written_a_new_one_is_generated(tmp_path: Path):
    (tmp_path / "run_id").write_text("")
    (tmp_path / "run_id.new").write_text("half")
    name = resolve_run_id(Settings(run_dir=str(tmp_path)))
    assert name
    assert resolve_run_id(Settings(run_dir=str(tmp_path))) == name


def test_an_unwritable_folder_is_refused_with_the_remedy(tmp_path: Path):
    with pytest.raises(FatalError, match=r"RUN_DIR=.*make it writable, or set RUN_ID"):
        resolve_run_id(Settings(run_dir=str(tmp_path / "missing")))


def test_in_a_folder_that_outlives_the_deployment_the_id_is_new_for_each_deployment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lock = tmp_path / "ipc_owner"
    monkeypatch.setattr(ipc_owner, "LOCK_FILE", str(lock))
    names = []
    for owner in ("0123456789ab", "0123456789ab", "ba9876543210", "ba9876543210"):
        lock.write_text(owner)
        names.append(resolve_run_id(Settings(run_dir=str(tmp_path))))
    assert names[0] == names[1] != names[2] == names[3]


def test_the_owner_of_the_shared_memory_names_its_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lock = tmp_path / "ipc_owner"
    monkeypatch.setattr(ipc_owner, "LOCK_FILE", str(lock))
    assert ipc_owner.deployment() == ""
    start = "from app.runtime.container import ipc_owner as o"
    code = f"{start}; o.LOCK_FILE = {str(lock)!r}; o.hold()"
    owner = subprocess.Popen([sys.executable, "-c", code])
    try:
        eventually(lock.exists, "the lock file", 10)
        assert ipc_owner.deployment() == socket.gethostname()
    finally:
        owner.kill()
        owner.wait()
