"""The ticks on their way to the workers, piece by piece."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Final

from app.backtest.sweep.shared_ticks import SENTIMENT_BYTES, SharedTicks
from app.model.tick import TICK_DTYPE

PIECE_BYTES: Final = 8 << 20
HELD: Final = 4
"""Pieces that the cluster holds: workers that load at the same time take them from one another."""


class Pieces:
    """The client sends a piece into the cluster once for all workers that are near it.

    ``client``: a :class:`distributed.Client`, asynchronous.
    """

    def __init__(self, client: Any, ticks: SharedTicks, piece_bytes: int = PIECE_BYTES) -> None:
        self._client, self._path, self._piece_bytes = client, ticks.path, piece_bytes
        self.size_bytes = ticks.total * (TICK_DTYPE.itemsize + SENTIMENT_BYTES)
        self._held: dict[int, asyncio.Task[Any]] = {}
        self._loading = 0
        self._digest: asyncio.Task[str] | None = None

    @property
    def starts(self) -> range:
        """Where each piece begins."""
        return range(0, self.size_bytes, self._piece_bytes)

    async def get(self, start: int, worker: str) -> Any:
        """The piece as a future of Dask; the first who asks gets it into this worker.

        Raises:
            OSError: the worker, or who has the piece, is gone.
        """
        task = self._held.get(start)
        if task is None:
            task = asyncio.create_task(self._send(start, worker))
            # Who waits for it may be gone by the time it fails.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._held[start] = task
            while len(self._held) > HELD:
                del self._held[next(iter(self._held))]
        # Another worker may wait for it, too.
        return await asyncio.shield(task)

    def lost(self, start: int) -> None:
        """Who held the piece is gone: it is sent again."""
        self._held.pop(start, None)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """A worker takes pieces meanwhile.  The cluster holds none when the last has all."""
        self._loading += 1
        try:
            yield
        finally:
            self._loading -= 1
            if not self._loading:
                self._held.clear()

    async def digest(self) -> str:
        """SHA-256 of all bytes."""
        if self._digest is None:
            self._digest = asyncio.create_task(asyncio.to_thread(self._hash))
        return await asyncio.shield(self._digest)

    async def _send(self, start: int, worker: str) -> Any:
        piece = self._read(start)
        return await self._client.scatter(piece, workers=[worker], hash=False, direct=False)

    def _read(self, start: int) -> bytes:
        with open(self._path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), self._piece_bytes, start)

    def _hash(self) -> str:
        digest = sha256()
        for start in self.starts:
            digest.update(self._read(start))
        return digest.hexdigest()
