"""A slow, plain twin of the order core: fractions, lists, everything recomputed from scratch.

It states what the order manager has to do, in the terms of its documentation and with none of its
code: a position is a list of fills, profit is cash plus holdings, an order book is a dict.
"""

import random
from datetime import datetime
from fractions import Fraction
from typing import Any

from tests.support.orders.oracle_checks import Checks
from tests.support.orders.oracle_state import (
    ALL,
    DAY_NS,
    OPEN,
    UNITS,
    Book,
    Facts,
    OracleOrder,
    Rules,
)
from tests.support.orders.prices import PROOF


class Oracle(Facts):
    """Decides as the order core must; ``commit`` and ``discard_batch`` end a batch."""

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
        fees: tuple[float, float, float] = (0, 0, 0),
        impact: tuple[float, float] = (0, 0),
        borrow_bps: float = 0,
        strategys: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(book, replay)
        per_share, bps, least = (Fraction(str(each)) for each in fees)
        self.fees = per_share * UNITS, bps, least * UNITS
        self.impact, self.borrow_bps = impact, Fraction(str(borrow_bps))
        self.strategys = strategys
        """Clients whose orders have the times of ticks."""
        self.checks = Checks(
            self,
            client_rules,
            stack_rules,
            tick_size=tick_size,
            lot_size=lot_size,
            collar_bps=collar_bps,
            age_ns_max=age_ns_max,
            window_ns=window_ns,
        )
        self.watches_loss = bool(client_rules.daily_loss_max or stack_rules.daily_loss_max)
        self.slippage_bps, self.fill_percent, self.seed = slippage_bps, fill_percent, seed
        self.shown: dict[str, int] = {}
        """Symbol -> sequence of the book update that resting orders have seen."""
        self.day = 0

    def discard_batch(self) -> None:
        """The batch was not stored, and everything that is only in memory is lost, too."""
        super().discard_batch()
        self.checks.forget()
        self.shown.clear()
        self.day = 0

    # Requests

    def submit(
        self, request: dict[str, Any], now_ns: int, marks: dict[str, int]
    ) -> tuple[Any, ...]:
        """A new order: ("ack", duplicate, state) or ("reject", code, retryable)."""
        proof = request.pop("proof")
        request["at_tick"] = proof == PROOF
        client, order_id = request["client"], request["id"]
        known = self.state.orders.get((client, order_id)) if order_id is not None else None
        fields = {**request, "at_ns": now_ns, "number": self.state.numbers + 1}
        if known is not None:
            if OracleOrder(**fields).content() == known.content():
                return "ack", True, known.acked
            return "reject", "DUPLICATE_ID", False
        if proof not in (None, PROOF):
            return "reject", "OTHER_BOOK", True
        self.tick_marks = marks if request["at_tick"] else None
        try:
            return self._decide(fields, now_ns)
        finally:
            self.tick_marks = None

    def _decide(self, fields: dict[str, Any], now_ns: int) -> tuple[Any, ...]:
        client, order_id = fields["client"], fields["id"]
        if self.watches_loss:
            self._new_day(OracleOrder(**fields), now_ns)
        code = self.checks.reject_code(OracleOrder(**{**fields, "id": 0}), now_ns)
        clock_bound = (
            "STALE_PRICE",
            "PRICE_COLLAR",
            "RATE_LIMIT",
            "THROTTLED",
            "HALTED",
            "REDUCE_ONLY",
        )
        if self.replay and code in clock_bound:
            if client not in self.state.clients:
                # Nothing was recorded: the client is still unknown.
                self.checks.buckets.pop(client, None)
                self.state.days.pop(client, None)
                self.batch = [f for f in self.batch if (f[0], f[1][0]) != ("day", client)]
            return "reject", code, True
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

    def _new_day(self, order: OracleOrder, now_ns: int) -> None:
        day = now_ns // DAY_NS
        if self.replay and order.at_tick:
            if order.ts is None:
                return
            day = _seconds(order.ts) // 86_400
        elif self.replay:
            if order.symbol not in self.book.prices:
                return
            day = self.book.prices[order.symbol][3] // DAY_NS
        for account in (order.client, ALL):
            old, _ = self.state.days.get(account, (0, 0))
            if day > old:
                self.fact("day", account, day, self.profit(account))

    def _trip(self, client: str) -> None:
        for account in (client, ALL):
            if self.state.modes.get(account) != "killed" and self.checks.loss_exceeded(account):
                self.set_mode(account, "killed")

    # The venue

    def _price_now(self, order: OracleOrder) -> int | None:
        price = self._market(order)
        if price is None:
            return None
        return max(price + order.sign * self.slip(price, order.qty)[0], 1)

    def _market(self, order: OracleOrder) -> int | None:
        if order.at_tick and (order.type == "PLAIN" or _has_waited(order)):
            return order.price or 0
        if order.symbol in self.book.prices:
            return self.book.prices[order.symbol][0]
        return None

    def _share(self, order: OracleOrder) -> int:
        left = order.qty - order.filled
        if self.fill_percent == 100:
            return left
        draw = random.Random(f"{self.seed}/{order.id}/{order.symbol}/{order.filled}")
        return max(left * draw.randint(self.fill_percent, 100) // 100, 1)

    def _marketable(self, order: OracleOrder, price: int) -> bool:
        return order.price is not None and (order.price - price) * order.sign >= 0

    def _fill(
        self, order: OracleOrder, qty: int, price: int, now_ns: int, rested: bool = False
    ) -> None:
        event_ns: int | None = now_ns
        if not self.borrow_bps:
            event_ns = None
        elif order.client in self.strategys and rested:
            event_ns = self.book.prices[order.symbol][3]
        elif order.client in self.strategys and order.ts is not None:
            event_ns = int(_seconds(order.ts) * UNITS)
        self.fact("fill", order.client, order.id, qty, price, self._market(order), event_ns)
        for account in (order.client, ALL):
            key = (account, order.symbol, order.side, order.qty)
            self.checks.executed.setdefault(key, []).append(now_ns)

    def _place(self, order: OracleOrder, now_ns: int) -> None:
        key = order.client, order.id
        price = self._price_now(order)
        if _has_waited(order):
            self._fill(order, self._share(order), order.price or 0, now_ns)
        elif order.type == "PLAIN" and price is not None:
            if not order.at_tick and not self._marketable(order, price):
                self.fact("status", *key, "Rejected", "NOT_MARKETABLE")
                return
            self._fill(order, self._share(order), price, now_ns)
        elif order.type in ("MARKET", "PLAIN"):
            if price is None:
                self.fact("status", *key, "Rejected", "NO_MARKET")
                return
            self._fill(order, self._share(order), price, now_ns)
        elif price is not None and self._marketable(order, price):
            self._fill(order, self._share(order), price, now_ns)
        if order.status in OPEN and (order.type != "LIMIT" or order.tif == "IOC"):
            self.fact("status", *key, "Canceled", "")

    def poll(self, now_ns: int) -> None:
        """Check resting orders against the book; expire DAY orders."""
        resting = self.open_orders(ALL)
        news = {
            symbol
            for symbol, (_, _, seq, _) in self.book.prices.items()
            if any(o.symbol == symbol for o in resting) and self.shown.get(symbol) != seq
        }
        for symbol in news:
            self.shown[symbol] = self.book.prices[symbol][2]
        for order in resting:
            price = self._price_now(order)
            if order.symbol in news and price is not None and self._marketable(order, price):
                self._fill(order, self._share(order), price, now_ns, rested=True)
        if now_ns // DAY_NS > self.day:
            self.day = now_ns // DAY_NS
            for order in self.open_orders(ALL):
                if order.tif == "DAY" and order.at_ns // DAY_NS < self.day:
                    self.fact("status", order.client, order.id, "Expired", "")

    def cancel(self, client: str, order_id: int) -> tuple[Any, ...]:
        """("ok", state) or ("reject", code)."""
        order = self.state.orders.get((client, order_id))
        if order is None:
            return "reject", "UNKNOWN_ORDER"
        if order.status not in OPEN:
            return "reject", "NOT_OPEN"
        self.fact("status", client, order_id, "Canceled", "")
        return "ok", order.state()

    def status(self, client: str, order_id: int) -> tuple[Any, ...]:
        """("ok", state) or ("reject", code)."""
        order = self.state.orders.get((client, order_id))
        return ("ok", order.state()) if order else ("reject", "UNKNOWN_ORDER")

    def set_mode(self, account: str, mode: str) -> int | None:
        """How many orders were canceled; None if there is no such client."""
        if account != ALL and account not in self.state.clients:
            return None
        if mode == "active" and self.state.modes.get(account) == "killed":
            day = self.state.days.get(account, (0, 0))[0]
            self.fact("day", account, day, self.profit(account))
        self.fact("mode", account, mode)
        if mode != "killed":
            return 0
        orders = self.open_orders(account)
        for order in orders:
            self.fact("status", order.client, order.id, "Canceled", "")
        return len(orders)


def _seconds(ts: str) -> Fraction:
    """The time that an order names, since the epoch."""
    if ts[0] != '"':
        return Fraction(ts)
    return Fraction(datetime.fromisoformat(ts[1:-1] + "Z").timestamp())


def _has_waited(order: OracleOrder) -> bool:
    """A strategy's order that its tick has reached: it executes at its own price."""
    return (order.at_tick, order.type, order.tif) == (True, "LIMIT", "IOC")
