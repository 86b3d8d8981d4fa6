"""A venue without a market: an order without a type executes at the price it names.

For trying a client of the order port without the rest of the stack.
"""

from app.execution.paper_exchange import PaperExchange
from app.execution.venue import Report
from app.model.orders import Order


class EchoVenue(PaperExchange):
    """The paper exchange, except that it takes the price of a PLAIN order for the market's."""

    def submit(self, order: Order, *, at_tick: bool) -> Report:
        """Execute what the current price allows; rest or cancel the remainder."""
        return super().submit(order, at_tick=True)
