"""When each tick is due: at a fixed rate, at a multiple of event time, or as soon as possible.

Open loop: the times are fixed when the stream starts, so a late wake-up sends everything that is
due and delays do not add up.  Times are CLOCK_MONOTONIC in ns; they are exact, since the pace is a
fraction and not a float.
"""

from fractions import Fraction
from typing import Final, Protocol

import numpy as np

from app.market_data.feed import Feed
from app.model.timestamps import NS_PER_S
from app.runtime.control.pace import LIVE

NEVER_NS: Final = 1 << 62


class Pace(Protocol):
    """A schedule; ``begin`` sets its origin, and may be called again later in the run."""

    def begin(self, seq: int, now_ns: int) -> None:
        """Start the schedule: tick ``seq`` is due at ``now_ns``."""

    def due(self, now_ns: int) -> int:
        """How many ticks of the run are due: those below this number."""

    def due_ns(self, seq: int) -> int:
        """When tick ``seq`` is due; ``seq`` is the last result of :meth:`due`."""


class RatePace:
    """A fixed number of ticks per second."""

    def __init__(self, ticks_per_s: Fraction) -> None:
        self._ticks = ticks_per_s.numerator
        self._nanos = ticks_per_s.denominator * NS_PER_S
        self._seq = self._begin_ns = 0

    def begin(self, seq: int, now_ns: int) -> None:
        """Start the schedule: tick ``seq`` is due at ``now_ns``."""
        self._seq, self._begin_ns = seq, now_ns

    def due(self, now_ns: int) -> int:
        """How many ticks of the run are due."""
        return self._seq + 1 + (now_ns - self._begin_ns) * self._ticks // self._nanos

    def due_ns(self, seq: int) -> int:
        """When tick ``seq`` is due."""
        return self._begin_ns - (self._seq - seq) * self._nanos // self._ticks


class EventTimePace:
    """The speed of the event times in the data, times a factor."""

    def __init__(self, factor: Fraction, feed: Feed) -> None:
        self._factor, self._feed = factor, feed
        self._seq = self._begin_ns = self._first_event_ns = 0

    def begin(self, seq: int, now_ns: int) -> None:
        """Start the schedule: tick ``seq`` is due at ``now_ns``."""
        self._seq, self._begin_ns = seq, now_ns
        if seq < self._feed.total:
            self._first_event_ns = self._feed.event_ns(seq)

    def due(self, now_ns: int) -> int:
        """How many ticks of the run are due."""
        passed = (now_ns - self._begin_ns) * self._factor.numerator // self._factor.denominator
        until = self._first_event_ns + passed
        while self._seq < self._feed.total:
            block = self._feed.block_at(self._seq)
            self._seq = block.first + int(np.searchsorted(block.event_ns, until, "right"))
            if self._seq < block.end:
                break
        return self._seq

    def due_ns(self, seq: int) -> int:
        """When tick ``seq`` is due."""
        ahead = self._feed.event_ns(seq) - self._first_event_ns
        return self._begin_ns - -ahead * self._factor.denominator // self._factor.numerator


class LivePace:
    """Every tick is due when it is there."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def begin(self, seq: int, now_ns: int) -> None:
        """Nothing to begin: the exchange decides."""

    def due(self, now_ns: int) -> int:
        """How many ticks of the run are due: those that have arrived."""
        return self._feed.available

    def due_ns(self, seq: int) -> int:
        """Nobody knows."""
        return NEVER_NS


def make_pace(text: str, feed: Feed) -> Pace | None:
    """The schedule for a PACE setting; None for ``max``, which has none."""
    if text == LIVE:
        return LivePace(feed)
    if text == "max":
        return None
    if text.endswith("/s"):
        return RatePace(Fraction(text.removesuffix("/s")))
    return EventTimePace(Fraction(text.removesuffix("x")), feed)
