"""Loads the files that the settings name into a feed."""

from pathlib import Path
from typing import Final

from app.config import Settings
from app.market_data.feed import Feed
from app.market_data.sentiment import SentimentTrack, column_track, file_track, seeded_track
from app.market_data.sources.columnar import arrow, parquet
from app.market_data.sources.dbn import file as dbn_file
from app.market_data.sources.errors import DataError, reading
from app.market_data.sources.source import HEAD_BYTES, ReadProgress, Source
from app.market_data.sources.text import text_file
from app.market_data.tick_table import Columns, Rows
from app.model.wire.feed_protocol import encode_symbol_list
from app.model.wire.frames import MAX_FRAME_BYTES

SOURCES: Final[list[Source]] = [parquet, arrow, dbn_file, text_file]
"""The file formats; the first that matches loads the file.  Text is last: it matches any file."""


def _source_of(path: Path) -> Source:
    with reading(path), path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return next(source for source in SOURCES if source.matches(head))


def load_prices(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load a price file of any known format.

    Raises:
        DataError: with every reason why this file cannot be replayed.
    """
    rows = _source_of(path).load_prices(path, columns, progress)
    size_bytes = len(encode_symbol_list(rows.symbols))
    if size_bytes > MAX_FRAME_BYTES:
        raise DataError(
            f"{path}: {len(rows.symbols)} symbols make a symbol list of {size_bytes} bytes, "
            f"at most {MAX_FRAME_BYTES}"
        )
    return rows


def load_sentiments(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load a sentiment file of any known format.

    Raises:
        DataError: with every reason why this file cannot be used.
    """
    return _source_of(path).load_sentiments(path, columns, progress)


def columns_of(settings: Settings) -> Columns:
    """How to read the files, according to the settings."""
    return Columns(
        settings.timestamp_column,
        settings.symbol_column,
        settings.price_column,
        settings.sentiment_column,
        settings.sort_rows,
        settings.skip_bad_rows,
        settings.data_symbol,
        settings.data_header,
        settings.data_kind,
        settings.bars_as,
        settings.quotes_as,
        settings.timestamp_format,
        settings.data_date,
    )


def load_track(
    settings: Settings, rows: Rows, progress: ReadProgress | None = None
) -> tuple[SentimentTrack, bool]:
    """The sentiment of the file segment, and whether it is seeded.

    Raises:
        DataError: the sentiment file cannot be used.
    """
    if settings.sentiment_path:
        path = Path(settings.sentiment_path)
        return file_track(rows, load_sentiments(path, columns_of(settings), progress)), False
    if rows.values is not None:
        return column_track(rows), False
    return seeded_track(rows, settings.seed, settings.sentiment_every_ticks), True


def open_feed(settings: Settings, progress: ReadProgress | None = None) -> Feed:
    """Load the files that the settings name, and make the feed.

    Raises:
        DataError: with every reason why a file cannot be replayed.
    """
    rows = load_prices(Path(settings.data_path), columns_of(settings), progress)
    track, seeded = load_track(settings, rows, progress)
    return Feed(rows, track, seeded, settings)
