"""An order whose quantity was settled before the tick that sends it."""

import numpy as np

from app.kernel._kernel import Intent
from app.model.orders import order_id_of_tick


class SizedIntent(Intent):
    """Of the tick that sends it, in any symbol; ``nth``: of its tick's orders.

    ``moved``: by how much the market moved against it while it was in transit, in units.
    """

    def __init__(
        self,
        tick: np.void,
        symbol: tuple[int, str],
        sides: tuple[int, int],
        price: float,
        qty: int,
        moved: int,
        nth: int,
    ) -> None:
        """``symbol``: index and name; ``sides``: buy or sell, and the position it leads to."""
        seq = int(tick["seq"])
        at = seq, int(tick["event_ns"])
        order_id = order_id_of_tick(seq, nth)
        super().__init__(*at, *symbol, *sides, price, int(tick["recv_us"]), order_id)
        self.qty, self.moved = qty, moved
