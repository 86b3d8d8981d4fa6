"""Divides a feed into the streams of the shards: a pure function of feed and map history.

So a sequencer may stop anywhere: what a shard's stream has says where to go on, and the messages
after that have the same ticks and sentiments, in whatever batches.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from app.bus.shard_map import ShardMap
from app.kernel._kernel import PARSE_SLACK_BYTES, FieldParser, parse_sentiments, parse_ticks
from app.market_data.feed import Feed
from app.market_data.live.bus.batch import (
    BODY_BYTES_MAX,
    FRAME_BYTES_MAX,
    TICKS_MAX,
    Kind,
    Message,
    frame_ends,
)
from app.market_data.ragged import Bytes, Ints, Mask
from app.model.tick import TICK_DTYPE

CHUNK_TICKS: Final = 1 << 16
CACHED_CHUNKS: Final = 4
BATCH_BYTES: Final = BODY_BYTES_MAX // 2
"""Prices of a batch: the other half is for sentiments."""
assert FRAME_BYTES_MAX < BATCH_BYTES


class SplitError(Exception):
    """The feed cannot be divided; the text says why."""


class Change(NamedTuple):
    """From tick ``at`` of the feed on, ``map`` holds."""

    at: int
    map: ShardMap


class Chunk(NamedTuple):
    """The ticks ``first`` to ``end - 1`` of the feed, and the sentiments due with them."""

    first: int
    end: int
    frames: bytes
    offsets: Ints
    symbols: Ints
    sentiments: bytes
    sentiment_ends: Ints
    sentiment_symbols: Ints
    due: Ints


class Sentiment(NamedTuple):
    """One sentiment: the tick of the feed that it is due with, its symbol's number, its frame."""

    due: int
    symbol: int
    frame: bytes


class Cursor:
    """Where a shard's stream has got to.

    ``seq``: its next tick.  ``source_next``: the tick of the feed after its last one; from there
    on the feed is read again after a restart.  ``scan``: how far it was read.  ``held``: sentiments
    that wait for the shard's next tick.  ``level``: which map holds where it reads; None: not known
    yet.
    """

    def __init__(self, shard: str, seq: int, source_next: int, map_version: int) -> None:
        self.shard, self.seq, self.map_version = shard, seq, map_version
        self.source_next = self.scan = source_next
        self.held: list[Sentiment] = []
        self.level: int | None = None
        self.bound = source_next
        self.ended = False


