"""ON_BUS_LOSS: restricts the stack while nobody says that the bus is there.

The publisher of the shard says so as long as the bus takes what the order store has
(:mod:`app.bus.outbox.bus_loss`).  The order manager itself decides when it has not heard that for
too long.  So it does not matter why: the bus is lost, or the publisher is dead, frozen, refused,
ends again and again, or was never started.  With ON_BUS_LOSS=continue nobody is waited for.

Times are seconds of CLOCK_MONOTONIC.
"""

import re
from typing import Final, NamedTuple

from app.config.settings import Settings
from app.execution.accounts import HALTED, MODE_NAMES, REDUCE
from app.model.requests import Halt, Reduce

MODES: Final = {"reduce": REDUCE, "halt": HALTED}
STANDSTILL_S: Final = 1.0
"""Between two looks at most; for longer than this, the process itself stood still."""
_OURS: Final = re.compile(r"(bus lost for [0-9.]+ s, ON_BUS_LOSS=\w+), before: (\w+)(?: \(.*)?")


class Ours(NamedTuple):
    """A restriction of the watch that holds, the mode after it, and how its reason begins."""

    mode: str
    before: str
    reason: str


def ours_of(found: tuple[int, str] | None) -> Ours | None:
    """What the stack's latest mode and reason are, if they are of the watch."""
    ours = _OURS.fullmatch(found[1]) if found else None
    if found is None or ours is None or found[0] not in MODES.values():
        return None
    before = ours[2] if ours[2] in MODE_NAMES[: HALTED + 1] else MODE_NAMES[0]
    return Ours(MODE_NAMES[found[0]], before, ours[1])


class BusWatch:
    """Of one order manager.  After a start there is as much time as after a word of the bus."""

    def __init__(self, settings: Settings, now_s: float) -> None:
        self.rule: str = settings.on_bus_loss
        self._wanted = MODES.get(settings.on_bus_loss)
        self._most_s = settings.bus_loss_s
        self._heard_s = self._looked_s = now_s
        self._done = False
        """Whether the stack was restricted for this loss."""

    def alive(self, now_s: float) -> None:
        """The bus is there."""
        self._heard_s, self._done = now_s, False

    def restricted(self) -> None:
        """What :meth:`request` asks for is stored."""
        self._done = True

    def look(self, now_s: float, mode: int) -> float:
        """For how long the bus is lost if the stack is to be restricted for that, else 0.

        Once for each loss: an operator who resumes meanwhile has the last word.  Time in which this
        process stood still does not count, because it could hear nobody.
        """
        if self._wanted is None:
            return 0.0
        still_s = now_s - self._looked_s
        self._looked_s = now_s
        if still_s > STANDSTILL_S:
            self._heard_s += still_s - STANDSTILL_S
        lost_s = now_s - self._heard_s
        due = lost_s >= self._most_s and mode < self._wanted and not self._done
        return lost_s if due else 0.0

    def request(self, lost_s: float, mode: int) -> Halt | Reduce:
        """What restricts the stack, whose mode is ``mode`` now."""
        reason = f"bus lost for {lost_s:.1f} s, ON_BUS_LOSS={self.rule}, before: {MODE_NAMES[mode]}"
        if self._wanted == HALTED:
            return Halt(reason=reason, unless="halted")
        return Reduce(reason=reason, unless="reduce")
