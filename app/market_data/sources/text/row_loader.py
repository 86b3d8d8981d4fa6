"""Makes frames, event times and symbols of the ticks of a file, all checked.

Fields that the column functions accept are in wire form and are copied unchanged, so a file with
only such fields costs one ``bytes.translate``.  Other ticks are handled one by one.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from app.market_data.frame_encoder import Fields, times_of
from app.market_data.ragged import PICK_ROWS, Bytes, Ints, Mask, join_fields
from app.market_data.rows_writer import RowsWriter
from app.market_data.sources.errors import MalformedRows
from app.market_data.sources.row_checks import RowChecks
from app.market_data.sources.symbol_table import UNKNOWN, SymbolTable
from app.market_data.sources.text.csv_reader import PADDING, RowBatch
from app.market_data.sources.text.layout import Layout
from app.market_data.sources.text.ticks import TickBatch, TickMaker
from app.market_data.sources.timestamp_texts import TimestampReader
from app.market_data.sources.value_columns import (
    normalize_price,
    normalize_sentiment,
    price_columns,
    sentiment_columns,
)
from app.market_data.tick_table import NO_VALUE, Columns, Rows, Values
from app.model.wire.frames import DELIMITER

Texts = tuple[bytes, bytes, bytes]


class RowLoader:
    """One pass over one file: checks each tick and collects its frame, time and symbol."""

    def __init__(
        self,
        path: Path,
        columns: Columns,
        layout: Layout,
        times: TimestampReader,
        malformed: MalformedRows,
    ) -> None:
        self._layout, self._times = layout, times
        self._malformed = malformed
        self._checks = RowChecks(path, columns, malformed)
        self._maker = TickMaker(
            layout, malformed, columns.decimal_comma and layout.kind != "sentiment"
        )
        self._to_frame = bytes.maketrans(layout.delimiter + b"\n", b"**")
        self._prices = layout.kind != "sentiment"
        self._symbols = SymbolTable()
        self._writer = RowsWriter(columns.storage)

    def load(self, batches: Iterable[RowBatch]) -> Rows:
        """The rows of all batches.

        Raises:
            DataError: with every reason why this file cannot be used.
        """
        for batch in batches:
            self._take(self._maker.ticks(batch))
        self._checks.finish(self._writer.rows, "no rows below the header")
        # Symbols that occur only in malformed rows are left out.
        used = np.flatnonzero(self._writer.seen).tolist()
        symbols = self._writer.keep_symbols(self._symbols.names, used)
        rows = self._writer.finish(symbols, self._malformed.count)
        return self._checks.mark_order(rows)

    def _take(self, ticks: TickBatch) -> None:
        data, starts, lengths = ticks.array, ticks.starts.T, ticks.lengths.T
        event_ns, as_is, known = self._times.columns(data, starts[0], lengths[0])
        symbol_index = self._find_symbols(ticks)
        good = (as_is | known) & (symbol_index != UNKNOWN)
        if self._prices:
            good &= price_columns(data, starts[2], lengths[2])
        else:
            good &= sentiment_columns(data, starts[2], lengths[2])[0]
        keep = np.ones(len(good), np.bool_)
        frames = _Frames(ticks)
        if self._symbols.has_other_forms:
            self._rename(symbol_index, lengths[1], np.flatnonzero(good), frames)
        retimed = known & good
        self._normalize(ticks, np.flatnonzero(~good), keep, event_ns, symbol_index, frames)
        bar_ns = event_ns
        if ticks.quarters is not None:
            event_ns = bar_ns + self._checks.bar_quarter_ns(bar_ns[keep]) * ticks.quarters
            retimed |= event_ns != bar_ns
        if retimed.any():
            rows = np.flatnonzero(retimed)
            frames.replace(rows, 0, times_of(event_ns[rows]))
        values = None
        if self._layout.sentiment is not None:
            values = self._read_values(ticks, keep)[keep]
        elif ticks.plain and not frames.changed and keep.all():
            ends = starts[2] + lengths[2] + 1
            in_wire_form = ticks.data[: -len(PADDING)].translate(self._to_frame)
            self._writer.add_frames(in_wire_form, ends)
            self._append_columns(ticks.lines, event_ns, bar_ns, symbol_index, None)
            return
        for piece, ends in frames.frames(keep):
            self._writer.add_frames(piece, ends)
        columns = (ticks.lines[keep], event_ns[keep], bar_ns[keep], symbol_index[keep])
        self._append_columns(*columns, values)

    def _append_columns(
        self, lines: Ints, event_ns: Ints, bar_ns: Ints, symbol_index: Ints, values: Values | None
    ) -> None:
        if len(event_ns):
            self._checks.take_order(lines, bar_ns)
        self._writer.add(event_ns, symbol_index, values)

    def _find_symbols(self, ticks: TickBatch) -> Ints:
        """Index of each tick's symbol; -1 where the name is invalid or needs trimming."""
        starts, lengths = ticks.starts[:, 1], ticks.lengths[:, 1]
        found = self._symbols.find(ticks.array, starts, lengths)
        unknown = np.flatnonzero(found == UNKNOWN)
        if not len(unknown):
            return found
        seen = set()
        for row in unknown:
            name = ticks.field(int(row), 1).strip()
            if name not in seen:
                seen.add(name)
                with contextlib.suppress(ValueError):
                    self._symbols.add(name)
        return self._symbols.find(ticks.array, starts, lengths)

    def _rename(self, symbol_index: Ints, lengths: Ints, rows: Ints, frames: "_Frames") -> None:
        """Write the names of symbols that stand in the file in another form, which is longer."""
        names = Fields.from_texts([name.encode() for name in self._symbols.names])
        others = rows[lengths[rows] != names.lengths[symbol_index[rows]]]
        if len(others):
            frames.replace(others, 1, names.take(symbol_index[others]))

    def _normalize(
        self,
        ticks: TickBatch,
        rows: Ints,
        keep: Mask,
        event_ns: Ints,
        symbol_index: Ints,
        frames: "_Frames",
    ) -> None:
        """Rewrite the fields of ticks that are not in wire form; leave out the malformed ones."""
        changed: list[int] = []
        texts: list[Texts] = []
        bad: list[int] = []
        for row in rows.tolist():
            line = int(ticks.lines[row])
            found = None if bad and bad[-1] == line else self._normalized(ticks, row)
            if found is None:
                bad.append(line)
            else:
                event_ns[row], symbol_index[row], each = found
                changed.append(row)
                texts.append(each)
        if bad:
            # All ticks of a row share its fate.
            keep &= ~np.isin(ticks.lines, bad)
        for column in range(3) if changed else ():
            replaced = Fields.from_texts([each[column] for each in texts])
            frames.replace(changed, column, replaced)

    def _normalized(self, ticks: TickBatch, row: int) -> tuple[int, int, Texts] | None:
        """Event time, symbol and texts of a tick that is not in wire form; None if malformed."""
        layout = self._layout
        time_text, symbol, value = (ticks.field(row, column).strip() for column in range(3))
        name, text = layout.time_name, time_text
        try:
            event_ns, time_text = self._times.one(text)
            name, text = layout.names[layout.symbol or 0], symbol
            index = self._symbols.add(symbol)
            name, text = layout.names[ticks.value_columns[row]], value
            value = normalize_price(text) if self._prices else normalize_sentiment(text)
        except ValueError as error:
            self._malformed.add_field(int(ticks.lines[row]), name, text, str(error))
            return None
        return event_ns, index, (time_text, self._symbols.names[index].encode(), value)

    def _read_values(self, ticks: TickBatch, keep: Mask) -> Values:
        """The sentiment column; rows with a malformed value are removed from ``keep``."""
        lengths = ticks.lengths[:, 3]
        good, found = sentiment_columns(ticks.array, ticks.starts[:, 3], lengths)
        values: Values = np.where(good, found, NO_VALUE).astype(np.int16)
        for row in np.flatnonzero(~good & (lengths > 0) & keep):
            text = ticks.field(int(row), 3).strip()
            try:
                values[row] = int(normalize_sentiment(text)) if text else NO_VALUE
            except ValueError as error:
                keep &= ticks.lines != ticks.lines[row]
                name = self._layout.names[self._layout.sentiment or 0]
                self._malformed.add_field(int(ticks.lines[row]), name, text, str(error))
        return values


