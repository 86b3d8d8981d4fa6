"""Arrow IPC: files (also called Feather, version 2) and streams, one record batch at a time."""

from pathlib import Path
from typing import Final

from app.market_data.sources.columnar import process
from app.market_data.sources.errors import DataError, reading
from app.market_data.sources.source import ReadProgress
from app.market_data.tick_table import Columns, Rows

MAGIC: Final = b"ARROW1"
FEATHER_1: Final = b"FEA1"
STREAM: Final = b"\xff\xff\xff\xff"
"""A message of a stream begins so, followed by its size, a multiple of eight; no text does."""


def matches(head: bytes) -> bool:
    """Whether the file begins as an Arrow file, an Arrow stream or the first version of Feather."""
    return head.startswith((MAGIC, FEATHER_1)) or _is_stream(head)


def _is_stream(head: bytes) -> bool:
    size = int.from_bytes(head[4:8], "little")
    return head.startswith(STREAM) and len(head) >= 8 and size > 0 and size % 8 == 0


def describe(path: Path, columns: Columns) -> list[tuple[str, str]]:
    """What the file is, as labels and texts for a user.

    Raises:
        DataError: it cannot be loaded.
    """
    return process.describe(path, _form(path), columns)


def load_prices(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load timestamp, symbol, price and, if the file has it, sentiment.

    Raises:
        DataError: with every reason why this file cannot be replayed.
    """
    return process.load(path, _form(path), columns, True, progress)


def load_sentiments(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load timestamp, symbol and sentiment.

    Raises:
        DataError: with every reason why this file cannot be used.
    """
    return process.load(path, _form(path), columns, False, progress)


def _form(path: Path) -> str:
    with reading(path), path.open("rb") as file:
        head = file.read(8)
        file.seek(max(0, path.stat().st_size - len(MAGIC)))
        end = file.read()
    if head.startswith(FEATHER_1):
        raise DataError(
            f"{path}: Feather version 1: read it with pandas and write it with to_feather, "
            "which writes version 2"
        )
    if not head.startswith(MAGIC):
        return "Arrow stream"
    if end != MAGIC:
        raise DataError(f"{path}: truncated Arrow file: its last bytes are not {MAGIC.decode()}")
    return "Arrow"
