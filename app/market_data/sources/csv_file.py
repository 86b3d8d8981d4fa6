"""Loads a CSV file into frames, event times and symbols, all checked.

Fields that the column functions accept are in wire form and are copied unchanged, so a file with
only such fields costs one ``bytes.translate``.  Other rows are handled one by one.
"""

import contextlib
from pathlib import Path
from typing import Final

import numpy as np

from app.market_data.ragged import Bytes, Ints, Mask, join_fields, pick_rows
from app.market_data.sources.csv_reader import PADDING, CsvFile, RowBatch
from app.market_data.sources.errors import DataError, MalformedRows
from app.market_data.sources.source import ReadProgress
from app.market_data.sources.symbol_table import UNKNOWN, SymbolTable
from app.market_data.sources.timestamp_columns import parse_timestamps
from app.market_data.sources.value_columns import (
    normalize_price,
    normalize_sentiment,
    price_columns,
    sentiment_columns,
)
from app.market_data.tick_table import NO_VALUE, Columns, Rows, SymbolIndex, Values
from app.model.timestamps import MIN_EVENT_NS, format_timestamp, parse_timestamp
from app.model.wire.frames import DELIMITER

Texts = tuple[bytes, bytes, bytes]

_TO_FRAME: Final = bytes.maketrans(b",\n", b"**")


def matches(head: bytes) -> bool:
    """Always true: CSV is the last resort, and its errors say what is missing."""
    return True


