"""Orders, fills and positions of a store as tables for pandas: CSV, or Parquet.

Numbers are exact: decimal text in CSV; in Parquet ``decimal128(38, 9)`` for prices, and with
QTY_DECIMALS=D ``decimal128(38, D)`` for quantities (int64 if D is 0) and ``decimal128(38, 9 + D)``
for amounts.  Times are ``at_ns``, nanoseconds since the epoch in UTC; CSV also has a readable
``at``.
"""

import csv
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Final

import apsw

from app.model.money import DECIMALS_MAX, Scale
from app.model.order_table import ORDER_COLUMNS, csv_cells, csv_header, order_row, texts_of
from app.model.orders import SIDE_NAMES
from app.order_manager.store.positions import read_positions
from app.order_manager.store.schema import StoreError, scale_of

FORMATS: Final = ("csv", "parquet")
BATCH_ROWS: Final = 50_000
DIGITS: Final = 38
"""Of a decimal128."""
UNITS_END: Final = 10**DIGITS

NOTIONAL: Final = -3
"""The column of the filled notional, counted from the end of the query of orders."""

Row = tuple[Any, ...]

COLUMNS: Final = {
    "orders": ORDER_COLUMNS,
    "fills": {
        "fill_no": "int",
        "order_no": "int",
        "run_id": "text",
        "client": "text",
        "id": "int",
        "at_ns": "int",
        "side": "text",
        "symbol": "text",
        "qty": "qty",
        "price": "money",
        "fee": "amount",
        "slippage": "amount",
        "impact": "amount",
        "borrow": "amount",
    },
    "positions": {
        "run_id": "text",
        "client": "text",
        "symbol": "text",
        "qty": "qty",
        "avg_cost": "money",
        "realised": "amount",
        "unrealised": "amount",
        "mark": "money",
        "fees": "amount",
        "slippage": "amount",
        "impact": "amount",
        "borrow": "amount",
        "accrued": "amount",
        "turnover": "amount",
    },
}
"""Table -> column -> kind, as in :data:`ORDER_COLUMNS`."""

_QUERIES: Final = {
    "orders": (
        "SELECT o.order_no, c.run_id, c.name, o.id, o.at_ns, o.ts, o.side, o.symbol, o.qty, "
        "o.price, o.type, o.tif, ifnull(s.status, o.status), ifnull(s.filled_qty, o.filled_qty), "
        "ifnull(s.filled_notional, o.filled_notional), o.code, o.msg "
        "FROM orders o JOIN clients c USING(client_no) LEFT JOIN order_state s USING(order_no) "
        "WHERE ?1 IS NULL OR c.run_id = ?1 ORDER BY o.order_no"
    ),
    "fills": (
        "SELECT f.fill_no, o.order_no, c.run_id, c.name, o.id, f.at_ns, o.side, o.symbol, f.qty, "
        "f.price, f.fee, f.slippage, f.impact, f.borrow FROM fills f "
        "JOIN orders o USING(order_no) JOIN clients c USING(client_no) "
        "WHERE ?1 IS NULL OR c.run_id = ?1 ORDER BY f.fill_no"
    ),
}


def _order(row: Row) -> Row:
    values = list(row)
    values[NOTIONAL] = int(values[NOTIONAL])  # text if it is beyond 64 bits
    return order_row(*values)


def _fill(row: Row) -> Row:
    *head, side, symbol, qty, price, fee, slippage, impact, borrow = row
    return (*head, SIDE_NAMES[side], symbol, qty, price, *map(int, (fee, slippage, impact, borrow)))


_SHAPES: Final[dict[str, Callable[[Row], Row]]] = {"orders": _order, "fills": _fill}


def _rows(connection: apsw.Connection, table: str, run_id: str | None) -> Iterator[Row]:
    if table == "positions":
        return _positions(connection, run_id)
    return map(_SHAPES[table], connection.execute(_QUERIES[table], (run_id,)))


