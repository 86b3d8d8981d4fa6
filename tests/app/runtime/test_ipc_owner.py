"""The owner of the shared memory and the processes that watch it."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from app.runtime import ipc_owner
from tests.support.children import eventually


@pytest.fixture
def owner(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    path = Path(f"/dev/shm/test_owner_{token_hex(6)}")
    monkeypatch.setattr(ipc_owner, "LOCK_FILE", str(path))
    monkeypatch.setattr(ipc_owner, "OWNER_RESTART_S", 0.0)
    code = (
        f"from app.runtime import ipc_owner as o; o.LOCK_FILE = {str(path)!r}\n"
        "raise SystemExit(o.hold())"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    eventually(path.exists, "the lock file", 10)
    yield process
    process.kill()
    process.wait()
    path.unlink()


def test_outside_containers_there_is_no_owner_to_watch(monkeypatch, tmp_path):
    monkeypatch.setattr(ipc_owner, "LOCK_FILE", str(tmp_path / "none"))
    assert not ipc_owner.watch(pytest.fail)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_death_of_the_owner_is_detected(owner, number):
    died = threading.Event()
    assert ipc_owner.watch(died.set)
    assert not died.wait(0.2)
    owner.send_signal(number)
    assert died.wait(10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_owner_exits_cleanly(owner, number):
    owner.send_signal(number)
    assert owner.wait(10) == 0