class Splitter:
    """Makes the messages of each shard.  ``changes``: the map history of the run, oldest first."""

    def __init__(self, feed: Feed, run: str, changes: list[Change]) -> None:
        """Checks that each symbol of the data is on a shard.

        Raises:
            SplitError: one is on none.
        """
        self._feed, self._run = feed, run
        self.symbols = changes[0].map.symbols
        number = {symbol: index for index, symbol in enumerate(self.symbols)}
        missing = [symbol for symbol in feed.symbols if symbol not in number]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise SplitError(f"{missing[0]}{more}: in the data, on no shard: add it to SHARD_MAP")
        self._number, self._parser = number, FieldParser(self.symbols)
        self._chunks: OrderedDict[int, Chunk] = OrderedDict()
        self.changes: list[Change] = []
        self._tables: list[dict[str, Mask]] = []
        self._nothing = np.zeros(len(self.symbols), np.bool_)
        for change in changes:
            self.change(change)

    def change(self, change: Change) -> None:
        """Another version of the map holds, from a tick on that no cursor has passed."""
        tables = {}
        for shard, symbols in change.map.shards.items():
            table = tables[shard] = np.zeros(len(self.symbols), np.bool_)
            table[[self._number[symbol] for symbol in symbols]] = True
        self.changes.append(change)
        self._tables.append(tables)

    def messages(self, cursor: Cursor, until: int) -> Iterator[Message]:
        """The next messages of a shard, of the ticks below ``until``; the cursor moves along.

        Raises:
            SplitError: a tick does not fit into a message.
        """
        if cursor.level is None:
            past = [n for n, each in enumerate(self.changes) if each.at < cursor.scan]
            cursor.level = past[-1] if past else 0
        while not cursor.ended:
            after = self.changes[cursor.level + 1 :][:1]
            end = min([until, self._feed.total, *(each.at for each in after)])
            while cursor.scan < end:
                yield from self._of_chunk(cursor, end)
            if after and cursor.scan == after[0].at:
                yield from self._cross(cursor, after[0])
            elif cursor.scan == self._feed.total:
                cursor.ended, cursor.source_next = True, cursor.scan
                yield self._mark(cursor, Kind.END)
            else:
                return

    def _table(self, cursor: Cursor) -> Mask:
        """Which symbols the shard has where the cursor reads; a later shard has none yet."""
        assert cursor.level is not None
        return self._tables[cursor.level].get(cursor.shard, self._nothing)

    def _mark(self, cursor: Cursor, kind: Kind) -> Message:
        return Message(kind, self._run, cursor.map_version, cursor.seq, 0, cursor.source_next)

    def _cross(self, cursor: Cursor, change: Change) -> Iterator[Message]:
        """From here on another map holds.  Symbols that come bring their latest sentiment."""
        assert cursor.level is not None
        before = self._table(cursor)
        cursor.level += 1
        now = self._table(cursor)
        cursor.held = [each for each in cursor.held if now[each.symbol]]
        frames = self._feed.sentiment_snapshot(change.at)
        symbols, ends = self._symbols_of_sentiments(frames), _ends(frames)
        for n in np.flatnonzero(now[symbols] & ~before[symbols]).tolist():
            frame = frames[ends[n] : ends[n + 1]]
            cursor.held.append(Sentiment(change.at, int(symbols[n]), frame))
        if cursor.map_version < change.map.version:
            cursor.map_version = change.map.version
            yield self._mark(cursor, Kind.MAP)

    def _of_chunk(self, cursor: Cursor, end: int) -> Iterator[Message]:
        """The messages of the ticks up to ``end`` that the chunk of the next tick has."""
        table = self._table(cursor)
        chunk = self._chunk(cursor.scan)
        low, high = cursor.scan - chunk.first, min(chunk.end, end) - chunk.first
        ours = table[chunk.symbols[low:high]]
        sources = np.flatnonzero(ours) + chunk.first + low
        cursor.held += _due(chunk, table, chunk.first + low, chunk.first + high)
        sizes = np.diff(chunk.offsets[low : high + 1])
        frames = np.frombuffer(chunk.frames, np.uint8)
        frames = frames[chunk.offsets[low] : chunk.offsets[high]][np.repeat(ours, sizes)]
        ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes[ours])))
        done = 0
        while done < len(sources):
            fits = int(np.searchsorted(ends, ends[done] + BATCH_BYTES, "right")) - 1
            stop = min(done + TICKS_MAX, fits)
            message = self._batch(cursor, sources[done:stop], frames, ends[done : stop + 1])
            done += message.ticks
            yield message
        cursor.scan = chunk.first + high

    def _batch(self, cursor: Cursor, sources: Ints, frames: Bytes, ends: Ints) -> Message:
        """One message of these ticks, or of fewer if their sentiments would not fit.

        Tick ``sources[i]`` of the feed is ``frames[ends[i]:ends[i + 1]]``.
        """
        while True:
            count = bisect_right(cursor.held, sources[-1], key=lambda each: each.due)
            with_it = cursor.held[:count]
            marked = _marked(with_it, sources, cursor.seq)
            if len(marked) <= BODY_BYTES_MAX - BATCH_BYTES:
                break
            if len(sources) == 1:
                raise SplitError(
                    f"{len(with_it)} sentiments are due with one tick, {sources[0]} of the data: "
                    f"{len(marked)} bytes, at most {BODY_BYTES_MAX - BATCH_BYTES}"
                )
            sources = sources[: len(sources) // 2]
        prices = frames[ends[0] : ends[len(sources)]].tobytes()
        del cursor.held[:count]
        first, cursor.seq = cursor.seq, cursor.seq + len(sources)
        cursor.source_next = int(sources[-1]) + 1
        return Message(
            Kind.TICKS,
            self._run,
            cursor.map_version,
            first,
            len(sources),
            cursor.source_next,
            prices + marked,
            len(prices),
        )

    def _chunk(self, seq: int) -> Chunk:
        """The chunk that holds tick ``seq``; shards that are at the same place share it."""
        first = seq - seq % CHUNK_TICKS
        chunk = self._chunks.get(first)
        if chunk is None:
            chunk = self._chunks[first] = self._read(first)
            if len(self._chunks) > CACHED_CHUNKS:
                self._chunks.popitem(last=False)
        return chunk

    def _read(self, first: int) -> Chunk:
        end = min(first + CHUNK_TICKS, self._feed.total)
        pieces, lengths = [], []
        seq = first
        while seq < end:
            block = self._feed.block_at(seq)
            low, high = seq - block.first, min(end, block.end) - block.first
            offsets = block.offset_array[low : high + 1]
            pieces.append(bytes(block.data[offsets[0] : offsets[-1]]))
            lengths.append(np.diff(offsets))
            seq += high - low
        frames, sizes = b"".join(pieces), np.concatenate(lengths)
        if sizes.max() > FRAME_BYTES_MAX:
            long = first + int(np.argmax(sizes))
            raise SplitError(f"tick {long} of the data has {sizes.max()} bytes, too many")
        sentiments, due = self._feed.sentiments_due(first, end)
        return Chunk(
            first,
            end,
            frames,
            np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes))),
            self._symbols_of(frames, end - first, first),
            sentiments,
            _ends(sentiments),
            self._symbols_of_sentiments(sentiments),
            due,
        )

    def _symbols_of(self, frames: bytes, count: int, first: int) -> Ints:
        out = np.zeros(count, TICK_DTYPE)
        buffer = bytearray(frames + bytes(PARSE_SLACK_BYTES))
        found, at, _ = parse_ticks(self._parser, buffer, 0, len(frames), out, 0)
        if found < count:
            raise SplitError(
                f"tick {first + found} of the data cannot be sent: {frames[at : at + 60]!r}"
            )
        return out["symbol"].astype(np.int64)

    def _symbols_of_sentiments(self, frames: bytes) -> Ints:
        count = frames.count(b"*") // 3
        out = np.zeros(count, TICK_DTYPE)
        buffer = bytearray(frames + bytes(PARSE_SLACK_BYTES))
        found, at, *_ = parse_sentiments(self._parser, buffer, 0, len(frames), out, 0)
        if found < count:
            raise SplitError(f"a sentiment cannot be sent: {frames[at : at + 60]!r}")
        return out["symbol"].astype(np.int64)


def _due(chunk: Chunk, table: Mask, low: int, high: int) -> Iterator[Sentiment]:
    """The sentiments of the shard's symbols that are due with the ticks ``low`` to ``high - 1``."""
    a, b = np.searchsorted(chunk.due, (low, high))
    ends = chunk.sentiment_ends
    for n in (np.flatnonzero(table[chunk.sentiment_symbols[a:b]]) + a).tolist():
        symbol = int(chunk.sentiment_symbols[n])
        yield Sentiment(int(chunk.due[n]), symbol, chunk.sentiments[ends[n] : ends[n + 1]])


def _marked(sentiments: list[Sentiment], sources: Ints, seq: int) -> bytes:
    """The frames, each due with the shard's first tick that may see it; the first has ``seq``."""
    if not sentiments:
        return b""
    ticks = np.searchsorted(sources, [each.due for each in sentiments]) + seq
    pieces, last = [], -1
    for tick, each in zip(ticks.tolist(), sentiments, strict=True):
        if tick != last:
            pieces.append(b"SEQ|%d*" % tick)
            last = tick
        pieces.append(each.frame)
    return b"".join(pieces)


def _ends(frames: bytes) -> Ints:
    return np.concatenate((np.zeros(1, np.int64), frame_ends(frames)))
