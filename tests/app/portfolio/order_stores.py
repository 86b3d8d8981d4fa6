"""Order stores with given fills."""

from pathlib import Path

import apsw

from app.model.orders import FILLED, SIDES, db_int
from app.order_manager.store.schema import migrate
from tests.app.portfolio.fill_messages import Told


def write_store(path: Path, fills: list[Told]) -> Path:
    """A store of one shard; every second fill is in the order's own row, as a first one is."""
    db = apsw.Connection(str(path))
    migrate(db)
    with db:
        decimals = fills[0].qty_decimals if fills else 0
        db.execute("UPDATE scale SET qty_decimals = ?", (decimals,))
        db.execute("UPDATE identity SET store_id = ?", (fills[0].store if fills else "one",))
        clients: dict[str, int] = {}
        for order_no, told in enumerate(sorted(fills, key=lambda f: (f.run, f.fill_no)), 1):
            assert told.qty_decimals == decimals
            client_no = clients.setdefault(told.run, len(clients) + 1)
            db.execute(
                "INSERT OR IGNORE INTO clients VALUES(?, ?, 'strategy-1')", (client_no, told.run)
            )
            _insert(db, order_no, client_no, told, own_row=bool(order_no % 2))
    db.close()
    return path


def _insert(
    db: apsw.Connection, order_no: int, client_no: int, told: Told, *, own_row: bool
) -> None:
    costs = [db_int(each) for each in (told.fee, told.slippage, told.impact, told.borrow)]
    names = "fee, slippage, impact, borrow"
    db.execute(
        "INSERT INTO orders(order_no, client_no, id, at_ns, side, symbol, qty, price, type, tif, "
        f"status, filled_qty, filled_notional, exec_first, exec_count, exec_price, code, {names}) "
        "VALUES(?, ?, ?, ?, ?, ?, ?, NULL, 0, 0, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)",
        (
            order_no, client_no, order_no, told.at_ns, SIDES[told.side], told.symbol, told.qty,
            FILLED, told.qty, db_int(told.qty * told.price), told.fill_no if own_row else 0,
            int(own_row), told.price if own_row else 0, *(costs if own_row else [0, 0, 0, 0]),
        ),
    )  # fmt: skip
    if not own_row:
        db.execute(
            f"INSERT INTO executions(fill_no, order_no, at_ns, qty, price, {names}) "
            "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (told.fill_no, order_no, told.at_ns, told.qty, told.price, *costs),
        )
