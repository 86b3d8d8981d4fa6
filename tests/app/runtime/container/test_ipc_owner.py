"""The owner of the shared memory and the processes that watch it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from app.runtime.container import ipc_owner
from tests.support.children import eventually

Owner = subprocess.Popen[bytes]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], Owner]]:
    """Starts an owner of a lock file of this test."""
    path = Path(f"/dev/shm/test_owner_{token_hex(6)}")
    monkeypatch.setattr(ipc_owner, "LOCK_FILE", str(path))
    monkeypatch.setenv("RUN_DIR", str(tmp_path))
    code = (
        f"from app.runtime.container import ipc_owner as o; o.LOCK_FILE = {str(path)!r}\n"
        "raise SystemExit(o.hold())"
    )
    started: list[Owner] = []

    def one() -> Owner:
        started.append(subprocess.Popen([sys.executable, "-c", code]))
        eventually(lambda: ipc_owner._is_locked(f"{tmp_path}/ipc_owner"), "both locks", 10)
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.wait()
    path.unlink(missing_ok=True)


@pytest.fixture
def owner(start: Callable[[], Owner]) -> Owner:
    return start()


def test_outside_containers_there_is_no_owner_to_watch(monkeypatch, tmp_path):
    monkeypatch.setattr(ipc_owner, "LOCK_FILE", str(tmp_path / "none"))
    assert not ipc_owner.watch(pytest.fail)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_death_of_the_owner_is_detected(owner, monkeypatch, number):
    monkeypatch.setattr(ipc_owner, "OWNER_RETURN_S", 0.1)
    died = threading.Event()
    assert ipc_owner.watch(died.set)
    assert not died.wait(0.2)
    owner.send_signal(number)
    assert died.wait(10)


def test_an_owner_that_comes_back_keeps_its_epoch_and_nobody_restarts(start, monkeypatch):
    monkeypatch.setattr(ipc_owner, "OWNER_RETURN_S", 10.0)
    first = start()
    epoch, died = ipc_owner.epoch(), threading.Event()
    for _ in range(3):  # three processes watch
        assert ipc_owner.watch(died.set)
    for _ in range(2):
        time.sleep(0.1)
        first.kill()
        first.wait()
        first = start()
        eventually(ipc_owner.is_here, "the owner", 10)
    assert not died.wait(0.3)
    assert ipc_owner.epoch() == epoch


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_owner_exits_cleanly(owner, number):
    owner.send_signal(number)
    assert owner.wait(10) == 0


def test_an_owner_of_other_memory_shows_itself_in_the_volume(owner, monkeypatch, tmp_path):
    assert ipc_owner.is_here()
    assert not ipc_owner.is_elsewhere()
    mine = tmp_path / "mine"
    mine.write_text("an owner that has died")
    monkeypatch.setattr(ipc_owner, "LOCK_FILE", str(mine))
    assert not ipc_owner.is_here()
    assert ipc_owner.is_elsewhere()
    owner.kill()
    owner.wait()
    assert not ipc_owner.is_elsewhere()


def test_an_owner_whose_volume_takes_no_file_holds_its_memory(start, monkeypatch, tmp_path):
    monkeypatch.setenv("RUN_DIR", str(tmp_path / "missing"))
    process = subprocess.Popen(
        [sys.executable, "-c", "from app.runtime.container import ipc_owner as o; "
         f"o.LOCK_FILE = {ipc_owner.LOCK_FILE!r}; o.hold()"],
        env=dict(os.environ),
    )  # fmt: skip
    try:
        eventually(ipc_owner.is_here, "the owner", 10)
        assert not ipc_owner.shows_elsewhere()
    finally:
        process.kill()
        process.wait()
