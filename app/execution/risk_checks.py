"""The pre-trade checks, and the one table of their settings, reject codes and sequence.

A new limit is a function here and a row of :data:`CHECKS`.  The settings that are read, the fields
of ``Limits`` and the answer to a ``limits`` request follow from the table.

Each function here prepares one check for its limit.  The prepared check returns the reject's
message, or None if the order may pass.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from app.execution.accounts import HALTED, KILLED, REDUCE, Account
from app.execution.risk_context import AccountLimits, RiskContext
from app.model.money import money_text
from app.model.orders import BUY, IOC, LIMIT, SIDE_NAMES, OrderRequest
from app.model.position import Position
from app.model.reject_codes import RejectCode
from app.model.timestamps import NS_PER_S
from app.model.token_bucket import TokenBucket

BPS: Final = 10_000
NS_PER_MS: Final = 1_000_000

PreparedCheck = Callable[[OrderRequest, Account, int], str | None]
"""A check with its limit: gets the order, its client's account and the time in nanoseconds."""


def live_book(context: RiskContext, _limit: bool) -> PreparedCheck:
    """There is a book that tells whether the symbol is known, if the venue needs a market."""
    prices, needed = context.prices, context.needs_market

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        if not needed:
            return None
        context.symbol_known = known = prices.knows(order.symbol)
        if known is None:
            return (
                f"no price book with a live writer, so {order.symbol} is not known: start the "
                "orderbook, or set RISK_KNOWN_SYMBOLS=false"
            )
        return None

    return check


def known_symbol(context: RiskContext, _limit: bool) -> PreparedCheck:
    """The symbol is in the book; :func:`live_book` decides if there is no book to ask."""
    prices, needed = context.prices, context.needs_market

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        known = context.symbol_known if needed else prices.knows(order.symbol)
        if known is False:
            return f"unknown symbol: {order.symbol}"
        return None

    return check


def symbols(context: RiskContext, limit: int) -> PreparedCheck:
    """The number of symbols that anybody holds or has an open order in: each costs memory."""
    known = context.stack.positions

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        if order.symbol in known or len(known) < limit:
            return None
        return f"{order.symbol} would be one symbol more than the {limit} of RISK_SYMBOLS_MAX"

    return check


def tick_size(context: RiskContext, tick: int) -> PreparedCheck:
    """The price is a multiple of the tick."""

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        if order.price is not None and order.price % tick:
            return (
                f"price {money_text(order.price)} is not a multiple of the tick {money_text(tick)}"
            )
        return None

    return check


def lot_size(context: RiskContext, lot: int) -> PreparedCheck:
    """The quantity is a multiple of the lot."""
    text = context.qty_text

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        if order.qty % lot:
            return f"qty {text(order.qty)} is not a multiple of the lot {text(lot)}"
        return None

    return check


def halted(context: RiskContext, _limit: None) -> PreparedCheck:
    """Neither the stack nor the client is halted."""

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        account = context.in_mode(HALTED, client)
        return None if account is None else f"{account.label} is halted"

    return check


def reduce_only(context: RiskContext, _limit: None) -> PreparedCheck:
    """In reduce mode: the order shrinks the position, resting orders counted."""
    text = context.qty_text

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        if REDUCE not in (context.stack.mode, client.mode):
            return None
        held = client.positions.get(order.symbol) or Position()
        closing = held.open_sell if held.qty > 0 else held.open_buy
        left = abs(held.qty) - closing
        if order.side * held.qty >= 0 or order.qty > left:
            return (
                f"reduce only: {SIDE_NAMES[order.side]} {text(order.qty)} {order.symbol} does not "
                f"shrink the position of {text(held.qty)}, of which open orders already close "
                f"{text(closing)}"
            )
        return None

    return check


def quantity(context: RiskContext, limits: AccountLimits) -> PreparedCheck:
    """The order's quantity."""
    tightest, text = limits.tightest, context.qty_text

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        if order.qty <= tightest:
            return None
        for account, limit in limits.on(client):
            if order.qty > limit:
                qty, most = text(order.qty), text(limit)
                return f"qty {qty} above the limit {most} of {account.label}"
        return None

    return check


