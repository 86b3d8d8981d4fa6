"""Pre-trade checks, in one order, each with a limit and a code: pure, time and prices come in.

A limit of 0 is no limit, and a check without a limit costs nothing.  Every limit exists per client
and for the whole stack, so that several strategies can share one budget.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Self

import msgspec

from app.config import Settings
from app.execution.accounts import ACTIVE, HALTED, KILLED, REDUCE, STACK_NO, Account
from app.execution.prices import BookPrice, PriceSource
from app.model.money import money_text, to_units
from app.model.orders import BUY, IOC, LIMIT, SIDE_NAMES, Order, tick_of_order_id
from app.model.position import Position
from app.model.reject_codes import RejectCode, retryable
from app.model.requests import OrderRequest, Reject
from app.model.timestamps import NS_PER_S
from app.model.token_bucket import TokenBucket

BPS: Final = 10_000
REPEATS_KEYS_MAX: Final = 10_000


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one scope: money in 1e-9 units, 0 for none."""

    qty_max: int = 0
    notional_max: int = 0
    position_qty_max: int = 0
    exposure_max: int = 0
    open_orders_max: int = 0
    daily_loss_max: int = 0
    orders_per_s_max: int = 0
    repeats_max: int = 0


class RiskConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the checks are set to."""

    client: Limits = Limits()
    stack: Limits = Limits()
    known_symbols: bool = False
    tick_size: int = 0
    lot_size: int = 0
    collar_bps: float = 0.0
    price_age_ns_max: int = 0
    repeat_window_ns: int = NS_PER_S
    replaying: bool = True

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The part of the settings that is about risk."""

        def limits(account: str) -> Limits:
            def money(name: str) -> int:
                return to_units(getattr(settings, f"risk_{account}_{name}"))

            def count(name: str) -> int:
                return int(getattr(settings, f"risk_{account}_{name}"))

            return Limits(
                qty_max=count("qty_max"),
                notional_max=money("notional_max"),
                position_qty_max=count("position_qty_max"),
                exposure_max=money("exposure_max"),
                open_orders_max=count("open_orders_max"),
                daily_loss_max=money("daily_loss_max"),
                orders_per_s_max=count("orders_per_s_max"),
                repeats_max=count("repeats_max"),
            )

        return cls(
            client=limits("client"),
            stack=limits("stack"),
            known_symbols=settings.risk_known_symbols,
            tick_size=to_units(settings.risk_tick_size),
            lot_size=settings.risk_lot_size,
            collar_bps=settings.risk_price_collar_bps,
            price_age_ns_max=settings.risk_price_age_ms_max * 1_000_000,
            repeat_window_ns=int(settings.risk_repeat_window_s * NS_PER_S),
            replaying=settings.trading_mode == "replay",
        )


Check = Callable[[OrderRequest, Account, int], Reject | None]


