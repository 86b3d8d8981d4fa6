"""The source for text files: finds out what a file holds, and loads it."""

import json
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from app.market_data.sources.errors import (
    SHOWN_HEADER,
    DataError,
    MalformedRows,
    printable,
    quoted,
    symbol_remedy,
)
from app.market_data.sources.source import ReadProgress
from app.market_data.sources.text.csv_reader import CsvReader, RowBatch
from app.market_data.sources.text.headerless import is_row, known_file, likely_names, no_header
from app.market_data.sources.text.json_array import is_array
from app.market_data.sources.text.json_lines import (
    JsonReader,
    column_names,
    first_array,
    is_json,
    rows_are_arrays,
    rows_within,
)
from app.market_data.sources.text.layout import (
    Header,
    Layout,
    first_line_of,
    layout_of,
    sentiment_layout_of,
    sniff_delimiter,
    split_line,
)
from app.market_data.sources.text.row_loader import RowLoader
from app.market_data.sources.text.streams import TextStream
from app.market_data.sources.text.wide import one_row_layout, wide_layout
from app.market_data.sources.timestamp_texts import TimestampReader
from app.market_data.tick_table import Columns, Rows
from app.model.symbols import symbol_problem


def matches(head: bytes) -> bool:
    """Always true: text is the last resort, and its errors say what is missing."""
    return True


def describe(path: Path, columns: Columns) -> list[tuple[str, str]]:
    """What the file is, as labels and texts for a user.

    Raises:
        DataError: it cannot be loaded.
    """
    with closing(TextStream(path)) as stream:
        layout = layout_of_head(path, stream.head, columns)
        form = f"text, fields between {_SHOWN[layout.delimiter]}"
        if layout.is_json:
            form = "a JSON array" if is_array(stream.head) else "JSON lines"
            form += " of arrays" if rows_are_arrays(stream.head) else ""
        packing = f", packed with {stream.packing}" if stream.packing else ""
        columns_found = [name for name in layout.names if name]
        header = ("none", "one line", "two lines", "three lines")[layout.head_lines]
        if layout.is_json:
            header = "the first array" if layout.head_lines else "none"
            header = header if rows_are_arrays(stream.head) else "members of each object"
        return [
            ("format", f"{form}, {stream.encoding}{packing}"),
            ("header", header),
            ("columns", ", ".join(columns_found)[:SHOWN_HEADER]),
            ("a row is", KINDS[layout.form if layout.form != "value" else layout.kind]),
        ]


_SHOWN: Final = {b",": "commas", b";": "semicolons", b"\t": "tabs", b"|": "vertical bars"}
KINDS: Final = {
    "ticks": "a tick",
    "bars": "a bar, whose close is a tick",
    "ohlc": "a bar, four ticks",
    "quotes": "a quote, whose last price is a tick",
    "mid": "a quote, whose middle is a tick",
}
"""Form of a layout, or its kind if each value is a price -> what a user calls it."""


