"""The order core: a pure state machine.  A request and a time go in, rows and an answer come out.

No sockets, no clock, no files: time is an argument, prices and venue are injected, rows go into
:class:`PendingRows`, and orders that are no longer held are looked up through an
:class:`OrderLookup`.  It holds open orders and one account per client: no more with more orders.

If the rows cannot be stored, rebuild the core from the stored ones (:meth:`OrderCore.recover`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from app.execution.accounts import ACTIVE, KILLED, MODE_NAMES, Account, Accounts, Sums
from app.execution.costs.borrow import FREE, Borrow
from app.execution.pending_rows import OrderLookup, PendingRows, Recovered
from app.execution.repeated import answer_repeated, details_of
from app.execution.risk import RiskGate
from app.execution.venue import Execution, Venue
from app.model.orders import (
    ACCEPT,
    CANCEL,
    DAY,
    DENY,
    EXPIRE,
    OPEN_STATES,
    PLAIN,
    REJECT,
    STATUS_NAMES,
    Order,
    OrderRequest,
    db_int,
    order_of,
)
from app.model.position import Position
from app.model.reject_codes import RejectCode
from app.model.requests import MAX_CLIENT_ID, Reject
from app.model.timestamps import DAY_NS
from app.model.words import one_word

OTHER_BOOK: Final = Reject(
    RejectCode.OTHER_BOOK,
    "the proof is not of the price book in use; only strategies send one",
    retryable=True,
)
STRATEGY_PLACES: Final = 1024
"""For clients with a strategy's name, beyond those of all others: a crowd locks no strategy out."""
NO_MARKS: Final[Mapping[str, int]] = MappingProxyType({})


