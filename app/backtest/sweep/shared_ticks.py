"""One decoded copy of the ticks and their sentiment in memory, which every worker reads."""

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from app.backtest.feed_reader import FeedReader
from app.backtest.performance.daily import DAY_NS, day_starts
from app.market_data.feed import Feed
from app.model.tick import TICK_DTYPE
from app.strategy.engine import MAX_BATCH_TICKS

SENTIMENT_BYTES: Final = 2


class SharedTicks(NamedTuple):
    """Where the copy is; small enough to be sent to each worker."""

    path: str
    symbols: list[str]
    total: int
    ends: list[int]
    """The tick after the last of each batch: a strategy sees the batches of a backtest."""


class TickMemory(AbstractContextManager["TickMemory"]):
    """Decodes the first ``total`` ticks of a feed, once.

    The memory has no name, goes when the last process closes it, and is sealed: no worker can
    change what the others see.  ``days``: those that have a tick,
    counted from 1970 (UTC).
    """

    def __init__(self, feed: Feed, total: int) -> None:
        self.days: list[int] = []
        self._descriptor = os.memfd_create("sweep_ticks", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._descriptor, total * (TICK_DTYPE.itemsize + SENTIMENT_BYTES))
        ends = self._fill(feed, total)
        fcntl.fcntl(
            self._descriptor,
            fcntl.F_ADD_SEALS,
            fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL,
        )
        path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        self.shared = SharedTicks(path, feed.symbols, total, ends)

    def _fill(self, feed: Feed, total: int) -> list[int]:
        # Sealing needs that no writable mapping is left, so the arrays end with this function.
        with mmap.mmap(self._descriptor, 0) as memory:
            ticks, sentiment = _arrays(memory, total)
            reader, ends = FeedReader(feed, total), []
            for batch in reader.batches():
                first, end = reader.next_seq - len(batch), reader.next_seq
                reader.join(batch, sentiment[first:end])
                ticks[first:end] = batch
                ends.append(end)
                self._take_days(batch["event_ns"])
            del ticks, sentiment
        return ends

    def _take_days(self, event_ns: npt.NDArray[np.int64]) -> None:
        if not self.days:
            self.days.append(int(event_ns[0]) // DAY_NS)
        starts = day_starts(event_ns, self.days[-1])
        self.days += (event_ns[starts] // DAY_NS).tolist()

    def __exit__(self, *_error: object) -> None:
        os.close(self._descriptor)


class SharedReader:
    """Reads the copy, as :class:`FeedReader` reads a feed."""

    def __init__(self, shared: SharedTicks) -> None:
        descriptor = os.open(shared.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            memory = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
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
            yield batch
            first = end

    def join(self, ticks: npt.NDArray[np.void], out: npt.NDArray[np.int16]) -> None:
        """Write each tick's sentiment to ``out``."""
        first = int(ticks["seq"][0])
        out[:] = self._sentiment[first : first + len(ticks)]


def _arrays(memory: mmap.mmap, total: int) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int16]]:
    ticks = np.frombuffer(memory, TICK_DTYPE, total)
    sentiment = np.frombuffer(memory, np.int16, total, total * TICK_DTYPE.itemsize)
    return ticks, sentiment
