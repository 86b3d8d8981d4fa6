"""The order manager's core without its sockets, clock and file: the backtest's counterparty."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from app.backtest.result import Fill, FillsLater
from app.config.settings import Settings
from app.execution.accounts import Account
from app.execution.pending_rows import PendingRows
from app.execution.prices import NoPrices
from app.execution.wiring import build_core
from app.kernel._kernel import Intent, IntentSearch, Trades
from app.model.money import UNITS, to_units
from app.model.orders import Order, OrderRequest, executed_order, order_id_of_tick, request_of
from app.model.position import Position
from app.model.requests import Reject
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
    """Decides on order frames as the order manager does, and keeps the orders."""

    def __init__(self, settings: Settings, symbols: Sequence[str]) -> None:
        self._pending = PendingRows()
        values = msgspec.structs.asdict(settings)
        self.core = build_core(values, NoPrices(), self._pending, NoOrders(), timeless=True)
        self._decode = decoder_of(self.core.scale)
        self._symbols, self._unit = symbols, UNITS * self.core.scale.factor
        self._orders: list[Order] = []
        self._trades: Trades | None = None
        """Orders that no rule touched, after ``_orders``."""
        self._taker: Account | None = None
        """Whose orders these are."""
        self._settled = 0
        """How many of them the account and the core have heard of."""
        self._fills_before = 0
        """The number of the execution before them."""
        self._numbered = 0
        """Orders that have a number; the rest are in ``_trades``."""
        self._looked = False
        self._marks: dict[str, int] = {}
        """Prices as of the tick of the latest order."""

    @property
    def count(self) -> int:
        """How many orders it has."""
        return len(self._orders) + (0 if self._trades is None else len(self._trades))

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

    def trade(self, intents: Iterable[Intent], shares: Held, client: str) -> Sequence[Fill]:
        """Decide on orders one by one, and settle each; returns the fills, in order.

        They are what :meth:`submit` gets from the frames of these orders.
        """
        if not self._looked:
            self._looked = True
            self._open(shares, client)
        fills: list[Fill] = []
        taker = self._taker
        if (
            taker is not None
            and taker.name == client
            and isinstance(intents, IntentSearch)
            and self.core.gate.all_active(taker)
        ):
            trades = self._trades
            if trades is None:
                trades = self._trades = self._begin(shares, taker)
            first = len(trades)
            all_taken = shares.execute(trades, intents)
            later = FillsLater(trades, first, self.core.scale)
            if all_taken:
                return later
            fills = list(later)
            self._make_orders()
            self._trades = self._taker = None  # the numbers of the core have no limit
        for intent in intents:
            qty, event_ns, price = shares.wanted(intent), intent.event_ns, to_units(intent.price)
            assert 0 < qty <= self.core.scale.qty_max, intent
            ts, symbol, side = seconds_text(event_ns), intent.symbol, intent.signal
            request = request_of(side, symbol, qty, price, ts, intent.order_id, client)
            order = self._decide(request, event_ns)
            if order.filled_qty:
                shares.settle(intent.symbol_index, side * order.filled_qty)
                fills.append(self.fill(order, intent.seq, intent.symbol_index, client))
        return fills

    def _open(self, shares: Held, client: str) -> None:
        """Look whether a rule may touch this client's orders."""
        account, qty_max = self.core.open_account(client), self.core.scale.qty_max
        if self.core.executes_all(account, self._symbols, min(shares.most, qty_max)):
            self._taker = account

    def _begin(self, shares: Held, account: Account) -> Trades:
        """What takes orders that no rule touches, so that only holdings change.

        Their :class:`Order` is made when somebody looks at it.
        """
        trades = shares.trades(self.core.scale.factor)
        for index, symbol in enumerate(self._symbols):
            found = account.positions.get(symbol)
            if found is not None:
                trades.load(index, found.qty, found.cost, found.realized, found.turnover)
        self._settled, self._fills_before = 0, self.core.last_fill_no
        return trades

    def _settle(self) -> None:
        """Let the account and the core know what was executed since they last heard."""
        trades, account, first = self._trades, self._taker, self._settled
        if trades is None or account is None or len(trades) == first:
            return
        sums = {}
        for index, qty, cost, realized, turnover, mark, last in trades.changed(first):
            symbol = self._symbols[index]
            position = account.positions[symbol]
            paid = cost - position.cost - (realized - position.realized)
            sums[symbol] = qty - position.qty, paid, mark
            position.qty, position.cost, position.realized = qty, cost, realized
            position.turnover, position.mark, position.since_ns = turnover, mark, None
            position.fill_no = self._fills_before + last + 1
        self._settled = len(trades)
        ((seq, *_),) = trades.rows(self._settled - 1, self._settled)
        self.core.account_for(account, sums, self._settled - first, order_id_of_tick(seq))

    def _make_orders(self) -> None:
        """Make the orders of ``_trades``, and forget these."""
        self._settle()
        trades, account = self._trades, self._taker
        if trades is None or account is None:
            return
        number, fill_no = self._numbered, self._fills_before
        symbols, client_no, made = self._symbols, account.client_no, self._orders
        for row in trades.rows(0, len(trades)):
            seq, event_ns, index, signed, price = row
            number, fill_no = number + 1, fill_no + 1
            order = executed_order(
                number,
                client_no,
                order_id_of_tick(seq),
                event_ns,
                1 if signed > 0 else -1,
                symbols[index],
                abs(signed),
                price,
                seconds_text(event_ns),
                fill_no,
            )
            made.append(order)
        trades.forget()
        self._numbered, self._settled, self._fills_before = number, 0, fill_no

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
        if self._trades is not None:
            self._make_orders()
            self._trades = None
        answer = self.core.submit(request, now_ns, self._marks)
        assert not isinstance(answer, Reject), answer
        self._pending.clear()
        order = answer[0]
        self._orders.append(order)
        self._numbered += 1
        return order

    def cost(self, client: str, symbol: str) -> int:
        """What ``client`` paid for what it holds, as :class:`Position` has it."""
        self._settle()
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
        self._settle()
        account = self.core.clients.get(client)
        return {} if account is None else dict(account.positions)
