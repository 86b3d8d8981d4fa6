"""What a strategy's orders ask for, and what it holds after their answers."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from app.kernel._kernel import Intent, IntentSearch, Trades
from app.model.money import to_units


class Held:
    """Units held per symbol; ``position[i]`` is the sign that the gate reads.

    It is that which the orders in transit lead to, if there are any.
    """

    def __init__(
        self,
        symbols: int,
        order_qty: int,
        every: bool,
        coming: Callable[[int], int | None] | None = None,
    ) -> None:
        """``every``: each signal is an order for ``order_qty``, whatever is held.

        ``coming``: the sign that the orders of a symbol in transit lead to, None without orders.
        """
        self._coming = coming
        self.position: npt.NDArray[np.int8] = np.zeros(symbols, np.int8)
        self._signs = self.position
        self._held = [0] * symbols
        self._order_qty, self.every = order_qty, every

    @property
    def most(self) -> int:
        """The most units that an order asks for, if each order before it was filled."""
        return self._order_qty if self.every else 2 * self._order_qty

    def wanted(self, intent: Intent) -> int:
        """Units to order for a signal, before the order is settled.

        As many as lead from what is held to ORDER_QTY on the side of the signal, or to none.
        That is ORDER_QTY from flat or to flat and twice as many from one side to the other, unless
        an order was filled in part.
        """
        if self.every:
            return self._order_qty
        return abs(intent.target * self._order_qty - self._held[intent.symbol_index])

    def trades(self, factor: int) -> Trades:
        """Takes orders that execute as they ask; ``factor``: units of a quantity of 1."""
        return Trades(len(self._held), self._order_qty, factor, to_units)

    def execute(self, trades: Trades, search: IntentSearch) -> bool:
        """Let ``trades`` take the orders of a search, and settle each; as :meth:`Trades.take`."""
        return trades.take(search, self._held)

    def leads(self, index: int, side: int, target: int) -> int:
        """Units that an order of this side is for, on its arrival; 0: it is to be dropped."""
        if self.every:
            return self._order_qty
        return max(0, side * (target * self._order_qty - self._held[index]))

    def settle(self, index: int, signed_qty: int) -> None:
        """Add what an order executed, negative for a sale; with ``every`` nothing is held."""
        if not self.every:
            self.hold(index, self._held[index] + signed_qty)

    def hold(self, index: int, qty: int) -> None:
        """Set the units held in a symbol, negative when short."""
        self._held[index] = qty
        if self._coming is None:
            self._signs[index] = 1 if qty > 0 else -1 if qty < 0 else 0
        else:
            self.look(index)

    def look(self, index: int) -> None:
        """Find the sign that the gate reads, after an order in transit was sent or dropped."""
        qty = self._held[index]
        coming = None if self._coming is None else self._coming(index)
        self.position[index] = (qty > 0) - (qty < 0) if coming is None else coming

    def qty(self, index: int) -> int:
        """The units held in a symbol, negative when short."""
        return self._held[index]
