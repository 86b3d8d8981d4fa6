"""The keeper: what is killed starts again in its container, what exits ends with it."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.runtime.container import ipc_owner, keeper
from tests.support.children import eventually
from tests.support.paths import ROOT

# A process that writes its number of lives, and then does what the test says.
CHILD = """
import os, signal, sys, time
path, lives_max, then = sys.argv[1], int(sys.argv[2]), sys.argv[3]
lives = len(open(path).read()) + 1 if os.path.exists(path) else 1
if then == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
open(path, "a").write("x")
if lives < lives_max:
    os.kill(os.getpid(), signal.SIGKILL)
if then == "wait":
    while True: time.sleep(0.01)
sys.exit(int(then))
"""
KEEPER = (
    "import sys; from app.runtime.container import ipc_owner, keeper; "
    "ipc_owner.LOCK_FILE = sys.argv[1]; keeper.OWNER_TIMEOUT_S = keeper.OWNER_RESTART_S = 0.1; "
    "sys.exit(keeper.main(sys.argv[2:]))"
)


class Lock:
    """A lock file like that of the owner, held by this test."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        self.take()

    def take(self) -> None:
        ipc_owner._lock(self._descriptor)

    def free(self) -> None:
        unlock = ipc_owner._FLOCK.pack(fcntl.F_UNLCK, 0, 0, 1, 0)
        fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, unlock)


class Kept:
    """Starts a keeper over the child above."""

    def __init__(self, folder: Path) -> None:
        self.lives, self.here, self.elsewhere = (folder / n for n in ("lives", "here", "ipc_owner"))
        self._folder = folder
        self.process: subprocess.Popen[str] | None = None

    def start(self, lives_max: int, then: object, **environ: str) -> subprocess.Popen[str]:
        child = [sys.executable, "-c", CHILD, str(self.lives), str(lives_max), str(then)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", KEEPER, str(self.here), *child],
            cwd=ROOT,
            env={**os.environ, "RUN_DIR": str(self._folder), **environ},
            stderr=subprocess.PIPE,
            text=True,
        )
        return self.process

    def count(self) -> int:
        return len(self.lives.read_text()) if self.lives.exists() else 0

    def kill_child(self) -> None:
        assert self.process is not None
        pid = self.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    if made.process is not None:
        made.process.terminate()
        made.process.wait(10)


def test_what_is_killed_starts_again(kept: Kept) -> None:
    process = kept.start(3, 0)
    assert process.wait(10) == 0
    assert kept.count() == 3
    lines = process.stderr.read().splitlines()
    assert len(lines) == 2
    assert all("process_died" in line and "exit_code=-9" in line for line in lines)


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_what_exits_ends_with_its_code(kept: Kept, code: int) -> None:
    assert kept.start(1, code).wait(10) == code
    assert kept.count() == 1


def test_without_a_restart_policy_it_dies_with_it(kept: Kept) -> None:
    assert kept.start(2, 0, RESTART_POLICY="no").wait(10) == 137
    assert kept.count() == 1


def test_a_policy_with_a_number_bounds_short_lives(kept: Kept) -> None:
    """Then the engine counts its own restarts."""
    assert kept.start(100, 0, RESTART_POLICY="on-failure:2").wait(10) == 137
    assert kept.count() == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_passed_on(kept: Kept, number: signal.Signals) -> None:
    process = kept.start(1, "wait")
    eventually(kept.count, "the child", 10)
    process.send_signal(number)
    assert process.wait(10) in (7, 130, 1)  # 1: Python's KeyboardInterrupt
    assert kept.count() == 1


def test_the_lines_are_json_where_that_is_asked_for(kept: Kept) -> None:
    process = kept.start(2, 0, LOG_FORMAT="json")
    assert process.wait(10) == 0
    entry = json.loads(process.stderr.read())
    assert (entry["level"], entry["event"]) == ("warning", "process_died")


def still_waits(process: subprocess.Popen[str]) -> bool:
    """Whether it does not end within half a second."""
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    return True


@pytest.mark.parametrize("end", [1, "killed"])
def test_without_an_owner_it_waits_for_a_new_one_and_leaves_the_rest_to_the_engine(
    kept: Kept, end: object
) -> None:
    here, elsewhere = Lock(kept.here), Lock(kept.elsewhere)
    process = kept.start(1, "wait" if end == "killed" else end)
    eventually(kept.count, "the child", 10)
    here.free()
    elsewhere.free()
    if end == "killed":
        kept.kill_child()
    assert still_waits(process)
    elsewhere.take()  # the owner runs again, in another namespace
    assert process.wait(10) == (137 if end == "killed" else 1)
    assert kept.count() == 1
    assert "waiting_for_shm" in process.stderr.read()


def test_an_owner_that_comes_back_here_gets_its_process_back(kept: Kept) -> None:
    here, elsewhere = Lock(kept.here), Lock(kept.elsewhere)
    process = kept.start(1, "wait")
    eventually(kept.count, "the child", 10)
    here.free()
    elsewhere.free()
    kept.kill_child()
    assert still_waits(process)
    here.take()
    eventually(lambda: kept.count() == 2, "a second life", 10)


def test_it_starts_after_the_owner(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Lock(kept.here)
    here.free()
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPER.replace("OWNER_TIMEOUT_S = ", "LIFE_S = "), str(kept.here),
         sys.executable, "-c", CHILD, str(kept.lives), "1", "0"],
        cwd=ROOT, text=True,
    )  # fmt: skip
    try:
        assert still_waits(process)
        assert kept.count() == 0
        here.take()
        assert process.wait(10) == 0
        assert kept.count() == 1
    finally:
        process.kill()
        process.wait()


def test_an_owner_is_kept_without_waiting(tmp_path: Path) -> None:
    command = ["--owner", sys.executable, "-c", "raise SystemExit(5)"]
    done = subprocess.run(
        [sys.executable, "-c", KEEPER, str(tmp_path / "none"), *command], cwd=ROOT, check=False
    )
    assert done.returncode == 5


@pytest.mark.parametrize("policy", ["no", "on-failure", "on-failure:1"])
def test_a_process_that_asks_for_it_starts_again_at_once(tmp_path: Path, policy: str) -> None:
    """For a new run of the stack; however often, and without a line."""
    lives = tmp_path / "lives"
    code = (
        f"import sys; path = {str(lives)!r}; open(path, 'a').write('x'); "
        f"sys.exit({keeper.EXIT_NEW_RUN} if len(open(path).read()) < 5 else 7)"
    )
    done = subprocess.run(
        [sys.executable, "-c", KEEPER, str(tmp_path / "none"), sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "RESTART_POLICY": policy},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, lives.read_text(), done.stderr) == (7, "xxxxx", "")


def test_without_a_command_it_says_how() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "app.runtime.container.keeper"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
