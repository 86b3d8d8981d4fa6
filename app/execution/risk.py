"""The risk gate: runs the pre-trade checks in order.  Pure: time and prices are passed in.

A limit of 0 is no limit, and a check without a limit costs nothing.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from app.execution.accounts import ACTIVE, STACK_CLIENT_NO, Account
from app.execution.prices import BookPrice, NoPrices, PriceSource
from app.execution.risk_checks import ACCOUNT, ALWAYS, CHECKS, MODE, Check, PreparedCheck
from app.execution.risk_config import SHARED_LIMITS, RiskConfig
from app.execution.risk_context import AccountLimits, RiskContext
from app.model.orders import Order, OrderRequest
from app.model.position import Position
from app.model.reject_codes import RejectCode, retryable
from app.model.requests import Reject
from app.model.timestamps import DAY_NS, NS_PER_S, ts_event_ns

REPEATS_KEYS_MAX: Final = 10_000


class RiskGate:
    """Runs the checks that have a limit, in order; the first reject wins."""

    def __init__(self, config: RiskConfig, prices: PriceSource, stack: Account) -> None:
        self.config = config
        self.stack = stack
        self._context = context = RiskContext(
            prices,
            stack,
            config.replaying,
            int(config.repeat_window_s * NS_PER_S),
            config.needs_market,
            config.scale,
        )
        self._codes: dict[PreparedCheck, RejectCode] = {}
        when_active: list[PreparedCheck] = []
        for check in CHECKS:
            limit = self._limit_of(check)
            if limit or check.kind in (ALWAYS, MODE):
                prepared = check.prepare(context, limit)
                self._codes[prepared] = check.code
                if check.kind != MODE:
                    when_active.append(prepared)
        self._checks = tuple(self._codes)
        self._checks_when_active = tuple(when_active)
        self._repeats = self._account_limits("repeats_max")
        self._daily_loss = self._account_limits("daily_loss_max")
        self.counts_repeats = bool(self._repeats)
        self.watches_loss = bool(self._daily_loss)

    def check(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        """Why ``order`` must not go out, or None if it may.  ``now_ns``: nanoseconds, any epoch."""
        for check in self._checks_when_active if self.all_active(client) else self._checks:
            msg = check(order, client, now_ns)
            if msg is not None:
                code = self._codes[check]
                return Reject(code, msg, retryable=retryable(code, self.config.replaying))
        return None

    def all_active(self, client: Account) -> bool:
        """Whether neither the client nor the stack is restricted."""
        return client.mode == ACTIVE and self.stack.mode == ACTIVE

    def passes_all(self, client: Account, symbols: Sequence[str], qty_max: int) -> bool:
        """Whether every PLAIN order of these symbols, up to this quantity, passes every check."""
        if not self.all_active(client) or self.watches_loss or self.counts_repeats:
            return False
        known = len({*self.stack.positions, *symbols})
        harmless = {
            # An order without a type never rests.
            RejectCode.OPEN_ORDERS: True,
            RejectCode.SYMBOLS_MAX: known <= self.config.symbols_max,
            RejectCode.QTY_MAX: qty_max <= self._account_limits("qty_max").tightest,
            # Without a book, every symbol is known.
            RejectCode.NO_BOOK: isinstance(self._context.prices, NoPrices),
            RejectCode.UNKNOWN_SYMBOL: isinstance(self._context.prices, NoPrices),
        }
        return all(harmless.get(self._codes[check], False) for check in self._checks_when_active)

    def limits(self, account: Account) -> dict[str, Any]:
        """All limits that hold for ``account``, by name, in the units of orders."""
        config = self.config
        own = config.stack if account.client_no == STACK_CLIENT_NO else config.client
        shared = {name: getattr(config, name) for name in SHARED_LIMITS}
        return msgspec.structs.asdict(own) | shared

    def mark(self, symbol: str, position: Position) -> int:
        """The price a holding is valued at."""
        return self._context.mark(symbol, position)

    def book(self, symbol: str) -> BookPrice | None:
        """The book's price now, to show holdings at; None without one."""
        return self._context.prices.read(symbol)

    def at_tick(self, proof: str | None) -> bool | None:
        """:meth:`PriceSource.at_tick`."""
        return self._context.prices.at_tick(proof)

    def begin_order(self, order: OrderRequest, marks: Mapping[str, int]) -> bool | None:
        """Value holdings at ``marks`` if the order has a tick; returns :meth:`at_tick`."""
        at_tick = self.at_tick(order.proof)
        self._context.tick_marks = marks if at_tick else None
        return at_tick

    def end_order(self) -> None:
        """Value holdings at the book's prices again."""
        self._context.tick_marks = None

    def event_ns(self, order: OrderRequest) -> int | None:
        """The market's time at which the order counts: its tick's, else the book's."""
        if self._context.tick_marks is not None:
            return None if order.ts is None else ts_event_ns(order.ts)
        book = self._context.prices.read(order.symbol)
        return None if book is None else book.event_ns

    def roll_day(self, client: Account, request: OrderRequest, now_ns: int) -> list[Account]:
        """Reset the daily loss when a new day has begun; returns the accounts that have one.

        In a replay the day is the market's, so that the outcome does not depend on when the replay
        runs; live it is the clock's.  It never goes back: an order of an earlier day, from a
        strategy that joined late, must not give the stack a new budget.
        """
        event_ns = self.event_ns(request) if self.config.replaying else now_ns
        if event_ns is None:
            return []
        day = event_ns // DAY_NS
        rolled = [account for account in (client, self.stack) if account.day < day]
        for account in rolled:
            account.day_base += self.profit_today(account)
            account.day = day
        return rolled

    def profit_today(self, account: Account) -> int:
        """Realized and unrealized profit since the day began."""
        return self._context.profit_today(account)

    def loss_exceeded(self, account: Account) -> bool:
        """Whether the daily loss is beyond its limit."""
        limit = self._daily_loss.of(account)
        return bool(limit) and self._context.profit_today(account) < -limit

    def executed(self, order: Order, client: Account, now_ns: int) -> None:
        """Remember an execution, for the limit of repeated ones."""
        key = (order.symbol, order.side, order.qty)
        for account, limit in self._repeats.on(client):
            if len(account.repeats) >= REPEATS_KEYS_MAX:
                horizon = now_ns - self._context.repeat_window_ns
                account.repeats = {
                    k: times
                    for k, times in account.repeats.items()
                    if times and times[-1] > horizon
                }
            account.repeats.setdefault(key, deque(maxlen=limit)).append(now_ns)

    def _limit_of(self, check: Check) -> Any:
        """The limit of a check; falsy if there is none."""
        if check.kind in (ALWAYS, MODE):
            return None
        if check.kind == ACCOUNT:
            return self._account_limits(check.name)
        return getattr(self.config, check.name)

    def _account_limits(self, name: str) -> AccountLimits:
        config = self.config
        return AccountLimits(getattr(config.client, name), getattr(config.stack, name), self.stack)
