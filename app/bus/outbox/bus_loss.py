"""What happens to trading while the bus is lost: ON_BUS_LOSS, after BUS_LOSS_S.

This process tells the order manager again and again that the bus takes what the store has.  When
it does not, the order manager restricts the stack (:mod:`app.order_manager.access.bus_watch`).
What that has restricted is undone here when the bus is back, unless somebody else has set another
mode meanwhile.  The store's table ``controls`` says who was last, so a restart forgets nothing.

Controls pass here too: one that comes while the stack is restricted is what holds afterwards.
"""

import threading
import time
from typing import Final

from app.bus.outbox.order_port import (
    ACTIVE,
    SEVERITY,
    OrderPortError,
    say_alive,
    set_stack_mode,
    stricter_than,
)
from app.bus.outbox.store_reader import StoreReader
from app.config.settings import Settings
from app.order_manager.access.bus_watch import Ours, ours_of
from app.runtime.log import get_logger

log = get_logger()

EVERY_S: Final = 1.0
"""Between two words to the order manager; a quarter of BUS_LOSS_S if that is less."""


class BusLoss:
    """Speaks of the bus to the order manager.  Call :meth:`look` from a thread."""

    def __init__(self, settings: Settings, store: StoreReader) -> None:
        self._settings, self._store = settings, store
        self._lock = threading.Lock()
        """A control and :meth:`look` do not come between what the other reads and sets."""
        self._speaks = settings.on_bus_loss != "continue"
        self._every_s = min(EVERY_S, settings.bus_loss_s / 4)
        self._next_s = 0.0
        self._looked = False

    def is_due(self) -> bool:
        """Whether :meth:`look` would do something now, if the bus is there."""
        return not self._looked or (self._speaks and time.monotonic() >= self._next_s)

    def look(self, controls_known: bool) -> None:
        """The bus is there: say so, and undo what its loss has done.

        ``controls_known``: else nothing is undone, because a control that waits may be stricter.

        Raises:
            OrderPortError: the order manager did not answer, or expects something else; call it
                again.
        """
        with self._lock:
            if self._speaks:
                self._next_s = time.monotonic() + self._every_s
                self._say_alive()
            if controls_known:
                self._undo()
                self._looked = True

    def _say_alive(self) -> None:
        theirs, ours = say_alive(self._settings), self._settings.on_bus_loss
        if theirs != ours:
            raise OrderPortError(
                f"ON_BUS_LOSS={ours} here, and {theirs} at the order manager, which is what holds: "
                "set the same for both"
            )

    def control(self, mode: str, reason: str) -> str:
        """Ask for the mode of a control; returns the stricter one that holds instead, or nothing.

        Only ACTIVE loosens, and not ``killed``.  Where a lost bus restricts more than the control
        does, the control's mode becomes the one after that.

        Raises:
            OrderPortError: the order manager did not answer; call it again.
        """
        with self._lock:
            if mode == ACTIVE:
                return set_stack_mode(self._settings, mode, reason, SEVERITY[-1])
            while True:
                ours = self._ours()
                if ours is not None and SEVERITY.index(mode) < SEVERITY.index(ours.mode):
                    return self._hold_after(ours, mode, reason)
                kept = set_stack_mode(self._settings, mode, reason, stricter_than(mode))
                if not kept or self._ours() == ours:
                    return kept

    def _hold_after(self, ours: Ours, mode: str, reason: str) -> str:
        if SEVERITY.index(mode) >= SEVERITY.index(ours.before):
            after = f"{ours.reason}, before: {mode} ({reason})"
            set_stack_mode(self._settings, ours.mode, after, stricter_than(ours.mode))
        return ours.mode

    def _undo(self) -> None:
        ours = self._ours()
        if ours is not None and not set_stack_mode(
            self._settings, ours.before, "the bus is back", stricter_than(ours.mode)
        ):
            log.info("bus_loss_undone", mode=ours.before)

    def _ours(self) -> Ours | None:
        """The restriction of a lost bus, if it is the latest mode of the stack."""
        return ours_of(self._store.stack_mode())
