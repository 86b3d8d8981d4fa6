"""The rows of a batch as ticks: one timestamp, one symbol and one value each.

A bar becomes one tick or four, a quote the tick between its sides, a row with several symbols one
tick a symbol.  Nothing is checked here but what arithmetic needs.
"""

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from app.market_data.frame_encoder import Fields, decimals_of
from app.market_data.ragged import Ints, Mask, join_fields
from app.market_data.sources.errors import MalformedRows
from app.market_data.sources.text.csv_reader import PADDING, FieldRows, RowBatch
from app.market_data.sources.text.layout import Group, Layout
from app.market_data.sources.value_columns import normalize_price, price_units, with_point
from app.model.money import DECIMALS_MAX, decimal_to_units

_UNKNOWN_UNITS = -1


@dataclass(slots=True)
class TickBatch(FieldRows):
    """Ticks: timestamp, symbol, value and, if the layout has one, sentiment.

    ``value_columns``: the column of each value, an index into the names of the layout.
    ``quarters``: of four ticks of a bar, which quarter of its time each begins, else None.
    ``plain``: as in :class:`RowBatch`.
    """

    value_columns: Ints
    quarters: Ints | None = None
    plain: bool = False


class TickMaker:
    """Makes the ticks of one file's batches."""

    def __init__(
        self, layout: Layout, malformed: MalformedRows, decimal_comma: bool = False
    ) -> None:
        self._layout, self._malformed = layout, malformed
        self._decimal_comma = decimal_comma
        self._place = {column: at for at, column in enumerate(layout.wanted)}

    def ticks(self, batch: RowBatch) -> TickBatch:
        """The ticks of a batch, in the order of its rows."""
        layout = self._layout
        if self._decimal_comma:
            batch = self._with_points(batch)
        if layout.plain:
            column = np.full(len(batch.lines), layout.wanted[2], np.int64)
            return TickBatch(
                batch.data, batch.starts, batch.lengths, batch.lines, column, None, batch.plain
            )
        spans = _Spans(batch.data)
        if len(layout.time) == 2:
            time = spans.add(self._joined(batch))
        else:
            time = self._column(batch, layout.time[0])
        parts = [self._group(batch, group, spans) for group in layout.groups]
        ticks = sum(part.values.shape[1] for part in parts)
        fields = [np.repeat(time, ticks, axis=0)]
        fields.append(np.concatenate([part.symbols for part in parts], axis=1).reshape(-1, 2))
        fields.append(np.concatenate([part.values for part in parts], axis=1).reshape(-1, 2))
        if layout.sentiment is not None:
            # It belongs to the row, so to the first tick of it.
            span = np.repeat(self._column(batch, layout.sentiment), ticks, axis=0)
            span[np.arange(len(span)) % ticks != 0, 1] = 0
            fields.append(span)
        table = np.stack(fields, axis=1)
        columns = np.concatenate([part.columns for part in parts], axis=1).ravel()
        keep = np.concatenate([part.keep for part in parts], axis=1).ravel()
        quarters = None
        if layout.form == "ohlc":
            quarters = np.tile(np.arange(4), len(batch.lines) * len(parts))[keep]
        return TickBatch(
            spans.data() + PADDING,
            np.ascontiguousarray(table[keep, :, 0]),
            np.ascontiguousarray(table[keep, :, 1]),
            np.repeat(batch.lines, ticks)[keep],
            columns[keep],
            quarters,
        )

    def _with_points(self, batch: RowBatch) -> RowBatch:
        """The batch with a decimal point in its values, not a comma."""
        spans = _Spans(batch.data)
        starts, lengths = batch.starts.copy(), batch.lengths.copy()
        for column in {column for group in self._layout.groups for column in group.values}:
            at = self._place[column]
            texts = [with_point(batch.field(row, at)) for row in range(len(batch.lines))]
            found = spans.add(Fields.from_texts(texts))
            starts[:, at], lengths[:, at] = found[:, 0], found[:, 1]
        return RowBatch(spans.data() + PADDING, starts, lengths, batch.lines, False)

    def _column(self, batch: RowBatch, column: int) -> Ints:
        """Starts and lengths of one column, shape ``(rows, 2)``."""
        at = self._place[column]
        return np.column_stack((batch.starts[:, at], batch.lengths[:, at]))

    def _joined(self, batch: RowBatch) -> Fields:
        """Date and time of day as one text."""
        at = [self._place[column] for column in self._layout.time]
        data, ends = join_fields(batch.array, batch.starts[:, at], batch.lengths[:, at], ord(" "))
        starts = np.concatenate((np.zeros(1, np.int64), ends[:-1]))[: len(ends)]
        return Fields(data, starts, ends - starts - 1)

    def _group(self, batch: RowBatch, group: Group, spans: "_Spans") -> "_Part":
        rows = len(batch.lines)
        keep = np.ones(rows, np.bool_)
        if self._layout.form == "mid":
            fields, keep = self._mid(batch, group)
            values = spans.add(fields)[:, None]
            columns = np.full((rows, 1), group.values[0])
        else:
            values = np.stack([self._column(batch, column) for column in group.values], axis=1)
            columns = np.tile(np.array(group.values), (rows, 1))
        if self._layout.form == "ohlc":
            order = self._bar_order(batch, group)
            values = np.take_along_axis(values, order[:, :, None], axis=1)
            columns = np.take_along_axis(columns, order, axis=1)
        if self._layout.sparse:
            keep &= (values[:, :, 1] > 0).any(axis=1)
        if group.symbol is None:
            assert self._layout.symbol is not None
            symbol = self._column(batch, self._layout.symbol)
        else:
            symbol = np.tile(spans.add_text(group.symbol), (rows, 1))
        count = values.shape[1]
        symbols = np.repeat(symbol[:, None], count, axis=1)
        return _Part(symbols, values, columns, np.repeat(keep[:, None], count, axis=1))

    def _bar_order(self, batch: RowBatch, group: Group) -> Ints:
        """Which of open, high, low, close is tick 0 to 3: the extreme nearer to the open is first.

        A bar does not tell; this is the shorter way from open to close.
        """
        units = [self._units(batch, group.values[at], None) for at in (0, 3)]
        rises = units[1] >= units[0]
        return np.where(rises[:, None], np.array([0, 2, 1, 3]), np.array([0, 1, 2, 3]))

    def _mid(self, batch: RowBatch, group: Group) -> tuple[Fields, Mask]:
        """The price between bid and ask, exact, and which rows have both."""
        keep = np.ones(len(batch.lines), np.bool_)
        bid, ask = (self._units(batch, column, keep) for column in group.values)
        total = np.where(keep, bid + ask, 2)
        half, odd = np.divmod(total, 2)
        units = half + (odd & half & 1)  # half to even
        decimals = np.zeros(len(units), np.int64)
        rest = units.copy()
        for place in range(DECIMALS_MAX, 0, -1):
            whole, digit = np.divmod(rest, 10)
            decimals[(decimals == 0) & (digit > 0)] = place
            rest = whole
        return decimals_of(units // 10 ** (DECIMALS_MAX - decimals), decimals), keep

    def _units(self, batch: RowBatch, column: int, keep: Mask | None) -> Ints:
        """Prices of a column in units; -1 where there is none, which ``keep`` then leaves out."""
        at = self._place[column]
        units, good = price_units(batch.array, batch.starts[:, at], batch.lengths[:, at])
        for row in np.flatnonzero(~good):
            text = batch.field(int(row), at).strip()
            try:
                units[row] = decimal_to_units(Decimal(normalize_price(text).decode()))
            except ValueError as error:
                units[row] = _UNKNOWN_UNITS
                if keep is not None and keep[row]:
                    keep[row] = False
                    name = self._layout.names[column]
                    self._malformed.add_field(int(batch.lines[row]), name, text, str(error))
        return units


@dataclass(slots=True)
class _Part:
    """The ticks of one group: spans ``(rows, ticks, 2)``; columns and keep ``(rows, ticks)``."""

    symbols: Ints
    values: Ints
    columns: Ints
    keep: Mask


class _Spans:
    """The bytes of a batch, and texts that are added to them."""

    def __init__(self, data: bytes) -> None:
        self._parts, self._size = [data], len(data)

    def add(self, fields: Fields) -> Ints:
        """Add texts; returns their starts and lengths, shape ``(texts, 2)``."""
        self._parts.append(fields.data.tobytes())
        starts = fields.starts + self._size
        self._size += len(fields.data)
        return np.column_stack((starts, fields.lengths))

    def add_text(self, text: bytes) -> Ints:
        """Add one text; returns its start and length."""
        self._parts.append(text)
        self._size += len(text)
        return np.array([self._size - len(text), len(text)])

    def data(self) -> bytes:
        """All the bytes."""
        return b"".join(self._parts)
