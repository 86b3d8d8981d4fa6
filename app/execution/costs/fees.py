"""What the exchange takes for an order."""

from typing import Final

from app.model.money import UNITS, WHOLE, Scale, divide, to_units


class Fees:
    """What the exchange takes for an order: per share and of its notional, at least a minimum.

    An order costs ``qty * per_share + notional * bps / 10,000`` of all it has executed, rounded
    to the nearest unit (half to even), or the minimum if that is more; an order without an
    execution costs nothing.  An execution costs what the order costs with it, less what it cost
    before.  So the sum does not depend on how an order was executed, and a restart changes nothing.
    """

    def __init__(
        self,
        per_share: float = 0.0,
        bps: float = 0.0,
        minimum: float = 0.0,
        scale: Scale = WHOLE,
    ) -> None:
        """``scale``: of the quantities; the unit of a fee is that of their amounts."""
        self._per_share = to_units(per_share)
        self._minimum = to_units(minimum) * scale.factor
        self._bps = to_units(bps)  # in 1e-9 of a basis point
        self.any = bool(self._per_share or self._minimum or self._bps)

    def of(self, qty: int, notional: int) -> int:
        """The fee of an order that has executed ``qty`` for ``notional``, in units."""
        if not qty:
            return 0
        share = divide(notional * self._bps, 10_000 * UNITS)
        return max(qty * self._per_share + share, self._minimum)


NO_FEES: Final = Fees()