def load_prices(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load ``timestamp,symbol,price`` and the sentiment column, if the file has one.

    Raises:
        DataError: with every reason why this file cannot be replayed.
    """
    return _load(path, columns, progress, prices=True)


def load_sentiments(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load a sentiment file, ``timestamp,symbol,sentiment``.

    Raises:
        DataError: with every reason why this file cannot be used.
    """
    return _load(path, columns, progress, prices=False)


def _load(path: Path, columns: Columns, progress: ReadProgress | None, prices: bool) -> Rows:
    problem = symbol_problem(columns.data_symbol.encode()) if columns.data_symbol else None
    if problem:
        raise DataError(f"{path}: DATA_SYMBOL={columns.data_symbol}: {problem}")
    try:
        times = TimestampReader(columns.timestamp_format, columns.data_date)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    malformed = MalformedRows(path, "malformed", "SKIP_BAD_ROWS=true skips such rows")
    with closing(TextStream(path, progress)) as stream:
        layout, batches = _opened(stream, columns, malformed, prices)
        return RowLoader(path, columns, layout, times, malformed).load(batches)


def _opened(
    stream: TextStream, columns: Columns, malformed: MalformedRows, prices: bool
) -> tuple[Layout, Iterable[RowBatch]]:
    """The layout of a file, and its rows."""
    layout = layout_of_head(stream.path, stream.head, columns, prices)
    if layout.is_json:
        rows = JsonReader(stream, layout.names, layout.wanted, layout.head_lines, malformed)
        return layout, rows.batches()
    stream.skip(layout.head_bytes)
    reader = CsvReader(
        stream,
        layout.delimiter,
        len(layout.names),
        layout.wanted,
        layout.head_lines + 1,
        malformed,
    )
    return layout, reader.batches()


def layout_of_head(path: Path, head: bytes, columns: Columns, prices: bool = True) -> Layout:
    """The layout of a file that begins with ``head``.

    Raises:
        DataError: it is no text, or columns are missing.
    """
    if is_json(head):
        return replace(_json_layout(path, head, columns, prices), is_json=True)
    line = first_line_of(head)
    if b"\0" in line:
        raise DataError(f"{path}: not a text file in UTF-8, or in UTF-16 with a byte order mark")
    if not line.strip():
        raise DataError(f"{path}: empty: no header with column names")
    delimiter = sniff_delimiter(line)
    names = split_line(line, delimiter)
    if not prices:
        return sentiment_layout_of(path, Header(path, names), columns, delimiter, (len(line), 1))
    wide = wide_layout(path, head, columns, delimiter) if columns.data_kind != "wide" else None
    if wide is not None:
        return wide
    return _layout_below(path, names, line, columns, delimiter)


def _json_layout(path: Path, head: bytes, columns: Columns, prices: bool) -> Layout:
    """The layout of a file whose rows are JSON objects or JSON arrays."""
    if rows_are_arrays(head):
        names = first_array(head)
        if not names:
            raise DataError(f"{path}: damaged JSON: its first array does not end, or is empty")
        if prices:
            return _layout_below(path, names, ",".join(names).encode(), columns, b",")
        return sentiment_layout_of(path, Header(path, names), columns, b",", (0, 1))
    header = Header(path, column_names(head))
    found = _price_layout if prices else sentiment_layout_of
    try:
        return found(path, header, columns, b",", (0, 0))
    except DataError:
        within = rows_within(head)
        if not within:
            raise
        member = "".join(f".{name if name.isidentifier() else json.dumps(name)}" for name in within)
        raise DataError(
            f"{path}: its rows are in the member {'.'.join(within)}: write that alone, as "
            f"jq '{member}' FILE >FILE.json does"
        ) from None


def _layout_below(
    path: Path, names: list[str], line: bytes, columns: Columns, delimiter: bytes
) -> Layout:
    """The layout of prices below their names, or of a file whose first line is a row."""
    above = (len(line), 1)
    known = {name.casefold() for name in (columns.timestamp, columns.symbol, columns.price)}
    named = known & {name.casefold() for name in names}
    if columns.data_header or (is_row(names) and not named):
        columns, names = _named(path, names, columns, line)
        above = (0, 0)
    return _price_layout(path, Header(path, names), columns, delimiter, above)


def _price_layout(
    path: Path, header: Header, columns: Columns, delimiter: bytes, head: tuple[int, int]
) -> Layout:
    find = one_row_layout if columns.data_kind == "wide" else layout_of
    return find(path, header, columns, delimiter, head)


def _named(
    path: Path, fields: list[str], columns: Columns, line: bytes
) -> tuple[Columns, list[str]]:
    """How to read a file whose first line is a row, and the names of its columns."""
    if columns.data_header:
        names = [name.strip() for name in columns.data_header.split(",")]
        if len(names) != len(fields):
            raise DataError(
                f"{path}: DATA_HEADER={quoted(columns.data_header)} names {len(names)} columns, "
                f"the first line has {len(fields)}: {printable(line.rstrip())}: "
                f"set DATA_HEADER='{','.join(likely_names(fields))}'"
            )
        return columns, names
    known = known_file(fields)
    if known is None:
        raise no_header(path, fields, line, columns.several_files)
    if not columns.data_symbol:
        raise DataError(
            f"{path}: {known.title} do not say their symbol: "
            f"{symbol_remedy(path, columns.several_files)}"
        )
    return replace(columns, timestamp=known.time), list(known.columns)
