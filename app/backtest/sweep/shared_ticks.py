"""One decoded copy of the ticks and their sentiment, which every worker reads."""

import fcntl
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from app.backtest.feed_reader import FeedReader
from app.backtest.performance.daily import DAY_NS, day_starts
from app.market_data.feed import Feed
from app.market_data.storage.columns import FULL, write
from app.market_data.storage.place import IN_MEMORY, Storage, free_bytes_of
from app.market_data.storage.resident import RESIDENT
from app.model.tick import TICK_DTYPE
from app.strategy.engine import MAX_BATCH_TICKS

SENTIMENT_BYTES: Final = 2
_ALL_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class SharedTicks(NamedTuple):
    """Where the copy is; small enough to be sent to each worker."""

    path: str
    symbols: list[str]
    total: int
    ends: list[int]
    """The tick after the last of each batch: a strategy sees the batches of a backtest."""


class TickRoom(AbstractContextManager["TickRoom"]):
    """Room for the bytes of the copy: memory, or a file if they are many.

    It has no name and goes when the last process closes it.  After :meth:`seal` nobody can change
    them: memory is sealed, and of a file others get only the right to read.

    Raises:
        NoRoom: they do not fit into memory, and no disk has room.
    """

    def __init__(self, total: int, storage: Storage = IN_MEMORY) -> None:
        self.size_bytes = total * (TICK_DTYPE.itemsize + SENTIMENT_BYTES)
        self._on_disk = self.size_bytes > storage.memory_bytes_max
        self._descriptor = _file(storage, self.size_bytes) if self._on_disk else _memory()
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def write(self, values: Any, at: int) -> None:
        """Write an array or a buffer at a position."""
        write(self._descriptor, values, at)

    def read(self, size_bytes: int, at: int) -> bytes:
        """So many bytes at a position, fewer at the end."""
        return os.pread(self._descriptor, size_bytes, at)

    def seal(self) -> None:
        """They are whole."""
        if self._on_disk:
            os.fchmod(self._descriptor, 0o400)
        else:
            fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, _ALL_SEALS)

    def close(self) -> None:
        """Give it up; who has it mapped keeps it."""
        os.close(self._descriptor)

    def __exit__(self, *_error: object) -> None:
        self.close()


class TickMemory(AbstractContextManager["TickMemory"]):
    """Decodes the first ``total`` ticks of a feed, once, into a :class:`TickRoom`.

    ``days``: those that have a tick, counted from 1970 (UTC).

    Raises:
        NoRoom: they do not fit into memory, and no disk has room.
    """

    def __init__(self, feed: Feed, total: int, storage: Storage = IN_MEMORY) -> None:
        self.days: list[int] = []
        self._room = TickRoom(total, storage)
        try:
            ends = self._fill(feed, total)
            self._room.seal()
        except BaseException:
            self._room.close()
            raise
        self.shared = SharedTicks(self._room.path, feed.symbols, total, ends)

    def _fill(self, feed: Feed, total: int) -> list[int]:
        sentiment = np.zeros(MAX_BATCH_TICKS, np.int16)
        reader, ends = FeedReader(feed, total), []
        for batch in reader.batches():
            first, end = reader.next_seq - len(batch), reader.next_seq
            reader.join(batch, sentiment[: len(batch)])
            self._room.write(batch.view(np.uint8), first * TICK_DTYPE.itemsize)
            at = total * TICK_DTYPE.itemsize + first * SENTIMENT_BYTES
            self._room.write(sentiment[: len(batch)], at)
            ends.append(end)
            self._take_days(batch["event_ns"])
        return ends

    def _take_days(self, event_ns: npt.NDArray[np.int64]) -> None:
        if not self.days:
            self.days.append(int(event_ns[0]) // DAY_NS)
        starts = day_starts(event_ns, self.days[-1])
        self.days += (event_ns[starts] // DAY_NS).tolist()

    def __exit__(self, *_error: object) -> None:
        self._room.close()


class SharedReader:
    """Reads the copy, as :class:`FeedReader` reads a feed."""

    def __init__(self, shared: SharedTicks) -> None:
        descriptor = os.open(shared.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            memory = RESIDENT.map(descriptor)
        finally:
            os.close(descriptor)
        self._ends = shared.ends
        self._ticks, self._sentiment = _arrays(memory, shared.total)
        self._batch = np.zeros(MAX_BATCH_TICKS, TICK_DTYPE)

    def batches(self) -> Iterator[npt.NDArray[np.void]]:
        """All batches from the first, each valid until the next is read.

        Copies: a strategy that writes into its batch does so in a backtest, too.
        """
        first = 0
        for end in self._ends:
            batch = self._batch[: end - first]
            batch[:] = self._ticks[first:end]
            RESIDENT.passed(batch.nbytes)
            yield batch
            first = end

    def join(self, ticks: npt.NDArray[np.void], out: npt.NDArray[np.int16]) -> None:
        """Write each tick's sentiment to ``out``."""
        first = int(ticks["seq"][0])
        out[:] = self._sentiment[first : first + len(ticks)]


def _memory() -> int:
    return os.memfd_create("sweep_ticks", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _file(storage: Storage, size_bytes: int) -> int:
    """A file without a name and of this size, whose room is taken at once."""
    folder = storage.place()
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        storage.check_room(folder, size_bytes, size_bytes)
        try:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        except OSError as error:
            if error.errno in FULL:
                raise storage.full(folder, size_bytes, free_bytes_of(folder)) from None
            raise
        return os.dup(file.fileno())


def _arrays(memory: mmap.mmap, total: int) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int16]]:
    ticks = np.frombuffer(memory, TICK_DTYPE, total)
    sentiment = np.frombuffer(memory, np.int16, total, total * TICK_DTYPE.itemsize)
    return ticks, sentiment
