"""CSV files as batches of rows: bytes in, the position of each wanted field out.

NumPy splits a megabyte at a time; from the first quote on, the ``csv`` module reads the file.  Both
give the same :class:`RowBatch`.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.market_data.ragged import Bytes, Ints
from app.market_data.sources.errors import DataError, MalformedRows
from app.market_data.sources.text.streams import LINE_BYTES_MAX, TextStream

CHUNK_BYTES: Final = 1 << 20
QUOTED_ROWS: Final = 8192
PADDING: Final = bytes(64)
"""Follows the bytes of a batch, so that a column may be read past its last field."""

_NEWLINE: Final = ord("\n")


@dataclass(slots=True)
class FieldRows:
    """Field ``c`` of row ``r`` is ``data[starts[r, c]:][:lengths[r, c]]``.

    ``lines``: the line number of each row in its file, from 1.
    """

    data: bytes
    starts: Ints
    lengths: Ints
    lines: Ints

    @property
    def array(self) -> Bytes:
        """The bytes, padding included, shape ``(len(data),)``."""
        return np.frombuffer(self.data, np.uint8)

    def field(self, row: int, column: int) -> bytes:
        """The bytes of one field."""
        start = int(self.starts[row, column])
        return self.data[start : start + int(self.lengths[row, column])]


@dataclass(slots=True)
class RowBatch(FieldRows):
    """Rows of a file.

    ``plain``: ``data`` without its padding is exactly the wanted fields of these rows, each
    followed by one delimiter or newline.
    """

    plain: bool


class CsvReader:
    """The rows of one stream, read once: ``wanted`` columns of ``width`` that each row has."""

    def __init__(
        self,
        stream: TextStream,
        delimiter: bytes,
        width: int,
        wanted: list[int],
        first_line: int,
        malformed: MalformedRows,
    ) -> None:
        self._stream, self._malformed = stream, malformed
        self._delimiter, self._width, self._columns = delimiter, width, wanted
        self._first_line = first_line

    def batches(self) -> Iterator[RowBatch]:
        """Read every row that has as many fields as the header; others count as malformed.

        Raises:
            DataError: the file cannot be read to its end.
        """
        line, rest = self._first_line, b""
        while True:
            chunk = rest + self._stream.read(CHUNK_BYTES)
            at_end = len(chunk) == len(rest)
            if b'"' in chunk:
                yield from self._quoted(chunk, line)
                return
            if at_end:
                chunk += b"\n" if chunk else b""
            cut = chunk.rfind(b"\n") + 1
            data, rest = chunk[:cut], chunk[cut:]
            self._check_line(rest)
            if data:
                newlines = data.count(b"\n")
                yield self._split(data.replace(b"\r\n", b"\n"), line)
                line += newlines
            if at_end:
                return

    def _check_line(self, unfinished: bytes) -> None:
        if len(unfinished) > LINE_BYTES_MAX:
            raise DataError(f"{self._stream.path}: a line is longer than {LINE_BYTES_MAX} bytes")

    def _split(self, data: bytes, first_line: int) -> RowBatch:
        """Split whole lines that hold no quote."""
        array = np.frombuffer(data, np.uint8)
        line_ends = np.flatnonzero(array == _NEWLINE)
        line_starts = np.concatenate(([0], line_ends[:-1] + 1))
        commas = np.flatnonzero(array == self._delimiter[0])
        width, columns = self._width, self._columns
        lines = np.arange(first_line, first_line + len(line_ends))
        whole = len(commas) == len(line_ends) * (width - 1)
        table = commas.reshape(-1, width - 1) if whole else None
        if table is None or not _within(table, line_starts, line_ends):
            whole = False
            before = np.searchsorted(commas, line_starts)
            counts = np.searchsorted(commas, line_ends) - before
            # A blank line is not a row: every file here has at least two columns.
            good = counts == width - 1
            for row in np.flatnonzero(~good & (line_ends > line_starts)):
                reason = f"{counts[row] + 1} fields, the header has {width}"
                self._malformed.add(int(lines[row]), reason)
            line_starts, line_ends, lines = line_starts[good], line_ends[good], lines[good]
            table = commas[before[good, None] + np.arange(width - 1)]
        edges = np.column_stack((line_starts - 1, table, line_ends))
        starts = edges[:, columns] + 1
        lengths = edges[:, [column + 1 for column in columns]] - starts
        plain = whole and columns == list(range(width))
        return RowBatch(data + PADDING, starts, lengths, lines, plain)

    def _quoted(self, head: bytes, first_line: int) -> Iterator[RowBatch]:
        """Read the rest with the ``csv`` module; Latin-1 maps each byte to a character and back."""

        def lines() -> Iterator[str]:
            pending = head
            while True:
                more = self._stream.read(CHUNK_BYTES)
                *full, pending = (pending + more).split(b"\n")
                yield from (line.decode("latin-1") + "\n" for line in full)
                self._check_line(pending)
                if not more:
                    break
            if pending:
                yield pending.decode("latin-1")

        reader = csv.reader(lines(), delimiter=self._delimiter.decode())
        rows: list[list[bytes]] = []
        numbers: list[int] = []
        try:
            for fields in reader:
                number = first_line + reader.line_num - 1
                if len(fields) == self._width:
                    rows.append([fields[c].encode("latin-1") for c in self._columns])
                    numbers.append(number)
                elif fields:
                    reason = f"{len(fields)} fields, the header has {self._width}"
                    self._malformed.add(number, reason)
                if len(rows) == QUOTED_ROWS:
                    yield joined_rows(rows, numbers)
                    rows, numbers = [], []
        except csv.Error as error:
            line = first_line + reader.line_num - 1
            raise DataError(f"{self._stream.path}:{line}: {error}") from None
        if rows:
            yield joined_rows(rows, numbers)


def _within(table: Ints, line_starts: Ints, line_ends: Ints) -> bool:
    """Whether each line's commas lie in that line."""
    if not table.shape[1]:
        return True
    return bool(((table[:, 0] >= line_starts) & (table[:, -1] < line_ends)).all())


def joined_rows(rows: list[list[bytes]], numbers: list[int]) -> RowBatch:
    """A batch of rows whose fields are given one by one, with their line numbers."""
    lengths = np.array([[len(field) for field in row] for row in rows], np.int64)
    ends = np.cumsum(lengths + 1).reshape(lengths.shape)
    data = b",".join(field for row in rows for field in row) + b"," + PADDING
    return RowBatch(data, ends - 1 - lengths, lengths, np.array(numbers, np.int64), False)
