"""Every request except a new order: commands in, answer frames out."""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from app.execution.accounts import ACTIVE, HALTED, KILLED, MODE_NAMES, REDUCE, Account
from app.execution.order_core import OrderCore
from app.execution.prices import BookPrice
from app.execution.risk_checks import AMOUNT, PRICE, QTY
from app.execution.risk_config import LIMIT_UNITS
from app.model.money import WHOLE, Scale, money_text
from app.model.orders import SIDE_NAMES, STATUS_NAMES, Order
from app.model.position import Costs, Position
from app.model.reject_codes import RejectCode
from app.model.requests import (
    PAGE_ROWS_MAX,
    Cancel,
    Command,
    Halt,
    Limits,
    Orders,
    Positions,
    Reduce,
    Reject,
    Resume,
    Status,
)
from app.model.wire.order_answers import (
    Numbers,
    encode_object,
    encode_reject,
    json_price,
    json_text,
    listed_order,
    order_member,
)
from app.model.words import one_word
from app.order_manager.access.grants import EVERYTHING, Grant
from app.order_manager.order_log import Event, Note
from app.order_manager.store.store import SCAN_ORDERS, OrderStore

FILLS_MAX: Final = 400
"""Of one order in an answer."""
ROWS_BYTES_MAX: Final = 48 * 1024
"""Of a frame of at most 64 KiB; the rest is for the other members of the answer."""


ROWS_SHARED: Final = 50
"""Orders in a page while other clients are active, whose orders wait for it: about 0.2 ms."""
KEY_SEPARATOR: Final = "\n"
"""In ``after`` of positions; neither clients nor symbols contain it."""
TOTAL_QUICK_NS: Final = 2_000_000
TOTAL_REST: Final = 20
"""Totals that take longer are shown for that many times as long."""
TOTALS_MAX: Final = 64


