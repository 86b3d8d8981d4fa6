"""Seeded market data for the benchmark: price files, and the same ticks as frames.

Symbols have one to five characters and prices one to seven digits before the point, so that row
lengths vary.  Time advances one second every ten rows for any number of symbols, so that runs with
10 and with 10,000 symbols differ only in the symbols.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

SEED = 42
ROWS_PER_SECOND = 10
CHUNK_ROWS = 500_000
HEADER = b"timestamp,symbol,price\n"
START = np.datetime64("2025-10-01T09:30:00", "s")
NAMED = ["AAPL", "MSFT", "GOOGL", "AMZN", "TSLA", "NVDA", "META", "JPM", "V", "XOM"]

Bytes = npt.NDArray[np.uint8]


def symbol_names(count: int) -> list[str]:
    """``count`` distinct symbols: ten real ones, then S10, S11, ..."""
    return (NAMED + [f"S{i}" for i in range(len(NAMED), count)])[:count]


def _columns(texts: npt.NDArray[np.bytes_]) -> Bytes:
    """Fixed-width bytes as a matrix, one row per text, padded with zero bytes."""
    return texts.view(np.uint8).reshape(len(texts), -1)


def _decimal(cents: npt.NDArray[np.int64], digits: int = 9) -> Bytes:
    """Cents as decimal text with two decimals; leading zeros become zero bytes."""
    out = np.empty((len(cents), digits + 1), np.uint8)
    rest = cents.copy()
    for column in range(digits, -1, -1):
        if column == digits - 2:
            out[:, column] = ord(".")
            continue
        out[:, column] = 48 + rest % 10
        if column < digits - 3:
            out[:, column][rest == 0] = 0
        rest //= 10
    return out


def _rows(
    first: int,
    cents: npt.NDArray[np.int64],
    which: npt.NDArray[np.int64],
    names: Bytes,
    marks: bytes,
) -> bytes:
    """The rows from ``first`` on; ``marks`` are the bytes between fields and after a row."""
    count = len(which)
    seconds = (first + np.arange(count)) // ROWS_PER_SECOND
    unique = np.arange(seconds[0], seconds[-1] + 1)
    texts = np.char.replace(np.datetime_as_string(START + unique), "T", " ").astype("S19")
    inner, end = np.full((count, 1), marks[0], np.uint8), np.full((count, 1), marks[1], np.uint8)
    matrix = np.hstack(
        [_columns(texts)[seconds - seconds[0]], inner, names[which], inner, _decimal(cents), end]
    )
    return matrix[matrix != 0].tobytes()


def _chunks(rows: int, symbols: int, rising: bool, marks: bytes, seed: int) -> Iterator[bytes]:
    rng = np.random.default_rng(seed)
    names = _columns(np.array([name.encode() for name in symbol_names(symbols)], "S5"))
    base = np.exp(rng.uniform(np.log(500), np.log(20_000_000), symbols)).astype(np.int64)
    for first in range(0, rows, CHUNK_ROWS):
        count = min(CHUNK_ROWS, rows - first)
        which = rng.integers(0, symbols, count)
        if rising:
            cents = 10_000 + first + np.arange(count)
        else:
            cents = np.maximum(1, base[which] * rng.normal(1, 0.01, count)).astype(np.int64)
        yield _rows(first, cents, which, names, marks)


def _cached(path: Path, head: bytes, rows: int, symbols: int, rising: bool, marks: bytes) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(head)
            for chunk in _chunks(rows, symbols, rising, marks, SEED):
                file.write(chunk)
        partial.rename(path)
    return path


def price_file(folder: Path, rows: int, symbols: int, rising: bool = False) -> Path:
    """A CSV of ``rows`` ticks, written on first use; ``rising``: every price above the last."""
    kind = "rising" if rising else "walk"
    path = folder / f"prices_{kind}_{rows}_{symbols}.csv"
    return _cached(path, HEADER, rows, symbols, rising, b",\n")


def frame_file(folder: Path, rows: int, symbols: int) -> Path:
    """The ticks of :func:`price_file` as frames on the wire, without the symbol list."""
    path = folder / f"frames_{rows}_{symbols}.bin"
    return _cached(path, b"", rows, symbols, False, b"**")


def sentiment_file(folder: Path, symbols: int, sentiment: int = 90) -> Path:
    """One sentiment for each symbol, at the first event time of the price files."""
    path = folder / f"sentiment_{sentiment}_{symbols}.csv"
    when = str(START).replace("T", " ")
    lines = [f"{when},{name},{sentiment}\n" for name in symbol_names(symbols)]
    path.write_text("timestamp,symbol,sentiment\n" + "".join(lines))
    return path
