"""The order manager's core without its sockets, clock and file: the backtest's counterparty."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from app.backtest.result import Fill
from app.config.settings import Settings
from app.execution.accounts import Account
from app.execution.pending_rows import PendingRows
from app.execution.prices import NoPrices
from app.execution.wiring import build_core
from app.kernel._kernel import Intent
from app.model.money import UNITS, to_units
from app.model.orders import FILLED, Order, OrderRequest, order_of, request_of
from app.model.position import Position
from app.model.requests import Reject
from app.model.timestamps import seconds_text
from app.model.wire.decoders import decoder_of
from app.runtime.net.order_client import EncodedOrder
from app.strategy.kit.held import Held

FREE: Final = (0.0, 0.0, 0.0, 0.0)
NO_COSTS: Final = (*FREE, 0.0, 0, 0.0)
"""The fields of :class:`Fill` from ``fee`` to ``latency``."""
new_tuple: Any = tuple.__new__
"""Makes a named tuple without a call of its Python code."""


class NoOrders:
    """Finds no order: a backtest sends each id once."""

    def find(self, client_no: int, order_id: int) -> Order | None:
        """Always None."""
        return None

    def current(self, order: Order) -> Order:
        """The order itself."""
        return order


class PaperBroker:
    """Decides on order frames as the order manager does, and keeps the orders."""

    def __init__(self, settings: Settings, symbols: Sequence[str]) -> None:
        self._pending = PendingRows()
        values = msgspec.structs.asdict(settings)
        self.core = build_core(values, NoPrices(), self._pending, NoOrders(), timeless=True)
        self._decode = decoder_of(self.core.scale)
        self._symbols, self._unit = symbols, UNITS * self.core.scale.factor
        self._orders: list[Order] = []
        self._taken: list[tuple[Intent, int, int]] = []
        """Signals, quantities and prices of orders that no rule touched, after ``_orders``."""
        self._taker: Account | None = None
        """Whose orders these are."""
        self._numbered = 0
        """Orders that have a number; the rest are in ``_taken``."""
        self._looked = False
        self._marks: dict[str, int] = {}
        """Prices as of the tick of the latest order."""

    @property
    def count(self) -> int:
        """How many orders it has."""
        return len(self._orders) + len(self._taken)

    def take_orders(self) -> list[Order]:
        """Its orders, in order; it forgets them."""
        self._make_orders()
        orders, self._orders = self._orders, []
        return orders

    def submit(self, encoded: EncodedOrder, now_ns: int) -> Order:
        """Decide on one encoded order; a rejected order has a code."""
        request = self._decode(encoded.frame[:-1])
        assert isinstance(request, OrderRequest), request
        if encoded.marks:
            self._marks.update({symbol: to_units(price) for symbol, price in encoded.marks.items()})
        return self._decide(request, now_ns)

    def trade(self, intents: Iterable[Intent], shares: Held, client: str) -> list[Fill]:
        """Decide on orders one by one, and settle each; returns the fills, in order.

        They are what :meth:`submit` gets from the frames of these orders.
        """
        qty_max = self.core.scale.qty_max
        if not self._looked:
            self._looked = True
            account = self.core.open_account(client)
            if self.core.executes_all(account, self._symbols, min(shares.most, qty_max)):
                self._taker = account
        taker = self._taker
        if taker is not None and taker.name == client and self.core.gate.all_active(taker):
            return self._take(intents, shares, taker)
        fills: list[Fill] = []
        for intent in intents:
            qty, event_ns, price = shares.wanted(intent), intent.event_ns, to_units(intent.price)
            assert 0 < qty <= qty_max, intent
            ts, symbol, side = seconds_text(event_ns), intent.symbol, intent.signal
            request = request_of(side, symbol, qty, price, ts, intent.order_id, client)
            order = self._decide(request, event_ns)
            if order.filled_qty:
                shares.settle(intent.symbol_index, side * order.filled_qty)
                fills.append(self.fill(order, intent.seq, intent.symbol_index, client))
        return fills

    def _take(self, intents: Iterable[Intent], shares: Held, account: Account) -> list[Fill]:
        """The same for orders that no rule touches: only holdings change.

        Their :class:`Order` is made when somebody looks at it.
        """
        fills: list[Fill] = []
        scale, qty_max, positions = self.core.scale, self.core.scale.qty_max, account.positions
        fill_no = self.core.last_fill_no + len(self._taken)
        for intent in intents:
            qty, price, side = shares.wanted(intent), to_units(intent.price), intent.signal
            assert 0 < qty <= qty_max, intent
            fill_no += 1
            position = positions[intent.symbol]
            position.apply(side, qty, price)
            position.fill_no = fill_no
            signed, index = (qty if side > 0 else -qty), intent.symbol_index
            shares.settle(index, signed)
            self._taken.append((intent, qty, price))
            values = intent.seq, index, scale.qty(signed), float(price) / UNITS, *NO_COSTS, signed
            made: Fill = new_tuple(Fill, values)
            fills.append(made)
        return fills

    def _make_orders(self) -> None:
        """Make the orders of :meth:`_take`, and let the core account for them."""
        taken, self._taken, account = self._taken, [], self._taker
        if not taken or account is None:
            return
        made, fill_no, number = [], self.core.last_fill_no, self._numbered
        for at, (intent, qty, price) in enumerate(taken, 1):
            side, symbol, event_ns = intent.signal, intent.symbol, intent.event_ns
            ts, order_id = seconds_text(event_ns), intent.order_id
            request = request_of(side, symbol, qty, price, ts, order_id, account.name)
            order = order_of(request, number + at, account.client_no, order_id, event_ns)
            order.status, order.filled_qty, order.filled_notional = FILLED, qty, qty * price
            order.exec_first, order.exec_count, order.exec_price = fill_no + at, 1, price
            made.append(order)
        self.core.account_for(made)
        self._orders += made
        self._numbered += len(made)

    def fill(self, order: Order, seq: int, symbol_index: int, client: str) -> Fill:
        """What an executed order changes, for the equity curve."""
        short, event_ns, unit = 0.0, 0, self._unit
        if order.event_ns is not None:
            event_ns, short = order.event_ns, max(-self.cost(client, order.symbol), 0) / unit
        paid: tuple[float, ...] = FREE
        if order.fee or order.slippage or order.impact or order.borrow:
            costs = order.fee, order.slippage, order.impact, order.borrow
            paid = tuple([cost / unit for cost in costs])
        price = order.filled_notional / order.filled_qty / UNITS
        units = order.side * order.filled_qty
        qty = self.core.scale.qty(units)
        values = seq, symbol_index, qty, price, *paid, short, event_ns, 0.0, units
        made: Fill = new_tuple(Fill, values)
        return made

    def _decide(self, request: OrderRequest, now_ns: int) -> Order:
        if self._taken:
            self._make_orders()
        answer = self.core.submit(request, now_ns, self._marks)
        assert not isinstance(answer, Reject), answer
        self._pending.clear()
        order = answer[0]
        self._orders.append(order)
        self._numbered += 1
        return order

    def cost(self, client: str, symbol: str) -> int:
        """What ``client`` paid for what it holds, as :class:`Position` has it."""
        return self.core.clients[client].positions[symbol].cost

    def accrued(self, client: str, marks_ns: dict[str, int]) -> dict[str, int]:
        """Symbol -> borrow that a short of ``client`` owes up to the time of its last price."""
        rule = self.core.borrow
        found = {
            symbol: rule.accrued(client, position, marks_ns[symbol], marks_ns[symbol])
            for symbol, position in self.positions(client).items()
        }
        return {symbol: borrow for symbol, borrow in found.items() if borrow}

    def positions(self, client: str) -> dict[str, Position]:
        """Symbol -> what ``client`` holds; empty before its first order."""
        account = self.core.clients.get(client)
        return {} if account is None else dict(account.positions)