class Growing:
    """The keys of a dictionary that only grows, in order; only the new ones are sorted in."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def names(self, keys: dict[str, Any]) -> list[str]:
        """All keys, in order."""
        new = len(keys) - len(self._names)
        if new:
            self._names.extend(islice(reversed(keys), new))
            self._names.sort()
        return self._names


class OrderQueries:
    """Answers commands from the core and the store; ``event`` is for the log, or None."""

    def __init__(self, core: OrderCore, store: OrderStore) -> None:
        self._core, self._store, self._scale = core, store, core.scale
        self._numbers = Numbers(core.scale)
        self._run_id = store.run_id
        self._run = json_text(store.run_id).encode()
        self.event: Event | None = None
        self._book: dict[str, BookPrice | None] = {}
        """Read once per answer, so that its rows and totals agree; with :attr:`_now_ns`."""
        self._now_ns = 0
        self._clients = Growing()
        self._symbols: dict[str, Growing] = {}
        """Client -> its symbols."""
        self._totals: dict[tuple[str | None, str], tuple[int, dict[str, Any]]] = {}
        """The total of a symbol, or of all, over some clients, and until when it is shown."""
        self.rows_max = PAGE_ROWS_MAX
        """Of a page of orders."""
        self._grant, self._peer = EVERYTHING, ""
        """Whose orders and positions the answer may show, and where it is."""

    def answer(
        self, command: Command, now_ns: int, grant: Grant = EVERYTHING, peer: str = ""
    ) -> bytes:
        """The answer frame; ``grant``: of the client at ``peer``, which may send this command."""
        self.event = None
        self._grant, self._peer = grant, peer
        if isinstance(command, Cancel):
            return self._order(self._core.cancel(command.client, command.id, now_ns), command)
        if isinstance(command, Status):
            return self._order(self._core.status(command.client, command.id), command)
        if isinstance(command, Halt):
            mode = KILLED if command.kill else HALTED
            return self._mode(command, mode, now_ns)
        if isinstance(command, Resume):
            return self._mode(command, ACTIVE, now_ns)
        if isinstance(command, Reduce):
            return self._mode(command, REDUCE, now_ns)
        if isinstance(command, Positions):
            return self._positions(command, now_ns)
        if isinstance(command, Orders):
            return self._orders(command)
        assert isinstance(command, Limits), command
        return self._limits(command.client)

    def _order(self, found: Order | Reject, command: Cancel | Status) -> bytes:
        if isinstance(found, Reject):
            return encode_reject(found)
        if isinstance(command, Cancel):
            self.event = canceled_note(found, command.client, scale=self._scale)
            order = order_member(found, command.client, self._scale)
            return f'{{"ok":true,"order":{order}}}*'.encode()
        text = self._scale.qty_text
        fills = "".join(
            f',{{"exec_id":{fill_no},"at_ns":{at_ns},"qty":{text(qty)},"price":{money_text(price)}}}'
            for fill_no, at_ns, qty, price in self._store.fills_of(found, FILLS_MAX)
        )
        order = order_member(found, command.client, self._scale)
        return f'{{"ok":true,"order":{order},"fills":[{fills[1:]}]}}*'.encode()

    def _mode(self, command: Halt | Resume | Reduce, mode: int, now_ns: int) -> bytes:
        client, reason = command.client, command.reason
        account = self._core.stack if client is None else self._core.clients.get(client)
        if account and command.unless and account.mode >= MODE_NAMES.index(command.unless):
            kept = MODE_NAMES[account.mode]
            return encode_object({"ok": True, "client": client, "mode": kept, "kept": True})
        done = self._core.set_mode(client, mode, reason, now_ns)
        if isinstance(done, Reject):
            return encode_reject(done)
        name = "stack" if client is None else one_word(client)
        given = one_word(reason) if reason else "no reason given"
        role, peer = str(self._grant.role), self._peer
        self.event = Note(
            "trading_mode",
            f"Trading mode of {name} is {MODE_NAMES[mode]}: {given} (role {role} at {peer})",
            {
                "client": client,
                "mode": MODE_NAMES[mode],
                "reason": reason,
                "role": role,
                "peer": peer,
            },
            warning=mode != ACTIVE,
        )
        return encode_object(
            {"ok": True, "client": client, "mode": MODE_NAMES[mode], "canceled": done}
        )

    def _positions(self, command: Positions, now_ns: int) -> bytes:
        self._book.clear()
        self._now_ns = now_ns
        # One more than the page has, to know whether there is another.
        more = list(islice(self._keys(command), command.limit + 1))
        clients = self._core.clients
        rows = within_budget(
            encode_object(
                {"client": client}
                | self._position(client, symbol, clients[client].positions[symbol])
            )[:-1]
            for client, symbol in more[: command.limit]
        )
        answer: dict[str, Any] = {
            "ok": True,
            "positions": [msgspec.Raw(row) for row in rows],
            "more": len(more) > len(rows),
        }
        if rows:
            answer["after"] = KEY_SEPARATOR.join(more[len(rows) - 1])
        answer["total"] = self._recent_total(command.symbol, now_ns)
        return encode_object(answer)

    def _keys(self, command: Positions) -> Iterator[tuple[str, str]]:
        """Client and symbol of each position after ``after``, in order."""
        clients = self._core.clients
        last_client, _, last_symbol = command.after.partition(KEY_SEPARATOR)
        if command.client is None:
            only = self._grant.only
            names = self._clients.names(clients) if only is None else sorted(only & clients.keys())
            names = names[bisect_left(names, last_client) :]
        else:
            names = [command.client] if command.client in clients else []
        for name in names:
            if not self._grant.rules and not self._grant.sees(name):
                continue
            held = clients[name].positions
            begin = 0
            if command.symbol is not None:
                symbols = [command.symbol] if command.symbol in held else []
            else:
                symbols = self._symbols.setdefault(name, Growing()).names(held)
            if command.after and name <= last_client:
                begin = bisect_right(symbols, last_symbol) if name == last_client else len(symbols)
            for at in range(begin, len(symbols)):
                yield name, symbols[at]

    def forget(self) -> None:
        """The core has been loaded again."""
        self._clients = Growing()
        self._symbols.clear()
        self._totals.clear()

    def _recent_total(self, symbol: str | None, now_ns: int) -> dict[str, Any]:
        """The totals; with many positions not computed again for each page."""
        key = (symbol, "" if self._grant.rules else self._grant.shown)
        until_ns, total = self._totals.get(key, (0, {}))
        if now_ns >= until_ns:
            begin_ns = time.monotonic_ns()
            total = self._total(symbol)
            lasts_ns = TOTAL_REST * (time.monotonic_ns() - begin_ns)
            if len(self._totals) >= TOTALS_MAX:
                self._totals.clear()
            if lasts_ns > TOTAL_REST * TOTAL_QUICK_NS:
                self._totals[key] = now_ns + lasts_ns, total
        return total

    def _position(self, client: str, symbol: str, position: Position) -> dict[str, Any]:
        mark, accrued = self._mark(client, symbol, position)
        average, qty, amount = position.avg_cost, self._numbers.qty, self._numbers.amount
        return {
            "symbol": symbol,
            "qty": qty(position.qty),
            "avg_cost": None if average is None else json_price(average),
            "mark": json_price(mark),
            "realised": amount(position.realized),
            "unrealised": amount(position.unrealized(mark) - accrued),
            **self._costs(position.costs, accrued),
            "open_buy": qty(position.open_buy),
            "open_sell": qty(position.open_sell),
        }

    def _mark(self, client: str, symbol: str, position: Position) -> tuple[int, int]:
        """The price to show a holding at, and the borrow that it has accrued up to that.

        The book's price now, else that of its last fill.
        """
        if symbol not in self._book:
            self._book[symbol] = self._core.gate.book(symbol)
        book = self._book[symbol]
        mark, mark_ns = (position.mark, None) if book is None else (book.price, book.event_ns)
        return mark, self._core.borrow.accrued(client, position, mark_ns, self._now_ns)

    def _seen_positions(self) -> Iterator[tuple[str, str, Position]]:
        """Client, symbol and position; of few clients without a look at all the others."""
        grant, clients = self._grant, self._core.clients
        only = grant.only
        for client in clients if only is None else only & clients.keys():
            if grant.rules or grant.sees(client):
                for symbol, position in clients[client].positions.items():
                    yield client, symbol, position

    def _total(self, symbol: str | None) -> dict[str, Any]:
        """Totals over all clients that may be seen: profit is summed, quantities are net."""
        realized = unrealized = exposure = owed = 0
        costs = Costs()
        qty: dict[str, int] = {}
        for client, name, position in self._seen_positions():
            if symbol not in (None, name):
                continue
            mark, accrued = self._mark(client, name, position)
            realized += position.realized
            unrealized += position.unrealized(mark) - accrued
            exposure += abs(position.qty) * mark
            costs, owed = costs.plus(position.costs), owed + accrued
            qty[name] = qty.get(name, 0) + position.qty
        amount, first = self._numbers.amount, sorted(qty.items())[:100]
        return {
            "realised": amount(realized),
            "unrealised": amount(unrealized),
            **self._costs(costs, owed),
            "exposure": amount(exposure),
            "qty": {name: self._numbers.qty(units) for name, units in first},
        }

    def _costs(self, costs: Costs, accrued: int) -> dict[str, msgspec.Raw]:
        """Costs so far, and what shorts owe besides, as members of an answer."""
        found = {name: self._numbers.amount(cost) for name, cost in costs._asdict().items()}
        return {**found, "accrued": self._numbers.amount(accrued)}

    def _orders(self, command: Orders) -> bytes:
        """Orders, newest first; ``before`` (an order number) selects the next page."""
        core = self._core
        grant, client_no, client = self._grant, None, command.client
        if client is None and grant.only is not None and len(grant.only) == 1:
            (client,) = grant.only
        if client is not None:
            account = core.clients.get(client)
            if account is None and command.client is None:
                return encode_object(
                    {"ok": True, "orders": [], "run": msgspec.Raw(self._run), "more": False}
                )
            if account is None:
                return encode_reject(_no_client(client, run=self._run_id))
            client_no = account.client_no
        limit = min(command.limit, self.rows_max)
        if command.open:
            found, before = self._open_page(client_no, command.before, limit)
        else:
            found, before = self._store.orders_page(client_no, command.before, limit)
        shown = [o for o in found if core.knows(o) and grant.sees(core.name_of(o))]
        rows = within_budget(listed_order(o, core.name_of(o), self._scale).encode() for o in shown)
        if len(rows) < len(shown):
            before = shown[len(rows) - 1].order_no
        more = b"true" if before else b"false"
        tail = b',"before":%d' % before if before else b""
        shape = b'{"ok":true,"orders":[%b],"run":%b,"more":%b%b}*'
        return shape % (b",".join(rows), self._run, more, tail)

    def _open_page(self, client_no: int | None, before: int, limit: int) -> tuple[list[Order], int]:
        """As :meth:`OrderStore.orders_page`, of open orders, which the core holds by number."""
        below = (o for o in reversed(self._core.open.values()) if o.order_no < before)
        found: list[Order] = []
        last = 0
        for order in islice(below, SCAN_ORDERS):
            last = order.order_no
            if client_no in (None, order.client_no):
                found.append(order)
                if len(found) == limit:
                    break
        return found, last if next(below, None) is not None else 0

    def _limits(self, client: str | None) -> bytes:
        account = self._core.stack if client is None else self._core.clients.get(client)
        if account is None:
            return encode_reject(_no_client(client))
        return encode_object(
            {
                "ok": True,
                "client": client,
                "mode": MODE_NAMES[account.mode],
                "limits": self._limit_values(account),
                "used": {
                    "open_orders": account.open_orders,
                    "profit_today": self._numbers.amount(self._core.gate.profit_today(account)),
                },
            }
        )

    def _limit_values(self, account: Account) -> dict[str, Any]:
        shown = {PRICE: json_price, AMOUNT: self._numbers.amount, QTY: self._numbers.qty}
        return {
            name: shown[unit](value) if (unit := LIMIT_UNITS.get(name, "")) else value
            for name, value in self._core.gate.limits(account).items()
        }


def canceled_note(order: Order, client: str, more: str = "", scale: Scale = WHOLE) -> Note:
    """The log line of a canceled order; ``more`` ends its text."""
    text = f"Canceled Order {order.id} client={one_word(client)} id={order.id}{more}"
    return Note("order_canceled", text, order_fields(order, client, scale))


def order_fields(order: Order, client: str, scale: Scale) -> dict[str, Any]:
    """An order's fields in the JSON log."""
    qty = Numbers(scale).qty
    return {
        "client": client,
        "id": order.id,
        "symbol": order.symbol,
        "side": SIDE_NAMES[order.side],
        "qty": qty(order.qty),
        "price": None if order.price is None else json_price(order.price),
        "filled_qty": qty(order.filled_qty),
        "status": STATUS_NAMES[order.status],
    }


def within_budget(rows: Iterable[bytes]) -> list[bytes]:
    """The first rows, as many as fit into one frame together with the rest of the answer."""
    taken: list[bytes] = []
    left = ROWS_BYTES_MAX
    for row in rows:
        left -= len(row) + 1
        if left < 0:
            break
        taken.append(row)
    return taken


def _no_client(client: str | None, **more: str) -> Reject:
    details = {"client": client, **more}
    return Reject(RejectCode.UNKNOWN_CLIENT, f"no client {client}", details)