def _positions(connection: apsw.Connection, run_id: str | None) -> Iterator[Row]:
    clients = {
        client_no: (run, name)
        for client_no, run, name in connection.execute(
            "SELECT client_no, run_id, name FROM clients WHERE ?1 IS NULL OR run_id = ?1", (run_id,)
        )
    }
    marks: dict[tuple[str, str], tuple[int, int]] = {
        (run, symbol): mark for run, symbol, *mark in connection.execute("SELECT * FROM marks")
    }
    accruals: dict[tuple[int, str], tuple[Any, int]] = {
        (no, symbol): accrual
        for no, symbol, *accrual in connection.execute("SELECT * FROM accruals")
    }
    positions, _ = read_positions(connection)
    found = [
        (*clients[no], symbol, no, p) for (no, symbol), p in positions.items() if no in clients
    ]
    for run, name, symbol, no, p in sorted(found, key=lambda row: row[:3]):
        price, fill_no = marks.get((run, symbol), (0, -1))
        mark = p.mark if p.fill_no > fill_no else price
        borrow, fill_no = accruals.get((no, symbol), (0, -1))
        accrued = 0 if p.fill_no > fill_no else int(borrow)
        worth = p.avg_cost, p.realized, p.unrealized(mark) - accrued, mark
        *costs, turnover = p.costs
        yield (run, name, symbol, p.qty, *worth, *costs, accrued, turnover)


def export_store(
    connection: apsw.Connection, folder: Path, form: str, run_id: str | None
) -> list[Path]:
    """Write one file per table of :data:`COLUMNS` into ``folder``; returns their paths.

    Raises:
        StoreError: ``form`` is "parquet" and arro3 is not installed, or a sum does not fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write = _write_csv if form == "csv" else _write_parquet
    scale = scale_of(connection)
    files = []
    for table in COLUMNS:
        path = folder / f"{table}.{form}"
        write(path, table, _rows(connection, table, run_id), scale)
        files.append(path)
    return files


def _write_csv(path: Path, table: str, rows: Iterator[Row], scale: Scale) -> None:
    columns, texts = COLUMNS[table], texts_of(scale)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(csv_header(columns))
        writer.writerows(csv_cells(columns, row, texts) for row in rows)


def _write_parquet(path: Path, table: str, rows: Iterator[Row], scale: Scale) -> None:
    try:
        core: Any = import_module("arro3.core")
        io: Any = import_module("arro3.io")
    except ImportError:
        raise StoreError(
            "Parquet needs arro3, which is not installed; use --format csv, or: "
            "pip install arro3-io"
        ) from None
    types = {
        "int": core.DataType.int64(),
        "text": core.DataType.string(),
        "money": core.DataType.decimal128(DIGITS, DECIMALS_MAX),
        "amount": core.DataType.decimal128(DIGITS, DECIMALS_MAX + scale.decimals),
        "qty": core.DataType.decimal128(DIGITS, scale.decimals),
    }
    texts = texts_of(scale)
    if "qty" not in texts:
        types["qty"] = types["int"]
    columns = COLUMNS[table]
    schema = core.Schema([core.Field(name, types[kind]) for name, kind in columns.items()])

    def batches() -> Iterator[Any]:
        while batch := list(islice(rows, BATCH_ROWS)):
            arrays = []
            for values, (name, kind) in zip(zip(*batch, strict=True), columns.items(), strict=True):
                if kind in texts:  # Its exact text is the only form that Arrow takes.
                    exact = [None if value is None else texts[kind](value) for value in values]
                    _refuse_too_long(values, exact, f"{table}.{name}")
                    arrays.append(core.Array(exact, type=types["text"]).cast(types[kind]))
                else:
                    arrays.append(core.Array(list(values), type=types[kind]))
            yield core.RecordBatch.from_arrays(arrays, schema=schema)

    failed: list[StoreError] = []

    def written() -> Iterator[Any]:
        try:
            yield from batches()
        except StoreError as error:  # Arrow would replace it with one of its own.
            failed.append(error)

    with path.open("wb") as file:
        io.write_parquet(core.RecordBatchReader.from_batches(schema, written()), file)
    if failed:
        path.unlink()
        raise failed[0]


def _refuse_too_long(values: Row, texts: list[str | None], column: str) -> None:
    """Refuse a number of more digits than a decimal128 has; Arrow would write null for it."""
    for value, text in zip(values, texts, strict=True):
        if value is not None and abs(value) >= UNITS_END:
            raise StoreError(
                f"{column}: {text} has more than {DIGITS} digits, decimals included, so it does "
                "not fit decimal128; use --format csv"
            )
