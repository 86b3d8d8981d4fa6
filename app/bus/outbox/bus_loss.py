"""What happens to trading while the bus is lost: ON_BUS_LOSS, after BUS_LOSS_S.

What this process asks for is undone by it when the bus is back, unless somebody else has set
another mode meanwhile.  The store's table ``controls`` says who was last, so a restart of this
process forgets nothing.  Controls pass here too: one that comes while the bus counts as lost is
what holds afterwards.
"""

import re
import threading
from typing import Final, NamedTuple

from app.bus.outbox.order_port import (
    ACTIVE,
    HALTED,
    OPS,
    REDUCE,
    SEVERITY,
    set_stack_mode,
    stack_mode,
    stricter_than,
)
from app.bus.outbox.store_reader import StoreReader
from app.config.settings import Settings
from app.execution.accounts import MODE_NAMES
from app.runtime.log import get_logger

log = get_logger()

WANTED: Final = {"reduce": REDUCE, "halt": HALTED}
LOOK_EVERY_S: Final = 2.0
_OURS: Final = re.compile(r"(bus lost for [0-9.]+ s, ON_BUS_LOSS=\w+), before: (\w+)(?: \(.*)?")


class Ours(NamedTuple):
    """The restriction of this process that holds, the mode after it, and how its reason begins."""

    mode: str
    before: str
    reason: str


class BusLoss:
    """Restricts the stack while the bus is lost.  Call :meth:`look` now and then, from a thread."""

    def __init__(self, settings: Settings, store: StoreReader) -> None:
        self._settings, self._store = settings, store
        self._lock = threading.Lock()
        """A control and :meth:`look` do not come between what the other reads and sets."""
        self._wanted = WANTED.get(settings.on_bus_loss)
        self.restricted = False
        """Whether this process has restricted the stack and not undone it."""
        self._looked = False
        self._next_look_s = 0.0
        """Seconds without the bus before the next look: somebody may have set a stricter mode."""

    def is_due(self, lost_for_s: float) -> bool:
        """Whether :meth:`look` would do something now."""
        if lost_for_s:
            late = lost_for_s >= max(self._settings.bus_loss_s, self._next_look_s)
            return late and self._wanted is not None and not self.restricted
        return self.restricted or not self._looked

    def look(self, lost_for_s: float) -> None:
        """Restrict the stack, or undo it; ``lost_for_s``: how long there is no bus, 0 if there is.

        Raises:
            OrderPortError: the order manager did not answer; call it again.
        """
        with self._lock:
            if lost_for_s:
                self._next_look_s = lost_for_s + LOOK_EVERY_S
                self._restrict(lost_for_s)
            else:
                self._undo()
                self._looked, self._next_look_s = True, 0.0

    def control(self, mode: str, reason: str) -> str:
        """Ask for the mode of a control; returns the stricter one that holds instead, or nothing.

        Only ACTIVE loosens, and not ``killed``.  Where this process restricts more than the control
        does, the control's mode becomes the one after that.

        Raises:
            OrderPortError: the order manager did not answer; call it again.
        """
        with self._lock:
            if mode == ACTIVE:
                return set_stack_mode(self._settings, mode, reason, SEVERITY[-1])
            ours = self._ours()
            if ours is None or SEVERITY.index(mode) >= SEVERITY.index(ours.mode):
                return set_stack_mode(self._settings, mode, reason, stricter_than(mode))
            if SEVERITY.index(mode) >= SEVERITY.index(ours.before):
                after = f"{ours.reason}, before: {mode} ({reason})"
                set_stack_mode(self._settings, ours.mode, after, stricter_than(ours.mode))
            return ours.mode

    def _restrict(self, lost_for_s: float) -> None:
        assert self._wanted is not None
        if self._ours() is not None:
            self.restricted = True
            return
        now = stack_mode(self._settings)
        if SEVERITY.index(now) >= SEVERITY.index(self._wanted):
            return
        rule = self._settings.on_bus_loss
        reason = f"bus lost for {lost_for_s:.1f} s, ON_BUS_LOSS={rule}, before: {now}"
        if set_stack_mode(self._settings, self._wanted, reason, self._wanted):
            return
        self.restricted = True
        log.warning(
            "bus_loss_restricts", mode=self._wanted, before=now, lost_s=round(lost_for_s, 1)
        )

    def _undo(self) -> None:
        ours = self._ours()
        if ours is not None and not set_stack_mode(
            self._settings, ours.before, "the bus is back", stricter_than(ours.mode)
        ):
            log.info("bus_loss_undone", mode=ours.before)
        self.restricted = False

    def _ours(self) -> Ours | None:
        """Our restriction, if it is the latest mode of the stack."""
        found = self._store.stack_mode()
        ours = _OURS.fullmatch(found[1]) if found else None
        if found is None or ours is None or MODE_NAMES[found[0]] not in WANTED.values():
            return None
        before = ours[2] if ours[2] in OPS else ACTIVE
        return Ours(MODE_NAMES[found[0]], before, ours[1])
