"""A slow, plain twin of the order core: fractions, lists, everything computed from the start.

It states what the order manager has to do, in the words of its documentation and in none of its
code: positions are a list of fills, profit is cash plus holdings, an order book is a dict.
"""

import random
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

DAY_NS = 86_400_000_000_000
UNITS = 1_000_000_000
OPEN = ("New", "PartiallyFilled")
ALL = "*"
"""The whole stack, where a client's name stands otherwise."""


@dataclass
class Rules:
    """Limits of one scope; 0 is none.  Money in 1e-9 units."""

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
    """The latest price of each symbol: price, age, sequence."""

    prices: dict[str, tuple[int, int, int]] = field(default_factory=dict)


@dataclass
class Asked:
    """An order as it was asked for and where it stands."""

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

    def words(self) -> tuple[Any, ...]:
        """What has to be the same for the order to be the same."""
        return self.side, self.symbol, self.qty, self.price, self.type, self.tif, self.ts

    def state(self) -> tuple[Any, ...]:
        """What an answer says about it."""
        return self.id, self.status, self.filled, self.notional, self.code


class Holding:
    """A position by average cost, in fractions."""

    def __init__(self) -> None:
        self.qty = 0
        self.average = Fraction(0)
        self.realized = Fraction(0)
        self.cash = 0
        self.mark = 0
        self.closings = 0

    def trade(self, signed: int, price: int) -> None:
        """Account for ``signed`` shares at ``price``."""
        self.cash -= signed * price
        self.mark = price
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
    """Everything that is decided so far."""

    def __init__(self) -> None:
        self.orders: dict[tuple[str, int], Asked] = {}
        self.holdings: dict[tuple[str, str], Holding] = {}
        self.modes: dict[str, str] = {}
        self.clients: list[str] = []
        self.numbers = 0
        self.highest: dict[str, int] = {}
        self.days: dict[str, tuple[int, int]] = {}


