"""The prices, accounts and limits with which the checks compare an order."""

from collections.abc import Mapping

from app.execution.accounts import STACK_CLIENT_NO, Account
from app.execution.prices import BookPrice, PriceSource
from app.model.money import WHOLE, Scale
from app.model.orders import BUY, OrderRequest
from app.model.position import Position


class RiskContext:
    """The checks' inputs besides the order and its client."""

    def __init__(
        self,
        prices: PriceSource,
        stack: Account,
        replaying: bool,
        repeat_window_ns: int,
        needs_market: bool = True,
        scale: Scale = WHOLE,
    ) -> None:
        self.prices = prices
        self.stack = stack
        self.replaying = replaying
        self.repeat_window_ns = repeat_window_ns
        self.needs_market = needs_market
        """Whether the venue executes at the book's prices."""
        self.qty_text, self.amount_text = scale.qty_text, scale.amount_text
        """For messages."""
        self.tick_marks: Mapping[str, int] | None = None
        """Prices as of the tick of the order being decided; None if it has no tick."""
        self.symbol_known: bool | None = None
        """What the book says of the order's symbol, if the venue needs a market."""
        self.fresh_price: BookPrice | None = None
        """The price that :func:`price_age` read for the order being checked."""

    def in_mode(self, mode: int, client: Account) -> Account | None:
        """The stack or the client, whichever is in this trading mode; None if neither is."""
        if self.stack.mode == mode:
            return self.stack
        return client if client.mode == mode else None

    def mark(self, symbol: str, position: Position) -> int:
        """The price a holding is valued at; the last fill's if there is no other.

        For an order on a tick, the price as of that tick: the book's, which has gone on since then,
        would make the decision depend on timing.  What only other clients hold has no such price;
        for that, and for any other order, it is the book's now.
        """
        if self.tick_marks is not None:
            mark = self.tick_marks.get(symbol)
            if mark is not None:
                return mark
        book = self.prices.read(symbol)
        return position.mark if book is None else book.price

    def profit_today(self, account: Account) -> int:
        """Realized and unrealized profit since the day began."""
        return account.profit(self.mark) - account.day_base

    def price_of(self, order: OrderRequest, client: Account) -> int:
        """The price an order is measured at: its own, or the book's if that is what it may get.

        A market order gets the book's, and so does a sell order that names a lower one.
        """
        if order.price is not None and (order.side == BUY or self.tick_marks is not None):
            return order.price
        book = self.prices.read(order.symbol)
        if order.price is not None:
            return order.price if book is None else max(order.price, book.price)
        if book is not None:
            return book.price
        # Without any price the paper exchange has no market either and rejects the order.
        held = client.positions.get(order.symbol)
        return held.mark if held is not None else 0


class AccountLimits:
    """One limit, for the client's account and for the stack's; 0 is no limit."""

    __slots__ = ("_on_stack", "client", "stack", "tightest")

    def __init__(self, client: int, stack: int, stack_account: Account) -> None:
        self.client = client
        self.stack = stack
        self.tightest = min(filter(None, (client, stack)), default=0)
        """A value up to this exceeds neither limit."""
        self._on_stack = ((stack_account, stack),) if stack else ()

    def __bool__(self) -> bool:
        return self.tightest > 0

    def of(self, account: Account) -> int:
        """The limit of one account."""
        return self.stack if account.client_no == STACK_CLIENT_NO else self.client

    def on(self, client: Account) -> tuple[tuple[Account, int], ...]:
        """The accounts that have this limit, the client first, each with its limit."""
        return ((client, self.client), *self._on_stack) if self.client else self._on_stack
