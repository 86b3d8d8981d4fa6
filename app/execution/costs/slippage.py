"""By how much a price is worse than the market's."""

from collections.abc import Mapping
from math import isqrt
from typing import Any, Final, Self

from app.model.money import UNITS, divide, to_units

SCALE: Final = 1_000_000
"""Slippage is counted in hundredths of a basis point."""


class Slippage:
    """Slippage, half the spread, and the impact of the order's size.

    A price is worse by ``bps + half_spread_bps + impact_bps * sqrt(qty / impact_qty)`` basis
    points, each of the three counted in hundredths, rounded once to the nearest unit of 1e-9 (half
    to even).  ``qty`` is all that the order asks for, however it is executed.

    The impact is the square-root law: the price moves with the square root of the size of the whole
    order (Toth et al. 2011, "Anomalous price impact and the critical nature of liquidity in
    financial markets", Physical Review X 1, 021006).  Its size is relative to the market's volume
    there, and to ``impact_qty`` here, because a feed of prices has no volume.
    """

    def __init__(
        self,
        bps: float = 0.0,
        half_spread_bps: float = 0.0,
        impact_bps: float = 0.0,
        impact_qty: float = 0.0,
        qty_decimals: int = 0,
    ) -> None:
        """``qty_decimals``: of the quantities of orders, which are integers of 10^-qty_decimals."""
        self._flat = round(bps * 100) + round(half_spread_bps * 100)
        self._impact = round(impact_bps * 100)
        self._impact_qty = to_units(impact_qty) * 10**qty_decimals
        self.any = bool(self._flat or self._impact)

    @classmethod
    def of_settings(cls, values: Mapping[str, Any]) -> Self:
        """As the settings say; by name."""
        costs = ("slippage_bps", "half_spread_bps", "impact_bps", "impact_qty")
        names = (*(f"paper_{cost}" for cost in costs), "qty_decimals")
        return cls(*(values[name] for name in names))

    def flat(self, price: int) -> int:
        """The part that does not depend on the order's size, in units."""
        return divide(price * self._flat, SCALE)

    def worse(self, price: int, qty: int) -> int:
        """All of it, for an order for ``qty`` units, in units of the price."""
        if not self._impact:
            return divide(price * self._flat, SCALE)
        # Rounds (flat + sqrt(square / 4)) / SCALE without a float: twice everything, plus a half.
        square = 4 * (price * self._impact) ** 2 * qty * UNITS
        root = isqrt(square // self._impact_qty)
        nearest, rest = divmod(2 * price * self._flat + SCALE + root, 2 * SCALE)
        is_half = rest == 0 and root * root * self._impact_qty == square
        return nearest - 1 if is_half and nearest % 2 else nearest

    def taker_price(self, price: int, side: int, qty: int) -> int:
        """What a buyer (``side`` +1) pays, or a seller (-1) gets, at a market's price; in units."""
        if not self.any:
            return price
        return max(price + side * self.worse(price, qty), 1)


NO_SLIPPAGE: Final = Slippage()
