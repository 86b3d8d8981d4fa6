"""The oracle's checks of a new order, one after the other."""

from fractions import Fraction
from typing import Any

from tests.support.orders.oracle_state import ALL, UNITS, Facts, OracleOrder, Rules


class Checks:
    """Decides whether an order may pass, from the facts and from rates kept in memory."""

    def __init__(
        self,
        facts: Facts,
        client_rules: Rules,
        stack_rules: Rules,
        *,
        tick_size: int,
        lot_size: int,
        collar_bps: int,
        age_ns_max: int,
        window_ns: int,
    ) -> None:
        self.facts = facts
        self.client_rules, self.stack_rules = client_rules, stack_rules
        self.tick_size, self.lot_size = tick_size, lot_size
        self.collar_bps, self.age_ns_max, self.window_ns = collar_bps, age_ns_max, window_ns
        self.buckets: dict[str, tuple[Fraction, int]] = {}
        self.executed: dict[tuple[Any, ...], list[int]] = {}

    def forget(self) -> None:
        """Lose everything that is only in memory."""
        self.buckets.clear()
        self.executed.clear()

    def reject_code(self, order: OracleOrder, now_ns: int) -> str:
        """Why the order must not pass, or an empty text."""
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

    def _accounts(self, order: OracleOrder) -> list[tuple[str, Rules]]:
        return [(order.client, self.client_rules), (ALL, self.stack_rules)]

    def _size(self, order: OracleOrder, now_ns: int) -> str:
        if self.tick_size and order.price is not None and order.price % self.tick_size:
            return "TICK_SIZE"
        return "LOT_SIZE" if self.lot_size and order.qty % self.lot_size else ""

    def _mode(self, order: OracleOrder, now_ns: int) -> str:
        modes = [self.facts.state.modes.get(account) for account, _ in self._accounts(order)]
        if "halted" in modes:
            return "HALTED"
        if "reduce" in modes:
            held = self.facts.holding(order.client, order.symbol).qty
            closing_side = "SELL" if held > 0 else "BUY"
            left = abs(held) - self.facts.resting(order.client, order.symbol, closing_side)
            if not held or order.side != closing_side or order.qty > left:
                return "REDUCE_ONLY"
        return ""

    def _price_of(self, order: OracleOrder) -> int:
        book = self.facts.book.prices.get(order.symbol, (0, 0, 0, 0))[0]
        if order.price is not None:
            sells_to_the_book = order.side == "SELL" and not order.at_tick
            return max(order.price, book) if sells_to_the_book else order.price
        if order.symbol in self.facts.book.prices:
            return self.facts.book.prices[order.symbol][0]
        return self.facts.holding(order.client, order.symbol).mark

    def _amount(self, order: OracleOrder, now_ns: int) -> str:
        for _, rules in self._accounts(order):
            if rules.qty_max and order.qty > rules.qty_max:
                return "QTY_MAX"
        for _, rules in self._accounts(order):
            if rules.notional_max and order.qty * self._price_of(order) > rules.notional_max:
                return "NOTIONAL_MAX"
        return ""

    def _price(self, order: OracleOrder, now_ns: int) -> str:
        if not self.age_ns_max:
            return ""
        price, age_ns, *_ = self.facts.book.prices.get(order.symbol, (0, 0, 0, 0))
        if not price or age_ns > self.age_ns_max:
            return "STALE_PRICE"
        if self.facts.replay and order.at_tick:
            return ""
        off = abs(Fraction(order.price, price) - 1) * 10_000 if order.price is not None else 0
        return "PRICE_COLLAR" if self.collar_bps and off > self.collar_bps else ""

    def _position(self, order: OracleOrder, now_ns: int) -> str:
        for account, rules in self._accounts(order):
            held = self.facts.holding(account, order.symbol).qty
            resting = self.facts.resting(account, order.symbol, order.side)
            after = abs(held + order.sign * (resting + order.qty))
            if rules.position_qty_max and after > rules.position_qty_max and after > abs(held):
                return "POSITION_LIMIT"
        return ""

    def _worst(self, account: str, symbol: str, order: OracleOrder | None) -> int:
        buy, sell = (self.facts.resting(account, symbol, side) for side in ("BUY", "SELL"))
        if order is not None and order.side == "BUY":
            buy += order.qty
        elif order is not None:
            sell += order.qty
        held = self.facts.holding(account, symbol).qty
        return max(abs(held + buy), abs(held - sell))

    def _exposure(self, order: OracleOrder, now_ns: int) -> str:
        for account, rules in self._accounts(order):
            if not rules.exposure_max:
                continue
            symbols = {s for owner, s in self.facts.state.holdings if owner == account}
            symbols |= {
                o.symbol for o in self.facts.state.orders.values() if account in (ALL, o.client)
            }
            before = {
                s: self._worst(account, s, None) * self.facts.mark(account, s) for s in symbols
            }
            price = self._price_of(order)
            after = {**before, order.symbol: self._worst(account, order.symbol, order) * price}
            if sum(after.values()) > max(rules.exposure_max, sum(before.values())):
                return "GROSS_EXPOSURE"
        return ""

    def _open(self, order: OracleOrder, now_ns: int) -> str:
        if order.type == "LIMIT" and order.tif != "IOC":
            for account, rules in self._accounts(order):
                if (
                    rules.open_orders_max
                    and len(self.facts.open_orders(account)) >= rules.open_orders_max
                ):
                    return "OPEN_ORDERS"
        return ""

    def loss_exceeded(self, account: str) -> bool:
        """Whether the daily loss is beyond its limit."""
        limit = (self.stack_rules if account == ALL else self.client_rules).daily_loss_max
        base = self.facts.state.days.get(account, (0, 0))[1]
        return bool(limit) and self.facts.profit(account) - base < -limit

    def _loss(self, order: OracleOrder, now_ns: int) -> str:
        return "DAILY_LOSS" if self.loss_exceeded(order.client) or self.loss_exceeded(ALL) else ""

    def _rate(self, order: OracleOrder, now_ns: int) -> str:
        for account, rules in self._accounts(order):
            per_s = rules.orders_per_s_max
            if per_s:
                level, last_ns = self.buckets.get(account, (Fraction(per_s), 0))
                level = min(level + Fraction(now_ns - last_ns, UNITS) * per_s, Fraction(per_s))
                self.buckets[account] = (level - (level >= 1), now_ns)
                if level < 1:
                    return "RATE_LIMIT"
        return ""

    def _repeats(self, order: OracleOrder, now_ns: int) -> str:
        for account, rules in self._accounts(order):
            times = self.executed.get((account, order.symbol, order.side, order.qty), [])
            recent = [t for t in times if t > now_ns - self.window_ns]
            if rules.repeats_max and len(recent) >= rules.repeats_max:
                return "THROTTLED"
        return ""

    def _kill(self, order: OracleOrder, now_ns: int) -> str:
        modes = [self.facts.state.modes.get(account) for account, _ in self._accounts(order)]
        return "KILL_SWITCH" if "killed" in modes else ""
