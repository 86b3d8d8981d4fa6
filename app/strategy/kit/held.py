"""What a strategy's orders ask for, and what it holds after their answers."""

import numpy as np
import numpy.typing as npt

from app.kernel._kernel import Intent


class Held:
    """Units held per symbol; ``position[i]`` is their sign, which the gate reads."""

    def __init__(self, symbols: int, order_qty: int, every: bool) -> None:
        """``every``: each signal is an order for ``order_qty``, whatever is held."""
        self.position: npt.NDArray[np.int8] = np.zeros(symbols, np.int8)
        self._held = [0] * symbols
        self._order_qty, self._every = order_qty, every

    def wanted(self, intent: Intent) -> int:
        """Units to order for a signal, before the order is settled.

        As many as lead from what is held to ORDER_QTY on the side of the signal, or to none.
        That is ORDER_QTY from flat or to flat and twice as many from one side to the other, unless
        an order was filled in part.
        """
        if self._every:
            return self._order_qty
        return abs(intent.target * self._order_qty - self._held[intent.symbol_index])

    def settle(self, index: int, signed_qty: int) -> None:
        """Add what an order executed, negative for a sale; with ``every`` nothing is held."""
        if not self._every:
            self.hold(index, self._held[index] + signed_qty)

    def hold(self, index: int, qty: int) -> None:
        """Set the units held in a symbol, negative when short."""
        self._held[index] = qty
        self.position[index] = (qty > 0) - (qty < 0)

    def qty(self, index: int) -> int:
        """The units held in a symbol, negative when short."""
        return self._held[index]
