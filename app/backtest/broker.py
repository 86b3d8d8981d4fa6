"""The order manager's core without its sockets, clock and file: the backtest's counterparty."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from app.backtest.result import Fill
from app.config.settings import Settings
from app.execution.pending_rows import PendingRows
from app.execution.prices import NoPrices
from app.execution.wiring import build_core
from app.kernel._kernel import Intent
from app.model.money import UNITS, to_units
from app.model.orders import IOC, PLAIN, Order
from app.model.position import Position
from app.model.requests import OrderRequest, Reject
from app.model.timestamps import seconds_text
from app.model.wire.decoders import decoder_of
from app.runtime.net.order_client import EncodedOrder
from app.strategy.kit.held import Held

FREE: Final = (0.0, 0.0, 0.0, 0.0)
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
    """Decides on order frames as the order manager does, and keeps the orders in ``orders``."""

    def __init__(self, settings: Settings) -> None:
        self._pending = PendingRows()
        values = msgspec.structs.asdict(settings)
        self.core = build_core(values, NoPrices(), self._pending, NoOrders(), timeless=True)
        self._decode = decoder_of(self.core.scale)
        self.orders: list[Order] = []
        self._marks: dict[str, int] = {}
        """Prices as of the tick of the latest order."""

    def submit(self, encoded: EncodedOrder, now_ns: int) -> Order:
        """Decide on one encoded order; a rejected order has a code."""
        request = self._decode(encoded.frame[:-1])
        assert isinstance(request, OrderRequest), request
        for symbol, price in (encoded.marks or {}).items():
            self._marks[symbol] = to_units(price)
        return self._decide(request, now_ns)

    def trade(self, intents: Iterable[Intent], shares: Held, client: str) -> list[Fill]:
        """Decide on orders one by one, and settle each; returns the fills, in order.

        They are what :meth:`submit` gets from the frames of these orders.
        """
        fills: list[Fill] = []
        for intent in intents:
            qty, event_ns, price = shares.wanted(intent), intent.event_ns, to_units(intent.price)
            assert 0 < qty <= self.core.scale.qty_max, intent
            ts, symbol, side = seconds_text(event_ns), intent.symbol, intent.signal
            order = self._decide(
                OrderRequest(side, symbol, qty, price, ts, intent.order_id, client, PLAIN, IOC),
                event_ns,
            )
            if order.filled_qty:
                shares.settle(intent.symbol_index, side * order.filled_qty)
                fills.append(self.fill(order, intent.seq, intent.symbol_index, client))
        return fills

    def fill(self, order: Order, seq: int, symbol_index: int, client: str) -> Fill:
        """What an executed order changes, for the equity curve."""
        short, event_ns, scale = 0.0, 0, self.core.scale
        unit = UNITS * scale.factor
        if order.event_ns is not None:
            event_ns, short = order.event_ns, max(-self.cost(client, order.symbol), 0) / unit
        paid: tuple[float, ...] = FREE
        if order.fee or order.slippage or order.impact or order.borrow:
            costs = order.fee, order.slippage, order.impact, order.borrow
            paid = tuple([cost / unit for cost in costs])
        price = order.filled_notional / order.filled_qty / UNITS
        units = order.side * order.filled_qty
        values = seq, symbol_index, scale.qty(units), price, *paid, short, event_ns, 0.0, units
        made: Fill = new_tuple(Fill, values)
        return made

    def _decide(self, request: OrderRequest, now_ns: int) -> Order:
        answer = self.core.submit(request, now_ns, self._marks)
        assert not isinstance(answer, Reject), answer
        self._pending.clear()
        order = answer[0]
        self.orders.append(order)
        return order

    def cost(self, client: str, symbol: str) -> int:
        """What ``client`` paid for what it holds, as :class:`Position` has it."""
        return self.core.clients[client].positions[symbol].cost

    def accrued(self, client: str, marks_ns: dict[str, int]) -> dict[str, int]:
        """Symbol -> borrow that a short of ``client`` owes up to the time of its last price."""
        accrued = self.core.borrow.accrued
        found = {
            symbol: accrued(client, position, marks_ns[symbol], marks_ns[symbol])
            for symbol, position in self.positions(client).items()
        }
        return {symbol: borrow for symbol, borrow in found.items() if borrow}

    def positions(self, client: str) -> dict[str, Position]:
        """Symbol -> what ``client`` holds; empty before its first order."""
        account = self.core.clients.get(client)
        return {} if account is None else dict(account.positions)
