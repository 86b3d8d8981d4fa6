"""What the market does: it plays at a pace, stands still, or hurries to a place.

Pure: no clock, no socket and no feed.  A command makes a new state; :mod:`app.gateway.playback`
moves the stream accordingly.  Whatever the commands, the stream has the same ticks in the same
sequence: they only decide when each is sent.
"""

from enum import Enum
from typing import NamedTuple, Self


class Mode(Enum):
    """How the next tick becomes due."""

    HURRY = "hurry"
    """At once, up to a tick: as fast as the clients read."""
    PAUSED = "paused"
    PLAY = "play"


class Transport(NamedTuple):
    """``until``: the tick to which the market hurries, before it plays or stands still there."""

    pace: str
    paused: bool = False
    until: int | None = None

    @property
    def mode(self) -> Mode:
        """What it does now."""
        if self.until is not None:
            return Mode.HURRY
        return Mode.PAUSED if self.paused else Mode.PLAY

    def pause(self) -> Self:
        """Stand still here, also in the middle of a jump."""
        return self._replace(paused=True, until=None)

    def resume(self) -> Self:
        """Play; a jump goes on, and the market plays from its end."""
        return self._replace(paused=False)

    def step(self, ticks: int, position: int, total: int) -> Self:
        """Stand still ``ticks`` ticks later; another step before the end of one adds to it."""
        begun = self.until if self.paused and self.until is not None else position
        return self._replace(paused=True, until=min(begun + ticks, total))

    def at_pace(self, pace: str) -> Self:
        """Play at another pace, from the end of a jump on if there is one."""
        return self._replace(pace=pace)

    def seek(self, tick: int, position: int) -> Self:
        """Hurry to a tick, and do there what it did before the jump.

        A tick before ``position`` needs a new run: then ``position`` is 0.
        """
        return self._replace(until=None if tick == position else tick)

    def arrived(self) -> Self:
        """The jump has ended."""
        return self._replace(until=None)