def notional(context: RiskContext, limits: AccountLimits) -> PreparedCheck:
    """Quantity times price."""
    text = context.amount_text

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        value = order.qty * context.price_of(order, client)
        for account, limit in limits.on(client):
            if value > limit:
                return f"notional {text(value)} above the limit {text(limit)} of {account.label}"
        return None

    return check


def price_age(context: RiskContext, ms_max: int) -> PreparedCheck:
    """The book has a price of the symbol that is not too old.

    In a replay a price does not age while the feed is alive.  A rejected order would be repeated
    until the price is fresh again, but the symbol's next tick may be far off, or may even wait for
    this order: the feed waits for the strategy, which waits for our answer.
    """
    ns_max = ms_max * NS_PER_MS

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        context.fresh_price = book = context.prices.read(order.symbol)
        if book is None:
            return f"no price of {order.symbol} in the book"
        age_ns = book.age_ns
        if context.replaying and book.feed_age_ns is not None:
            age_ns = min(age_ns, book.feed_age_ns)
        if age_ns > ns_max:
            return f"price of {order.symbol} is {age_ns // NS_PER_MS} ms old, at most {ms_max} ms"
        return None

    return check


def price_collar(context: RiskContext, bps_max: float) -> PreparedCheck:
    """The order's price is close to the fresh price that :func:`price_age` has read before."""

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        book = context.fresh_price
        assert book is not None, "a price collar needs a limit of the price's age"
        # In a replay the book has gone past the order's tick, whose price the order has anyway.
        if order.price is None or (context.replaying and context.tick_marks is not None):
            return None
        off_bps = abs(order.price - book.price) * BPS / book.price
        if off_bps > bps_max:
            return (
                f"price {money_text(order.price)} is {off_bps:.1f} bps from the book's "
                f"{money_text(book.price)}, at most {bps_max:g}"
            )
        return None

    return check


def position(context: RiskContext, limits: AccountLimits) -> PreparedCheck:
    """The position in the symbol if all resting orders on this side executed."""
    text = context.qty_text

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        for account, limit in limits.on(client):
            held = account.positions.get(order.symbol) or Position()
            resting = held.open_buy if order.side == BUY else -held.open_sell
            after = held.qty + resting + order.side * order.qty
            # An order that shrinks the position passes even if the limit was lowered below it.
            if abs(after) > limit and abs(after) > abs(held.qty):
                return (
                    f"position of {account.label} in {order.symbol} would be {text(after)}, "
                    f"at most {text(limit)} either way"
                )
        return None

    return check


def exposure(context: RiskContext, limits: AccountLimits) -> PreparedCheck:
    """Gross exposure over all symbols, each at the worse outcome of its resting orders."""
    text = context.amount_text

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        price = context.price_of(order, client)
        for account, limit in limits.on(client):
            before = after = 0
            for symbol, held in account.positions.items():
                worst = max(abs(held.qty + held.open_buy), abs(held.qty - held.open_sell))
                value = worst * context.mark(symbol, held)
                before += value
                if symbol != order.symbol:
                    after += value
            held = account.positions.get(order.symbol) or Position()
            buy = held.open_buy + (order.qty if order.side == BUY else 0)
            sell = held.open_sell + (order.qty if order.side != BUY else 0)
            after += max(abs(held.qty + buy), abs(held.qty - sell)) * price
            if after > limit and after > before:
                return (
                    f"gross exposure of {account.label} would be {text(after)}, "
                    f"at most {text(limit)}"
                )
        return None

    return check


def open_orders(context: RiskContext, limits: AccountLimits) -> PreparedCheck:
    """The number of open orders; only an order that may rest counts."""

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        if order.type != LIMIT or order.tif == IOC:
            return None
        for account, limit in limits.on(client):
            if account.open_orders >= limit:
                return f"{account.label} has {account.open_orders} open orders, at most {limit}"
        return None

    return check


def daily_loss(context: RiskContext, limits: AccountLimits) -> PreparedCheck:
    """The loss since the day began."""
    text = context.amount_text

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        for account, limit in limits.on(client):
            profit = context.profit_today(account)
            if profit < -limit:
                return f"daily loss of {account.label} is {text(-profit)}, at most {text(limit)}"
        return None

    return check


