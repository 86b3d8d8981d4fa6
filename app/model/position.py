"""Holdings in one symbol at average cost, and what trading has cost."""

from operator import add
from typing import Any, Final, NamedTuple

from app.model.money import UNITS, divide
from app.model.timestamps import DAY_NS

COST_NAMES: Final = {
    "fees": "fees",
    "slippage": "slippage and half spread",
    "impact": "impact",
    "latency": "latency",
    "borrow": "borrow",
    "total": "all costs",
}
"""Kind -> how a table names it."""


class Costs(NamedTuple):
    """What an account has paid, by kind, and its turnover, in units of 1e-9.

    ``slippage`` (with half the spread) and ``impact`` are in the prices of the fills; ``fees`` and
    ``borrow`` are paid besides.  A profit is net of all of them.  ``turnover``: what was bought and
    sold, at these prices.
    """

    fees: int = 0
    slippage: int = 0
    impact: int = 0
    borrow: int = 0
    turnover: int = 0

    def plus(self, other: "Costs") -> "Costs":
        """Both together."""
        return Costs(*map(add, self, other))

    def of_run(self, latency: int = 0) -> "RunCosts":
        """With the cost of latency, which only the strategy knows."""
        return RunCosts(*self, latency)


class RunCosts(NamedTuple):
    """What trading has cost in a run: :class:`Costs`, and what latency has.

    ``latency``: by how much the market had moved against the strategy's orders while they were on
    their way; negative if it moved in their favor.  It is in the prices of the fills, too.
    """

    fees: int = 0
    slippage: int = 0
    impact: int = 0
    borrow: int = 0
    turnover: int = 0
    latency: int = 0

    @property
    def total(self) -> int:
        """All costs."""
        return self.fees + self.slippage + self.impact + self.borrow + self.latency

    def in_bps(self, cost: int) -> float | None:
        """A cost in basis points of the turnover; None if there is none."""
        return cost * 10_000 / self.turnover if self.turnover else None

    def rows(self) -> list[tuple[str, float, float | None]]:
        """Each kind and their total: name, money, basis points of the turnover."""
        costs = [(name, getattr(self, kind)) for kind, name in COST_NAMES.items()]
        return [(name, cost / UNITS, self.in_bps(cost)) for name, cost in costs]

    def figures(self) -> dict[str, Any]:
        """For machines: money, and basis points of the turnover, of each kind and in total."""
        money = {**self._asdict(), "total": self.total}
        bps = {f"{name}_bps": self.in_bps(money[name]) for name in money if name != "turnover"}
        return {name: cost / UNITS for name, cost in money.items()} | bps


YEAR_NS: Final = 365 * DAY_NS
"""Of the borrow's rate: 365 days."""


class Position:
    """Holdings in one symbol at average cost.

    ``cost`` is the amount paid for the open quantity (negative when short: the amount received for
    it), so the average cost is ``cost / qty``.  ``realized - cost`` always equals the cash received
    minus the cash paid, so rounding loses nothing; when flat, ``realized`` is exactly that cash.
    Fees and borrow are cash paid: ``realized`` is net of them.  The sums of all costs, and the
    turnover, are kept beside it.
    """

    __slots__ = (
        "borrow",
        "cost",
        "fees",
        "fill_no",
        "impact",
        "mark",
        "open_buy",
        "open_sell",
        "qty",
        "realized",
        "since_ns",
        "slippage",
        "turnover",
    )

    def __init__(
        self,
        qty: int = 0,
        cost: int = 0,
        realized: int = 0,
        mark: int = 0,
        fill_no: int = 0,
        fees: int = 0,
        slippage: int = 0,
        impact: int = 0,
        borrow: int = 0,
        turnover: int = 0,
        since_ns: int | None = None,
    ) -> None:
        self.qty = qty
        self.cost = cost
        self.realized = realized
        self.mark = mark
        """Price of the last fill; used to value the position if no book is attached."""
        self.fill_no = fill_no
        """The last fill that these numbers contain."""
        self.fees = fees
        self.slippage = slippage
        self.impact = impact
        self.borrow = borrow
        """Charged until the last fill; what a short costs since then is :meth:`accrued`."""
        self.turnover = turnover
        self.since_ns = since_ns
        """Event time of the last fill, if shorts cost something."""
        self.open_buy = 0
        self.open_sell = 0
        """Quantity of resting orders on each side."""

    @property
    def costs(self) -> Costs:
        """What trading has cost until the last fill."""
        return Costs(self.fees, self.slippage, self.impact, self.borrow, self.turnover)

    def charge(self, fee: int, slippage: int, impact: int, borrow: int) -> None:
        """Account for what an execution costs."""
        self.realized -= fee + borrow
        self.fees += fee
        self.slippage += slippage
        self.impact += impact
        self.borrow += borrow

    def apply(self, side: int, qty: int, price: int, event_ns: int | None = None) -> int:
        """Account for an execution, without its costs; returns the cash paid, negative if received.

        ``event_ns``: its time, if shorts cost something.

        A closed quantity releases its share of the cost, rounded toward zero to a whole unit; the
        remainder stays in ``cost`` until the position is flat.
        """
        held = self.qty
        notional = qty * price
        self.mark = price
        self.since_ns = event_ns
        self.turnover = self.turnover + notional
        paid = notional if side > 0 else -notional
        self.qty = held + qty if side > 0 else held - qty
        if held == 0 or (held > 0) == (side > 0):
            self.cost = self.cost + paid
            return paid
        size = held if held > 0 else -held
        if qty == size:
            self.realized = self.realized - paid - self.cost
            self.cost = 0
        elif qty > size:
            closing = size * price if side > 0 else -size * price
            self.realized = self.realized - closing - self.cost
            self.cost = paid - closing
        else:
            cost = self.cost
            released = cost * qty // size if held > 0 else -(-cost * qty // size)
            self.realized = self.realized - paid - released
            self.cost = cost - released
        return paid

    def accrued(self, rate: int, at_ns: int) -> int:
        """What a short has cost since its last fill, up to ``at_ns``; not charged yet.

        ``rate``: 1e-9 of a basis point a year, of the amount the open quantity was sold for.
        Rounded here and nowhere else, to the nearest unit (half to even).  0 for a position whose
        last fill has no time: then shorts were free.
        """
        if self.qty >= 0 or self.since_ns is None or at_ns <= self.since_ns:
            return 0
        return divide(-self.cost * rate * (at_ns - self.since_ns), 10_000 * UNITS * YEAR_NS)

    def unrealized(self, mark: int | None = None) -> int:
        """Profit of closing the position at ``mark`` (default: the last fill's price)."""
        return self.qty * (self.mark if mark is None else mark) - self.cost

    @property
    def avg_cost(self) -> int | None:
        """Average cost per share, None when flat."""
        return divide(self.cost, self.qty) if self.qty else None
