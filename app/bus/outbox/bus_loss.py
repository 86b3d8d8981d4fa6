"""What happens to trading while the bus is lost: ON_BUS_LOSS, after BUS_LOSS_S.

What this process asks for is undone by it when the bus is back, unless somebody else has set
another mode meanwhile.  The store's table ``controls`` says who was last, so a restart of this
process forgets nothing.
"""

import re
from typing import Final

from app.bus.outbox.order_port import (
    ACTIVE,
    HALTED,
    OPS,
    REDUCE,
    SEVERITY,
    set_stack_mode,
    stack_mode,
)
from app.bus.outbox.store_reader import StoreReader
from app.config.settings import Settings
from app.execution.accounts import MODE_NAMES
from app.runtime.log import get_logger

log = get_logger()

WANTED: Final = {"reduce": REDUCE, "halt": HALTED}
LOOK_EVERY_S: Final = 2.0
_OURS: Final = re.compile(r"bus lost for [0-9.]+ s, ON_BUS_LOSS=\w+, before: (\w+)")


class BusLoss:
    """Restricts the stack while the bus is lost.  Call :meth:`look` now and then, from a thread."""

    def __init__(self, settings: Settings, store: StoreReader) -> None:
        self._settings, self._store = settings, store
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
        if lost_for_s:
            self._next_look_s = lost_for_s + LOOK_EVERY_S
            self._restrict(lost_for_s)
        else:
            self._undo()
            self._looked, self._next_look_s = True, 0.0

    def _restrict(self, lost_for_s: float) -> None:
        assert self._wanted is not None
        if self._before() is not None:
            self.restricted = True
            return
        now = stack_mode(self._settings)
        if SEVERITY.index(now) >= SEVERITY.index(self._wanted):
            return
        rule = self._settings.on_bus_loss
        reason = f"bus lost for {lost_for_s:.1f} s, ON_BUS_LOSS={rule}, before: {now}"
        set_stack_mode(self._settings, self._wanted, reason)
        self.restricted = True
        log.warning(
            "bus_loss_restricts", mode=self._wanted, before=now, lost_s=round(lost_for_s, 1)
        )

    def _undo(self) -> None:
        before = self._before()
        self.restricted = False
        if before is None:
            return
        set_stack_mode(self._settings, before, "the bus is back")
        log.info("bus_loss_undone", mode=before)

    def _before(self) -> str | None:
        """The mode before ours, if ours is the latest of the stack."""
        found = self._store.stack_mode()
        ours = _OURS.fullmatch(found[1]) if found else None
        if found is None or ours is None or MODE_NAMES[found[0]] == ACTIVE:
            return None
        return ours[1] if ours[1] in OPS else ACTIVE
