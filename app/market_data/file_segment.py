"""The data file as a segment of the feed."""

from typing import Final

import numpy as np

from app.market_data.feed_segment import Block, Sentiments
from app.market_data.ragged import Ints
from app.market_data.sentiment import SentimentTrack
from app.market_data.tick_table import Rows

_SEARCH_TICKS: Final = 1 << 16


class FileSegment:
    """The data file: one block, no copies."""

    def __init__(self, rows: Rows, track: SentimentTrack) -> None:
        self.rows, self.track = rows, track
        self.ticks = len(rows)
        self._block = Block.of(0, memoryview(rows.frames), rows.offsets, rows.event_ns)

    def block_first(self, index: int) -> int:
        """Always 0."""
        return 0

    def block(self, first: int) -> Block:
        """The whole file."""
        return self._block

    def last_ticks(self, before: int) -> Ints:
        """For each symbol its last tick before tick ``before``, or -1."""
        found = np.full(len(self.rows.symbols), -1, np.int64)
        end = before
        while end > 0 and (found < 0).any():
            first = max(0, end - _SEARCH_TICKS)
            here = np.full(len(found), -1, np.int64)
            # NumPy keeps the last assignment to a repeated index: the latest tick.
            here[self.rows.symbol_index[first:end]] = np.arange(first, end)
            found = np.where(found < 0, here, found)
            end = first
        return found

    def sentiments(self, first: int, end: int) -> Sentiments:
        """The sentiments due with the ticks ``first`` to ``end - 1``."""
        which = self.track.between(first, end)
        offsets = self.track.offsets[which.start : which.stop + 1]
        frames = self.track.frames[offsets[0] : offsets[-1]]
        return Sentiments(
            frames,
            offsets - offsets[0],
            self.track.symbol_index[which],
            self.track.due_seq[which],
            self.track.needs_mark[which],
        )

    def sentiment_count(self, before: int) -> int:
        """How many sentiments are due before tick ``before``."""
        return int(self.track.between(0, before).stop)

    def sentiment_search_start(self, before: int) -> int:
        """Always 0: the search may need the whole file."""
        return 0
