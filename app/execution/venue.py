"""The interface to a venue.

A venue for a real market implements :class:`Venue`.  Its ``submit`` may only queue the order, which
is not durable yet.  ``committed``, called after each commit, sends the queued orders, with
``order_no`` as the venue's client order id.  ``poll`` returns the venue's reports and repeats each
of them until the next ``committed``.  After a crash the process starts with ``restore``, which asks
the venue for the state of every order that is still open.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from app.model.orders import Order, Record
from app.model.reject_codes import RejectCode


class Execution(Record):
    """A quantity at a price, and what it costs, in 1e-9 money units.

    ``fee``: what the venue takes.  ``slippage`` (with half the spread) and ``impact`` are in the
    price: by how much the quantity is worse than at the market's.
    """

    __slots__ = fields = ("qty", "price", "fee", "slippage", "impact")

    def __init__(
        self, qty: int, price: int, fee: int = 0, slippage: int = 0, impact: int = 0
    ) -> None:
        for value in (qty, price, fee, slippage, impact):
            # Compiled, a field would take a float's whole part.
            if type(value) is not int:
                raise TypeError(f"an execution's numbers are int, not {value!r}")
        self.qty, self.price, self.fee = qty, price, fee
        self.slippage, self.impact = slippage, impact


class Report(Record):
    """A venue's answer to a new order: immediate executions, and whether the remainder rests."""

    __slots__ = fields = ("executions", "rests", "reject")

    def __init__(
        self,
        executions: tuple[Execution, ...] = (),
        rests: bool = False,
        reject: tuple[RejectCode, str] | None = None,
    ) -> None:
        self.executions, self.rests, self.reject = executions, rests, reject


def execution_of(qty: int, price: int, fee: int, slippage: int, impact: int) -> Execution:
    """An execution of numbers that are known to be int."""
    execution = Execution.__new__(Execution)
    execution.qty, execution.price, execution.fee = qty, price, fee
    execution.slippage, execution.impact = slippage, impact
    return execution


def report_of(
    executions: tuple[Execution, ...], rests: bool, reject: tuple[RejectCode, str] | None
) -> Report:
    """A report."""
    report = Report.__new__(Report)
    report.executions, report.rests, report.reject = executions, rests, reject
    return report


class Venue(Protocol):
    """Takes orders that passed the checks."""

    def submit(self, order: Order, at_tick: bool) -> Report:
        """Take a new order.  Unless the report says ``rests``, an open remainder is canceled.

        ``at_tick``: the order's price is the market's, as of the tick it was decided on.  A PLAIN
        order executes, at least in part, or is rejected: it never rests.
        """

    def cancel(self, order: Order) -> None:
        """Cancel a resting order."""

    def poll(self) -> Iterable[tuple[Order, Execution]]:
        """The executions of resting orders since the last call."""

    def committed(self) -> None:
        """Everything submitted, canceled and polled since the last call is durable now."""

    def restore(self, orders: Sequence[Order]) -> None:
        """Replace all resting orders: at start, and after a batch that could not be stored."""
