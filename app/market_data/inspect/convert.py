"""Writes rows as ``timestamp,symbol,price``, which loads without settings: as text, or Parquet."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from app.market_data.live.parquet.file import (
    arrow,
    names,
    price_texts,
    times,
    with_nulls,
    write_batches,
)
from app.market_data.storage.pieces import pieces
from app.market_data.storage.whole_file import whole_file
from app.market_data.tick_table import NO_VALUE, Rows
from app.model.wire.frames import DELIMITER


def write_plain(rows: Rows, path: Path) -> None:
    """Write the rows; ``path`` ends in ``.csv`` or ``.csv.gz``.

    The file appears under its name when it is complete.

    Raises:
        OSError: it cannot be written.
    """
    with _writing(path) as file:
        file.write(b"timestamp,symbol,price%b\n" % (b"" if rows.values is None else b",sentiment"))
        for first, end in pieces(len(rows)):
            file.write(_piece(rows, first, end))


def write_as_parquet(rows: Rows, path: Path) -> None:
    """The same as a Parquet file; prices are exact decimals.

    Raises:
        OSError: it cannot be written.
    """
    write_batches(path, (_batch(rows, first, end) for first, end in pieces(len(rows))))


def _batch(rows: Rows, first: int, end: int) -> Any:
    start = int(rows.offsets[first])
    fields = bytes(rows.frames[start : rows.offsets[end]]).decode().split(DELIMITER.decode())
    columns = {
        "timestamp": times(rows.event_ns[first:end]),
        "symbol": names(rows.symbols, rows.symbol_index[first:end].astype(np.int64)),
        "price": price_texts(fields[2::3]),
    }
    if rows.values is not None:
        values = rows.values[first:end]
        kind = arrow().DataType.int16()
        columns["sentiment"] = with_nulls(values, values == NO_VALUE, kind)
    return arrow().RecordBatch.from_pydict(columns)


def _piece(rows: Rows, first: int, end: int) -> bytes:
    start, stop = int(rows.offsets[first]), int(rows.offsets[end])
    frames = bytes(rows.frames[start:stop])
    if rows.values is None and b'"' not in frames:
        text = np.frombuffer(frames.replace(DELIMITER, b","), np.uint8).copy()
        text[rows.offsets[first + 1 : end + 1] - start - 1] = ord("\n")
        return text.tobytes()
    lines = []
    for row in range(first, end):
        fields = rows.frame(row).split(DELIMITER)[:3]
        if b'"' in fields[1]:
            fields[1] = b'"%b"' % fields[1].replace(b'"', b'""')
        if rows.values is not None:
            value = int(rows.values[row])
            fields.append(b"" if value == NO_VALUE else b"%d" % value)
        lines.append(b",".join(fields))
    return b"\n".join([*lines, b""])


@contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    """A whole file, packed if its name says so; the same bytes for the same rows."""
    with whole_file(path) as file:
        if path.suffix == ".gz":
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                yield packed  # type: ignore[misc]
        else:
            yield file