class RiskGate:
    """Runs the checks that have a limit, in order; the first refusal wins."""

    def __init__(self, config: RiskConfig, prices: PriceSource, stack: Account) -> None:
        self.config = config
        self.stack = stack
        self._prices = prices
        c, s = config.client, config.stack
        steps: list[tuple[object, Check]] = [
            (config.known_symbols, self._known_symbol),
            (config.tick_size, self._tick_size),
            (config.lot_size, self._lot_size),
            (True, self._mode),
            (c.qty_max or s.qty_max, self._qty),
            (c.notional_max or s.notional_max, self._notional),
            (config.collar_bps or config.price_age_ns_max, self._price),
            (c.position_qty_max or s.position_qty_max, self._position),
            (c.exposure_max or s.exposure_max, self._exposure),
            (c.open_orders_max or s.open_orders_max, self._open_orders),
            (c.daily_loss_max or s.daily_loss_max, self._daily_loss),
            (c.orders_per_s_max or s.orders_per_s_max, self._orders_per_s),
            (c.repeats_max or s.repeats_max, self._repeats),
            (True, self._kill_switch),
        ]
        self._checks = tuple(check for limit, check in steps if limit)
        about_mode = (self._mode, self._kill_switch)
        self._checks_when_active = tuple(c for c in self._checks if c not in about_mode)
        self._qty_safe = min(filter(None, (c.qty_max, s.qty_max)), default=0)
        self.counts_repeats = bool(c.repeats_max or s.repeats_max)
        self.watches_loss = bool(c.daily_loss_max or s.daily_loss_max)

    def check(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        """Why ``order`` must not go out, or None if it may.  ``now_ns``: nanoseconds, any epoch."""
        active = client.mode == ACTIVE and self.stack.mode == ACTIVE
        for check in self._checks_when_active if active else self._checks:
            reject = check(order, client, now_ns)
            if reject is not None:
                return reject
        return None

    def limits(self, account: Account) -> Limits:
        """The limits that hold for ``account``."""
        return self.config.stack if account.client_no == STACK_NO else self.config.client

    def mark(self, symbol: str, position: Position) -> int:
        """What a holding is valued at: the book's price when live, else the last fill's.

        A replay never looks at the book here, because where the book stands is a matter of time.
        """
        if not self.config.replaying:
            book = self._prices.read(symbol)
            if book is not None:
                return book.price
        return position.mark

    def profit_today(self, account: Account) -> int:
        """Profit since the day began, realised and not."""
        return account.profit(self.mark) - account.day_base

    def loss_exceeded(self, account: Account) -> Reject | None:
        """The daily loss beyond its limit, or None."""
        limit = self.limits(account).daily_loss_max
        if not limit or (profit := self.profit_today(account)) >= -limit:
            return None
        return self._reject(
            RejectCode.DAILY_LOSS,
            f"daily loss of {account.label} is {money_text(-profit)}, at most {money_text(limit)}",
        )

    def executed(self, order: Order, client: Account, now_ns: int) -> None:
        """Remember an execution for the throttle of repeated ones."""
        key = (order.symbol, order.side, order.qty)
        for account in (client, self.stack):
            limit = self.limits(account).repeats_max
            if not limit:
                continue
            if len(account.repeats) >= REPEATS_KEYS_MAX:
                horizon = now_ns - self.config.repeat_window_ns
                account.repeats = {
                    k: q for k, q in account.repeats.items() if q and q[-1] > horizon
                }
            account.repeats.setdefault(key, deque(maxlen=limit)).append(now_ns)

    def _reject(self, code: RejectCode, msg: str) -> Reject:
        return Reject(code, msg, retryable=retryable(code, self.config.replaying))

    def _known_symbol(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        if self._prices.knows(order.symbol) is False:
            return self._reject(RejectCode.UNKNOWN_SYMBOL, f"unknown symbol: {order.symbol}")
        return None

    def _tick_size(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        tick = self.config.tick_size
        if order.price is not None and order.price % tick:
            return self._reject(
                RejectCode.TICK_SIZE,
                f"price {money_text(order.price)} is no multiple of the tick {money_text(tick)}",
            )
        return None

    def _lot_size(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        lot = self.config.lot_size
        if order.qty % lot:
            return self._reject(
                RejectCode.LOT_SIZE, f"qty {order.qty} is no multiple of the lot {lot}"
            )
        return None

    def _mode(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        for account in (self.stack, client):
            if account.mode == HALTED:
                return self._reject(RejectCode.HALTED, f"{account.label} is halted")
        if REDUCE not in (self.stack.mode, client.mode):
            return None
        held = client.positions.get(order.symbol) or Position()
        closing = held.open_sell if held.qty > 0 else held.open_buy
        left = abs(held.qty) - closing
        if order.side * held.qty >= 0 or order.qty > left:
            return self._reject(
                RejectCode.REDUCE_ONLY,
                f"reduce only: {SIDE_NAMES[order.side]} {order.qty} {order.symbol} does not shrink "
                f"the position of {held.qty} with {closing} on the way out",
            )
        return None

    def _qty(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        if order.qty <= self._qty_safe:
            return None
        for account in (client, self.stack):
            limit = self.limits(account).qty_max
            if limit and order.qty > limit:
                return self._reject(
                    RejectCode.QTY_MAX,
                    f"qty {order.qty} above the limit {limit} of {account.label}",
                )
        return None

    def _notional(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        notional = order.qty * self._price_of(order, client)
        for account in (client, self.stack):
            limit = self.limits(account).notional_max
            if limit and notional > limit:
                return self._reject(
                    RejectCode.NOTIONAL_MAX,
                    f"notional {money_text(notional)} above the limit {money_text(limit)} "
                    f"of {account.label}",
                )
        return None

    def _price_of(self, order: OrderRequest, client: Account) -> int:
        """What the order is counted at: its price, or for a market order the book's."""
        if order.price is not None:
            return order.price
        book = self._prices.read(order.symbol)
        # Without any price the paper exchange has no market either, and refuses by itself.
        if book is not None:
            return book.price
        held = client.positions.get(order.symbol)
        return held.mark if held is not None else 0

    def _price(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        book = self._prices.read(order.symbol)
        if book is None:
            return self._reject(RejectCode.STALE_PRICE, f"no price of {order.symbol} in the book")
        age_ns = self._age_ns(book)
        if age_ns > self.config.price_age_ns_max:
            return self._reject(
                RejectCode.STALE_PRICE,
                f"price of {order.symbol} is {age_ns // 1_000_000} ms old, at most "
                f"{self.config.price_age_ns_max // 1_000_000} ms",
            )
        bps = self.config.collar_bps
        if bps and order.price is not None and not self._moved_on(order, book):
            off_bps = abs(order.price - book.price) * BPS / book.price
            if off_bps > bps:
                return self._reject(
                    RejectCode.PRICE_COLLAR,
                    f"price {money_text(order.price)} is {off_bps:.1f} bps from the book's "
                    f"{money_text(book.price)}, at most {bps:g}",
                )
        return None

    def _age_ns(self, book: BookPrice) -> int:
        """How old a price is.  In a replay it does not age while the feed is alive.

        There an order is held back until the price is good again; a symbol's next tick may be long
        in coming, or wait for this very order: the feed waits for a strategy that waits for us.
        """
        if self.config.replaying and book.feed_age_ns is not None:
            return min(book.age_ns, book.feed_age_ns)
        return book.age_ns

    def _moved_on(self, order: OrderRequest, book: BookPrice) -> bool:
        """In a replay: whether the book is past the order's own time, so that no collar fits it.

        It would never come back, and an order that was delayed must not end otherwise than one
        that was not.
        """
        if not self.config.replaying or order.ts is None or not order.ts.startswith('"'):
            return False
        # Rare, and NumPy comes with it.
        from app.model.timestamps import parse_timestamp

        try:
            event_ns, _ = parse_timestamp(order.ts.strip('"').encode())
        except ValueError:
            return False
        if book.event_ns == event_ns and order.id is not None:
            return book.seq > tick_of_order_id(order.id)
        return book.event_ns > event_ns

    def _position(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        for account in (client, self.stack):
            limit = self.limits(account).position_qty_max
            if not limit:
                continue
            held = account.positions.get(order.symbol) or Position()
            resting = held.open_buy if order.side == BUY else -held.open_sell
            after = held.qty + resting + order.side * order.qty
            # What shrinks a position is let through even where the limit was lowered under it.
            if abs(after) > limit and abs(after) > abs(held.qty):
                return self._reject(
                    RejectCode.POSITION_LIMIT,
                    f"position of {account.label} in {order.symbol} would be {after}, "
                    f"at most {limit} either way",
                )
        return None

    def _exposure(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        price = self._price_of(order, client)
        for account in (client, self.stack):
            limit = self.limits(account).exposure_max
            if not limit:
                continue
            before = after = 0
            for symbol, held in account.positions.items():
                mark = self.mark(symbol, held)
                worst = max(abs(held.qty + held.open_buy), abs(held.qty - held.open_sell))
                before += worst * mark
                if symbol != order.symbol:
                    after += worst * mark
            held = account.positions.get(order.symbol) or Position()
            buy = held.open_buy + (order.qty if order.side == BUY else 0)
            sell = held.open_sell + (order.qty if order.side != BUY else 0)
            after += max(abs(held.qty + buy), abs(held.qty - sell)) * price
            if after > limit and after > before:
                return self._reject(
                    RejectCode.GROSS_EXPOSURE,
                    f"gross exposure of {account.label} would be {money_text(after)}, "
                    f"at most {money_text(limit)}",
                )
        return None

    def _open_orders(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        if order.type != LIMIT or order.tif == IOC:
            return None
        for account in (client, self.stack):
            limit = self.limits(account).open_orders_max
            if limit and account.open_orders >= limit:
                return self._reject(
                    RejectCode.OPEN_ORDERS,
                    f"{account.label} has {account.open_orders} open orders, at most {limit}",
                )
        return None

    def _daily_loss(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        return self.loss_exceeded(client) or self.loss_exceeded(self.stack)

    def _orders_per_s(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        for account in (client, self.stack):
            limit = self.limits(account).orders_per_s_max
            if not limit:
                continue
            bucket = account.orders_bucket
            if bucket is None:
                bucket = account.orders_bucket = TokenBucket(limit)
            if not bucket.take(now_ns):
                return self._reject(
                    RejectCode.RATE_LIMIT, f"{account.label} sends over {limit} orders per second"
                )
        return None

    def _repeats(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        horizon = now_ns - self.config.repeat_window_ns
        for account in (client, self.stack):
            limit = self.limits(account).repeats_max
            times = account.repeats.get((order.symbol, order.side, order.qty))
            if not limit or not times:
                continue
            while times and times[0] <= horizon:
                times.popleft()
            if len(times) >= limit:
                return self._reject(
                    RejectCode.THROTTLED,
                    f"{SIDE_NAMES[order.side]} {order.qty} {order.symbol} executed {len(times)} "
                    f"times for {account.label} within "
                    f"{self.config.repeat_window_ns / NS_PER_S:g} s, at most {limit}",
                )
        return None

    def _kill_switch(self, order: OrderRequest, client: Account, now_ns: int) -> Reject | None:
        for account in (self.stack, client):
            if account.mode == KILLED:
                return self._reject(
                    RejectCode.KILL_SWITCH,
                    f"the kill switch of {account.label} is pulled: needs a resume",
                )
        return None