class OrderCore:
    """All orders of one run.  ``client_no`` 0 is the whole stack."""

    def __init__(
        self,
        gate: RiskGate,
        venue: Venue,
        pending: PendingRows,
        lookup: OrderLookup,
        clients_max: int = 10_000,
        is_strategys: Callable[[str], bool] = lambda _name: False,
        borrow: Borrow = FREE,
    ) -> None:
        """``is_strategys``: whether a client name has a place beyond ``clients_max``."""
        self.gate, self.scale = gate, gate.config.scale
        self._accounts = Accounts(gate.stack, borrow.rate)
        self.stack = gate.stack
        self.clients = self._accounts.clients
        self.open: dict[tuple[int, int], Order] = {}
        """Client number and order id -> order that can still execute or be canceled."""
        self._venue = venue
        self._pending = pending
        self._lookup = lookup
        self._clients_max = clients_max
        self._is_strategys = is_strategys
        self.borrow = borrow
        self._next_client_no = 1
        self._next_order_no = 1
        self._next_fill_no = 1
        self._day = 0

    def recover(self, found: Recovered) -> None:
        """Forget everything and start from what a store knows."""
        accounts = self._accounts
        accounts.clear()
        self.open.clear()
        for client_no, (name, id_high) in found.clients.items():
            client = Account(client_no, name)
            client.id_high = id_high
            accounts.add(client)
        for account in (self.stack, *self.clients.values()):
            account.mode = found.modes.get(account.client_no, ACTIVE)
            account.day, account.day_base = found.days.get(account.client_no, (0, 0))
        for (client_no, symbol), position in found.positions.items():
            accounts.restore_position(client_no, symbol, position)
        for order in found.open_orders:
            self.open[order.client_no, order.id] = order
            accounts.add_open(order)
        self._venue.restore(found.open_orders)
        self._day = 0
        self._next_client_no = found.last_client_no + 1
        self._next_order_no = found.last_order_no + 1
        self._next_fill_no = found.last_fill_no + 1

    def name_of(self, order: Order) -> str:
        """The name of the client an order belongs to."""
        return self._accounts.by_number[order.client_no].name

    def knows(self, order: Order) -> bool:
        """Whether the order belongs to a client of this run."""
        return order.client_no in self._accounts.by_number

    @property
    def last_fill_no(self) -> int:
        """The number of the latest execution."""
        return self._next_fill_no - 1

    def committed(self) -> None:
        """All decisions so far are durable."""
        self._venue.committed()

    # New orders

    def submit(
        self, request: OrderRequest, now_ns: int, marks: Mapping[str, int] = NO_MARKS
    ) -> tuple[Order, bool] | Reject:
        """Decide on a new order; ``marks``: prices as of its tick, if it has one.

        Returns the order to acknowledge (accepted or denied) and whether it repeats an order that
        was decided before; or a reject of which nothing is recorded.
        """
        client = self.clients.get(request.client)
        if client is None:
            places = self._clients_max
            if self._is_strategys(request.client):
                places += STRATEGY_PLACES
            if len(self.clients) >= places:
                return Reject(RejectCode.CLIENTS_MAX, f"over {places} clients")
            client = Account(self._next_client_no, request.client)
        order_id = request.id
        if order_id is not None and order_id <= client.id_high:
            known = self._lookup.find(client.client_no, order_id)
            if known is not None:
                return answer_repeated(request, known, self.scale)
        at_tick = self.gate.begin_order(request, marks)
        if at_tick is None:
            return OTHER_BOOK._replace(details=details_of(request))
        try:
            return self._decide(request, client, now_ns, at_tick)
        finally:
            self.gate.end_order()

    def open_account(self, name: str) -> Account:
        """The account of a client, new if it has sent no order so far."""
        client = self.clients.get(name) or Account(self._next_client_no, name)
        self._keep(client)
        return client

    def executes_all(self, client: Account, symbols: Sequence[str], qty_max: int) -> bool:
        """Whether a client's PLAIN orders at ticks, up to ``qty_max``, execute as they ask."""
        return (
            self.gate.passes_all(client, symbols, qty_max)
            and not self.borrow.rate
            and getattr(self._venue, "takes_all_as_asked", False)
        )

    def account_for(self, client: Account, sums: Sums, orders: int, id_high: int) -> None:
        """Take orders that a client has executed on its positions: :meth:`executes_all`.

        ``sums``: what they add to each symbol; ``id_high``: the largest of their ids.
        """
        self._accounts.add_executed(client, sums, id_high)
        self._next_order_no += orders
        self._next_fill_no += orders

    def _decide(
        self, request: OrderRequest, client: Account, now_ns: int, at_tick: bool
    ) -> tuple[Order, bool] | Reject:
        if self.gate.watches_loss:
            for account in self.gate.roll_day(client, request, now_ns):
                # A new client's day is written together with the client.
                if account.client_no != self._next_client_no:
                    self._pending.days[account.client_no] = account
        reject = self.gate.check(request, client, now_ns)
        if reject is not None and reject.retryable:
            return reject._replace(details=details_of(request))
        order = self._record(request, client, now_ns)
        if reject is not None:
            order.apply(DENY)
            order.code, order.msg = int(reject.code), reject.msg
            if reject.code == RejectCode.DAILY_LOSS:
                self._trip(client, reject, now_ns)
        else:
            self._place(order, client, now_ns, at_tick)
        # An order that rests may change before its row is written.
        self._pending.orders.append(order.copy() if order.status in OPEN_STATES else order)
        return order, False

    def _record(self, request: OrderRequest, client: Account, now_ns: int) -> Order:
        """Assign the order's numbers; create the account of a new client."""
        number = self._next_order_no
        order_id = request.id
        if order_id is None:
            # The order's number in the store, unless the client has used that as an id.
            if number <= client.id_high and self._lookup.find(client.client_no, number):
                number = client.id_high + 1
            order_id = number
        self._keep(client)
        if order_id > client.id_high:
            client.id_high = order_id
        self._next_order_no = number + 1
        return order_of(request, number, client.client_no, order_id, now_ns)

    def _keep(self, client: Account) -> None:
        if client.client_no == self._next_client_no:
            self._next_client_no += 1
            self._accounts.add(client)
            self._pending.clients.append((client.client_no, client.name))
            if self.gate.watches_loss:
                self._pending.days[client.client_no] = client

    def _place(self, order: Order, client: Account, now_ns: int, at_tick: bool) -> None:
        """Send a checked order to the venue and account for its immediate executions."""
        report = self._venue.submit(order, at_tick)
        if report.reject is not None:
            order.apply(REJECT)
            code, order.msg = report.reject
            order.code = int(code)
            return
        order.apply(ACCEPT)
        if report.executions:
            order.exec_first = self._next_fill_no
            order.exec_count = len(report.executions)
            if self.borrow.rate:
                order.event_ns = self.borrow.time_of(order, client.name, now_ns)
            event_ns = order.event_ns
            if order.exec_count == 1:
                (execution,) = report.executions
                order.exec_price, order.fee = execution.price, execution.fee
                order.slippage, order.impact = execution.slippage, execution.impact
                order.borrow = self._execute(order, client, execution, event_ns)
            else:
                for each in report.executions:
                    order.borrow += self._execute_apart(order, client, each, event_ns, now_ns)
                    order.fee += each.fee
                    order.slippage += each.slippage
                    order.impact += each.impact
            if self.gate.counts_repeats:
                self.gate.executed(order, client, now_ns)
        if order.status in OPEN_STATES:
            if report.rests:
                self.open[order.client_no, order.id] = order
                self._accounts.add_open(order)
                self._pending.states[order.order_no] = (order, now_ns, None)
            else:
                order.apply(CANCEL)

    def _execute_apart(
        self, order: Order, client: Account, execution: Execution, event_ns: int | None, now_ns: int
    ) -> int:
        """Account for an execution that gets a row of its own; returns the borrow it charges."""
        fill_no, borrow = self._next_fill_no, self._execute(order, client, execution, event_ns)
        numbers = fill_no, order.order_no, now_ns, execution.qty, execution.price
        costs = map(db_int, (execution.fee, execution.slippage, execution.impact, borrow))
        self._pending.fills.append((*numbers, *costs, event_ns))
        return borrow

    def _execute(
        self, order: Order, client: Account, execution: Execution, event_ns: int | None
    ) -> int:
        fill_no = self._next_fill_no
        self._next_fill_no = fill_no + 1
        order.fill(execution.qty, execution.price)
        position, borrow = self._accounts.execute(client, order, execution, fill_no, event_ns)
        self._pending.positions[client.client_no, order.symbol] = position
        return borrow

    # Open orders

    def cancel(self, client_name: str, order_id: int, now_ns: int) -> Order | Reject:
        """Cancel an open order; returns the canceled order."""
        client = self.clients.get(client_name)
        order = self.open.get((client.client_no, order_id)) if client else None
        if order is None:
            found = self.status(client_name, order_id)
            if isinstance(found, Reject):
                return found
            return Reject(
                RejectCode.NOT_OPEN,
                f"order {order_id} is {STATUS_NAMES[found.status]}",
                {"id": order_id, "client": client_name},
            )
        self._venue.cancel(order)
        self._close(order, CANCEL, "canceled by request", now_ns)
        return order

    def status(self, client_name: str, order_id: int) -> Order | Reject:
        """An order in its current state."""
        client = self.clients.get(client_name)
        if client is not None:
            order = self.open.get((client.client_no, order_id)) or self._lookup.find(
                client.client_no, order_id
            )
            if order is not None:
                return self._lookup.current(order)
        return Reject(
            RejectCode.UNKNOWN_ORDER,
            f"no order {order_id} of client {one_word(client_name)}",
            {"id": order_id, "client": client_name},
        )

    def poll(self, now_ns: int) -> list[Order]:
        """Take executions of resting orders; expire DAY orders of days before ``now_ns``.

        Returns the orders that changed.
        """
        changed = []
        for order, execution in self._venue.poll():
            client = self._accounts.by_number[order.client_no]
            self._accounts.remove_open(order)
            book = self.gate.book(order.symbol) if self.borrow.rate else None
            event_ns = self.borrow.time_of(order, client.name, now_ns, book and book.event_ns)
            self._execute_apart(order, client, execution, event_ns, now_ns)
            if self.gate.counts_repeats:
                self.gate.executed(order, client, now_ns)
            if order.status in OPEN_STATES:
                self._accounts.add_open(order)
            else:
                del self.open[order.client_no, order.id]
            self._pending.states[order.order_no] = (order, now_ns, None)
            changed.append(order)
        day = now_ns // DAY_NS
        if day > self._day:
            self._day = day
            for order in list(self.open.values()):
                if order.tif == DAY and order.at_ns // DAY_NS < day:
                    self._venue.cancel(order)
                    self._close(order, EXPIRE, "end of the day", now_ns)
                    changed.append(order)
        return changed

    def open_of(self, client_names: Iterable[str]) -> list[tuple[int, int]]:
        """Client number and id of every open order of these clients, found in one pass."""
        accounts = (self.clients.get(name) for name in client_names)
        numbers = {account.client_no for account in accounts if account and account.open_orders}
        return [key for key in self.open if key[0] in numbers] if numbers else []

    def cancel_all(self, keys: Iterable[tuple[int, int]], reason: str, now_ns: int) -> list[Order]:
        """Cancel those of these orders that are still open; returns them."""
        orders = [self.open[key] for key in keys if key in self.open]
        for order in orders:
            self._venue.cancel(order)
            self._close(order, CANCEL, reason, now_ns)
        return orders

    def _close(self, order: Order, event: int, reason: str, now_ns: int) -> None:
        self._accounts.remove_open(order)
        order.apply(event)
        del self.open[order.client_no, order.id]
        self._pending.states[order.order_no] = (order, now_ns, reason)

    # Modes

    def set_mode(
        self, client_name: str | None, mode: int, reason: str, now_ns: int
    ) -> int | Reject:
        """Put a client, or with None the whole stack, into a trading mode.

        KILLED cancels every open order of the account.  ACTIVE after KILLED starts a new budget for
        the daily loss.  Returns the number of canceled orders.
        """
        account = self.stack if client_name is None else self.clients.get(client_name)
        if account is None:
            details = {"client": client_name}
            return Reject(RejectCode.UNKNOWN_CLIENT, f"no client {client_name}", details)
        if mode == ACTIVE and account.mode == KILLED:
            account.day_base += self.gate.profit_today(account)
            self._pending.days[account.client_no] = account
        account.mode = mode
        self._pending.controls.append((account.client_no, mode, reason or MODE_NAMES[mode], now_ns))
        if mode != KILLED:
            return 0
        keys = list(self.open) if account is self.stack else self.open_of((account.name,))
        return len(self.cancel_all(keys, "kill switch", now_ns))

    def _trip(self, client: Account, reject: Reject, now_ns: int) -> None:
        """Pull the kill switch of each account whose daily loss is beyond its limit."""
        for account, name in ((client, client.name), (self.stack, None)):
            if account.mode != KILLED and self.gate.loss_exceeded(account):
                self.set_mode(name, KILLED, reject.msg, now_ns)

    def positions(self) -> Iterator[tuple[str, str, Position]]:
        """Client name, symbol and position, for all clients."""
        for name, client in self.clients.items():
            for symbol, position in client.positions.items():
                yield name, symbol, position


assert MAX_CLIENT_ID < 1 << 62, "an id assigned above a client's largest still fits 64 bits"
assert PLAIN == 0, "the plain form needs no member in an answer"
