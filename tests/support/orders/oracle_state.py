"""The oracle's facts: orders, fills, modes and days, and everything that follows from them."""

from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from typing import Any

DAY_NS = 86_400_000_000_000
UNITS = 1_000_000_000
OPEN = ("New", "PartiallyFilled")
ALL = "*"
"""The whole stack, in place of a client's name."""


@dataclass
class Rules:
    """Limits of one account; 0 is no limit.  Money in 1e-9 units."""

    qty_max: int = 0
    notional_max: int = 0
    position_qty_max: int = 0
    exposure_max: int = 0
    open_orders_max: int = 0
    daily_loss_max: int = 0
    orders_per_s_max: int = 0
    repeats_max: int = 0


@dataclass
class Book:
    """The latest price of each symbol: price, age in nanoseconds, sequence, the market's time."""

    prices: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)


@dataclass
class OracleOrder:
    """A request for an order, and its state."""

    client: str
    id: int
    side: str
    symbol: str
    qty: int
    price: int | None
    type: str
    tif: str
    ts: str | None
    at_ns: int
    number: int
    at_tick: bool = False
    status: str = "New"
    code: str = ""
    fills: list[tuple[int, int]] = field(default_factory=list)
    acked: tuple[Any, ...] = ()

    @property
    def filled(self) -> int:
        return sum(qty for qty, _ in self.fills)

    @property
    def notional(self) -> int:
        return sum(qty * price for qty, price in self.fills)

    @property
    def sign(self) -> int:
        return 1 if self.side == "BUY" else -1

    def content(self) -> tuple[Any, ...]:
        """What makes two requests the same order."""
        return self.side, self.symbol, self.qty, self.price, self.type, self.tif, self.ts

    def state(self) -> tuple[Any, ...]:
        """What an answer says about the order."""
        return self.id, self.status, self.filled, self.notional, self.code


class Holding:
    """A position at average cost, in fractions."""

    def __init__(self) -> None:
        self.qty = 0
        self.average = Fraction(0)
        self.realized = Fraction(0)
        self.cash = 0
        self.mark = 0
        self.closings = 0
        self.fees = self.slippage = self.impact = self.borrow = self.turnover = 0
        self.paid_for = 0
        """For what is held, in whole units: what a closed part releases is cut to one."""
        self.since: int | None = None

    def pay(self, fee: int, borrow: int) -> None:
        """Fees and borrow are cash, and lessen the realized profit."""
        self.cash -= fee + borrow
        self.realized -= fee + borrow
        self.fees += fee
        self.borrow += borrow

    def owes(self, bps_a_year: Fraction, at_ns: int) -> int:
        """What a short has cost since its last fill."""
        if not bps_a_year or self.qty >= 0 or self.since is None:
            return 0
        years = Fraction(max(at_ns - self.since, 0), 365 * DAY_NS)
        return round(-self.paid_for * bps_a_year / 10_000 * years)

    def trade(self, signed: int, price: int) -> None:
        """Account for ``signed`` shares at ``price``."""
        self.cash -= signed * price
        self.turnover += abs(signed) * price
        self.mark = price
        closing = min(abs(signed), abs(self.qty)) if signed * self.qty < 0 else 0
        if closing:
            self.paid_for -= int(Fraction(self.paid_for * closing, abs(self.qty)))
        self.paid_for += (abs(signed) - closing) * price * (1 if signed > 0 else -1)
        while signed:
            step = 1 if signed > 0 else -1
            if self.qty * step >= 0:
                total = self.average * abs(self.qty) + price * abs(signed)
                self.qty += signed
                self.average = total / abs(self.qty)
                return
            closing = min(abs(signed), abs(self.qty))
            self.realized += -step * closing * (price - self.average)
            self.qty += step * closing
            self.closings += 1
            signed -= step * closing
            if not self.qty:
                self.average = Fraction(0)


class State:
    """Everything that has been decided so far."""

    def __init__(self) -> None:
        self.orders: dict[tuple[str, int], OracleOrder] = {}
        self.holdings: dict[tuple[str, str], Holding] = {}
        self.modes: dict[str, str] = {}
        self.clients: list[str] = []
        self.numbers = 0
        self.highest: dict[str, int] = {}
        self.days: dict[str, tuple[int, int]] = {}


@lru_cache
def _slip(
    price: int, qty: int, slippage_bps: int, impact_bps: float, impact_qty: float
) -> tuple[int, int]:
    with localcontext(prec=80):
        flat = price * Decimal(slippage_bps) / 10_000
        impact = price * Decimal(impact_bps) / 10_000
        impact *= (Decimal(qty) / Decimal(impact_qty or 1)).sqrt()
        return round(flat + impact), round(flat)


