"""Sentiment of the file segment: from a column, from a file of its own, or seeded.

Each of them becomes one track in order of event time.  A sentiment is *due* with the first tick
that may see it: from a column, or seeded, the tick of its own row, so that no earlier row of the
same time sees it; from a file of its own, the first tick whose event time is not before its own.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.market_data.frame_encoder import TEXT_BYTES_MAX, Fields, concatenate
from app.market_data.generated.counter_rng import CounterRng
from app.market_data.ragged import Bytes, Ints, Mask, pick_rows
from app.market_data.storage.columns import Table
from app.market_data.storage.pieces import Work, pieces, silent
from app.market_data.storage.place import IN_MEMORY, Storage
from app.market_data.tick_table import SENTIMENT_MAX, Rows
from app.model.wire.frames import DELIMITER

VALUE_TEXTS: Final = Fields.from_texts([b"%d" % value for value in range(SENTIMENT_MAX + 1)])


@dataclass(slots=True)
class SentimentTrack:
    """Sentiments in order of event time; those of the same time in stream order.

    Sentiment ``i`` is the frame ``frames[offsets[i]:offsets[i + 1]]``; the other arrays have the
    shape ``(sentiments,)``; ``due_seq`` ascends.  ``needs_mark``: an earlier tick of its symbol has
    its time, but must not see it.  All of it may be in mapped files.
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


def seeded_track(
    ticks: Rows, seed: int, every_ticks: int, storage: Storage = IN_MEMORY, work: Work = silent
) -> SentimentTrack:
    """One sentiment with every ``every_ticks``-th tick, with its symbol and time.

    ``work`` is called with the ticks done, and with all of them.
    """

    def pick(first: int, end: int) -> tuple[Ints, Ints]:
        rows = np.arange(-(-first // every_ticks) * every_ticks, end, every_ticks, dtype=np.int64)
        return rows, seeded_values(seed, rows // every_ticks)

    return _track_at(ticks, pick, storage, work)


def column_track(ticks: Rows, storage: Storage = IN_MEMORY, work: Work = silent) -> SentimentTrack:
    """The sentiment column of the price file, where it has a value; ``work`` as above."""
    values = ticks.values
    assert values is not None

    def pick(first: int, end: int) -> tuple[Ints, Ints]:
        rows = np.flatnonzero(values[first:end] >= 0) + first
        return rows, values[rows].astype(np.int64)

    return _track_at(ticks, pick, storage, work)


def file_track(ticks: Rows, sentiments: Rows, storage: Storage = IN_MEMORY) -> SentimentTrack:
    """A sentiment file; symbols without a price, and times after the last tick, are left out."""
    index = {symbol: i for i, symbol in enumerate(ticks.symbols)}
    mapped = np.array([index.get(symbol, -1) for symbol in sentiments.symbols], np.int64)
    track = _TrackWriter(storage)
    for first, end in pieces(len(sentiments)):
        times = sentiments.event_ns[first:end]
        symbol_index = mapped[sentiments.symbol_index[first:end]]
        rows = np.flatnonzero((symbol_index >= 0) & (times <= ticks.event_ns[-1]))
        frames, offsets = pick_rows(sentiments.frames, sentiments.offsets, rows + first)
        edges = itertools.pairwise(offsets.tolist())
        values = [int(frames[a:b].tobytes().split(DELIMITER)[2]) for a, b in edges]
        track.add(
            frames,
            offsets,
            times[rows],
            symbol_index[rows],
            np.array(values, np.int64),
            np.searchsorted(ticks.event_ns, times[rows]),
            # Due with the first tick of its time: every earlier tick has an earlier time.
            np.zeros(len(rows), np.bool_),
        )
    return track.finish()


class _TrackWriter:
    """Collects the columns of a track."""

    def __init__(self, storage: Storage) -> None:
        table = Table(storage)
        kinds = (np.uint8, np.int64, np.int64, np.int64, np.int64, np.int64, np.bool_)
        self._columns = [table.column(kind) for kind in kinds]
        self._columns[1].append(np.zeros(1, np.int64))

    def add(self, frames: Bytes, offsets: Ints, *columns: Ints | Mask) -> None:
        """Further sentiments, in the order of :class:`SentimentTrack`."""
        self._columns[1].append(offsets[1:] + self._columns[0].size_bytes)
        self._columns[0].append(frames)
        for column, values in zip(self._columns[2:], columns, strict=True):
            column.append(values)

    def finish(self) -> SentimentTrack:
        return SentimentTrack(*(column.array() for column in self._columns))


def _track_at(
    ticks: Rows, pick: Callable[[int, int], tuple[Ints, Ints]], storage: Storage, work: Work
) -> SentimentTrack:
    """Sentiments with time, timestamp text and symbol of some ticks, due with them.

    ``pick``: which of the ticks ``first`` to ``end - 1``, and the values.
    """
    symbols = Fields.from_texts([symbol.encode() for symbol in ticks.symbols])
    track = _TrackWriter(storage)
    repeating = repeats_time(ticks)
    for first, end in pieces(len(ticks)):
        repeats = next(repeating)
        work(end, len(ticks))
        rows, values = pick(first, end)
        if not len(rows):
            continue
        symbol_index = ticks.symbol_index[rows].astype(np.int64)
        texts = [time_texts(ticks, rows), symbols.take(symbol_index), VALUE_TEXTS.take(values)]
        columns = (ticks.event_ns[rows], symbol_index, values, rows, repeats[rows - first])
        track.add(*concatenate(texts), *columns)
    return track.finish()


def repeats_time(ticks: Rows) -> Iterator[Mask]:
    """For each tick, whether an earlier tick of its symbol has the same event time; in pieces."""
    last_ns = np.full(len(ticks.symbols), np.iinfo(np.int64).min)
    for first, end in pieces(len(ticks)):
        symbols, times = ticks.symbol_index[first:end], ticks.event_ns[first:end]
        repeats = np.zeros(end - first, np.bool_)
        before = max(first - 1, 0)
        if (ticks.event_ns[before + 1 : end] > ticks.event_ns[before : end - 1]).all():
            # All times differ: of this piece, a later tick may only have the last one.
            last_ns[symbols[-1]] = times[-1]
            yield repeats
            continue
        by_symbol = np.argsort(symbols, kind="stable")
        symbols, times = symbols[by_symbol], times[by_symbol]
        before_ns = last_ns[symbols]
        follows = np.flatnonzero(symbols[1:] == symbols[:-1]) + 1
        before_ns[follows] = times[follows - 1]
        repeats[by_symbol] = before_ns == times
        # NumPy keeps the last assignment to a repeated index: the latest tick.
        last_ns[symbols] = times
        yield repeats


def time_texts(ticks: Rows, rows: Ints) -> Fields:
    """The timestamp texts in the frames of some ticks."""
    data = np.frombuffer(ticks.frames, np.uint8)
    starts = ticks.offsets[rows]
    lengths = np.zeros(len(rows), np.int64)
    # From the longest text down: the first delimiter overwrites later ones.
    for width in range(TEXT_BYTES_MAX + 1, 18, -1):
        lengths[data[np.minimum(starts + width, len(data) - 1)] == DELIMITER[0]] = width
    return Fields(data, starts, lengths)
