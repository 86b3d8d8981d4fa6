"""The worker's side of a sweep, without Dask: what it checks, and that nothing of it is left."""

import gc
import pickle
from pathlib import Path

import pytest

from app.backtest.sweep.cell_run import Task, run_cell, source_digest
from app.backtest.sweep.cluster import session as worker_side
from app.backtest.sweep.cluster.cell_process import CellError
from app.backtest.sweep.cluster.parcel import pack
from app.backtest.sweep.cluster.requests import Begin, Gone, Open, Run, Take, Unfit, decode, encode
from app.backtest.sweep.cluster.session import Session, answer, digest_of
from app.backtest.sweep.grid import axis, cells
from app.backtest.sweep.shared_ticks import SharedReader, TickMemory, TickRoom
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.market_data.storage.place import NoRoom
from tests.app.backtest.sweep.sweeping import SAMPLE, plain
from tests.support.children import open_files

TOTAL = 900


class Sweep:
    """What a client has: a task, its cells, and the bytes of its ticks."""

    def __init__(self, folder: Path, memory: TickMemory) -> None:
        spec = plain(folder)
        settings = Settings(data_path=str(SAMPLE), replay="once", strategy=spec)
        self.task = Task(settings, memory.shared, 100_000.0, source_digest(spec))
        self.reader = SharedReader(memory.shared)
        self.bytes = Path(memory.shared.path).read_bytes()
        self.cells = cells([axis("how=well,die,raise"), axis("a=1:3")], {"b": "3"}, None, 1)
        self.open = Open("sweep", pack(spec), TOTAL, 1 << 30, 0)

    def session(self, folder: Path) -> Session:
        """One that has the ticks."""
        folder.mkdir(exist_ok=True)
        made = Session(self.open, str(folder), 1)
        for at in range(0, len(self.bytes), 5000):
            assert decode(answer(encode(Take(at)), made, self.bytes[at : at + 5000])) is None
        return made

    def begin(self, session: Session) -> object:
        """The answer to the beginning."""
        with TickRoom(TOTAL) as room:
            room.write(self.bytes, 0)
            wanted = digest_of(room)
        return decode(answer(encode(Begin(self.task, wanted)), session))


@pytest.fixture
def sweep(tmp_path: Path) -> object:
    feed = open_feed(Settings(data_path=str(SAMPLE), replay="once"))
    with TickMemory(feed, TOTAL) as memory:
        yield Sweep(tmp_path, memory)


@pytest.mark.medium
def test_cells_are_those_of_this_machine_and_nothing_is_left(sweep: Sweep, tmp_path: Path) -> None:
    before = open_files()
    session = sweep.session(tmp_path / "scratch")
    assert sweep.begin(session) is None
    for cell in sweep.cells:
        found = decode(answer(encode(Run(cell)), session))
        if cell.values[0] == "die" and cell.values[1] != "3":
            assert found.note == "its process ended: signal 9 (SIGKILL)"
            continue
        wanted = run_cell(sweep.task, sweep.reader, cell)
        assert (found.status, found.note) == (wanted.status, wanted.note)
        assert (found.trades_hash, found.profit) == (wanted.trades_hash, wanted.profit)
    del session
    gc.collect()
    assert list((tmp_path / "scratch").iterdir()) == []
    assert open_files() == before


def test_other_bytes_are_refused(sweep: Sweep, tmp_path: Path) -> None:
    session = sweep.session(tmp_path / "scratch")
    wrong = bytes(5000 - 1) + b"\xff"
    answer(encode(Take(0)), session, wrong)
    found = sweep.begin(session)
    assert isinstance(found, Unfit)
    assert found.reason.startswith("it has other ticks (SHA-256 ")


def test_where_bytes_are_missing_the_session_is_another_one(sweep: Sweep, tmp_path: Path) -> None:
    """Dask makes it anew on a worker that has come back under its address."""
    (tmp_path / "scratch").mkdir()
    assert sweep.begin(Session(sweep.open, str(tmp_path / "scratch"), 1)) == Gone()


def test_before_it_begins_and_after_it_is_closed_there_is_nothing(
    sweep: Sweep, tmp_path: Path
) -> None:
    run = encode(Run(sweep.cells[0]))
    session = sweep.session(tmp_path / "scratch")
    assert decode(answer(run, session)) == Gone()
    worker_side.SESSIONS["sweep"] = session
    worker_side.close("sweep")
    worker_side.close("sweep")
    for request in (run, encode(Take(0))):
        assert decode(answer(request, session, b"x")) == Gone()
    assert sweep.begin(session) == Gone()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_dask_moves_is_no_session(sweep: Sweep, tmp_path: Path) -> None:
    session = sweep.session(tmp_path / "scratch")
    moved = pickle.loads(pickle.dumps(session))
    assert decode(answer(encode(Run(sweep.cells[0])), moved)) == Gone()


def test_a_session_that_could_not_be_opened_says_why_whatever_is_asked() -> None:
    reason = encode(Unfit("no room"))
    assert answer(encode(Take(0)), reason, b"") == reason


def test_no_room_for_the_ticks_is_one_line(sweep: Sweep, tmp_path: Path) -> None:
    many = sweep.open._replace(total=1 << 45, memory_bytes_max=0, free_bytes_min=0)
    with pytest.raises(NoRoom, match="DATA_SPILL_DIR"):
        Session(many, str(tmp_path), 1)


@pytest.mark.medium
def test_a_strategy_that_cannot_be_loaded_there_is_refused(sweep: Sweep, tmp_path: Path) -> None:
    """It imports a package that this machine does not have; the file is named as at the client."""
    path = Path(sweep.task.settings.strategy.rpartition(":")[0])
    path.write_text("import nowhere_to_be_found\n" + path.read_text())
    sweep.open = sweep.open._replace(parcel=pack(sweep.task.settings.strategy))
    found = sweep.begin(sweep.session(tmp_path / "scratch"))
    assert isinstance(found, Unfit)
    assert found.reason.startswith(f"STRATEGY={path}:Plain: ModuleNotFoundError: ")
    assert "\n" not in found.reason


def test_a_process_that_ends_before_its_first_cell_is_refused(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.backtest.sweep.cluster.cell_process.MODULE", "this")
    session = sweep.session(tmp_path / "scratch")
    session._task = sweep.task
    with pytest.raises(CellError, match="ended before its first cell: exit code 0"):
        session._start().await_ready()
