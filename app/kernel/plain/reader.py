"""The reader of the tick ring."""

from typing import Any

import numpy as np

from app.kernel.plain.memory import (
    NO_END,
    RING_HEADER_BYTES,
    WORD,
    Bytes,
    Damaged,
    Words,
    are_sealed,
    words_of,
)
from app.kernel.plain.ring import CLAIMED, END_SEQ, PUBLISHED, SKIPPED, RingView


class TickReader(RingView):
    """One registered reader of the ring; its cursor is kept in the shared slot."""

    def __init__(self, ring: Bytes, slot: int) -> None:
        super().__init__(ring)
        self._cursor_at = self.slot(slot) // 8 + 1
        self._cursor = self.words[self._cursor_at]
        self.lost = self.words[self._cursor_at + 1]
        self.last_seq = 0
        """Of the ticks copied last."""
        self._gap = self._copied = self._copied_gap = 0
        self._records = np.frombuffer(
            self.memory.bytes, np.uint64, self.capacity * 4, RING_HEADER_BYTES
        ).reshape(-1, 4)

    def _follow(self, records: Words, position: int) -> int:
        """Check records, the first at ring position ``position``; return how many fit."""
        count, last_gap = len(records), self._gap
        self._copied, self._copied_gap = position + count, last_gap
        sealed, seqs = are_sealed(records), records[:, 2]
        first = position + last_gap & WORD
        if sealed.all() and int(seqs[0]) == first and (np.diff(seqs) == 1).all():
            return count
        # The source has left out sequences, or there is damage.
        skipped = self.words[SKIPPED]
        for i, (seq, fits) in enumerate(zip(seqs.tolist(), sealed.tolist(), strict=True)):
            gap = seq - (position + i) & WORD
            if not last_gap <= gap <= skipped or not fits:
                return i
            last_gap = gap
        self._copied_gap = last_gap
        return count

    def _refuse(self, position: int) -> Damaged:
        seq = self.words[self.record_at(position) + 2]
        fits = "fits" if self.is_sealed(position) else "does not fit"
        return Damaged(
            f"tick ring: record {position} of {self.words[PUBLISHED]} has sequence {seq}, and its "
            f"seal {fits}"
        )

    @property
    def position(self) -> int:
        """Ring position of the next tick to consume."""
        return self._cursor

    def available(self) -> int:
        """Ticks published and not consumed yet."""
        # A lapped reader's new cursor may be ahead of the ``published`` it has read.
        return max(self.words[PUBLISHED] - self._cursor, 0)

    def next_seq(self) -> int:
        """Source sequence of the next tick to consume; if there is none yet, one past the last."""
        words = self.words
        while True:
            published = words[PUBLISHED]
            if published == 0:
                return 0
            has_next = self._cursor < published
            position = self._cursor if has_next else published - 1
            seq = words[self.record_at(position) + 2]
            claimed = words[CLAIMED]
            if claimed <= position + self.capacity:
                return seq if has_next else seq + 1
            if has_next:  # lapped
                self._skip(claimed, published)

    def wait(self, timeout_ns: int) -> int:
        """Sleep until there is a tick or the run is over; return the number of unread ticks."""
        if self.available() == 0:
            if self.words[self._cursor_at] != self._cursor:
                # Damaged: the writer might wait for this reader for ever.
                self.words[self._cursor_at] = self._cursor
                self.space.wake()
            seen = self.data.announce()
            if self.available() == 0 and self.words[END_SEQ] == NO_END:
                self.data.wait(seen, timeout_ns)
        return self.available()

    def copy(self, out: Any) -> int:
        """Copy unread ticks to ``out``, skip overwritten ones (latest policy); return how many.

        Never in place: a tick that is damaged after its check must not be traded on.  A lapped
        reader resumes half a ring behind the writer, so it is not lapped again at once.

        Raises:
            Damaged: a record does not follow on, or its seal does not fit.
        """
        to = words_of(out, writable=True)
        while True:
            ahead = self.available()
            start = self._cursor & self.mask
            count = min(ahead, len(to), self.capacity - start)
            if count and ahead <= self.capacity:
                to[:count] = self._records[start : start + count]
            claimed = self.words[CLAIMED]
            if claimed <= self._cursor + self.capacity:
                fits = self._follow(to[:count], self._cursor) if count else 0
                if fits < count:
                    raise self._refuse(self._cursor + fits)
                if count:
                    self.last_seq = int(to[count - 1, 2])
                return count
            self._skip(claimed, self._cursor + ahead)

    def _skip(self, claimed: int, published: int) -> None:
        """Lapped: count the overwritten ticks and move the cursor past them."""
        oldest, half = claimed - self.capacity, self.capacity // 2
        if published > half:
            oldest = max(oldest, published - half)
        self.lost = self.lost + oldest - self._cursor & WORD
        self._cursor = oldest
        self.words[self._cursor_at + 1] = self.lost
        self.words[self._cursor_at] = oldest

    def advance(self, count: int) -> None:
        """Consume ``count`` ticks; the writer may overwrite them."""
        self._cursor += count
        if self._cursor >= self._copied:
            self._gap = self._copied_gap
        self.words[self._cursor_at] = self._cursor
        # Wake the writer only at half a ring of space: a wake-up costs more than a thousand ticks.
        if self.available() <= self.capacity // 2:
            self.space.wake()
