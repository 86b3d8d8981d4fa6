"""A recording of the bus as a segment of the feed; it grows while the gateway sends it."""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np

from app.market_data.feed_segment import Block
from app.market_data.feed_segment import Sentiments as DueSentiments
from app.market_data.live.bus.batch import (
    FRAME_BYTES_MAX,
    BatchError,
    BatchReader,
    Message,
    Sentiments,
    Ticks,
    frame_ends,
)
from app.market_data.live.bus.batch_log import BatchLog
from app.market_data.live.last_ticks import CHUNK_TICKS, LastTicks, note
from app.market_data.live.segment import BLOCK_TICKS, TICKS_MAX
from app.market_data.ragged import Bytes, Ints
from app.model.tick import TICK_DTYPE

_NOT_YET: Final = np.iinfo(np.int64).max


class _Note(NamedTuple):
    """The sentiments due before tick ``seq``: how many in total, and the latest of each symbol."""

    seq: int
    total: int
    latest: dict[int, bytes]


class Checked(NamedTuple):
    """The ticks and sentiments of a batch."""

    ticks: Ticks
    sentiments: Sentiments


class BatchSegment:
    """The ticks and sentiments of a recording, byte by byte as they were published.

    The last block grows in place: whoever holds it sees the new ticks.
    """

    def __init__(self, log: BatchLog) -> None:
        self._log, self._reader = log, BatchReader(log.symbols)
        self.ticks = TICKS_MAX
        self.count = 0
        self._last = LastTicks(len(log.symbols))
        self._sentiments = _Note(0, 0, {})
        self._notes = [_Note(0, 0, {})]
        self._tail = _empty_block(0)

    def check(self, message: Message, last_ns: int) -> Checked:
        """What is in the next batch; ``last_ns``: the time of the tick before it.

        Raises:
            BatchError: its frames are malformed.
        """
        ticks, sentiments = self._reader.ticks(message), self._reader.sentiments(message)
        if int(ticks["event_ns"][0]) < last_ns:
            raise BatchError(f"the time of tick {message.seq_first} goes back")
        return Checked(ticks, sentiments)

    def grow_by(self, message: Message, checked: Checked) -> None:
        """The next batch."""
        ticks, sentiments = checked
        self._last.add(ticks)
        if message.seq_first >= self._notes[-1].seq + CHUNK_TICKS:
            now = self._sentiments
            self._notes.append(_Note(message.seq_first, now.total, dict(now.latest)))
        latest = self._sentiments.latest
        _take(latest, sentiments.ticks["symbol"], sentiments.frames, _ends(sentiments.frames))
        count = self._sentiments.total + len(sentiments.ticks)
        self._sentiments = _Note(message.seq_end, count, latest)
        frames = np.frombuffer(message.body, np.uint8)[: message.price_bytes]
        ends = _ends(frames.data)
        done = 0
        while done < message.ticks:
            end = min(message.ticks, done + BLOCK_TICKS - self.count % BLOCK_TICKS)
            self._add_to_tail(frames, ends[done : end + 1], ticks["event_ns"][done:end])
            done = end

    def _add_to_tail(self, frames: Bytes, ends: Ints, event_ns: Ints) -> None:
        if self.count == self._tail.first + BLOCK_TICKS:
            self._tail = _empty_block(self.count)
        block, at, count = self._tail, self.count - self._tail.first, len(event_ns)
        start = block.offsets[at]
        data = frames[ends[0] : ends[-1]]
        block.data[start : start + len(data)] = data.data
        block.event_ns[at : at + count] = event_ns
        block.offset_array[at + 1 : at + 1 + count] = start + ends[1:] - ends[0]
        self.count += count
        block.end = self.count

    def block_first(self, index: int) -> int:
        """Blocks have the same number of ticks, the last one perhaps fewer."""
        return index - index % BLOCK_TICKS

    def block(self, first: int) -> Block:
        """The block that begins with tick ``first``; the last one is still growing."""
        if first == self._tail.first:
            return self._tail
        if first >= self.count:
            assert first == self.count, "only the next tick begins a block"
            self._tail = _empty_block(first)
            return self._tail
        pieces, lengths, times = [], [], []
        end = first + BLOCK_TICKS
        for message in self._log.batches(first, end):
            low, high = (
                max(first - message.seq_first, 0),
                min(end - message.seq_first, message.ticks),
            )
            ends = _ends(message.body[: message.price_bytes])
            pieces.append(message.body[ends[low] : ends[high]])
            lengths.append(np.diff(ends[low : high + 1]))
            times.append(self._reader.ticks(message)["event_ns"][low:high])
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths))))
        return Block.of(first, memoryview(b"".join(pieces)), offsets, np.concatenate(times))

    def last_ticks(self, before: int) -> Ints:
        """For each symbol its last tick before tick ``before``, or -1."""
        before = min(before, self.count)
        last, known = self._last.before(before)
        for message in self._log.batches(known, before) if known < before else ():
            ticks = self._reader.ticks(message)
            low, high = max(known - message.seq_first, 0), before - message.seq_first
            note(last, ticks["symbol"][low:high], message.seq_first + low, 1)
        return last

    def sentiments(self, first: int, end: int) -> DueSentiments:
        """The sentiments due with the ticks ``first`` to ``end - 1``."""
        end = min(end, self.count)
        frames, ticks = [b""], [np.empty(0, TICK_DTYPE)]
        for message in self._log.batches(first, end) if first < end else ():
            found = self._reader.sentiments(message)
            low, high = np.searchsorted(found.ticks["seq"], (first, end))
            ends = _ends(found.frames)
            frames.append(found.frames[ends[low] : ends[high]])
            ticks.append(found.ticks[low:high])
        data, rows = np.frombuffer(b"".join(frames), np.uint8), np.concatenate(ticks)
        symbol, due = rows["symbol"].astype(np.int64), rows["seq"].astype(np.int64)
        # Ticks may share a time; a mark with each sentiment is right for all.
        return DueSentiments(data, _ends(data.data), symbol, due, np.ones(len(rows), np.bool_))

    def _note_before(self, before: int) -> _Note:
        """What is noted of the sentiments, as of tick ``before`` or earlier."""
        if before >= self.count:
            return self._sentiments
        return self._notes[bisect_right(self._notes, before, key=lambda each: each.seq) - 1]

    def sentiment_count(self, before: int) -> int:
        """How many sentiments are due before tick ``before``."""
        known = self._note_before(before)
        return known.total + len(self.sentiments(known.seq, before))

    def sentiment_search_start(self, before: int) -> int:
        """Always 0: the search may need the whole recording."""
        return 0

    def latest_sentiments(self, before: int) -> bytes:
        """The latest sentiment of each symbol before tick ``before``, in stream order."""
        known = self._note_before(before)
        after, latest = self.sentiments(known.seq, before), dict(known.latest)
        _take(latest, after.symbol_index, after.data.tobytes(), after.offsets)
        return b"".join(latest.values())


def _take(latest: dict[int, bytes], symbols: Iterable[int], frames: bytes, ends: Ints) -> None:
    """Bring the latest frame of each symbol up to date; the newest are last."""
    bounds = ends.tolist()
    for number, symbol in enumerate(np.asarray(symbols).tolist()):
        latest.pop(symbol, None)
        latest[symbol] = frames[bounds[number] : bounds[number + 1]]


def _ends(frames: bytes | memoryview) -> Ints:
    """The offsets of the frames; one more than there are frames."""
    return np.concatenate((np.zeros(1, np.int64), frame_ends(frames)))


def _empty_block(first: int) -> Block:
    offsets = np.full(BLOCK_TICKS + 1, _NOT_YET, np.int64)
    offsets[0] = 0
    data = memoryview(bytearray(BLOCK_TICKS * FRAME_BYTES_MAX))
    block = Block.of(first, data, offsets, np.zeros(BLOCK_TICKS, np.int64))
    block.end = first
    return block
