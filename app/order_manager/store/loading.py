"""Orders to the tables of a store; orders and the state of a run from them."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

import apsw

from app.execution.accounts import STACK_CLIENT_NO
from app.execution.pending_rows import Recovered
from app.model.orders import BEYOND_64_BITS, ORDER_FIELDS, Order
from app.order_manager.store.positions import Positions, read_positions
from app.order_manager.store.schema import IS_OPEN, StoreError

_TIMED: Final = (("orders", "order_no"), ("executions", "fill_no"), ("order_changes", "change_no"))
_MAYBE_TEXT: Final = tuple(map(ORDER_FIELDS.index, BEYOND_64_BITS))
ROWS_TOGETHER: Final = 32
_ROW: Final = f"({','.join('?' * len(ORDER_FIELDS))})"
_INSERT: Final = f"INSERT INTO orders VALUES{_ROW}"
_INSERT_MANY: Final = f"INSERT INTO orders VALUES{','.join([_ROW] * ROWS_TOGETHER)}"


def insert_orders(cursor: apsw.Cursor, orders: list[Order]) -> None:
    """Insert orders, inside the caller's transaction, which an error has to end."""
    insert_rows(cursor, [order.row() for order in orders])


def insert_rows(cursor: apsw.Cursor, rows: list[tuple[object, ...]]) -> None:
    """As :func:`insert_orders`, the values of orders.

    A statement takes ROWS_TOGETHER rows, if there are so many: a fifth less time than one each.
    """
    if len(rows) == 1:
        cursor.execute(_INSERT, rows[0])
        return
    rest = len(rows) % ROWS_TOGETHER
    starts = range(0, len(rows) - rest, ROWS_TOGETHER)
    cursor.executemany(
        _INSERT_MANY,
        [tuple(chain.from_iterable(rows[start : start + ROWS_TOGETHER])) for start in starts],
    )
    if rest:
        cursor.executemany(_INSERT, rows[-rest:])


def load_state(connection: apsw.Connection, run_id: str, path: str) -> tuple[Recovered, Positions]:
    """What the core of one run starts from, and the positions that their table lacks.

    Raises:
        StoreError: the file contradicts itself.
    """
    execute = connection.execute
    found = Recovered(clients={}, positions={}, open_orders=[], modes={}, mode_changes={}, days={})
    rows: list[Any] = execute(
        "SELECT client_no, name FROM clients WHERE run_id = ?", (run_id,)
    ).fetchall()
    for client_no, name in rows:
        high = execute("SELECT max(id) FROM orders WHERE client_no = ?", (client_no,)).get
        found.clients[client_no] = (name, -1 if high is None else high)
    positions, changed = read_positions(connection)
    applied = max((position.fill_no for position in positions.values()), default=0)
    found.positions = {
        key: position for key, position in positions.items() if key[0] in found.clients
    }
    found.open_orders = [
        order
        for order in read_orders(connection, f"WHERE s.{IS_OPEN} ORDER BY o.order_no")
        if order.client_no in found.clients
    ]
    run = {*found.clients, STACK_CLIENT_NO}
    # With max(), SQLite takes the other columns from the row that has the maximum.
    for client_no, mode, reason, at_ns, _ in execute(
        "SELECT client_no, mode, reason, at_ns, max(control_no) FROM controls GROUP BY client_no"
    ):
        if client_no in run:
            found.modes[client_no] = mode
            found.mode_changes[client_no] = reason, at_ns
    for client_no, day, base in execute(
        "SELECT client_no, day, base FROM days WHERE run_id = ?", (run_id,)
    ):
        found.days[client_no] = (day, int(base))
    found.last_order_no = execute("SELECT ifnull(max(order_no), 0) FROM orders").get
    found.last_at_ns = max(
        execute(f"SELECT at_ns FROM {table} ORDER BY {number} DESC LIMIT 1").get or 0
        for table, number in _TIMED
    )
    found.last_fill_no = max(
        execute("SELECT ifnull(max(fill_no), 0) FROM executions").get,
        execute(
            "SELECT exec_first FROM orders WHERE exec_count = 1 ORDER BY order_no DESC LIMIT 1"
        ).get
        or 0,
    )
    found.last_client_no = execute("SELECT ifnull(max(client_no), 0) FROM clients").get
    if applied != found.last_fill_no:
        raise StoreError(
            f"{path}: positions hold fills up to {applied}, the log has them up to "
            f"{found.last_fill_no}; rebuild them with: "
            "python -m app store rebuild"
        )
    return found, changed


def read_orders(
    connection: apsw.Connection, where: str, values: tuple[object, ...] = ()
) -> Iterator[Order]:
    """Orders in their current state: their row, updated by ``order_state``."""
    columns = ", ".join(f"o.{name}" for name in ORDER_FIELDS)
    query = (
        f"SELECT {columns}, s.status, s.filled_qty, s.filled_notional "
        f"FROM orders o LEFT JOIN order_state s USING(order_no) {where}"
    )
    for *row, status, filled_qty, filled_notional in connection.execute(query, values):
        order = order_of(row)
        if status is not None:
            order.status = status
            order.filled_qty = filled_qty
            order.filled_notional = int(filled_notional)
        yield order


def order_of(row: Iterable[Any]) -> Order:
    """An order from its row."""
    values = list(row)
    for at in _MAYBE_TEXT:
        values[at] = int(values[at])
    return Order(*values)
