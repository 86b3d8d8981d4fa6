"""Large price files of any size, a piece at a time: ten symbols, up to 40 microseconds apart.

Usage: ``python -m tests.support.large.files FOLDER BYTES`` writes ``big.csv`` and ``big.parquet``.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

SYMBOLS: Final = ["AAPL", "AMZN", "CSCO", "GOOG", "IBM", "INTC", "KO", "META", "MSFT", "NVDA"]
START_US: Final = 1_759_311_000_000_000
PIECE_ROWS: Final = 1 << 19


def tables(sentiment: bool = False) -> Iterator[Any]:
    """Ticks without an end: timestamp, symbol, price with four decimals, perhaps sentiment."""
    rng = np.random.default_rng(1)
    now_us, start = START_US, rng.integers(200_000, 9_000_000, len(SYMBOLS))
    while True:
        times = now_us + np.cumsum(rng.integers(1, 40, PIECE_ROWS))
        now_us = int(times[-1])
        index = rng.integers(0, len(SYMBOLS), PIECE_ROWS)
        drift = rng.integers(-100_000, 100_000, PIECE_ROWS)
        columns = {
            "timestamp": pa.array(times, pa.timestamp("us")),
            "symbol": pa.DictionaryArray.from_arrays(pa.array(index, pa.int8()), SYMBOLS),
            "price": (start[index] + drift) / 10_000,
        }
        if sentiment:
            columns["sentiment"] = rng.integers(0, 101, PIECE_ROWS)
        yield pa.table(columns)


def write_csv(path: Path, size_bytes: int, sentiment: bool = False) -> int:
    """Write a CSV file of about ``size_bytes``; returns its rows."""
    rows = 0
    with path.open("wb") as file:
        for table in tables(sentiment):
            options = pa_csv.WriteOptions(include_header=not rows, quoting_style="none")
            plain = table.set_column(1, "symbol", table["symbol"].cast(pa.string()))
            pa_csv.write_csv(plain, file, options)
            rows += len(table)
            if file.tell() >= size_bytes:
                return rows
    return 0


def write_parquet(path: Path, size_bytes: int, sentiment: bool = False) -> int:
    """Write a Parquet file of about ``size_bytes``; returns its rows."""
    rows = 0
    pieces = tables(sentiment)
    first = next(pieces)
    with path.open("wb") as file, pq.ParquetWriter(file, first.schema) as out:
        table = first
        while rows == 0 or file.tell() < size_bytes:
            out.write_table(table)
            rows += len(table)
            table = next(pieces)
    return rows


if __name__ == "__main__":
    folder, size = Path(sys.argv[1]), int(sys.argv[2])
    print("big.csv", write_csv(folder / "big.csv", size), "rows")
    print("big.parquet", write_parquet(folder / "big.parquet", size), "rows")
