"""Orders as a table: the columns of every file of orders, whether from a store or a backtest."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from app.model.money import WHOLE, Scale, divide, money_text
from app.model.orders import SIDE_NAMES, STATUS_NAMES, TIF_NAMES, TYPE_NAMES
from app.model.reject_codes import RejectCode
from app.model.symbols import FORMULA_STARTS
from app.model.timestamps import ts_text, utc_text

Columns = dict[str, str]

ORDER_COLUMNS: Final[Columns] = {
    "order_no": "int",
    "run_id": "text",
    "client": "text",
    "id": "int",
    "at_ns": "int",
    "ts": "text",
    "side": "text",
    "symbol": "text",
    "qty": "qty",
    "price": "money",
    "type": "text",
    "tif": "text",
    "status": "text",
    "filled_qty": "qty",
    "avg_price": "money",
    "code": "text",
    "msg": "text",
}
"""Column -> kind.  ``money`` (a price) is kept in units of 1e-9, ``qty`` and ``amount`` (a
quantity times a price) in those of a :class:`Scale`; ``at_ns`` is when it was decided."""


def order_row(
    order_no: int,
    run_id: str,
    client: str,
    order_id: int,
    at_ns: int,
    ts: str | None,
    side: int,
    symbol: str,
    qty: int,
    price: int | None,
    kind: int,
    tif: int,
    status: int,
    filled_qty: int,
    filled_notional: int,
    code: int,
    msg: str | None,
) -> tuple[Any, ...]:
    """The values of :data:`ORDER_COLUMNS` from the numbers that an order is kept as."""
    return (
        order_no,
        run_id,
        client,
        order_id,
        at_ns,
        None if ts is None else ts_text(ts),
        SIDE_NAMES[side],
        symbol,
        qty,
        price,
        TYPE_NAMES[kind],
        TIF_NAMES[tif],
        STATUS_NAMES[status],
        filled_qty,
        divide(filled_notional, filled_qty) if filled_qty else None,
        RejectCode(code).name if code else None,
        msg,
    )


def csv_header(columns: Columns) -> list[str]:
    """The names of the columns; a table with ``at_ns`` ends with the readable ``at``."""
    return [*columns, *(["at"] if "at_ns" in columns else [])]


def _text_cell(text: str) -> str:
    """Text of a client, which a spreadsheet must not take for a formula."""
    return f"'{text}" if text[:1] in _FORMULA else text


_FORMULA: Final = frozenset((*FORMULA_STARTS.decode(), "\t", "\r"))


def texts_of(scale: Scale) -> dict[str, Callable[[Any], str]]:
    """Kind of number -> its exact text; an integer needs none."""
    exact: dict[str, Callable[[Any], str]] = {"money": money_text, "amount": scale.amount_text}
    return exact | {"qty": scale.qty_text} if scale.decimals else exact


_TEXTS: Final = texts_of(WHOLE)


def csv_cells(
    columns: Columns, row: Sequence[Any], numbers: Mapping[str, Callable[[Any], str]] = _TEXTS
) -> list[Any]:
    """One row of the table as cells: numbers as :func:`texts_of`, the time in UTC at the end."""
    texts = {"text": _text_cell, **numbers}
    cells = [
        None if value is None else texts[kind](value) if kind in texts else value
        for kind, value in zip(columns.values(), row, strict=True)
    ]
    if "at_ns" in columns:
        cells.append(utc_text(row[list(columns).index("at_ns")], 9))
    return cells
