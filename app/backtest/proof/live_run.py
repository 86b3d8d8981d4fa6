"""How far the live run has got, read from shared memory; it slows nobody and changes nothing."""

from typing import NamedTuple

from app.config.settings import Settings
from app.kernel import _kernel
from app.runtime.metrics.layout import MetricsError, read_liveness
from app.shared_memory_utils.metadata import SharedMemoryMetadata
from app.shared_memory_utils.segment import SegmentError
from app.shared_memory_utils.tick_ring import FREE, TickRing


class Position(NamedTuple):
    """One look at the run.

    ``consumed``: strategy's name -> ticks whose orders are answered.  ``published``: ticks in the
    ring so far.  ``end``: number of ticks of a run that has an end, once it is known.  ``done``:
    every strategy has come to that end.  ``ring``: another number after each new ring.
    """

    consumed: dict[str, int]
    published: int
    end: int | None
    done: bool
    ring: int

    @property
    def is_over(self) -> bool:
        """Whether all ticks of the run are in the ring."""
        return self.end is not None and self.published >= self.end


class LiveRun:
    """Looks at ring, metrics and metadata of a stack, also while these come and go."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ring: TickRing | None = None
        self._number = 0

    def look(self) -> Position | None:
        """The position now; None if there is no ring."""
        if self._ring is not None and not self._ring.is_current():
            self.close()
        if self._ring is None:
            try:
                self._ring = TickRing.attach(self._settings.shm_tick_ring)
            except SegmentError:
                return None
            self._number += 1
        view, own = self._ring.view, self._settings.strategy_client
        consumed = {}
        for slot in range(_kernel.MAX_READERS):
            state, cursor, _, name = view.reader(slot)
            if state != FREE and (name == own or name.startswith(f"{own}-")):
                consumed[name] = cursor
        states = self._strategy_states()
        if "starting" in states:
            # A late strategy is given its place in the ring before it has sent its earlier orders.
            consumed = dict.fromkeys(consumed, 0)
        found = self._ring.state
        return Position(consumed, found.next_seq, found.end_seq, states == {"done"}, self._number)

    def _strategy_states(self) -> set[str]:
        """Of all strategies, also of dead ones; ``starting`` if they are not known."""
        try:
            blocks = read_liveness(self._settings.shm_metrics)
        except (MetricsError, OSError):
            return {"starting"}
        return {block.state for block in blocks if block.service == "strategy"}

    def feed_id(self) -> str:
        """That of the stack; empty if it is not known."""
        try:
            with SharedMemoryMetadata(self._settings.shm_metadata, create=False) as metadata:
                return str((metadata.read() or {}).get("feed_id", ""))
        except (SegmentError, ValueError):
            return ""

    def close(self) -> None:
        """Detach."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None
