"""The worker's side: what one sweep has there, and the answers to a client's requests."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from hashlib import sha256
from queue import SimpleQueue
from typing import Any, Final

import msgspec
from distributed import get_worker

from app.backtest.sweep.cell_run import Outcome, Task
from app.backtest.sweep.cluster.cell_process import CellError, CellProcess
from app.backtest.sweep.cluster.parcel import below, strategy_below, unpack
from app.backtest.sweep.cluster.requests import Begin, Gone, Open, Run, Take, Unfit, decode, encode
from app.backtest.sweep.grid import Cell
from app.backtest.sweep.shared_ticks import TickRoom
from app.market_data.storage.place import NoRoom, Storage

HASH_BYTES: Final = 1 << 20


class Session:
    """Ticks, strategy and processes of one sweep.

    The client holds it as the result of a task.  When the client goes, also by SIGKILL, Dask drops
    the result, and with it goes everything here.

    Raises:
        NoRoom: the ticks do not fit.
        OSError, ValueError: the strategy's files cannot be written.
    """

    def __init__(self, wanted: Open, folder: str, slots: int) -> None:
        self.sweep = wanted.sweep
        self._slots = slots
        self._task: Task | None = None
        self._taken: dict[int, int] = {}
        """Sizes of the pieces that have come, by their place."""
        self._processes: set[CellProcess] = set()
        self._idle: SimpleQueue[CellProcess] = SimpleQueue()
        spill = os.environ.get("DATA_SPILL_DIR", "")
        storage = Storage(wanted.memory_bytes_max, spill, (folder,), wanted.free_bytes_min)
        self._ticks = TickRoom(wanted.total, storage)
        # Only when no thread is in a method any more: its number would be another file's.
        weakref.finalize(self, self._ticks.close)
        self._root = tempfile.mkdtemp(prefix="sweep-", dir=folder)
        # Neither is a method: that would keep the session.
        self.close = weakref.finalize(self, _close, self._processes, self._root)
        self._folder = below(self._root, wanted.parcel.folder)
        unpack(wanted.parcel, self._root)

    def __reduce__(self) -> tuple[Any, ...]:
        """What Dask moves elsewhere, or to a disk, is no session any more."""
        return Gone, ()

    def take(self, at: int, piece: bytes) -> None:
        """Bytes of the ticks."""
        self._ticks.write(piece, at)
        self._taken[at] = len(piece)

    def begin(self, wanted: Begin) -> None:
        """Check the ticks, and start the processes.

        Raises:
            CellError: the ticks or the strategy are not those of the client.
        """
        if (found := digest_of(self._ticks)) != wanted.digest:
            raise CellError(f"it has other ticks (SHA-256 {found[:16]}, not {wanted.digest[:16]})")
        self._ticks.seal()
        task = wanted.task
        strategy = strategy_below(self._root, task.settings.strategy)
        settings = msgspec.structs.replace(task.settings, strategy=strategy)
        ticks = task.ticks._replace(path=self._ticks.path)
        self._task = msgspec.structs.replace(task, settings=settings, ticks=ticks)
        started = [self._start() for _ in range(self._slots)]
        for process in started:
            process.await_ready()
            self._idle.put(process)

    def run(self, cell: Cell) -> Outcome:
        """The outcome of a cell; it blocks meanwhile.  Dask calls it in one thread per process.

        Raises:
            CellError: a process that took the place of one that died cannot run cells.
        """
        process = self._idle.get()
        if not process.alive:
            self._processes.discard(process)
            process.close()
            process = self._start()
            process.await_ready()
        try:
            outcome = process.run(cell)
        finally:
            self._idle.put(process)
        outcome.note = self._as_there(outcome.note)
        return outcome

    @property
    def whole(self) -> bool:
        """Whether all bytes have come; not if Dask has made the session anew meanwhile."""
        return sum(self._taken.values()) == self._ticks.size_bytes

    @property
    def open(self) -> bool:
        """Whether cells can be run."""
        return self._task is not None and self.close.alive

    def reason(self, error: Exception) -> str:
        """One line, with the names of files as at the client."""
        return " ".join(self._as_there(str(error)).split())

    def _as_there(self, text: str) -> str:
        return text.replace(self._root, "")

    def _start(self) -> CellProcess:
        assert self._task is not None
        process = CellProcess(self._task, self._folder)
        self._processes.add(process)
        if not self.close.alive:
            process.kill()
        return process


SESSIONS: Final[weakref.WeakValueDictionary[str, Session]] = weakref.WeakValueDictionary()
"""Those of this worker, by sweep."""


def digest_of(ticks: TickRoom) -> str:
    """Of all bytes: SHA-256."""
    digest = sha256()
    for at in range(0, ticks.size_bytes, HASH_BYTES):
        digest.update(ticks.read(HASH_BYTES, at))
    return digest.hexdigest()


def answer(request: bytes, *held: Any) -> Any:
    """Answer a request; ``held``: the answer to :class:`Open`, and what comes beside the request.

    An answer is bytes, but that to :class:`Open` is a session.  Where none could be opened, it is
    the reason, and so is every further answer.
    """
    wanted = decode(request)
    if isinstance(wanted, Open):
        return _open(wanted)
    session = held[0]
    if isinstance(session, bytes):
        return session
    if not isinstance(session, Session) or not session.close.alive:
        return encode(Gone())
    try:
        match wanted:
            case Take(at):
                session.take(at, held[1])
                return encode(None)
            case Begin():
                if not session.whole:
                    return encode(Gone())
                session.begin(wanted)
                return encode(None)
            case Run(cell):
                return encode(session.run(cell) if session.open else Gone())
    except (CellError, OSError) as error:
        return encode(Unfit(session.reason(error)) if session.close.alive else Gone())
    raise AssertionError(wanted)


def _open(wanted: Open) -> Session | bytes:
    worker = get_worker()
    try:
        session = Session(wanted, worker.local_directory, worker.state.nthreads)
    except (NoRoom, OSError, ValueError) as error:
        return encode(Unfit(" ".join(str(error).split())))
    SESSIONS[wanted.sweep] = session
    return session


def close(sweep: str) -> None:
    """End a sweep's session at once, whatever its processes do."""
    session = SESSIONS.pop(sweep, None)
    if session is not None:
        session.close()


def _close(processes: Iterable[CellProcess], root: str) -> None:
    for process in list(processes):
        process.kill()
    shutil.rmtree(root, ignore_errors=True)