class Oracle:
    """Decides as the order core must; ``commit``, ``lose`` and ``restart`` end a turn."""

    def __init__(
        self,
        book: Book,
        client_rules: Rules,
        stack_rules: Rules,
        *,
        tick_size: int = 0,
        lot_size: int = 0,
        collar_bps: int = 0,
        age_ns_max: int = 0,
        window_ns: int = UNITS,
        replay: bool = True,
        slippage_bps: int = 0,
        fill_percent: int = 100,
        seed: int = 0,
    ) -> None:
        self.book = book
        self.rules = {False: client_rules, True: stack_rules}
        self.tick_size, self.lot_size = tick_size, lot_size
        self.collar_bps, self.age_ns_max, self.window_ns = collar_bps, age_ns_max, window_ns
        self.replay = replay
        self.slippage_bps, self.fill_percent, self.seed = slippage_bps, fill_percent, seed
        self.kept: list[tuple[str, tuple[Any, ...]]] = []
        """Facts that are durable."""
        self.turn: list[tuple[str, tuple[Any, ...]]] = []
        """Facts of this turn."""
        self.state = State()
        self.buckets: dict[str, tuple[Fraction, int]] = {}
        self.executed: dict[tuple[Any, ...], list[int]] = {}
        self.shown: dict[str, int] = {}
        self.day = 0

    # Facts

    def fact(self, name: str, *what: Any) -> None:
        """Something happened: remember it and let it take effect."""
        self.turn.append((name, what))
        getattr(self, f"_on_{name}")(*what)

    def _on_order(self, fields: dict[str, Any]) -> None:
        order = Asked(**fields)
        state = self.state
        state.orders[order.client, order.id] = order
        if order.client not in state.clients:
            state.clients.append(order.client)
        state.numbers = order.number
        state.highest[order.client] = max(state.highest.get(order.client, -1), order.id)

    def _on_fill(self, client: str, order_id: int, qty: int, price: int) -> None:
        order = self.state.orders[client, order_id]
        order.fills.append((qty, price))
        order.status = "Filled" if order.filled == order.qty else "PartiallyFilled"
        holding = self.state.holdings.setdefault((client, order.symbol), Holding())
        holding.trade(order.sign * qty, price)
        total = self.state.holdings.setdefault((ALL, order.symbol), Holding())
        total.trade(order.sign * qty, price)

    def _on_status(self, client: str, order_id: int, status: str, code: str) -> None:
        order = self.state.orders[client, order_id]
        order.status, order.code = status, code

    def _on_acked(self, client: str, order_id: int) -> None:
        order = self.state.orders[client, order_id]
        order.acked = order.state()

    def _on_mode(self, scope: str, mode: str) -> None:
        self.state.modes[scope] = mode

    def _on_day(self, scope: str, day: int, base: int) -> None:
        self.state.days[scope] = (day, base)

    def commit(self) -> None:
        """The turn is durable."""
        self.kept += self.turn
        self.turn = []

    def lose(self) -> None:
        """The turn was not kept, and whatever is only in memory is gone, too."""
        self.turn = []
        self.state = State()
        for name, what in self.kept:
            getattr(self, f"_on_{name}")(*what)
        self.buckets.clear()
        self.executed.clear()
        self.shown.clear()
        self.day = 0

    # Views

    def open_orders(self, scope: str) -> list[Asked]:
        """Orders that can still execute, oldest first."""
        found = [o for o in self.state.orders.values() if o.status in OPEN and o.acked]
        return sorted((o for o in found if scope in (ALL, o.client)), key=lambda o: o.number)

    def holding(self, scope: str, symbol: str) -> Holding:
        """What a scope holds of a symbol."""
        return self.state.holdings.get((scope, symbol)) or Holding()

    def resting(self, scope: str, symbol: str, side: str) -> int:
        """Open quantity on one side."""
        found = [o for o in self.open_orders(scope) if (o.symbol, o.side) == (symbol, side)]
        return sum(o.qty - o.filled for o in found)

    def mark(self, scope: str, symbol: str) -> int:
        """What a holding is valued at."""
        if not self.replay and symbol in self.book.prices:
            return self.book.prices[symbol][0]
        return self.holding(scope, symbol).mark

    def profit(self, scope: str) -> int:
        """Cash plus holdings."""
        symbols = [symbol for owner, symbol in self.state.holdings if owner == scope]
        return sum(
            self.holding(scope, s).cash + self.holding(scope, s).qty * self.mark(scope, s)
            for s in symbols
        )

    # Requests

    def submit(self, request: dict[str, Any], now_ns: int) -> tuple[Any, ...]:
        """A new order: ("ack", duplicate, state) or ("refused", code, retryable)."""
        client, order_id = request["client"], request["id"]
        known = self.state.orders.get((client, order_id)) if order_id is not None else None
        fields = {**request, "at_ns": now_ns, "number": self.state.numbers + 1}
        if known is not None:
            if Asked(**fields).words() == known.words():
                return "ack", True, known.acked
            return "refused", "DUPLICATE_ID", False
        if any(rules.daily_loss_max for rules in self.rules.values()):
            self._new_day(client, request["ts"], now_ns)
        code = self._refusal(Asked(**{**fields, "id": 0}), now_ns)
        timely = ("STALE_PRICE", "PRICE_COLLAR", "RATE_LIMIT", "THROTTLED", "HALTED", "REDUCE_ONLY")
        if self.replay and code in timely:
            if client not in self.state.clients:
                # Nothing of it was kept, so it is as unknown as before.
                self.buckets.pop(client, None)
            return "refused", code, True
        if order_id is None:
            number = fields["number"]
            if (client, number) in self.state.orders:
                number = self.state.highest[client] + 1
            order_id = number
            fields["number"] = number
        self.fact("order", {**fields, "id": order_id})
        if code:
            self.fact("status", client, order_id, "Denied", code)
            if code == "DAILY_LOSS":
                self._trip(client)
        else:
            self._place(self.state.orders[client, order_id], now_ns)
        self.fact("acked", client, order_id)
        return "ack", False, self.state.orders[client, order_id].acked

    def _new_day(self, client: str, ts: str | None, now_ns: int) -> None:
        day = now_ns // DAY_NS
        if self.replay and ts is not None:
            day = int(ts[1:11].replace("-", ""))
        for scope in (client, ALL):
            old, _ = self.state.days.get(scope, (0, 0))
            if old != day:
                self.fact("day", scope, day, self.profit(scope))

    def _refusal(self, order: Asked, now_ns: int) -> str:
        for check in (
            self._size,
            self._mode,
            self._amount,
            self._price,
            self._position,
            self._exposure,
            self._open,
            self._loss,
            self._rate,
            self._repeats,
            self._kill,
        ):
            code = check(order, now_ns)
            if code:
                return code
        return ""

    def _scopes(self, order: Asked) -> list[tuple[str, Rules]]:
        return [(order.client, self.rules[False]), (ALL, self.rules[True])]

    def _size(self, order: Asked, now_ns: int) -> str:
        if self.tick_size and order.price is not None and order.price % self.tick_size:
            return "TICK_SIZE"
        return "LOT_SIZE" if self.lot_size and order.qty % self.lot_size else ""

    def _mode(self, order: Asked, now_ns: int) -> str:
        modes = [self.state.modes.get(scope) for scope, _ in self._scopes(order)]
        if "halted" in modes:
            return "HALTED"
        if "reduce" in modes:
            held = self.holding(order.client, order.symbol).qty
            way_out = "SELL" if held > 0 else "BUY"
            left = abs(held) - self.resting(order.client, order.symbol, way_out)
            if not held or order.side != way_out or order.qty > left:
                return "REDUCE_ONLY"
        return ""

    def _counted_at(self, order: Asked) -> int:
        if order.price is not None:
            return order.price
        if order.symbol in self.book.prices:
            return self.book.prices[order.symbol][0]
        return self.holding(order.client, order.symbol).mark

    def _amount(self, order: Asked, now_ns: int) -> str:
        for _, rules in self._scopes(order):
            if rules.qty_max and order.qty > rules.qty_max:
                return "QTY_MAX"
        for _, rules in self._scopes(order):
            if rules.notional_max and order.qty * self._counted_at(order) > rules.notional_max:
                return "NOTIONAL_MAX"
        return ""

    def _price(self, order: Asked, now_ns: int) -> str:
        if not self.age_ns_max:
            return ""
        price, age_ns, _ = self.book.prices.get(order.symbol, (0, 0, 0))
        if not price or age_ns > self.age_ns_max:
            return "STALE_PRICE"
        off = abs(Fraction(order.price, price) - 1) * 10_000 if order.price is not None else 0
        return "PRICE_COLLAR" if self.collar_bps and off > self.collar_bps else ""

    def _position(self, order: Asked, now_ns: int) -> str:
        for scope, rules in self._scopes(order):
            held = self.holding(scope, order.symbol).qty
            resting = self.resting(scope, order.symbol, order.side)
            after = abs(held + order.sign * (resting + order.qty))
            if rules.position_qty_max and after > rules.position_qty_max and after > abs(held):
                return "POSITION_LIMIT"
        return ""

    def _worst(self, scope: str, symbol: str, order: Asked | None) -> int:
        buy, sell = (self.resting(scope, symbol, side) for side in ("BUY", "SELL"))
        if order is not None and order.side == "BUY":
            buy += order.qty
        elif order is not None:
            sell += order.qty
        held = self.holding(scope, symbol).qty
        return max(abs(held + buy), abs(held - sell))

    def _exposure(self, order: Asked, now_ns: int) -> str:
        for scope, rules in self._scopes(order):
            if not rules.exposure_max:
                continue
            symbols = {s for owner, s in self.state.holdings if owner == scope}
            symbols |= {o.symbol for o in self.state.orders.values() if scope in (ALL, o.client)}
            before = {s: self._worst(scope, s, None) * self.mark(scope, s) for s in symbols}
            price = self._counted_at(order)
            after = {**before, order.symbol: self._worst(scope, order.symbol, order) * price}
            if sum(after.values()) > max(rules.exposure_max, sum(before.values())):
                return "GROSS_EXPOSURE"
        return ""

    def _open(self, order: Asked, now_ns: int) -> str:
        if order.type == "LIMIT" and order.tif != "IOC":
            for scope, rules in self._scopes(order):
                if rules.open_orders_max and len(self.open_orders(scope)) >= rules.open_orders_max:
                    return "OPEN_ORDERS"
        return ""

    def _beyond(self, scope: str) -> bool:
        limit = self.rules[scope == ALL].daily_loss_max
        base = self.state.days.get(scope, (0, 0))[1]
        return bool(limit) and self.profit(scope) - base < -limit

    def _loss(self, order: Asked, now_ns: int) -> str:
        return "DAILY_LOSS" if self._beyond(order.client) or self._beyond(ALL) else ""

    def _rate(self, order: Asked, now_ns: int) -> str:
        for scope, rules in self._scopes(order):
            per_s = rules.orders_per_s_max
            if per_s:
                level, last_ns = self.buckets.get(scope, (Fraction(per_s), 0))
                level = min(level + Fraction(now_ns - last_ns, UNITS) * per_s, Fraction(per_s))
                self.buckets[scope] = (level - (level >= 1), now_ns)
                if level < 1:
                    return "RATE_LIMIT"
        return ""

    def _repeats(self, order: Asked, now_ns: int) -> str:
        for scope, rules in self._scopes(order):
            times = self.executed.get((scope, order.symbol, order.side, order.qty), [])
            recent = [t for t in times if t > now_ns - self.window_ns]
            if rules.repeats_max and len(recent) >= rules.repeats_max:
                return "THROTTLED"
        return ""

    def _kill(self, order: Asked, now_ns: int) -> str:
        modes = [self.state.modes.get(scope) for scope, _ in self._scopes(order)]
        return "KILL_SWITCH" if "killed" in modes else ""

    def _trip(self, client: str) -> None:
        for scope in (client, ALL):
            if self.state.modes.get(scope) != "killed" and self._beyond(scope):
                self.set_mode(scope, "killed")

    # The venue

    def _price_now(self, order: Asked) -> int | None:
        if order.symbol not in self.book.prices:
            return None
        price = self.book.prices[order.symbol][0]
        worse = round(Fraction(price * self.slippage_bps, 10_000))
        return max(price + order.sign * worse, 1)

    def _share(self, order: Asked) -> int:
        left = order.qty - order.filled
        if self.fill_percent == 100:
            return left
        draw = random.Random(f"{self.seed}/{order.number}/{order.filled}")
        return max(left * draw.randint(self.fill_percent, 100) // 100, 1)

    def _good_enough(self, order: Asked, price: int) -> bool:
        return order.price is not None and (order.price - price) * order.sign >= 0

    def _fill(self, order: Asked, qty: int, price: int, now_ns: int) -> None:
        self.fact("fill", order.client, order.id, qty, price)
        for scope in (order.client, ALL):
            key = (scope, order.symbol, order.side, order.qty)
            self.executed.setdefault(key, []).append(now_ns)

    def _place(self, order: Asked, now_ns: int) -> None:
        key = order.client, order.id
        if order.type == "PLAIN":
            self._fill(order, order.qty, order.price or 0, now_ns)
            return
        price = self._price_now(order)
        if order.type == "MARKET":
            if price is None:
                self.fact("status", *key, "Rejected", "NO_MARKET")
                return
            self._fill(order, self._share(order), price, now_ns)
        elif price is not None and self._good_enough(order, price):
            self._fill(order, self._share(order), price, now_ns)
        if order.status in OPEN and (order.type == "MARKET" or order.tif == "IOC"):
            self.fact("status", *key, "Canceled", "")

    def poll(self, now_ns: int) -> None:
        """Resting orders see the book; the day may end."""
        resting = self.open_orders(ALL)
        news = {
            symbol
            for symbol, (_, _, seq) in self.book.prices.items()
            if any(o.symbol == symbol for o in resting) and self.shown.get(symbol) != seq
        }
        for symbol in news:
            self.shown[symbol] = self.book.prices[symbol][2]
        for order in resting:
            price = self._price_now(order)
            if order.symbol in news and price is not None and self._good_enough(order, price):
                self._fill(order, self._share(order), price, now_ns)
        if now_ns // DAY_NS > self.day:
            self.day = now_ns // DAY_NS
            for order in self.open_orders(ALL):
                if order.tif == "DAY" and order.at_ns // DAY_NS < self.day:
                    self.fact("status", order.client, order.id, "Expired", "")

    def cancel(self, client: str, order_id: int) -> tuple[Any, ...]:
        """("ok", state) or ("refused", code)."""
        order = self.state.orders.get((client, order_id))
        if order is None:
            return "refused", "UNKNOWN_ORDER"
        if order.status not in OPEN:
            return "refused", "NOT_OPEN"
        self.fact("status", client, order_id, "Canceled", "")
        return "ok", order.state()

    def status(self, client: str, order_id: int) -> tuple[Any, ...]:
        """("ok", state) or ("refused", code)."""
        order = self.state.orders.get((client, order_id))
        return ("ok", order.state()) if order else ("refused", "UNKNOWN_ORDER")

    def set_mode(self, scope: str, mode: str) -> int | None:
        """How many orders were canceled; None if there is no such client."""
        if scope != ALL and scope not in self.state.clients:
            return None
        if mode == "active" and self.state.modes.get(scope) == "killed":
            day = self.state.days.get(scope, (0, 0))[0]
            self.fact("day", scope, day, self.profit(scope))
        self.fact("mode", scope, mode)
        if mode != "killed":
            return 0
        orders = self.open_orders(scope)
        for order in orders:
            self.fact("status", order.client, order.id, "Canceled", "")
        return len(orders)
