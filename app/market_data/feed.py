"""The feed: every tick and sentiment of a run as a pure function of data, seed and settings.

Ticks are numbered from 0.  The file segment comes first; a loop or a random walk may follow it.
"""

import hashlib
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from app.config.settings import Settings
from app.market_data.feed_segment import Block, FeedSegment, Sentiments, latest_sentiments
from app.market_data.file_segment import FileSegment
from app.market_data.generated.random_walk import WalkSegment, WalkStart, median_step_ns
from app.market_data.loop_segment import LoopSegment
from app.market_data.ragged import Ints
from app.market_data.sentiment import SentimentTrack
from app.market_data.storage.pieces import Work, silent
from app.market_data.storage.resident import RESIDENT
from app.market_data.tick_table import Rows

CACHED_BLOCKS: Final = 64
HASHED_BYTES: Final = 1 << 22


class Feed:
    """The ticks ``0`` to ``total - 1`` of a run, as bytes.

    ``feed_id`` identifies the stream: it differs if data, seed or settings change the bytes.
    """

    def __init__(
        self,
        rows: Rows,
        track: SentimentTrack,
        seeded: bool,
        settings: Settings,
        work: Work = silent,
    ) -> None:
        """``work`` is called with what is done of naming the feed, and with all of it."""
        self.symbols = rows.symbols
        self.rows_skipped = rows.skipped
        self.file = FileSegment(rows, track)
        self._segments: list[tuple[int, FeedSegment]] = [(0, self.file)]
        after = _continuation(rows, track, seeded, settings)
        if after is not None:
            self._segments.append((len(rows), after))
        self.total = sum(segment.ticks for _, segment in self._segments)
        self.frame_bytes_mean = len(rows.frames) / len(rows)
        self._cache: OrderedDict[int, Block] = OrderedDict()
        self.feed_id = _feed_id(rows, track, settings, work)

    @property
    def available(self) -> int:
        """How many ticks there are by now: all, unless the feed is live."""
        return self.total

    @property
    def ticks_in_file(self) -> int:
        """The ticks of the data, without those that REPLAY adds."""
        return self.file.ticks

    def ticks_of_run(self, wanted: int | None) -> int:
        """How many ticks a run of the first ``wanted`` has; None: those of the data."""
        return self.ticks_in_file if wanted is None else min(wanted, self.total)

    def ticks_added(self, ticks: int) -> int:
        """Of the first ``ticks``, how many REPLAY adds."""
        return max(0, ticks - self.ticks_in_file)

    def _segment_of(self, seq: int) -> tuple[int, FeedSegment]:
        return self._segments[-1] if seq >= self._segments[-1][0] else self._segments[0]

    def block_at(self, seq: int) -> Block:
        """The block that holds tick ``seq``, ``0 <= seq < total``; recent blocks are cached."""
        base, segment = self._segment_of(seq)
        if base == 0:
            return self.file.block(0)

        def moved(first: int) -> Block:
            block = segment.block(first)
            block.first += base
            block.end += base
            return block

        return self._cached(segment.block_first(seq - base), moved)

    def _cached(self, first: int, make: Callable[[int], Block]) -> Block:
        """The block ``first``, which is made unless it is one of the last that were asked for."""
        block = self._cache.get(first)
        if block is None:
            block = self._cache[first] = make(first)
            if len(self._cache) > CACHED_BLOCKS:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(first)
        return block

    def frame(self, seq: int) -> bytes:
        """The frame of tick ``seq``."""
        return self.block_at(seq).frame(seq)

    def event_ns(self, seq: int) -> int:
        """The event time of tick ``seq``."""
        block = self.block_at(seq)
        return int(block.event_ns[seq - block.first])

    def tick_at(self, event_ns: int) -> int:
        """The first tick of that event time or later; ``available`` if there is none.

        Times never decrease within a feed.
        """
        return bisect_left(range(self.available), event_ns, key=self.event_ns)

    def snapshot(self, seq: int) -> bytes:
        """The last tick of each symbol before tick ``seq``, in stream order."""
        last = np.full(len(self.symbols), -1, np.int64)
        for base, segment in reversed(self._segments):
            if seq > base and (last < 0).any():
                found = segment.last_ticks(min(seq - base, segment.ticks))
                last = np.where((last < 0) & (found >= 0), found + base, last)
        return b"".join(self.frame(tick) for tick in np.sort(last[last >= 0]).tolist())

    def sentiments(self, first: int, end: int) -> bytes:
        """The frames of the sentiments due with the ticks ``first`` to ``end - 1``."""
        found = self._sentiments_by_segment(first, end)
        return b"".join(part.data.tobytes() for _, part in found)

    def marked_sentiments(self, first: int, end: int) -> bytes:
        """As :meth:`sentiments`, with a mark ``SEQ|k*`` wherever event time does not tell which
        tick of its symbol is the first that may see a sentiment: tick ``k``, not an earlier one.

        The caller has sent ``SEQ|first*``.
        """
        return b"".join(
            found.marked(base, first) for base, found in self._sentiments_by_segment(first, end)
        )

    def sentiments_due(self, first: int, end: int) -> tuple[bytes, Ints]:
        """As :meth:`sentiments`, and the tick with which each is due."""
        frames, due_seqs = [], [np.empty(0, np.int64)]
        for base, found in self._sentiments_by_segment(first, end):
            frames.append(found.data.tobytes())
            due_seqs.append(found.due_seq + base)
        return b"".join(frames), np.concatenate(due_seqs)

    def _sentiments_by_segment(self, first: int, end: int) -> Iterator[tuple[int, Sentiments]]:
        for base, segment in self._segments:
            low, high = max(first - base, 0), min(end - base, segment.ticks)
            if low < high:
                yield base, segment.sentiments(low, high)

    def sentiment_count(self, seq: int) -> int:
        """How many sentiments are due before tick ``seq``."""
        segments = [(base, segment) for base, segment in self._segments if seq > base]
        return sum(
            segment.sentiment_count(min(seq - base, segment.ticks)) for base, segment in segments
        )

    def sentiment_snapshot(self, seq: int) -> bytes:
        """The latest sentiment of each symbol that was due before tick ``seq``, in stream order."""
        found: dict[int, bytes] = {}
        for base, segment in reversed(self._segments):
            if seq > base:
                latest_sentiments(segment, min(seq - base, segment.ticks), len(self.symbols), found)
        return b"".join(reversed(found.values()))


