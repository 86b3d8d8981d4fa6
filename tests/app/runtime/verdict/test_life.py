"""What a container's process leaves behind, and what its next start makes of it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

import pytest

from app.runtime.container import ipc_owner
from app.runtime.container.keeper import EXIT_NEW_RUN
from app.runtime.verdict.life import Life, LifeFile, read_lives

RUN = """
import sys
from app.runtime.container import ipc_owner
ipc_owner.LOCK_FILE = sys.argv[1]
import socket
socket.gethostname = lambda: "c0ffee"
"""


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock file of an owner named ``first``, and a RUN_DIR."""
    path = tmp_path / f"owner_{token_hex(4)}"
    path.write_text("first")
    monkeypatch.setattr(ipc_owner, "LOCK_FILE", str(path))
    monkeypatch.setenv("RUN_DIR", str(tmp_path))
    return path


def begun(service: str = "gateway") -> LifeFile:
    found = LifeFile.begin(service)
    assert found is not None
    return found


def leave(file: LifeFile) -> None:
    """As the kernel does for a process that is gone."""
    os.close(file._descriptor)


def test_outside_containers_nothing_is_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ipc_owner, "LOCK_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("RUN_DIR", str(tmp_path))
    assert LifeFile.begin("gateway") is None
    assert list(tmp_path.iterdir()) == []


def test_a_life_and_its_end_are_read(owner: Path, tmp_path: Path) -> None:
    file = begun()
    assert read_lives(str(tmp_path)) == [], "nothing before it announces itself"
    file.announce()
    ((life, alive),) = read_lives(str(tmp_path))
    assert (life.service, life.deployment, life.starts, alive) == ("gateway", "first", 1, True)
    file.end(1, "line one\n  line two", final=True)
    ((life, _),) = read_lives(str(tmp_path))
    assert (life.ended, life.exit_code, life.reason) == (True, 1, "line one line two")


def test_a_new_run_is_no_restart(owner: Path, tmp_path: Path) -> None:
    """Somebody who jumps back in the market again and again is no process that keeps dying."""
    for starts, code in ((1, EXIT_NEW_RUN), (1, EXIT_NEW_RUN), (1, 1), (2, 0)):
        file = begun()
        file.announce()
        assert file.life.starts == starts
        file.end(code, "", final=False)
        leave(file)


def test_a_killed_process_is_seen_as_dead(owner: Path, tmp_path: Path) -> None:
    code = RUN + (
        "from app.runtime.verdict.life import LifeFile\n"
        "LifeFile.begin('orderbook').announce()\nprint('lives', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(owner)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [(life.ended, alive) for life, alive in read_lives(str(tmp_path))] == [(False, True)]
        process.kill()
        process.wait()
    assert [(life.ended, alive) for life, alive in read_lives(str(tmp_path))] == [(False, False)]


def test_the_next_start_knows_its_predecessor(owner: Path) -> None:
    first = begun("strategy")
    assert first.previous is None
    first.end(4, "missed", final=True)
    leave(first)
    second = begun("strategy")
    assert second.previous is not None
    assert (second.previous.exit_code, second.life.starts, second.run_is_over) == (4, 2, True)


@pytest.mark.parametrize(("code", "final"), [(3, False), (0, True), (2, True)])
def test_a_run_that_goes_on_is_not_over(owner: Path, code: int, final: bool) -> None:
    """Cut short; complete; refused, although the settings may be valid by now."""
    first = begun("strategy")
    first.end(code, "", final=final)
    leave(first)
    assert not begun("strategy").run_is_over


def test_a_new_life_of_the_owner_is_a_new_chance(owner: Path) -> None:
    first = begun("strategy")
    first.end(4, "missed", final=True)
    leave(first)
    os.utime(owner, ns=(1, 1))
    second = begun("strategy")
    assert second.previous is None
    assert second.life.starts == 2


def test_records_of_a_stack_that_was_taken_down_are_removed(owner: Path, tmp_path: Path) -> None:
    old = begun("strategy")
    old.end(4, "missed", final=True)
    leave(old)
    running = begun("order_manager")
    running.announce()
    owner.write_text("second")
    new = begun("gateway")
    new.announce()
    found = {life.service for life, _ in read_lives(str(tmp_path))}
    assert found == {"order_manager", "gateway"}, "a living process keeps its record"


def test_a_volume_that_cannot_be_written_does_no_harm(owner: Path, monkeypatch) -> None:
    monkeypatch.setenv("RUN_DIR", "/proc/none")
    assert LifeFile.begin("gateway") is None
    full = begun_on("/dev/full")
    full.announce()
    full.end(1, "why", final=False)


def begun_on(path: str) -> LifeFile:
    descriptor = os.open(path, os.O_RDWR)
    return LifeFile(descriptor, Life("gateway", "h", "e@1", 1, 1), None)


@pytest.mark.parametrize("text", ["", "{", '{"service": 1}', "[]", "\x00" * 100])
def test_a_damaged_record_is_no_record(owner: Path, tmp_path: Path, text: str) -> None:
    file = begun()
    file.announce()
    (path,) = (tmp_path / "lives").iterdir()
    path.write_text(text)
    assert read_lives(str(tmp_path)) == []


Ends = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def order_manager(owner: Path, tmp_path: Path) -> Ends:
    """Starts an order manager of one container, as an engine does."""

    def start(**environ: str) -> subprocess.CompletedProcess[str]:
        code = RUN + "from app.order_manager import main\nraise SystemExit(main())"
        return subprocess.run(
            [sys.executable, "-c", code, str(owner)],
            env={"RUN_DIR": str(tmp_path), "PATH": "", **environ},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return start


def test_wrong_settings_show_their_code_once_and_are_not_restarted_for_ever(
    order_manager: Ends, tmp_path: Path
) -> None:
    done = [order_manager(PACE="fast", RESTART_POLICY="on-failure") for _ in range(3)]
    assert [each.returncode for each in done] == [2, 0, 0]
    assert all(each.stderr.splitlines()[-1].startswith("PACE=fast") for each in done)
    ((life, alive),) = read_lives(str(tmp_path))
    assert (life.exit_code, life.final, life.starts, alive) == (2, True, 3, False)
    assert life.reason.startswith("invalid settings: PACE=fast: must be max")
    assert [order_manager(PACE="fast", RESTART_POLICY="no").returncode for _ in range(2)] == [2, 2]


def test_settings_that_only_one_process_checks_are_no_other(order_manager: Ends) -> None:
    environ = {"ORDER_PUBLISHED_HOST": "0.0.0.0", "RESTART_POLICY": "on-failure"}
    names = ("PRICE_BOOK", "METADATA", "TICK_RING", "METRICS")
    token = f"test_life_{token_hex(4)}"
    environ |= {f"SHM_{name}": f"{token}_{name.lower()}" for name in names}
    try:
        done = [order_manager(**environ) for _ in range(2)]
    finally:
        for path in Path("/dev/shm").glob(f"{token}*"):
            path.unlink()
    assert [each.returncode for each in done] == [2, 0]
    assert "ORDER_TOKEN_FILE: required" in done[0].stderr.splitlines()[-1]