class _Frames:
    """The ticks of a batch as frames; fields may be replaced."""

    def __init__(self, ticks: TickBatch) -> None:
        self._parts, self._size = [ticks.data], len(ticks.data)
        self._starts, self._lengths = ticks.starts[:, :3], ticks.lengths[:, :3]

    @property
    def changed(self) -> bool:
        """Whether a field was replaced."""
        return len(self._parts) > 1

    def replace(self, rows: Ints | list[int], column: int, texts: Fields) -> None:
        """Put ``texts`` in place of a field of the given rows."""
        if not self.changed:
            self._starts, self._lengths = self._starts.copy(), self._lengths.copy()
        self._starts[rows, column] = texts.starts + self._size
        self._lengths[rows, column] = texts.lengths
        self._parts.append(texts.data.tobytes())
        self._size += len(texts.data)

    def frames(self, keep: Mask) -> Iterator[tuple[Bytes, Ints]]:
        """The frames of the rows to keep, and the end of each; in pieces, to bound temporaries."""
        source = np.frombuffer(b"".join(self._parts), np.uint8)
        rows = np.flatnonzero(keep)
        for first in range(0, len(rows), PICK_ROWS):
            some = rows[first : first + PICK_ROWS]
            yield join_fields(source, self._starts[some], self._lengths[some], DELIMITER[0])
