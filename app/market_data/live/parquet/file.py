"""Writes a Parquet file batch by batch; it appears under its name when it is complete."""

import importlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.market_data.frame_encoder import decimals_of
from app.market_data.ragged import Ints
from app.market_data.storage.whole_file import whole_file
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
    head = next(batches)
    with whole_file(path) as file:
        reader = arrow().RecordBatchReader.from_batches(head.schema, chain([head], batches))
        files.write_parquet(reader, file, compression="zstd(3)")


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
