"""Reads an order store that another process writes: pages of what is committed, nothing else.

Each read is a transaction of its own and short, so that the order manager's checkpoints do not wait
for it.
"""

import os
from typing import Any, Final

import apsw

from app.bus.link.messages import FillMessage, OrderMessage, order_message
from app.bus.outbox.rows import CHANGE, FILL, ORDER, Digests, Marks, OrderRow, Page, digest_of
from app.execution.accounts import STACK_CLIENT_NO
from app.model.orders import SIDE_NAMES
from app.order_manager.store.schema import VERSION, StoreError, scale_of, schema_version

PAGE_ROWS: Final = 512
"""Of each kind: what is read ahead, and so what catching up keeps in memory."""

_ORDER: Final = (
    "o.order_no, o.id, o.at_ns, o.side, o.symbol, o.qty, o.price, o.type, o.tif, o.status, "
    "o.filled_qty, o.filled_notional, o.code"
)
_ORDER_ROW: Final = (
    f"SELECT c.run_id, c.name, {_ORDER}, o.exec_first, o.exec_count, o.exec_price, o.fee, "
    "o.slippage, o.impact, o.borrow FROM orders o JOIN clients c USING(client_no) "
)
_ORDERS: Final = f"{_ORDER_ROW} WHERE o.order_no >= ? ORDER BY o.order_no LIMIT ?"
_FILLED_AT_ONCE: Final = (
    f"{_ORDER_ROW} WHERE o.exec_count = 1 AND o.order_no <= ? AND o.exec_first <= ? "
    "ORDER BY o.order_no DESC LIMIT 1"
)
_FILLS: Final = (
    "SELECT c.run_id, e.fill_no, o.order_no, c.name, o.id, e.at_ns, o.symbol, o.side, e.qty, "
    "e.price, e.fee, e.slippage, e.impact, e.borrow FROM executions e JOIN orders o "
    "USING(order_no) JOIN clients c USING(client_no) WHERE e.fill_no > ? ORDER BY e.fill_no LIMIT ?"
)
_CHANGES: Final = (
    f"SELECT c.run_id, c.name, {_ORDER}, h.change_no, h.status, h.filled_qty, h.filled_notional, "
    "h.at_ns, h.reason FROM order_changes h JOIN orders o USING(order_no) "
    "JOIN clients c USING(client_no) WHERE h.change_no > ? ORDER BY h.change_no LIMIT ?"
)
_LAST: Final = (
    "SELECT (SELECT store_id FROM identity), "
    "(SELECT ifnull(max(order_no), 0) FROM orders), "
    "max((SELECT ifnull(max(fill_no), 0) FROM executions), ifnull((SELECT exec_first FROM orders "
    "WHERE exec_count = 1 ORDER BY order_no DESC LIMIT 1), 0)), "
    "(SELECT ifnull(max(change_no), 0) FROM order_changes)"
)
_MODE: Final = (
    "SELECT mode, reason FROM controls WHERE client_no = ? ORDER BY control_no DESC LIMIT 1"
)
_BETWEEN: Final = {
    ORDER: "SELECT 1 FROM orders WHERE order_no > ?1 AND order_no < ?2",
    FILL: "SELECT 1 FROM executions WHERE fill_no > ?1 AND fill_no < ?2 UNION ALL "
    "SELECT 1 FROM orders WHERE exec_count = 1 AND exec_first > ?1 AND exec_first < ?2",
    CHANGE: "SELECT 1 FROM order_changes WHERE change_no > ?1 AND change_no < ?2",
}
_ORDER_COLUMNS: Final = 13