def load_prices(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load ``timestamp,symbol,price`` and the sentiment column, if the file has one.

    Raises:
        DataError: with every reason why this file cannot be replayed.
    """
    return _RowLoader(path, columns, columns.price, [columns.sentiment], progress).load()


def load_sentiments(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load a sentiment file, ``timestamp,symbol,sentiment``.

    Raises:
        DataError: with every reason why this file cannot be used.
    """
    return _RowLoader(path, columns, columns.sentiment, [], progress).load()


class _RowLoader:
    """One pass over one file: checks each row and collects its frame, time and symbol."""

    def __init__(
        self,
        path: Path,
        columns: Columns,
        value: str,
        optional: list[str],
        progress: ReadProgress | None,
    ) -> None:
        self._path = path
        self._columns = columns
        self._malformed = MalformedRows(path, "malformed", "SKIP_BAD_ROWS=true skips such rows")
        self._unordered = MalformedRows(path, "out of time order", "SORT_ROWS=true sorts them")
        self._prices = value == columns.price
        required = {
            "TIMESTAMP_COLUMN": columns.timestamp,
            "SYMBOL_COLUMN": columns.symbol,
            "PRICE_COLUMN" if self._prices else "SENTIMENT_COLUMN": value,
        }
        self._file = CsvFile(path, required, optional, self._malformed, progress)
        self._symbols = SymbolTable()
        self._frames = bytearray()
        self._ends: list[Ints] = [np.zeros(1, np.int64)]
        self._event_ns: list[Ints] = []
        self._symbol_index: list[Ints] = []
        self._values: list[Values] = []
        self._latest_ns = MIN_EVENT_NS

    def load(self) -> Rows:
        try:
            for batch in self._file.batches():
                self._take(batch)
        finally:
            self._file.close()
        good_rows = sum(map(len, self._event_ns))
        if not self._columns.skip_bad_rows:
            self._malformed.reject(good_rows > 0)
        self._unordered.reject(True)
        if not good_rows:
            count = self._malformed.count
            skipped = f" ({count} malformed rows skipped)" if count else ""
            raise DataError(f"{self._path}: no rows below the header{skipped}")
        symbols, symbol_index = _in_use(self._symbols.names, np.concatenate(self._symbol_index))
        rows = Rows(
            self._frames,
            np.concatenate(self._ends),
            np.concatenate(self._event_ns),
            symbol_index,
            np.concatenate(self._values) if self._values else None,
            symbols,
            self._malformed.count,
        )
        return _sorted(rows) if self._columns.sort_rows else rows

    def _take(self, batch: RowBatch) -> None:
        data, columns = batch.array, batch.starts.T
        widths = batch.lengths.T
        event_ns, good = parse_timestamps(data, columns[0], widths[0])
        symbol_index = self._find_symbols(batch)
        good &= symbol_index != UNKNOWN
        if self._prices:
            good &= price_columns(data, columns[2], widths[2])
        else:
            good &= sentiment_columns(data, columns[2], widths[2])[0]
        keep = np.ones(len(good), np.bool_)
        rewritten = _RewrittenRows(batch)
        for row in np.flatnonzero(~good):
            found = self._normalize(batch, int(row))
            if found is None:
                keep[row] = False
            else:
                event_ns[row], symbol_index[row], texts = found
                rewritten.add(int(row), texts)
        if len(self._file.has) > 3:
            values = self._read_values(batch, keep)
            self._values.append(values[keep])
        elif batch.plain and not rewritten and keep.all():
            ends = columns[2] + widths[2] + 1
            self._append(batch.data[: -len(PADDING)].translate(_TO_FRAME), ends)
            self._append_columns(batch.lines, event_ns, symbol_index)
            return
        frames, ends = rewritten.frames(keep)
        self._append(frames.data, ends)
        self._append_columns(batch.lines[keep], event_ns[keep], symbol_index[keep])

    def _append(self, frames: bytes | memoryview, ends: Ints) -> None:
        self._ends.append(ends + len(self._frames))
        self._frames += frames

    def _append_columns(self, lines: Ints, event_ns: Ints, symbol_index: Ints) -> None:
        if not len(event_ns):
            return
        before = np.concatenate(([self._latest_ns], event_ns[:-1]))
        self._latest_ns = int(event_ns[-1])
        self._event_ns.append(event_ns)
        self._symbol_index.append(symbol_index)
        if self._columns.sort_rows:
            return
        for row in np.flatnonzero(event_ns < before):
            this, last = (format_timestamp(int(ns)).decode() for ns in (event_ns[row], before[row]))
            self._unordered.add(int(lines[row]), f"{this} comes after {last}")

    def _find_symbols(self, batch: RowBatch) -> Ints:
        """Index of each row's symbol; -1 where the name is invalid or needs trimming."""
        starts, lengths = batch.starts[:, 1], batch.lengths[:, 1]
        found = self._symbols.find(batch.array, starts, lengths)
        unknown = np.flatnonzero(found == UNKNOWN)
        if not len(unknown):
            return found
        seen = set()
        for row in unknown:
            name = batch.field(int(row), 1).strip()
            if name not in seen:
                seen.add(name)
                with contextlib.suppress(ValueError):
                    self._symbols.add(name)
        return self._symbols.find(batch.array, starts, lengths)

    def _normalize(self, batch: RowBatch, row: int) -> tuple[int, int, Texts] | None:
        """Event time, symbol and texts of a row that is not in wire form; None if malformed."""
        time_text, symbol, value = (batch.field(row, column).strip() for column in range(3))
        name, text = self._file.has[0], time_text
        try:
            event_ns, time_text = parse_timestamp(text) if text else _missing()
            name, text = self._file.has[1], symbol
            index = self._symbols.add(symbol)
            name, text = self._file.has[2], value
            value = normalize_price(text) if self._prices else normalize_sentiment(text)
        except ValueError as error:
            self._malformed.add_field(int(batch.lines[row]), name, text, str(error))
            return None
        return event_ns, index, (time_text, symbol, value)

    def _read_values(self, batch: RowBatch, keep: Mask) -> Values:
        """The sentiment column; rows with a malformed value are removed from ``keep``."""
        lengths = batch.lengths[:, 3]
        good, found = sentiment_columns(batch.array, batch.starts[:, 3], lengths)
        values: Values = np.where(good, found, NO_VALUE).astype(np.int16)
        for row in np.flatnonzero(~good & (lengths > 0) & keep):
            text = batch.field(int(row), 3).strip()
            try:
                values[row] = int(normalize_sentiment(text)) if text else NO_VALUE
            except ValueError as error:
                keep[row] = False
                self._malformed.add_field(
                    int(batch.lines[row]), self._file.has[3], text, str(error)
                )
        return values


class _RewrittenRows:
    """Texts in wire form that replace the fields of some rows of a batch."""

    def __init__(self, batch: RowBatch) -> None:
        self._batch = batch
        self._rows: list[int] = []
        self._texts: list[Texts] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: int, texts: Texts) -> None:
        self._rows.append(row)
        self._texts.append(texts)

    def frames(self, keep: Mask) -> tuple[Bytes, Ints]:
        """The frames of the rows to keep, and the end of each."""
        batch = self._batch
        data, starts, lengths = batch.data, batch.starts[:, :3], batch.lengths[:, :3]
        if self._rows:
            starts, lengths = starts.copy(), lengths.copy()
            new = np.array([[len(text) for text in texts] for texts in self._texts], np.int64)
            ends = np.cumsum(new).reshape(new.shape)
            starts[self._rows], lengths[self._rows] = len(data) + ends - new, new
            data += b"".join(text for texts in self._texts for text in texts)
        source = np.frombuffer(data, np.uint8)
        return join_fields(source, starts[keep], lengths[keep], DELIMITER[0])


def _missing() -> tuple[int, bytes]:
    raise ValueError("missing")


def _in_use(names: list[str], symbol_index: Ints) -> tuple[list[str], SymbolIndex]:
    """Leave out symbols that occur only in malformed rows."""
    used = np.bincount(symbol_index, minlength=len(names)) > 0
    new_index = np.cumsum(used) - 1
    kept = [name for name, use in zip(names, used, strict=True) if use]
    return kept, new_index[symbol_index].astype(np.int32)


def _sorted(rows: Rows) -> Rows:
    """The rows in time order; rows with the same time keep their file order."""
    if (rows.event_ns[1:] >= rows.event_ns[:-1]).all():
        return rows
    order = np.argsort(rows.event_ns, kind="stable")
    frames, offsets = pick_rows(rows.frames, rows.offsets, order)
    return Rows(
        bytearray(frames.data),
        offsets,
        rows.event_ns[order],
        rows.symbol_index[order],
        None if rows.values is None else rows.values[order],
        rows.symbols,
        rows.skipped,
    )
