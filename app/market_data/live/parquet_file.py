"""Writes a Parquet file batch by batch; it appears under its name when it is complete."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.market_data.frame_encoder import decimals_of
from app.market_data.ragged import Ints
from app.model.money import DECIMALS_MAX

_DIGITS: Final = 19


def arrow() -> Any:
    """The library; only who writes Parquet needs it."""
    return importlib.import_module("arro3.core")


def write_batches(path: Path, batches: Iterator[Any]) -> None:
    """Write record batches, at least one; the same batches are the same bytes.

    Raises:
        OSError: the file cannot be written.
    """
    files = importlib.import_module("arro3.io")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    head = next(batches)
    try:
        with partial.open("xb") as file:
            reader = arrow().RecordBatchReader.from_batches(head.schema, _chain(head, batches))
            files.write_parquet(reader, file, compression="zstd(3)")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Remove what :func:`write_batches` of killed processes has left in a folder."""
    for path in folder.glob(".*.parquet.*"):
        pid = path.name.rpartition(".")[2]
        if pid.isdecimal() and (int(pid) == os.getpid() or not Path(f"/proc/{pid}").exists()):
            path.unlink(missing_ok=True)


def _chain(head: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield head
    yield from rest


def times(values: Ints) -> Any:
    """Nanoseconds since the epoch as a column of times."""
    kind = arrow().DataType.timestamp("ns", tz="UTC")
    return arrow().Array.from_numpy(np.ascontiguousarray(values)).cast(kind)


def names(symbols: list[str], index: Ints) -> Any:
    """Symbols by their index as a column of texts."""
    table = arrow().Array(symbols, arrow().DataType.string())
    return table.take(arrow().Array.from_numpy(np.ascontiguousarray(index)))


def prices(units: Ints) -> Any:
    """Money units as a column of exact decimals; each price is written as text once."""
    different = np.unique(units)
    fields = decimals_of(different, np.full(len(different), DECIMALS_MAX, np.int64))
    data = fields.data.tobytes()
    texts = [
        data[start : start + length].decode()
        for start, length in zip(fields.starts.tolist(), fields.lengths.tolist(), strict=True)
    ]
    place = np.searchsorted(different, units).astype(np.int64)
    return price_texts(texts).take(arrow().Array.from_numpy(place))


def price_texts(texts: list[str]) -> Any:
    """Prices as they are written, as a column of exact decimals."""
    kinds = arrow().DataType
    kind = kinds.decimal128(_DIGITS, DECIMALS_MAX)
    return arrow().Array(texts, kinds.string()).cast(kind)


def with_nulls(values: Any, absent: Any, kind: Any) -> Any:
    """Numbers as a column of that type, some of which are absent."""
    if not absent.any():
        return arrow().Array.from_numpy(np.ascontiguousarray(values)).cast(kind)
    pairs = zip(absent.tolist(), values.tolist(), strict=True)
    return arrow().Array([None if gone else value for gone, value in pairs], kind)
