"""Tables with a column for each symbol: under two or three header rows, as yfinance writes them, or
under one (``DATA_KIND=wide``)."""

from pathlib import Path
from typing import Final

from app.market_data.sources.errors import DataError, missing_columns, nearest_column
from app.market_data.sources.text.headerless import is_row
from app.market_data.sources.text.layout import BAR, Group, Header, Layout, split_line
from app.market_data.tick_table import Columns
from app.model.symbols import symbol_problem, without_padding

HEADER_ROWS_MAX: Final = 3


def wide_layout(path: Path, head: bytes, columns: Columns, delimiter: bytes) -> Layout | None:
    """The layout of such a table; None if the file is another.

    The names of symbols and those of values are in two rows, in either order; the name of the index
    is in a third, or in the first.

    Raises:
        DataError: it is one, but lacks the value that is asked for, or a symbol is not valid.
    """
    lines = head.splitlines(keepends=True)[: HEADER_ROWS_MAX + 1]
    rows = [split_line(line, delimiter) for line in lines]
    count = next((at for at, row in enumerate(rows) if is_row(row)), 0)
    if count not in (2, 3) or len({len(row) for row in rows[:count]}) != 1:
        return None
    first, second = rows[0], rows[1]
    if count == 3 and any(rows[2][1:]):
        return None
    if count == 2 and second[0]:
        return None
    if not all(first[1:]) or not all(second[1:]):
        return None
    if not _names_values(first, columns) and not _names_values(second, columns):
        return None
    values, symbols = (first, second) if _names_values(first, columns) else (second, first)
    wanted = [columns.price] if _finds(values, columns.price) else ["close"]
    if columns.bars_as == "ohlc" and columns.data_kind in ("auto", "bars"):
        wanted = list(BAR)
    groups = []
    for symbol in dict.fromkeys(symbols[1:]):
        places = [_place(values, symbols, name, symbol) for name in wanted]
        if None in places:
            continue
        name = without_padding(symbol.encode())
        problem = symbol_problem(name)
        if problem:
            raise DataError(f"{path}: symbol={symbol!r}: {problem}")
        found = tuple(place for place in places if place is not None)
        groups.append(Group(found, name))
    names = [*dict.fromkeys(values[1:])]
    if not groups:
        missing = ", ".join(repr(name) for name in wanted)
        raise DataError(
            f"{path}: no column {missing} for any symbol; the header has {', '.join(names)}: "
            f"set PRICE_COLUMN={names[0]}, set BARS_AS=close"
        )
    titles = [
        rows[count - 1][0] or first[0] or "Date",
        *(f"{value} {symbol}" for value, symbol in zip(values[1:], symbols[1:], strict=True)),
    ]
    form = "ohlc" if len(wanted) == 4 else "value"
    size = sum(map(len, lines[:count]))
    return Layout(
        "bars", delimiter, titles, size, count, (0,), None, groups, form, None, sparse=True
    )


def one_row_layout(
    path: Path, header: Header, columns: Columns, delimiter: bytes, head: tuple[int, int]
) -> Layout:
    """The layout of a table whose columns, but that of the timestamp, are symbols.

    The timestamp's column may have any usual name, or none if it is the first.  A sentiment's is
    left out.

    Raises:
        DataError: no timestamp, no symbol, or one that is not valid.
    """
    names = header.names
    time = header.find_time(columns.timestamp)
    if time is None and columns.timestamp == Columns().timestamp:
        usual = header.date_and_time or nearest_column("TIMESTAMP_COLUMN", columns.timestamp, names)
        time = (0,) if names[:1] == [""] else header.find_time(usual or "")
    if time is None:
        missing = {"TIMESTAMP_COLUMN": columns.timestamp}
        raise missing_columns(path, missing, names, header.date_and_time)
    groups = []
    for at, symbol in enumerate(names):
        if at in time or symbol.casefold() == columns.sentiment.casefold():
            continue
        header.find(symbol)
        name = without_padding(symbol.encode())
        problem = symbol_problem(name)
        if problem:
            raise DataError(f"{path}: DATA_KIND=wide: column {symbol!r}: {problem}")
        groups.append(Group((at,), name))
    if not groups:
        raise DataError(f"{path}: DATA_KIND=wide: no column besides the timestamp's")
    return Layout("ticks", delimiter, names, *head, time, None, groups, sparse=True)


def _finds(names: list[str], wanted: str) -> bool:
    return wanted.casefold() in (name.casefold() for name in names[1:])


def _names_values(names: list[str], columns: Columns) -> bool:
    return _finds(names, "close") or _finds(names, columns.price)


def _place(values: list[str], symbols: list[str], name: str, symbol: str) -> int | None:
    for at in range(1, len(values)):
        if symbols[at] == symbol and values[at].casefold() == name.casefold():
            return at
    return None
