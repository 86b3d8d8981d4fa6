"""Parquet files: columns by name, one row group after the other."""

from pathlib import Path
from typing import Final

from app.market_data.sources.columnar import process
from app.market_data.sources.errors import DataError, reading
from app.market_data.sources.source import ReadProgress
from app.market_data.tick_table import Columns, Rows

MAGIC: Final = b"PAR1"
ENCRYPTED: Final = b"PARE"


def matches(head: bytes) -> bool:
    """Whether the file begins as Parquet does."""
    return head.startswith((MAGIC, ENCRYPTED))


def describe(path: Path, columns: Columns) -> list[tuple[str, str]]:
    """What the file is, as labels and texts for a user.

    Raises:
        DataError: it cannot be loaded.
    """
    _check_end(path)
    return process.describe(path, "Parquet", columns)


def load_prices(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load timestamp, symbol, price and, if the file has it, sentiment.

    Raises:
        DataError: with every reason why this file cannot be replayed.
    """
    _check_end(path)
    return process.load(path, "Parquet", columns, True, progress)


def load_sentiments(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load timestamp, symbol and sentiment.

    Raises:
        DataError: with every reason why this file cannot be used.
    """
    _check_end(path)
    return process.load(path, "Parquet", columns, False, progress)


def _check_end(path: Path) -> None:
    """Say in plain words what is wrong with most files that cannot be read."""
    with reading(path), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(MAGIC)))
        end = file.read()
    if end == ENCRYPTED:
        raise DataError(f"{path}: encrypted Parquet file: write it without encryption")
    if end != MAGIC:
        raise DataError(f"{path}: truncated Parquet file: its last bytes are not {MAGIC.decode()}")
