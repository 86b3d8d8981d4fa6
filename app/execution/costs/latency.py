"""How long an order is on its way to the market, and what that costs."""

from collections.abc import Mapping
from typing import Any, Final, Self

NS_PER_MS: Final = 1_000_000


class Latency:
    """The event time between a decision and the market.

    What was decided on at a tick meets the market at the first tick of its symbol whose time is not
    before the decision's plus ``ns``.  The time is the data's, so a run costs the same at any pace,
    and the same after a crash.

    It costs, for each share, the market's price there less the market's price at the decision, for
    a seller the other way round: the delay in Perold's implementation shortfall (1988, "The
    implementation shortfall: Paper versus reality", Journal of Portfolio Management 14, 3).  It may
    be negative.  Slippage, half spread and impact come on top, so the sum of all four is what a
    fill was worse than the price that the strategy saw.
    """

    def __init__(self, ms: float = 0.0) -> None:
        self.ns = round(ms * NS_PER_MS)

    @classmethod
    def of_settings(cls, values: Mapping[str, Any]) -> Self:
        """As the settings say; by name."""
        return cls(values["paper_latency_ms"])

    def due_ns(self, decided_ns: int) -> int:
        """When it is at the market."""
        return decided_ns + self.ns


def moved(side: int, decided: int, met: int) -> int:
    """By how much the market moved against a buyer (``side`` +1) or a seller (-1), in units."""
    return side * (met - decided)


NO_LATENCY: Final = Latency()
