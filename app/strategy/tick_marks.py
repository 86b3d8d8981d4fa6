"""The prices of a strategy's symbols as of the tick of each order, for the order manager's limits.

Daily loss and exposure value holdings.  The price book goes on while an order is on its way, so how
far it has got depends on timing; these prices depend on the feed alone.
"""

import numpy as np
import numpy.typing as npt

from app.kernel._kernel import Intent


class TickMarks:
    """Follows the ticks; knows which prices have changed since the last order."""

    def __init__(self, symbols: list[str]) -> None:
        self._symbols = symbols
        self._price = np.zeros(len(symbols))
        self._sent = np.zeros(len(symbols))
        self._ordered = np.zeros(len(symbols), np.bool_)
        """Symbols that may have a position."""

    def follow(self, ticks: npt.NDArray[np.void]) -> None:
        """Take the prices of ticks that have been decided on."""
        # NumPy keeps the last assignment to a repeated index: the symbol's latest tick.
        self._price[ticks["symbol"]] = ticks["price"]

    def add_symbol(self, index: int) -> None:
        """Send this symbol's prices from now on."""
        self._ordered[index] = True

    def of_order(self, intent: Intent) -> dict[str, float]:
        """The prices that have changed since the last order, by symbol.

        All ticks up to that of ``intent`` must have been followed, and none after it.
        """
        self._ordered[intent.symbol_index] = True
        changed = np.flatnonzero(self._ordered & (self._price != self._sent))
        self._sent[changed] = self._price[changed]
        return {self._symbols[i]: float(self._price[i]) for i in changed.tolist()}
