"""A recording of a live feed as a data file: it replays as it is, without a conversion."""

from pathlib import Path
from typing import Final

import numpy as np

from app.market_data.live.tick_log import MAGIC, TickLog
from app.market_data.sources.columnar.row_builder import DecodedRows, RowBuilder
from app.market_data.sources.errors import DataError
from app.market_data.sources.source import ReadProgress
from app.market_data.tick_table import Columns, Rows

BATCH_TICKS: Final = 1 << 16


def matches(head: bytes) -> bool:
    """Whether the file begins as a recording does."""
    return head.startswith(MAGIC)


def describe(path: Path, columns: Columns) -> list[tuple[str, str]]:
    """What the file is, as labels and texts for a user.

    Raises:
        DataError: it cannot be loaded.
    """
    log = TickLog.read(path)
    log.close()
    return [("format", "recording of a live feed"), ("recorded", log.source)]


def load_prices(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load time, symbol and price; the symbols that traded are in the order of the live run's.

    Raises:
        DataError: it is damaged, or has no tick.
    """
    log = TickLog.read(path)
    try:
        builder = RowBuilder(path, columns)
        for symbol in log.symbols:
            builder.symbols.add(symbol.encode())
        for first in range(0, log.count, BATCH_TICKS):
            end = min(first + BATCH_TICKS, log.count)
            ticks = log.ticks(first, end)
            times, symbols, prices = (
                np.ascontiguousarray(ticks[name]) for name in ("event_ns", "symbol", "price")
            )
            builder.add(DecodedRows(np.arange(first + 1, end + 1), times, symbols, prices))
            if progress:
                progress(end, log.count)
        return builder.build(as_added=True)
    finally:
        log.close()


def load_sentiments(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """There is no sentiment in a recording.

    Raises:
        DataError: always.
    """
    raise DataError(f"{path}: a recording of a live feed has no sentiment")
