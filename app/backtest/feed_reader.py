"""Reads a feed without sockets: parses the bytes that the gateway would send."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from app.kernel import _kernel
from app.market_data.feed import Feed
from app.market_data.storage.resident import RESIDENT
from app.model.tick import TICK_DTYPE
from app.strategy.engine import MAX_BATCH_TICKS


class FeedReader:
    """The ticks ``0`` to ``total - 1`` of ``feed`` and their sentiment."""

    def __init__(self, feed: Feed, total: int) -> None:
        self.total = total
        self.next_seq = 0
        self._feed = feed
        self._parser = _kernel.FieldParser(feed.symbols)
        self._buffer = bytearray()
        self._view = memoryview(self._buffer)
        self._ticks = np.zeros(MAX_BATCH_TICKS, TICK_DTYPE)
        self._events = np.zeros(MAX_BATCH_TICKS, TICK_DTYPE)
        self._latest = np.full(len(feed.symbols), -1, np.int16)

    def batches(self) -> Iterator[npt.NDArray[np.void]]:
        """Batches of at most MAX_BATCH_TICKS, each valid until the next is read.

        After ``total`` has grown, it continues with the tick after the last.
        """
        while self.next_seq < self.total:
            seq = self.next_seq
            block = self._feed.block_at(seq)
            end = min(seq + MAX_BATCH_TICKS, block.end, self.total)
            frames = block.data[block.offsets[seq - block.first] : block.offsets[end - block.first]]
            self._fill_buffer(frames)
            count, position, _ = _kernel.parse_ticks(
                self._parser, self._buffer, 0, len(frames), self._ticks[: end - seq], seq
            )
            assert (count, position) == (end - seq, len(frames)), "the loader has checked it"
            self.next_seq = end
            RESIDENT.passed(len(frames))
            yield self._ticks[: end - seq]

    def join(self, ticks: npt.NDArray[np.void], out: npt.NDArray[np.int16]) -> None:
        """Write each tick's sentiment to ``out``; call it once per batch, in order."""
        first = int(ticks["seq"][0])
        end = first + len(ticks)
        frames, due_seqs = self._feed.sentiments_due(first, end)
        count = len(due_seqs)
        if count > len(self._events):
            self._events = np.zeros(count * 2, TICK_DTYPE)
        events = self._events[:count]
        self._fill_buffer(frames)
        parsed, position, *_ = _kernel.parse_sentiments(
            self._parser, self._buffer, 0, len(frames), events, 0
        )
        assert (parsed, position) == (count, len(frames)), "the loader has checked every frame"
        events["seq"] = due_seqs
        _kernel.join_sentiment(ticks, events, 0, self._latest, out)

    def _fill_buffer(self, frames: bytes | memoryview) -> None:
        size = len(frames)
        if size + _kernel.PARSE_SLACK_BYTES > len(self._buffer):
            self._buffer = bytearray(size + size // 4 + _kernel.PARSE_SLACK_BYTES)
            self._view = memoryview(self._buffer)
        self._view[:size] = frames  # a slice of the bytearray would copy them twice
