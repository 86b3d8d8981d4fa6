"""The order store's files, and the disk below them."""

import os
import time
from pathlib import Path

import apsw

from app.order_manager.store.tools import verify
from tests.attacks.model import Attacker, Family
from tests.attacks.stages import Faulty, Manager, run_process
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager as Store
from tests.support.orders.process import OrderManagerProcess

LOST = Family("The store's files, while orders come", "alone")
START = Family("The store's files, before the start")
WAITS = "orders wait until all are saved, no order is lost"
LOGS = "store_files_lost store_files_restored store_unavailable? request_refused?"


def _lose(attacker: Attacker, *tails: str) -> None:
    """Remove files; then a kill, and the next life has every order."""
    manager = attacker.stage
    assert isinstance(manager, Manager)
    for tail in tails:
        Path(f"{manager.process.store_path}{tail}").unlink()
    for _ in attacker.beats(10):
        pass
    manager.wait_for("store_files_restored")
    attacker.see("orders wait until all are saved")
    manager.restart()
    assert verify(str(manager.process.store_path)) == []
    attacker.see("no order is lost")


@LOST.attack("the file removed, then a SIGKILL", WAITS, LOGS, measured=False, small=True)
def main_file(attacker: Attacker) -> None:
    _lose(attacker, "")


@LOST.attack("the log file `-wal` removed, then a SIGKILL", WAITS, LOGS, measured=False)
def wal(attacker: Attacker) -> None:
    _lose(attacker, "-wal")


@LOST.attack("all files of the store removed, then a SIGKILL", WAITS, LOGS, measured=False)
def all_files(attacker: Attacker) -> None:
    _lose(attacker, "", "-wal", "-shm", ".lock")


@LOST.attack("the folder removed, then a SIGKILL", WAITS, LOGS + " stack_token_restored?",
             measured=False)  # fmt: skip
def whole_folder(attacker: Attacker) -> None:
    manager = attacker.stage
    assert isinstance(manager, Manager)
    moved = attacker.folder / "moved"
    manager.process.log_path.parent.rename(moved)
    manager.moved_log = moved / manager.process.log_path.name
    for _ in attacker.beats(10):
        pass
    manager.wait_for("store_files_restored")
    attacker.see("orders wait until all are saved")
    manager.process.log_path.write_bytes(manager.moved_log.read_bytes())
    manager.restart()
    attacker.see("no order is lost")


@LOST.attack("a disk that is full for half a second",
             "orders wait until there is room, no order is lost",
             "request_refused store_unavailable", stage="faulty", measured=False)  # fmt: skip
def full_disk(attacker: Attacker) -> None:
    stage = attacker.stage
    assert isinstance(stage, Faulty)
    stage.disk.failing = apsw.FullError
    time.sleep(0.5)
    assert stage.disk.faults
    attacker.see("orders wait until there is room")
    stage.disk.failing = None
    for _ in attacker.beats(10):
        pass
    attacker.see("no order is lost")


@LOST.attack("a second order manager on the same store",
             "exit code 1, the last line says that the store is in use",
             "fatal stopped", small=True)  # fmt: skip
def second_manager(attacker: Attacker) -> None:
    manager = attacker.stage
    assert isinstance(manager, Manager)
    _fails(attacker, "in use|another order manager|is open", "that the store is in use",
           order_store_path=manager.process.store_path)  # fmt: skip
    for _ in attacker.beats(10):
        pass


def _fails(attacker: Attacker, pattern: str, phrase: str, **settings: object) -> None:
    """An order manager that does not start."""
    done = run_process("app.order_manager", attacker.folder, order_port=0,
                       shm_metrics=f"attack_{os.getpid()}", **settings)  # fmt: skip
    for segment in Path("/dev/shm").glob(f"attack_{os.getpid()}*"):
        segment.unlink(missing_ok=True)
    attacker.own_log += done.stdout
    attacker.see(f"exit code {done.returncode}")
    attacker.expect(done.stdout.splitlines()[-1], pattern, f"the last line says {phrase}")


@START.attack("the store replaced by another one while it runs",
              "exit code 1, both are kept, the last line names the command that restores",
              "fatal stopped store_files_lost?")  # fmt: skip
def replaced(attacker: Attacker) -> None:
    other = attacker.folder / "other.sqlite3"
    Store(other, "run").close()
    with OrderManagerProcess(attacker.folder / "store", run_id="run") as process:
        with process.client() as client:
            assert client.ask({**ORDER, "id": 1})["ok"]
            os.replace(other, process.store_path)
        assert process.process is not None
        attacker.see(f"exit code {process.process.wait(timeout=20)}")
        attacker.own_log = process.log()
        (rescued,) = process.store_path.parent.glob("*.rescued-*")
        assert verify(str(rescued)) == []
        assert verify(str(process.store_path)) == []
        attacker.see("both are kept")
        attacker.expect(process.log().splitlines()[-1], "store restore",
                        "the last line names the command that restores")  # fmt: skip


@START.attack("a file that is no database", "exit code 1, the last line says what the file is not",
              "fatal stopped")  # fmt: skip
def no_database(attacker: Attacker) -> None:
    path = attacker.folder / "orders.sqlite3"
    path.write_bytes(b"no database" * 1000)
    _fails(attacker, "not a database|not an order store", "what the file is not",
           order_store_path=path)  # fmt: skip
    assert path.read_bytes() == b"no database" * 1000


@START.attack(
    "a folder in the place of the store",
    "exit code 1, the last line says that it cannot be opened",
    "fatal stopped",
)
def folder_in_place(attacker: Attacker) -> None:
    path = attacker.folder / "orders.sqlite3"
    path.mkdir()
    _fails(attacker, "unable to open|directory|folder", "that it cannot be opened",
           order_store_path=path)  # fmt: skip


@START.attack("the second half of the store's file cut off",
              "exit code 1, the last line says how to restore it", "fatal stopped")  # fmt: skip
def truncated(attacker: Attacker) -> None:
    path = _some_store(attacker.folder)
    os.truncate(path, path.stat().st_size // 2)
    _fails(attacker, "damaged|malformed", "how to restore it", order_store_path=path)


def _some_store(folder: Path) -> Path:
    path = folder / "store" / "orders.sqlite3"
    path.parent.mkdir()
    store = Store(path, "run")
    for number in range(2000):
        store.ask({**ORDER, "id": number})
    store.close()
    return path


@START.attack("the log file `-wal` of a killed order manager replaced by garbage",
              "what is in the file is there", "")  # fmt: skip
def garbage_wal(attacker: Attacker) -> None:
    path = _some_store(attacker.folder)
    Path(f"{path}-wal").write_bytes(os.urandom(20_000))
    with OrderManagerProcess(path.parent, run_id="run") as process:
        with process.client() as client:
            if client.ask({**ORDER, "id": 1999}).get("duplicate"):
                attacker.see("what is in the file is there")
        assert process.stop() == 0
        attacker.own_log = process.log()
    assert verify(str(path)) == []
