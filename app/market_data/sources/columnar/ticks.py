"""From one Arrow record batch to checked ticks; runs in the decoder's process."""

from typing import Any, Final

import numpy as np

from app.market_data.ragged import Ints, Mask
from app.market_data.sources.columnar.arrow_memory import ArrowColumn
from app.market_data.sources.columnar.layout import Layout
from app.market_data.sources.columnar.price_values import BadValues, price_units
from app.market_data.sources.columnar.row_builder import BadRow, DecodedRows
from app.market_data.sources.columnar.symbol_values import sentiment_values, symbol_indices
from app.market_data.sources.columnar.time_values import event_times, event_times_of_two
from app.market_data.sources.symbol_table import SymbolTable
from app.market_data.sources.timestamp_texts import TimestampReader
from app.market_data.tick_table import NO_VALUE, Columns

BAR_VALUES: Final = 4


class TickReader:
    """Reads the wanted columns of one batch after another; numbers the rows from 1.

    Raises:
        ValueError: a setting that makes no sense, and why.
    """

    def __init__(self, layout: Layout, columns: Columns, prices: bool) -> None:
        self.symbols = SymbolTable()
        self._layout, self._prices = layout, prices
        self._times = TimestampReader(columns.timestamp_format, columns.data_date)
        self._rows_done = 0
        for symbol in layout.symbols:
            self.symbols.add(symbol)
        if layout.symbol is None and not layout.symbols:
            self.symbols.add(columns.data_symbol.encode())

    def read(self, batch: Any) -> DecodedRows:
        """The ticks of a record batch of any Arrow library.

        Raises:
            ValueError: a column has a type that cannot be used.
        """
        layout, faults = self._layout, _Faults(self._rows_done)
        self._rows_done += batch.num_rows
        if len(layout.timestamp) == 1:
            event_ns = faults.of(batch, layout.timestamp[0], event_times, self._times)
        else:
            event_ns = self._date_and_time(batch, faults)
        if layout.symbol is None:
            symbol = np.zeros(batch.num_rows, np.int64)
        else:
            symbol = faults.of(batch, layout.symbol, symbol_indices, self.symbols)
        sentiment = None
        if self._prices:
            wide = bool(layout.symbols)
            values = [faults.of(batch, name, price_units, wide) for name in layout.values]
            if layout.sentiment is not None:
                found = faults.of(batch, layout.sentiment, sentiment_values, False)
                sentiment = found.astype(np.int16)
        else:
            values = [faults.of(batch, layout.values[0], sentiment_values, True)]
        keep = np.ones(batch.num_rows, np.bool_)
        keep[list(faults.rows)] = False
        number = np.arange(batch.num_rows, dtype=np.int64) + faults.first
        rows = DecodedRows(number, event_ns, symbol, values[0], sentiment)
        if layout.symbols:
            rows, present = wide_ticks(rows, values)
            return _kept(rows, np.repeat(keep, len(values)) & present, faults.all())
        rows = ticks_of(rows, values)
        repeated = np.repeat(keep, BAR_VALUES) if len(values) == BAR_VALUES else keep
        return _kept(rows, repeated, faults.all())

    def _date_and_time(self, batch: Any, faults: "_Faults") -> Ints:
        date, time = self._layout.timestamp
        times = ArrowColumn.of(batch.column(time)), type_name(batch.column(time).type)
        return faults.of(batch, date, event_times_of_two, *times, self._times)


class _Faults:
    """Malformed rows of one batch: the first fault of each."""

    def __init__(self, rows_done: int) -> None:
        self.first = rows_done + 1
        self.rows: dict[int, tuple[str, bytes, str]] = {}

    def of(self, batch: Any, name: str, read: Any, *options: Any) -> Ints:
        """What ``read`` finds in a column; faults go to :attr:`rows`."""
        column = batch.column(name)
        kind = type_name(column.type)
        values: Ints
        bad: BadValues
        try:
            values, bad = read(ArrowColumn.of(column), kind, *options)
        except ValueError as error:
            raise ValueError(f"column {name!r} {error}") from None
        for row, (text, reason) in bad.items():
            self.rows.setdefault(row, (name, text, reason))
        return values

    def all(self) -> list[BadRow]:
        """Number, column, value and reason of each."""
        return [(self.first + row, *fault) for row, fault in sorted(self.rows.items())]


def type_name(kind: Any) -> str:
    """A type of Arrow as its library names it: Float64, Timestamp(ns, "UTC")."""
    return str(kind).strip().removeprefix("arro3.core.DataType<").removesuffix(">")


def ticks_of(rows: DecodedRows, values: list[Ints]) -> DecodedRows:
    """One tick a row for one value, the middle of two, four ticks of the four of a bar."""
    if len(values) == 2:
        bid, ask = values  # their sum may not fit into 64 bits
        half = bid // 2 + ask // 2 + (bid % 2 + ask % 2) // 2
        rows.value = half + ((bid % 2 + ask % 2) & half & 1)  # half to even
    elif len(values) == BAR_VALUES:
        opened, high, low, close = values
        rising = close >= opened
        # A bar does not tell; this is the shorter way from open to close.
        path = (opened, np.where(rising, low, high), np.where(rising, high, low), close)
        rows.value = np.column_stack(path).ravel()
        rows.number, rows.event_ns, rows.symbol = (
            np.repeat(column, BAR_VALUES) for column in (rows.number, rows.event_ns, rows.symbol)
        )
        rows.quarter = np.tile(np.arange(BAR_VALUES, dtype=np.int64), len(opened))
        if rows.sentiment is not None:
            # It belongs to the row, so to the first tick of it.
            rows.sentiment = np.repeat(rows.sentiment, BAR_VALUES)
            rows.sentiment[rows.quarter > 0] = NO_VALUE
    return rows


def wide_ticks(rows: DecodedRows, values: list[Ints]) -> tuple[DecodedRows, Mask]:
    """A tick for each symbol of a row, and which of them are there."""
    count, symbols = len(rows.number), len(values)
    rows.value = np.column_stack(values).ravel()
    rows.number, rows.event_ns = (
        np.repeat(column, symbols) for column in (rows.number, rows.event_ns)
    )
    rows.symbol = np.tile(np.arange(symbols, dtype=np.int64), count)
    return rows, rows.value > 0


def _kept(rows: DecodedRows, keep: Any, bad: list[BadRow]) -> DecodedRows:
    rows.bad = bad
    if keep.all():
        return rows
    sentiment = None if rows.sentiment is None else rows.sentiment[keep]
    return DecodedRows(
        rows.number[keep],
        rows.event_ns[keep],
        rows.symbol[keep],
        rows.value[keep],
        sentiment,
        None if rows.quarter is None else rows.quarter[keep],
        bad,
    )
