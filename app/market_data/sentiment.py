"""Sentiment of the file segment: from a column, from a file of its own, or seeded.

Each of them becomes one track in order of event time.  A sentiment is *due* with the first tick
that may see it: from a column, or seeded, the tick of its own row, so that no earlier row of the
same time sees it; from a file of its own, the first tick whose event time is not before its own.
"""

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.market_data.counter_rng import CounterRng
from app.market_data.frame_encoder import TEXT_BYTES_MAX, Fields, concatenate
from app.market_data.ragged import Bytes, Ints, Mask, pick_rows
from app.market_data.tick_table import SENTIMENT_MAX, Rows
from app.model.wire.frames import DELIMITER

VALUE_TEXTS: Final = Fields.from_texts([b"%d" % value for value in range(SENTIMENT_MAX + 1)])
_CHUNK_ROWS: Final = 1 << 16


@dataclass(slots=True)
class SentimentTrack:
    """Sentiments in order of event time; those of the same time in stream order.

    Sentiment ``i`` is the frame ``frames[offsets[i]:offsets[i + 1]]``; the other arrays have the
    shape ``(sentiments,)``; ``due_seq`` ascends.  ``needs_mark``: an earlier tick of its symbol has
    its time, but must not see it.
    """

    frames: Bytes
    offsets: Ints
    event_ns: Ints
    symbol_index: Ints
    values: Ints
    due_seq: Ints
    needs_mark: Mask

    def __len__(self) -> int:
        return len(self.event_ns)

    def between(self, first: int, end: int) -> slice:
        """The sentiments that are due with the ticks ``first`` to ``end - 1``."""
        low, high = np.searchsorted(self.due_seq, [first, end])
        return slice(int(low), int(high))


def seeded_values(seed: int, indices: Ints) -> Ints:
    """The seeded sentiments with the given indices, 0 to 100."""
    return CounterRng(seed, "sentiment").below(SENTIMENT_MAX + 1, indices)


def seeded_track(ticks: Rows, seed: int, every_ticks: int) -> SentimentTrack:
    """One sentiment with every ``every_ticks``-th tick, with its symbol and time."""
    rows = np.arange(0, len(ticks), every_ticks, dtype=np.int64)
    return _track_at(ticks, rows, seeded_values(seed, np.arange(len(rows))))


def column_track(ticks: Rows) -> SentimentTrack:
    """The sentiment column of the price file, where it has a value."""
    assert ticks.values is not None
    rows = np.flatnonzero(ticks.values >= 0)
    return _track_at(ticks, rows, ticks.values[rows].astype(np.int64))


def file_track(ticks: Rows, sentiments: Rows) -> SentimentTrack:
    """A sentiment file; symbols without a price, and times after the last tick, are left out."""
    index = {symbol: i for i, symbol in enumerate(ticks.symbols)}
    mapped = np.array([index.get(symbol, -1) for symbol in sentiments.symbols], np.int64)
    symbol_index = mapped[sentiments.symbol_index]
    keep = (symbol_index >= 0) & (sentiments.event_ns <= ticks.event_ns[-1])
    rows = np.flatnonzero(keep)
    frames, offsets = pick_rows(sentiments.frames, sentiments.offsets, rows)
    event_ns = sentiments.event_ns[rows]
    edges = itertools.pairwise(offsets.tolist())
    values = [int(frames[a:b].tobytes().split(DELIMITER)[2]) for a, b in edges]
    return SentimentTrack(
        frames,
        offsets,
        event_ns,
        symbol_index[rows],
        np.array(values, np.int64),
        np.searchsorted(ticks.event_ns, event_ns),
        # Due with the first tick of its time: every earlier tick has an earlier time.
        np.zeros(len(rows), np.bool_),
    )


def _track_at(ticks: Rows, rows: Ints, values: Ints) -> SentimentTrack:
    """Sentiments with time, timestamp text and symbol of the ticks ``rows``, due with them."""
    symbols = Fields.from_texts([symbol.encode() for symbol in ticks.symbols])
    chunks, offsets = [np.empty(0, np.uint8)], [np.zeros(1, np.int64)]
    for first in range(0, len(rows), _CHUNK_ROWS):
        chunk = rows[first : first + _CHUNK_ROWS]
        texts = [
            time_texts(ticks, chunk),
            symbols.take(ticks.symbol_index[chunk]),
            VALUE_TEXTS.take(values[first : first + _CHUNK_ROWS]),
        ]
        frames, ends = concatenate(texts)
        chunks.append(frames)
        offsets.append(ends[1:] + offsets[-1][-1])
    return SentimentTrack(
        np.concatenate(chunks),
        np.concatenate(offsets),
        ticks.event_ns[rows],
        ticks.symbol_index[rows].astype(np.int64),
        values,
        rows,
        repeats_time(ticks)[rows],
    )


def repeats_time(ticks: Rows) -> Mask:
    """For each tick, whether an earlier tick of its symbol has the same event time."""
    repeats = np.zeros(len(ticks), np.bool_)
    if (ticks.event_ns[1:] != ticks.event_ns[:-1]).all():
        return repeats
    last_ns = np.full(len(ticks.symbols), np.iinfo(np.int64).min)
    for first in range(0, len(ticks), _CHUNK_ROWS):
        symbols = ticks.symbol_index[first : first + _CHUNK_ROWS]
        by_symbol = np.argsort(symbols, kind="stable")
        symbols = symbols[by_symbol]
        event_ns = ticks.event_ns[first : first + _CHUNK_ROWS][by_symbol]
        before_ns = last_ns[symbols]
        follows = np.flatnonzero(symbols[1:] == symbols[:-1]) + 1
        before_ns[follows] = event_ns[follows - 1]
        repeats[first + by_symbol] = before_ns == event_ns
        # NumPy keeps the last assignment to a repeated index: the latest tick.
        last_ns[symbols] = event_ns
    return repeats


def time_texts(ticks: Rows, rows: Ints) -> Fields:
    """The timestamp texts in the frames of some ticks."""
    data = np.frombuffer(ticks.frames, np.uint8)
    starts = ticks.offsets[rows]
    lengths = np.zeros(len(rows), np.int64)
    # From the longest text down: the first delimiter overwrites later ones.
    for width in range(TEXT_BYTES_MAX + 1, 18, -1):
        lengths[data[np.minimum(starts + width, len(data) - 1)] == DELIMITER[0]] = width
    return Fields(data, starts, lengths)
