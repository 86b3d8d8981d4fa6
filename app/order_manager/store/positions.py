"""Positions of an order store: a snapshot in a table, plus the fills since.

The commit of an order writes no position, which saves the order one statement and one page.  The
table ``positions`` is a snapshot, updated in one transaction: it contains every execution up to the
largest ``fill_no`` in it, and none after.  Readers apply the later ones.
"""

from collections.abc import Iterable
from typing import Any, Final

import apsw

from app.model.orders import db_int
from app.model.position import Position

Key = tuple[int, str]
"""Client number and symbol."""
Positions = dict[Key, Position]
PositionRow = tuple[object, ...]
Fill = tuple[Any, ...]
"""Fill number, client number, symbol, side, quantity, price, fee, slippage, impact, borrow, event
time; costs may be decimal text."""

_PUT: Final = f"INSERT OR REPLACE INTO positions VALUES({','.join('?' * 13)})"


def read_positions(connection: apsw.Connection) -> tuple[Positions, Positions]:
    """All current positions of a store, and those of them that its table does not have yet."""
    positions: Positions = {}
    snapshot = 0
    for client_no, symbol, *numbers, since_ns in connection.execute("SELECT * FROM positions"):
        position = positions[client_no, symbol] = Position(*map(int, numbers))
        position.since_ns = since_ns
        snapshot = max(snapshot, position.fill_no)
    return positions, apply_fills(positions, _fills_after(connection, snapshot))


def apply_fills(positions: Positions, fills: Iterable[Fill]) -> Positions:
    """Apply ``fills`` in their order; returns the positions that changed."""
    changed: Positions = {}
    for fill_no, client_no, symbol, side, qty, price, *costs, event_ns in fills:
        key = client_no, symbol
        position = positions.get(key)
        if position is None:
            position = positions[key] = Position()
        position.charge(*map(int, costs))
        position.apply(side, qty, price, event_ns=event_ns)
        position.fill_no = fill_no
        changed[key] = position
    return changed


def rebuild_positions(connection: apsw.Connection) -> Positions:
    """Compute the positions from all fills, without the table."""
    return apply_fills(
        {},
        connection.execute(
            "SELECT f.fill_no, o.client_no, o.symbol, o.side, f.qty, f.price, f.fee, f.slippage, "
            "f.impact, f.borrow, f.event_ns FROM fills f JOIN orders o USING(order_no) "
            "ORDER BY f.fill_no"
        ),
    )


def _fills_after(connection: apsw.Connection, fill_no: int) -> list[Fill]:
    """The executions after ``fill_no``.

    The fill numbers in orders' own rows rise with the order number, so these rows are read
    backwards, up to the first order that executed before the snapshot.
    """
    fills: list[Any] = connection.execute(
        "SELECT e.fill_no, o.client_no, o.symbol, o.side, e.qty, e.price, e.fee, e.slippage, "
        "e.impact, e.borrow, e.event_ns FROM executions e JOIN orders o USING(order_no) "
        "WHERE e.fill_no > ?",
        (fill_no,),
    ).fetchall()
    for count, *fill in connection.execute(
        "SELECT exec_count, exec_first, client_no, symbol, side, filled_qty, exec_price, fee, "
        "slippage, impact, borrow, event_ns FROM orders WHERE exec_count > 0 ORDER BY order_no DESC"
    ):
        if fill[0] <= fill_no:
            break
        if count == 1:
            fills.append(tuple(fill))
    fills.sort(key=lambda fill: fill[0])
    return fills


def write_positions(cursor: apsw.Cursor, rows: Iterable[PositionRow]) -> None:
    """Write positions into the table, inside the caller's transaction."""
    cursor.executemany(_PUT, rows)


def position_rows(positions: Positions) -> dict[Key, PositionRow]:
    """Positions as rows of the table."""
    rows: dict[Key, PositionRow] = {}
    for key, p in positions.items():
        rows[key] = (
            *key,
            db_int(p.qty),
            db_int(p.cost),
            db_int(p.realized),
            p.mark,
            p.fill_no,
            db_int(p.fees),
            db_int(p.slippage),
            db_int(p.impact),
            db_int(p.borrow),
            db_int(p.turnover),
            p.since_ns,
        )
    return rows