class Facts:
    """The decisions as a list of facts, and views of the resulting state."""

    def __init__(self, book: Book, replay: bool) -> None:
        self.book = book
        self.replay = replay
        self.tick_marks: dict[str, int] | None = None
        """Prices as of the tick of the order being decided."""
        self.kept: list[tuple[str, tuple[Any, ...]]] = []
        """Durable facts."""
        self.batch: list[tuple[str, tuple[Any, ...]]] = []
        """Facts of the current batch."""
        self.state = State()
        self.fees: tuple[Fraction, Fraction, Fraction] = (Fraction(0),) * 3
        """Per share, in basis points, and the least for an order; money in units."""
        self.slippage_bps = 0
        self.impact: tuple[float, float] = (0, 0)
        """Basis points, for an order of that size."""
        self.borrow_bps = Fraction(0)
        """A year."""

    def fee(self, order: OracleOrder) -> int:
        """What the order has cost so far."""
        if not any(self.fees):
            return 0
        per_share, bps, least = self.fees
        cost = round(order.filled * per_share + order.notional * bps / 10_000)
        return max(cost, round(least)) if order.filled else 0

    def fact(self, name: str, *what: Any) -> None:
        """Record a fact and apply it."""
        self.batch.append((name, what))
        getattr(self, f"_on_{name}")(*what)

    def _on_order(self, fields: dict[str, Any]) -> None:
        order = OracleOrder(**fields)
        state = self.state
        state.orders[order.client, order.id] = order
        if order.client not in state.clients:
            state.clients.append(order.client)
        state.numbers = order.number
        state.highest[order.client] = max(state.highest.get(order.client, -1), order.id)

    def slip(self, price: int, qty: int) -> tuple[int, int]:
        """By how much a price is worse, all in all, and how much of it is no impact."""
        return _slip(price, qty, self.slippage_bps, *self.impact)

    def _on_fill(
        self, client: str, order_id: int, qty: int, price: int, market: int, event_ns: int | None
    ) -> None:
        order = self.state.orders[client, order_id]
        before = self.fee(order)
        order.fills.append((qty, price))
        order.status = "Filled" if order.filled == order.qty else "PartiallyFilled"
        holding = self.state.holdings.setdefault((client, order.symbol), Holding())
        borrow = 0 if event_ns is None else holding.owes(self.borrow_bps, event_ns)
        holding.trade(order.sign * qty, price)
        total = self.state.holdings.setdefault((ALL, order.symbol), Holding())
        total.trade(order.sign * qty, price)
        worse = (price - market) * order.sign
        flat = min(self.slip(market, order.qty)[1], worse)
        for each in (holding, total):
            each.pay(self.fee(order) - before, borrow)
            each.slippage += qty * flat
            each.impact += qty * (worse - flat)
        holding.since = event_ns

    def _on_status(self, client: str, order_id: int, status: str, code: str) -> None:
        order = self.state.orders[client, order_id]
        order.status, order.code = status, code

    def _on_acked(self, client: str, order_id: int) -> None:
        order = self.state.orders[client, order_id]
        order.acked = order.state()

    def _on_mode(self, account: str, mode: str) -> None:
        self.state.modes[account] = mode

    def _on_day(self, account: str, day: int, base: int) -> None:
        self.state.days[account] = (day, base)

    def commit(self) -> None:
        """The batch is durable."""
        self.kept += self.batch
        self.batch = []

    def discard_batch(self) -> None:
        """The batch was not stored: start over from the durable facts."""
        self.batch = []
        self.state = State()
        for name, what in self.kept:
            getattr(self, f"_on_{name}")(*what)

    # Views

    def open_orders(self, account: str) -> list[OracleOrder]:
        """Orders that can still execute, oldest first."""
        found = [o for o in self.state.orders.values() if o.status in OPEN and o.acked]
        return sorted((o for o in found if account in (ALL, o.client)), key=lambda o: o.number)

    def holding(self, account: str, symbol: str) -> Holding:
        """What an account holds in a symbol."""
        return self.state.holdings.get((account, symbol)) or Holding()

    def resting(self, account: str, symbol: str, side: str) -> int:
        """Open quantity on one side."""
        found = [o for o in self.open_orders(account) if (o.symbol, o.side) == (symbol, side)]
        return sum(o.qty - o.filled for o in found)

    def mark(self, account: str, symbol: str) -> int:
        """The price a holding is valued at."""
        if self.tick_marks is not None and symbol in self.tick_marks:
            return self.tick_marks[symbol]
        if symbol in self.book.prices:
            return self.book.prices[symbol][0]
        return self.holding(account, symbol).mark

    def profit(self, account: str) -> int:
        """Cash plus holdings."""
        symbols = [symbol for owner, symbol in self.state.holdings if owner == account]
        return sum(
            self.holding(account, s).cash + self.holding(account, s).qty * self.mark(account, s)
            for s in symbols
        )
