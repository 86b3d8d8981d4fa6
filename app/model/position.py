"""Holdings in one symbol at average cost, and what trading has cost."""

from typing import Any, NamedTuple

from app.model.money import UNITS, divide


class Costs(NamedTuple):
    """What trading has cost, by kind, and its turnover, in units of 1e-9.

    ``slippage`` (with half the spread) and ``impact`` are in the prices of the fills; ``fees`` and
    ``borrow`` are paid besides.  A profit is net of all of them.  ``turnover``: what was bought and
    sold, at these prices.
    """

    fees: int = 0
    slippage: int = 0
    impact: int = 0
    borrow: int = 0
    turnover: int = 0

    @property
    def total(self) -> int:
        """All costs."""
        return self.fees + self.slippage + self.impact + self.borrow

    def in_bps(self, cost: int) -> float | None:
        """A cost in basis points of the turnover; None if there is none."""
        return cost * 10_000 / self.turnover if self.turnover else None

    def rows(self) -> list[tuple[str, float, float | None]]:
        """Each kind and their total: name, money, basis points of the turnover."""
        kinds = (
            ("fees", self.fees),
            ("slippage and half spread", self.slippage),
            ("impact", self.impact),
            ("borrow", self.borrow),
            ("all costs", self.total),
        )
        return [(name, cost / UNITS, self.in_bps(cost)) for name, cost in kinds]

    def figures(self) -> dict[str, Any]:
        """For machines: money, and basis points of the turnover, of each kind and in total."""
        money = {**self._asdict(), "total": self.total}
        bps = {f"{name}_bps": self.in_bps(money[name]) for name in money if name != "turnover"}
        return {name: cost / UNITS for name, cost in money.items()} | bps


class Position:
    """Holdings in one symbol at average cost.

    ``cost`` is the amount paid for the open quantity (negative when short: the amount received for
    it), so the average cost is ``cost / qty``.  ``realized - cost`` always equals the cash received
    minus the cash paid, so rounding loses nothing; when flat, ``realized`` is exactly that cash.
    Fees are cash paid: ``realized`` is net of them, and ``fees`` is their sum.
    """

    __slots__ = ("cost", "fees", "fill_no", "mark", "open_buy", "open_sell", "qty", "realized")

    def __init__(
        self,
        qty: int = 0,
        cost: int = 0,
        realized: int = 0,
        mark: int = 0,
        fill_no: int = 0,
        fees: int = 0,
    ) -> None:
        self.qty = qty
        self.cost = cost
        self.realized = realized
        self.mark = mark
        """Price of the last fill; used to value the position if no book is attached."""
        self.fill_no = fill_no
        """The last fill that these numbers contain."""
        self.fees = fees
        self.open_buy = 0
        self.open_sell = 0
        """Quantity of resting orders on each side."""

    def apply(self, side: int, qty: int, price: int, fee: int = 0) -> None:
        """Account for an execution and its fee.

        A closed quantity releases its share of the cost, rounded toward zero to a whole unit; the
        remainder stays in ``cost`` until the position is flat.
        """
        held = self.qty
        signed = side * qty
        self.mark = price
        self.qty = held + signed
        if fee:
            self.realized -= fee
            self.fees += fee
        if held * side >= 0:
            self.cost += signed * price
            return
        size = abs(held)
        closed = min(qty, size)
        released = self.cost * closed // size if held > 0 else -(-self.cost * closed // size)
        self.realized -= side * closed * price + released
        self.cost += side * (qty - closed) * price - released

    def unrealized(self, mark: int | None = None) -> int:
        """Profit of closing the position at ``mark`` (default: the last fill's price)."""
        return self.qty * (self.mark if mark is None else mark) - self.cost

    @property
    def avg_cost(self) -> int | None:
        """Average cost per share, None when flat."""
        return divide(self.cost, self.qty) if self.qty else None
