"""Passes over a table from its first row to its last, a piece at a time."""

from collections.abc import Callable, Iterator
from typing import Final

from app.market_data.storage.resident import RESIDENT

PIECE_ROWS: Final = 1 << 16
"""Rows handled at a time, to bound the temporaries."""
ROW_BYTES: Final = 64
"""About what a row takes."""

Work = Callable[[int, int], object]
"""Called with what is done of a pass, and with all of it; may raise to end it."""


def silent(_done: int, _total: int) -> None:
    """Shows nothing."""


def pieces(rows: int, first: int = 0) -> Iterator[tuple[int, int]]:
    """First row and end of each piece; what was read of a piece may be dropped after it."""
    while first < rows:
        end = min(first + PIECE_ROWS, rows)
        yield first, end
        RESIDENT.passed((end - first) * ROW_BYTES)
        first = end
