"""A recording as a segment of the feed; it grows while the gateway sends it."""

from typing import Final

import numpy as np

from app.market_data.feed_segment import Block, Sentiments
from app.market_data.frame_encoder import Fields, concatenate, times_of
from app.market_data.live.last_ticks import LastTicks, note
from app.market_data.live.records import Records
from app.market_data.live.tick_log import TickLog
from app.market_data.ragged import Ints
from app.market_data.sentiment import VALUE_TEXTS, seeded_values
from app.market_data.sources.columnar.frames import Names, price_frames
from app.model.symbols import MAX_SYMBOL_BYTES

TICKS_MAX: Final = 1 << 40
"""How many ticks a live feed may have: centuries."""
BLOCK_TICKS: Final = 2048
FRAME_BYTES_MAX: Final = 29 + 1 + MAX_SYMBOL_BYTES + 1 + 20 + 1
_NOT_YET: Final = np.iinfo(np.int64).max
_SCAN_TICKS: Final = 1 << 16


class LiveSegment:
    """The ticks of a recording, and one seeded sentiment with every ``every``-th of them.

    The last block grows in place: whoever holds it sees the new ticks.
    """

    def __init__(self, log: TickLog, seed: int, every: int) -> None:
        self.log, self._seed, self._every = log, seed, every
        self.ticks = TICKS_MAX
        self.count = 0
        self._names = Names(log.symbols)
        self._symbols = Fields.from_texts([symbol.encode() for symbol in log.symbols])
        self._last = LastTicks(len(log.symbols))
        self._last_sentiments = LastTicks(len(log.symbols), every)
        self.last_ids = np.full(len(log.symbols), -1, np.int64)
        # Only the last block is needed encoded; the others are when they are asked for.
        last = log.count - log.count % BLOCK_TICKS
        for first in range(0, last, _SCAN_TICKS):
            self._note(log.ticks(first, min(first + _SCAN_TICKS, last)))
        self.count, self._tail = last, _empty_block(last)
        self.grow(log.ticks(last, log.count))

    def grow(self, ticks: Records) -> None:
        """The next ticks; they are in the recording."""
        self._note(ticks)
        done = 0
        while done < len(ticks):
            end = min(len(ticks), done + BLOCK_TICKS - self.count % BLOCK_TICKS)
            self._add_to_tail(ticks[done:end])
            done = end

    def _note(self, ticks: Records) -> None:
        self._last.add(ticks)
        self._last_sentiments.add(ticks)
        numbered = ticks[ticks["trade_id"] >= 0]
        self.last_ids[numbered["symbol"]] = numbered["trade_id"]

    def _add_to_tail(self, ticks: Records) -> None:
        if self.count == self._tail.first + BLOCK_TICKS:
            self._tail = _empty_block(self.count)
        block, at = self._tail, self.count - self._tail.first
        data, lengths = self._encode(ticks)
        start = block.offsets[at]
        block.data[start : start + len(data)] = data.data
        ends = start + np.cumsum(lengths, dtype=np.int64)
        block.event_ns[at : at + len(ticks)] = ticks["event_ns"]
        block.offset_array[at + 1 : at + 1 + len(ticks)] = ends
        self.count += len(ticks)
        block.end = self.count

    def _encode(self, ticks: Records) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint8]], Ints]:
        columns = [np.ascontiguousarray(ticks[name]) for name in ("event_ns", "symbol", "price")]
        data, lengths = price_frames(columns[0], columns[1], columns[2], self._names)
        return data, lengths.astype(np.int64)

    def block_first(self, index: int) -> int:
        """Blocks have :data:`BLOCK_TICKS`, the last one perhaps fewer."""
        return index - index % BLOCK_TICKS

    def block(self, first: int) -> Block:
        """The block that begins with tick ``first``; the last one is still growing."""
        if first == self._tail.first:
            return self._tail
        if first >= self.count:
            assert first == self.count, "only the next tick begins a block"
            self._tail = _empty_block(first)
            return self._tail
        ticks = self.log.ticks(first, first + BLOCK_TICKS)
        data, lengths = self._encode(ticks)
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
        return Block.of(first, data, offsets, np.ascontiguousarray(ticks["event_ns"]))

    def frames_at(self, seqs: list[int]) -> bytes:
        """The frames of single ticks, in that order."""
        if not seqs:
            return b""
        data, _ = self._encode(np.concatenate([self.log.ticks(seq, seq + 1) for seq in seqs]))
        return data.tobytes()

    def last_ticks(self, before: int) -> Ints:
        """For each symbol its last tick before tick ``before``, or -1."""
        return self._found(self._last, before, 1)

    def _found(self, notes: LastTicks, before: int, every: int) -> Ints:
        last, known = notes.before(min(before, self.count))
        if known < before:
            ticks = self.log.ticks(known, min(before, self.count))
            note(last, ticks["symbol"], known, every)
        return last

    def sentiments(self, first: int, end: int) -> Sentiments:
        """One sentiment with every ``every``-th tick, with its symbol and time."""
        end = min(end, self.count)
        skip = -first % self._every
        if first + skip >= end:
            return self._sentiments_at(np.empty(0, np.int64), np.empty(0, np.int64), self._none)
        ticks = self.log.ticks(first, end)[skip :: self._every]
        index = np.arange(first + skip, end, self._every)
        return self._sentiments_at(index, ticks["symbol"], ticks["event_ns"])

    @property
    def _none(self) -> Ints:
        return np.empty(0, np.int64)

    def _sentiments_at(self, index: Ints, symbol: Ints, event_ns: Ints) -> Sentiments:
        values = VALUE_TEXTS.take(seeded_values(self._seed, index // self._every))
        times = times_of(np.ascontiguousarray(event_ns))
        data, offsets = concatenate([times, self._symbols.take(symbol), values])
        # Trades may share a time; a mark with each sentiment is right for all.
        return Sentiments(data, offsets, symbol, index, np.ones(len(index), np.bool_))

    def sentiment_count(self, before: int) -> int:
        """How many sentiments are due before tick ``before``."""
        return -(-min(before, self.count) // self._every)

    def sentiment_search_start(self, before: int) -> int:
        """Always 0: the search may need the whole recording."""
        return 0

    def latest_sentiments(self, before: int) -> bytes:
        """The latest sentiment of each symbol before tick ``before``, in stream order."""
        last = np.sort(self._found(self._last_sentiments, before, self._every))
        return b"".join(
            self.sentiments(seq, seq + 1).data.tobytes() for seq in last[last >= 0].tolist()
        )


def _empty_block(first: int) -> Block:
    offsets = np.full(BLOCK_TICKS + 1, _NOT_YET, np.int64)
    offsets[0] = 0
    data = memoryview(bytearray(BLOCK_TICKS * FRAME_BYTES_MAX))
    block = Block.of(first, data, offsets, np.zeros(BLOCK_TICKS, np.int64))
    block.end = first
    return block