def _continuation(
    rows: Rows, track: SentimentTrack, seeded: bool, settings: Settings
) -> FeedSegment | None:
    """The segment after the file, if any; ``seeded``: the track is generated, not data."""
    if settings.replay == "once":
        return None
    if settings.replay == "loop":
        step_ns = median_step_ns(rows.event_ns)
        return LoopSegment(rows, track, step_ns, settings.seed if seeded else None)
    start, every_ticks = WalkStart.of(rows, track), settings.sentiment_every_ticks
    return WalkSegment(rows.symbols, start, settings.seed, every_ticks, len(track))


def _feed_id(rows: Rows, track: SentimentTrack, settings: Settings, work: Work) -> str:
    choices = (settings.replay, settings.seed, settings.sentiment_every_ticks, rows.symbols)
    digest = hashlib.blake2b(repr(choices).encode(), digest_size=8)
    parts = [memoryview(rows.frames), track.frames.data, track.due_seq.data.cast("B")]
    total = sum(map(len, parts))
    done = 0
    for part in parts:
        for at in range(0, len(part), HASHED_BYTES):
            digest.update(part[at : at + HASHED_BYTES])
            RESIDENT.passed(HASHED_BYTES)
            done += len(part[at : at + HASHED_BYTES])
            work(done, total)
    return digest.hexdigest()
