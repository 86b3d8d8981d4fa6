"""Holdings in one symbol at average cost."""

from app.model.money import divide


class Position:
    """Holdings in one symbol at average cost.

    ``cost`` is what the open quantity was paid (negative when short: what it was sold for), so
    average cost is ``cost / qty``.  At every moment ``realized - cost`` equals the cash received
    minus the cash paid, so no rounding is ever lost; when flat, ``realized`` is exactly the cash.
    """

    __slots__ = ("cost", "fill_no", "mark", "open_buy", "open_sell", "qty", "realized")

    def __init__(
        self, qty: int = 0, cost: int = 0, realized: int = 0, mark: int = 0, fill_no: int = 0
    ) -> None:
        self.qty = qty
        self.cost = cost
        self.realized = realized
        self.mark = mark
        """Price of the last fill, what the holding is valued at where no book is attached."""
        self.fill_no = fill_no
        """The last fill that is in these numbers."""
        self.open_buy = 0
        self.open_sell = 0
        """Quantity of resting orders on each side."""

    def apply(self, side: int, qty: int, price: int) -> None:
        """Account for an execution.

        What is closed releases its share of the cost, rounded toward zero to a whole unit; the
        remainder stays in ``cost`` and is released with the last share.
        """
        held = self.qty
        signed = side * qty
        self.mark = price
        self.qty = held + signed
        if held * side >= 0:
            self.cost += signed * price
            return
        size = abs(held)
        closed = min(qty, size)
        released = self.cost * closed // size if held > 0 else -(-self.cost * closed // size)
        self.realized -= side * closed * price + released
        self.cost += side * (qty - closed) * price - released

    def unrealized(self, mark: int | None = None) -> int:
        """Profit of closing everything at ``mark`` (by default the last fill's price)."""
        return self.qty * (self.mark if mark is None else mark) - self.cost

    @property
    def avg_cost(self) -> int | None:
        """Average cost of what is held, None when flat."""
        return divide(self.cost, self.qty) if self.qty else None