class StoreReader:
    """An order store, opened for reading when it is there, and anew if another takes its name."""

    def __init__(self, path: str, page_rows: int = PAGE_ROWS) -> None:
        self.path, self._rows = path, page_rows
        self._connection: apsw.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._version = -1
        self._decimals = 0
        self.opened = 0
        """How often a file was opened: a rise says that another file has the store's name."""

    def changed(self) -> bool:
        """Whether there may be something new since the last call; cheap."""
        connection = self._open()
        if connection is None:
            return False
        try:
            version = int(connection.pragma("data_version"))
        except apsw.BusyError:
            return True
        before, self._version = self._version, version
        return version != before

    def last(self) -> Marks | None:
        """The last number of each kind, and the store's id; None if there is no store yet."""
        row = self._one(_LAST)
        return None if row is None else Marks(*row)

    def follows(self, marks: Marks, before: Marks) -> bool:
        """Whether ``marks`` are those of a row right after ``before``: one of one kind.

        Its number may be more than one higher if the store has given up the rows between.
        """
        if len(steps := marks.steps(before)) != 1:
            return False
        ((kind, then, now),) = steps
        return now == then + 1 or (now > then and self._one(_BETWEEN[kind], then, now) is None)

    def stack_mode(self) -> tuple[int, str] | None:
        """Trading mode of the whole stack and its reason; None: it was never changed."""
        row = self._one(_MODE, STACK_CLIENT_NO)
        return None if row is None else (int(row[0]), str(row[1]))

    def time_of(self, order_no: int) -> int:
        """When the first order after this one was acknowledged; 0: there is none."""
        row = self._one(
            "SELECT at_ns FROM orders WHERE order_no > ? ORDER BY order_no LIMIT 1", order_no
        )
        return 0 if row is None else int(row[0])

    def page(self, marks: Marks) -> Page:
        """What comes after ``marks``, as of one moment."""
        connection = self._open()
        if connection is None:
            return Page([], [], [], False, False, False)
        limit = self._rows
        with connection:  # one snapshot for all queries
            self._decimals = scale_of(connection).decimals
            # One order more: the last that is published, whose fill may not be.
            orders = connection.execute(_ORDERS, (marks.orders, limit + 1)).fetchall()
            fills = connection.execute(_FILLS, (marks.fills, limit)).fetchall()
            changes = connection.execute(_CHANGES, (marks.changes, limit)).fetchall()
        return Page(
            [self._order(row) for row in orders],
            [self._fill(*row) for row in fills],
            [self._change(*row) for row in changes],
            len(orders) > limit,
            len(fills) == limit,
            len(changes) == limit,
        )

    def digests(self, marks: Marks) -> Digests:
        """Of the rows that ``marks`` name; empty of one that the store does not have (any more)."""
        connection = self._open()
        if connection is None:
            return Digests()
        with connection:
            self._decimals = scale_of(connection).decimals
            order = connection.execute(_ORDERS, (marks.orders, 1)).fetchall()
            at_once = connection.execute(_FILLED_AT_ONCE, marks[1:3]).fetchall()
            fill = connection.execute(_FILLS, (marks.fills - 1, 1)).fetchall()
            change = connection.execute(_CHANGES, (marks.changes - 1, 1)).fetchall()
        orders = [self._order(row).message for row in order]
        fills = [self._fill(*row) for row in fill]
        fills += [found for row in at_once if (found := self._order(row).fill)]
        changes = [self._change(*row) for row in change]
        return Digests(
            next((digest_of(m) for m in orders if m.order_no == marks.orders), ""),
            next((digest_of(m) for m in fills if m.fill_no == marks.fills), ""),
            next((digest_of(m) for m in changes if m.change_no == marks.changes), ""),
        )

    def _order(self, row: tuple[Any, ...]) -> OrderRow:
        run, name, *rest = row
        order = tuple(rest[:_ORDER_COLUMNS])
        first, count, price, *costs = rest[_ORDER_COLUMNS:]
        message = order_message(run, name, self._decimals, order)
        if count != 1:
            return OrderRow(message, None)
        head = (run, first, message.order_no, name, message.id, message.at_ns)
        side = order[3]
        fill = self._fill(*head, message.symbol, side, message.filled_qty, price, *costs)
        return OrderRow(message, fill)

    def _change(self, *columns: Any) -> OrderMessage:
        run, name, *row = columns
        order, change = row[:_ORDER_COLUMNS], row[_ORDER_COLUMNS:]
        return order_message(run, name, self._decimals, tuple(order), tuple(change))

    def _fill(self, *row: Any) -> FillMessage:
        run, fill_no, order_no, client, order_id, at_ns, symbol, side, qty, *amounts = row
        price, fee, slippage, impact, borrow = map(str, amounts)
        return FillMessage(
            run=run,
            fill_no=fill_no,
            order_no=order_no,
            client=client,
            id=order_id,
            at_ns=at_ns,
            symbol=symbol,
            side=SIDE_NAMES[side],
            qty=qty,
            price=price,
            fee=fee,
            slippage=slippage,
            impact=impact,
            borrow=borrow,
            qty_decimals=self._decimals,
        )

    def _one(self, query: str, *values: object) -> Any:
        connection = self._open()
        return None if connection is None else connection.execute(query, values).fetchone()

    def _open(self) -> apsw.Connection | None:
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            self.close()
            return None
        identity = found.st_dev, found.st_ino
        if self._connection is not None and identity == self._file:
            return self._connection
        self.close()
        connection = apsw.Connection(self.path, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_timeout(5000)
            connection.pragma("query_only", True)
            version = schema_version(connection)
        except (apsw.BusyError, apsw.CantOpenError):
            connection.close()
            return None
        except StoreError as error:
            connection.close()
            raise StoreError(f"{self.path}: {error}") from None
        if version < VERSION:
            # Made at this moment, or an order manager of an earlier version has it.
            connection.close()
            return None
        self._connection, self._file, self._version = connection, identity, -1
        self.opened += 1
        return connection

    def close(self) -> None:
        """Close the file; the next read opens it."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
