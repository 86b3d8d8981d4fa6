"""Loads the files that the settings name into a feed."""

from pathlib import Path

from app.config import Settings
from app.market_data.feed import Feed
from app.market_data.sentiment import SentimentTrack, column_track, file_track, seeded_track
from app.market_data.sources.csv_file import load_prices, load_sentiments
from app.market_data.sources.csv_reader import Progress
from app.market_data.tick_table import Columns, Rows


def columns_of(settings: Settings) -> Columns:
    """How the settings say that files are read."""
    return Columns(
        settings.timestamp_column,
        settings.symbol_column,
        settings.price_column,
        settings.sentiment_column,
        settings.sort_rows,
        settings.skip_bad_rows,
    )


def load_track(
    settings: Settings, rows: Rows, progress: Progress | None = None
) -> tuple[SentimentTrack, bool]:
    """The sentiment of the file's part, and whether it is seeded.

    Raises:
        DataError: the sentiment file cannot be used.
    """
    if settings.sentiment_path:
        path = Path(settings.sentiment_path)
        return file_track(rows, load_sentiments(path, columns_of(settings), progress)), False
    if rows.values is not None:
        return column_track(rows), False
    return seeded_track(rows, settings.seed, settings.sentiment_every_ticks), True


def open_feed(settings: Settings, progress: Progress | None = None) -> Feed:
    """Load the files that the settings name.

    Raises:
        DataError: with every reason why a file cannot be replayed.
    """
    rows = load_prices(Path(settings.data_path), columns_of(settings), progress)
    track, seeded = load_track(settings, rows, progress)
    return Feed(rows, track, seeded, settings)
