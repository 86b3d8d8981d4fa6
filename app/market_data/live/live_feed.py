"""The feed of a live run: its recording so far, which is the run's truth.

The gateway makes it grow; a second computation of the run (compare, proof) follows the file.
"""

import hashlib
from collections import OrderedDict
from typing import Final

import numpy as np

from app.config.settings import Settings
from app.market_data.feed import Feed
from app.market_data.feed_segment import Block
from app.market_data.live.records import Records
from app.market_data.live.segment import BLOCK_TICKS, LiveSegment
from app.market_data.live.tick_log import TickLog

MEAN_FRAME_BYTES: Final = 40


class LiveFeed(Feed):
    """Ticks ``0`` to ``available - 1`` of a recording; ``total`` is more than there will be."""

    as_parquet = True
    """Whether the gateway keeps the ticks as Parquet, too."""

    def __init__(self, log: TickLog, settings: Settings, *, follows: bool = False) -> None:
        """``follows``: another process writes the recording.

        Raises:
            DataError: the recording is damaged.
        """
        self.log = log
        self.live = LiveSegment(log, settings.seed, settings.sentiment_every_ticks)
        self._follows = follows
        self.symbols = log.symbols
        self.rows_skipped = 0
        self._segments = [(0, self.live)]
        self.total = self.live.ticks
        self.frame_bytes_mean = float(MEAN_FRAME_BYTES)
        self._cache: OrderedDict[int, Block] = OrderedDict()
        choices = (log.recording_id, settings.seed, settings.sentiment_every_ticks, log.symbols)
        self.feed_id = hashlib.blake2b(repr(choices).encode(), digest_size=8).hexdigest()

    @property
    def available(self) -> int:
        """How many ticks there are by now."""
        if self._follows and (count := self.log.refresh()) > self.live.count:
            self.live.grow(self.log.ticks(self.live.count, count))
        return self.live.count

    @property
    def ticks_in_file(self) -> int:
        """Those that are recorded by now."""
        return self.available

    def grow(self, ticks: Records) -> None:
        """The next ticks; they are in the recording."""
        self.live.grow(ticks)

    def take(self, ticks: Records | None) -> bool:
        """What a session has recorded; returns whether the feed has grown."""
        if ticks is not None:
            self.grow(ticks)
        return ticks is not None

    def block_at(self, seq: int) -> Block:
        """The block that holds tick ``seq``, or that will hold it; recent blocks are cached."""
        if self._follows and seq >= self.live.count:
            _ = self.available
        first = self.live.block_first(seq)
        if first + BLOCK_TICKS > self.live.count:
            return self.live.block(first)
        return self._cached(first, self.live.block)

    # Single ticks are read alone: a block that nobody streams is not worth its place in the cache.

    def frame(self, seq: int) -> bytes:
        """The frame of tick ``seq``."""
        return self.live.frames_at([seq])

    def event_ns(self, seq: int) -> int:
        """The event time of tick ``seq``."""
        return int(self.log.ticks(seq, seq + 1)["event_ns"][0])

    def snapshot(self, seq: int) -> bytes:
        """The last tick of each symbol before tick ``seq``, in stream order."""
        last = self.live.last_ticks(seq)
        return self.live.frames_at(np.sort(last[last >= 0]).tolist())

    def sentiment_snapshot(self, seq: int) -> bytes:
        """The latest sentiment of each symbol that was due before tick ``seq``, in stream order."""
        return self.live.latest_sentiments(seq)
