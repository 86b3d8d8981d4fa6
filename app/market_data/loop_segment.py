"""Repetitions of the file, with event times that continue."""

from typing import Final

import numpy as np

from app.market_data.feed_segment import Block, Sentiments
from app.market_data.file_segment import FileSegment
from app.market_data.frame_encoder import Fields, concatenate, times_of
from app.market_data.ragged import Ints
from app.market_data.sentiment import VALUE_TEXTS, SentimentTrack, seeded_values, time_texts
from app.market_data.tick_table import Rows
from app.model.timestamps import MAX_EVENT_NS

LOOP_BLOCK_TICKS: Final = 2048


class LoopSegment:
    """The file repeated, each round later by the file's time span plus one step.

    Sentiments of a column or a file repeat with their ticks; those from before the first tick, with
    the first tick.  Seeded ones keep their ticks and get new values.
    """

    def __init__(self, rows: Rows, track: SentimentTrack, step_ns: int, seed: int | None) -> None:
        self._rows, self._track, self._seed = rows, track, seed
        self._round_ticks = len(rows)
        first_ns, last_ns = int(rows.event_ns[0]), int(rows.event_ns[-1])
        self._shift_ns = last_ns - first_ns + step_ns
        self.ticks = (MAX_EVENT_NS - last_ns) // self._shift_ns * self._round_ticks
        self._symbols = Fields.from_texts([symbol.encode() for symbol in rows.symbols])
        self._data = np.frombuffer(rows.frames, np.uint8)
        self._last_ticks = FileSegment(rows, track).last_ticks

    def block_first(self, index: int) -> int:
        """Each round starts a new block."""
        return index - index % self._round_ticks % LOOP_BLOCK_TICKS

    def block(self, first: int) -> Block:
        """Encode the block: new timestamps, the rest of each frame as in the file."""
        round_no, at = divmod(first, self._round_ticks)
        end = min(at + LOOP_BLOCK_TICKS, self._round_ticks)
        rows = np.arange(at, end)
        event_ns = self._rows.event_ns[at:end] + (round_no + 1) * self._shift_ns
        starts = self._rows.offsets[at:end] + time_texts(self._rows, rows).lengths + 1
        rest = Fields(self._data, starts, self._rows.offsets[at + 1 : end + 1] - 1 - starts)
        data, offsets = concatenate([times_of(event_ns), rest])
        return Block.of(first, data, offsets, event_ns)

    def last_ticks(self, before: int) -> Ints:
        """For each symbol its last tick before tick ``before``, or -1."""
        round_no, at = divmod(before, self._round_ticks)
        here = self._last_ticks(at)
        last = np.where(here >= 0, here + round_no * self._round_ticks, -1)
        if round_no and (last < 0).any():
            earlier = self._last_ticks(self._round_ticks) + (round_no - 1) * self._round_ticks
            last = np.where(last < 0, earlier, last)
        return last

    def sentiments(self, first: int, end: int) -> Sentiments:
        """The sentiments due with the ticks ``first`` to ``end - 1``."""
        numbers, times = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        track, size = self._track, self._round_ticks
        for round_no in range(first // size, -(-end // size)):
            base = round_no * size
            which = track.between(max(first - base, 0), min(end - base, size))
            numbers.append(np.arange(which.start, which.stop) + round_no * len(track))
            in_file = np.maximum(track.event_ns[which], self._rows.event_ns[0])
            times.append(in_file + (round_no + 1) * self._shift_ns)
        number = np.concatenate(numbers)
        at = number % max(len(track), 1)
        symbol_index = track.symbol_index[at]
        if self._seed is None:
            values = track.values[at]
        else:
            values = seeded_values(self._seed, number + len(track))
        texts = [times_of(np.concatenate(times)), self._symbols.take(symbol_index)]
        data, offsets = concatenate([*texts, VALUE_TEXTS.take(values)])
        return Sentiments(
            data,
            offsets,
            symbol_index,
            track.due_seq[at] + number // max(len(track), 1) * size,
            track.needs_mark[at],
        )

    def sentiment_count(self, before: int) -> int:
        """How many sentiments are due before tick ``before``."""
        round_no, at = divmod(before, self._round_ticks)
        return int(round_no * len(self._track) + self._track.between(0, at).stop)

    def sentiment_search_start(self, before: int) -> int:
        """One round back: each round has the same symbols."""
        return max(0, before - self._round_ticks)
