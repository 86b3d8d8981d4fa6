"""Where each symbol had its last tick, and its last sentiment, without a search from the start."""

from typing import Final

import numpy as np

from app.market_data.live.records import Records
from app.market_data.ragged import Ints

CHUNK_TICKS: Final = 1 << 16


class LastTicks:
    """Notes every :data:`CHUNK_TICKS` ticks the last tick of each symbol, or -1.

    ``now`` is that of all ticks so far, of which there are ``count``.  ``every``: only ticks whose
    number is a multiple of it count.
    """

    def __init__(self, symbols: int, every: int = 1) -> None:
        self._every = every
        self.count = 0
        self.now = np.full(symbols, -1, np.int64)
        self._notes = [self.now.copy()]

    def add(self, ticks: Records) -> None:
        """The next ticks."""
        symbols = ticks["symbol"]
        done = 0
        while done < len(ticks):
            end = min(len(ticks), done + CHUNK_TICKS - self.count % CHUNK_TICKS)
            note(self.now, symbols[done:end], self.count, self._every)
            self.count += end - done
            done = end
            if self.count % CHUNK_TICKS == 0:
                self._notes.append(self.now.copy())

    def before(self, seq: int) -> tuple[Ints, int]:
        """The last ticks as of a tick at or before ``seq``, and that tick."""
        if seq >= self.count:
            return self.now.copy(), self.count
        return self._notes[seq // CHUNK_TICKS].copy(), seq - seq % CHUNK_TICKS


def note(last: Ints, symbols: Ints, first: int, every: int) -> None:
    """Bring ``last`` up to date with the ticks from ``first`` on, which have these symbols."""
    skip = -first % every
    at = np.arange(first + skip, first + len(symbols), every)
    # NumPy keeps the last assignment to a repeated index: the latest tick.
    last[symbols[skip::every]] = at