def orders_per_s(context: RiskContext, limits: AccountLimits) -> PreparedCheck:
    """The rate of orders."""

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        for account, limit in limits.on(client):
            bucket = account.orders_bucket
            if bucket is None:
                bucket = account.orders_bucket = TokenBucket(limit)
            if not bucket.take(now_ns):
                return f"{account.label} sends over {limit} orders per second"
        return None

    return check


def repeats(context: RiskContext, limits: AccountLimits) -> PreparedCheck:
    """How often the same side, quantity and symbol executed within the window."""

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        horizon = now_ns - context.repeat_window_ns
        for account, limit in limits.on(client):
            times = account.repeats.get((order.symbol, order.side, order.qty))
            if not times:
                continue
            while times and times[0] <= horizon:
                times.popleft()
            if len(times) >= limit:
                return (
                    f"{SIDE_NAMES[order.side]} {context.qty_text(order.qty)} {order.symbol} "
                    f"executed {len(times)} times for {account.label} within "
                    f"{context.repeat_window_ns / NS_PER_S:g} s, at most {limit}"
                )
        return None

    return check


def kill_switch(context: RiskContext, _limit: None) -> PreparedCheck:
    """No kill switch is pulled."""

    def check(order: OrderRequest, client: Account, now_ns: int) -> str | None:
        account = context.in_mode(KILLED, client)
        if account is None:
            return None
        return f"the kill switch of {account.label} is pulled; a resume request resets it"

    return check


ALWAYS, MODE, SHARED, ACCOUNT = range(4)
"""Where the limit of a check comes from.

ALWAYS: it has none and runs for every order.  MODE: none, it runs while a trading mode is not
ACTIVE.  SHARED: the setting ``risk_<name>``.  ACCOUNT: ``risk_client_<name>`` and
``risk_stack_<name>``, so that several strategies can share one budget.
"""


PRICE, AMOUNT, QTY = "price", "amount", "qty"
"""What a limit can be, besides a plain number: an amount is a quantity times a price."""


class Check(NamedTuple):
    """One row of the table."""

    kind: int
    name: str
    code: RejectCode
    prepare: Callable[[RiskContext, Any], PreparedCheck]
    """Its limit is None (MODE), the setting's value (SHARED) or an :class:`AccountLimits`."""
    unit: str = ""
    """What the setting is; the check gets it in the unit that orders have it in."""
    marks: bool = False
    """The check values holdings, so the strategies must send the prices of their ticks."""


CHECKS: Final = (
    Check(SHARED, "known_symbols", RejectCode.NO_BOOK, live_book),
    Check(SHARED, "known_symbols", RejectCode.UNKNOWN_SYMBOL, known_symbol),
    Check(SHARED, "symbols_max", RejectCode.SYMBOLS_MAX, symbols),
    Check(SHARED, "tick_size", RejectCode.TICK_SIZE, tick_size, PRICE),
    Check(SHARED, "lot_size", RejectCode.LOT_SIZE, lot_size, QTY),
    Check(MODE, "halted", RejectCode.HALTED, halted),
    Check(MODE, "reduce_only", RejectCode.REDUCE_ONLY, reduce_only),
    Check(ACCOUNT, "qty_max", RejectCode.QTY_MAX, quantity, QTY),
    Check(ACCOUNT, "notional_max", RejectCode.NOTIONAL_MAX, notional, AMOUNT),
    Check(SHARED, "price_age_ms_max", RejectCode.STALE_PRICE, price_age),
    Check(SHARED, "price_collar_bps", RejectCode.PRICE_COLLAR, price_collar),
    Check(ACCOUNT, "position_qty_max", RejectCode.POSITION_LIMIT, position, QTY),
    Check(ACCOUNT, "exposure_max", RejectCode.GROSS_EXPOSURE, exposure, AMOUNT, marks=True),
    Check(ACCOUNT, "open_orders_max", RejectCode.OPEN_ORDERS, open_orders),
    Check(ACCOUNT, "daily_loss_max", RejectCode.DAILY_LOSS, daily_loss, AMOUNT, marks=True),
    Check(ACCOUNT, "orders_per_s_max", RejectCode.RATE_LIMIT, orders_per_s),
    Check(ACCOUNT, "repeats_max", RejectCode.THROTTLED, repeats),
    Check(MODE, "kill_switch", RejectCode.KILL_SWITCH, kill_switch),
)
"""Every check, in the order in which they run; the first reject wins."""
