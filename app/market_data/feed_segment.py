"""A segment of the feed: the file, its repetitions, or the random walk that follows it."""

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np

from app.market_data.ragged import Bytes, Ints, Mask

LOOKBACK_TICKS: Final = 1024


@dataclass(slots=True)
class Block:
    """The frames of the ticks ``first`` to ``end - 1``.

    Tick ``first + i`` is ``data[offsets[i]:offsets[i + 1]]``; ``offsets[i]`` is a plain int, and
    ``offset_array`` is the same memory for NumPy; ``event_ns`` has the shape ``(end - first,)``.
    """

    first: int
    end: int
    data: memoryview
    offset_array: Ints
    event_ns: Ints
    offsets: memoryview

    @classmethod
    def of(cls, first: int, data: memoryview | Bytes, offsets: Ints, event_ns: Ints) -> "Block":
        """Make a block; ``offsets`` may be of any integer type and is copied if necessary."""
        array = np.ascontiguousarray(offsets, np.int64)
        view = data if isinstance(data, memoryview) else data.data
        return cls(first, first + len(event_ns), view, array, event_ns, array.data)

    def frame(self, seq: int) -> bytes:
        """One frame."""
        at = seq - self.first
        return bytes(self.data[self.offsets[at] : self.offsets[at + 1]])

    def seq_at(self, position: int) -> int:
        """The tick to which the byte at ``position`` belongs."""
        return self.first + int(np.searchsorted(self.offset_array, position, "right")) - 1


class Sentiments(NamedTuple):
    """Some sentiments: frame ``i`` is ``data[offsets[i]:offsets[i + 1]]``.

    ``due_seq``: the first tick that may see each, ascending.  ``needs_mark``: an earlier tick of
    its symbol has the sentiment's time, which alone does not tell the two apart.
    """

    data: Bytes
    offsets: Ints
    symbol_index: Ints
    due_seq: Ints
    needs_mark: Mask

    def __len__(self) -> int:
        return len(self.symbol_index)

    def frame(self, index: int) -> bytes:
        """One frame."""
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def marked(self, base: int, first: int) -> bytes:
        """The frames, with ``SEQ|k*`` ahead of those that need it; ``k`` is ``base`` + due tick.

        Those due with tick ``first`` follow the mark ``SEQ|first*`` and need no other.
        """
        data = self.data.tobytes()
        if not self.needs_mark.any():
            return data
        first_of_tick = np.diff(self.due_seq, prepend=first - base) > 0
        at = np.flatnonzero(self.needs_mark & first_of_tick)
        pieces: list[bytes] = []
        done = 0
        offsets, ticks = self.offsets[at].tolist(), (self.due_seq[at] + base).tolist()
        for offset, seq in zip(offsets, ticks, strict=True):
            pieces += (data[done:offset], b"SEQ|%d*" % seq)
            done = offset
        pieces.append(data[done:])
        return b"".join(pieces)


class FeedSegment(Protocol):
    """A stretch of the feed; its ticks are numbered from 0, and every method is a pure function.

    ``ticks``: how many ticks it has.
    """

    ticks: int

    def block_first(self, index: int) -> int:
        """The first tick of the block that holds tick ``index``."""

    def block(self, first: int) -> Block:
        """The block that begins with tick ``first``."""

    def last_ticks(self, before: int) -> Ints:
        """For each symbol its last tick before tick ``before``, or -1."""

    def sentiments(self, first: int, end: int) -> Sentiments:
        """The sentiments due with the ticks ``first`` to ``end - 1``, in stream order."""

    def sentiment_count(self, before: int) -> int:
        """How many sentiments are due before tick ``before``."""

    def sentiment_search_start(self, before: int) -> int:
        """Where a search for the latest sentiments before tick ``before`` may stop: no symbol
        has its only ones earlier.
        """


def latest_sentiments(
    segment: FeedSegment, before: int, symbols: int, found: dict[int, bytes]
) -> None:
    """Add to ``found`` the latest sentiment due before tick ``before`` of each symbol not in it.

    Order of insertion: latest first.
    """
    end, window = before, LOOKBACK_TICKS
    reach = segment.sentiment_search_start(before)
    while end > reach and len(found) < symbols:
        first = max(reach, end - window)
        batch = segment.sentiments(first, end)
        newest, at = np.unique(batch.symbol_index[::-1], return_index=True)
        for back, symbol in sorted(zip(at.tolist(), newest.tolist(), strict=True)):
            if symbol not in found:
                found[symbol] = batch.frame(len(batch) - 1 - back)
        end, window = first, window * 2
