"""Loads the files that the settings name into a feed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from app.config.settings import Settings
from app.market_data.feed import Feed
from app.market_data.live import recording_source
from app.market_data.live.following import follow_recording
from app.market_data.sentiment import SentimentTrack, column_track, file_track, seeded_track
from app.market_data.sources.columnar import arrow, parquet
from app.market_data.sources.dbn import file as dbn_file
from app.market_data.sources.errors import FILE, DataError, reading, symbol_of_name
from app.market_data.sources.files import archive_of, open_part, parts_of, size_of
from app.market_data.sources.progress import share
from app.market_data.sources.rows import by_time, joined
from app.market_data.sources.source import HEAD_BYTES, ReadProgress, Source
from app.market_data.sources.text import text_file
from app.market_data.storage.place import FREE_BYTES_MIN, NoRoom, Storage
from app.market_data.tick_table import Columns, Rows
from app.model.symbols import without_padding
from app.model.wire.feed_protocol import encode_symbol_list
from app.model.wire.frames import MAX_FRAME_BYTES

READ_PERCENT: Final = 60
"""How much of the loading is reading, where rows are sorted."""

SOURCES: Final[list[Source]] = [parquet, arrow, dbn_file, recording_source, text_file]
"""The file formats; the first that matches loads the file.  Text is last: it matches any file."""


def _source_of(path: Path) -> Source:
    with reading(path):
        file, _ = open_part(path)
        with file:
            head = file.read(HEAD_BYTES)
    source = next(source for source in SOURCES if source.matches(head))
    if source is not text_file and archive_of(path):
        raise DataError(f"{path}: of a zip file with several files, only text is read: unpack it")
    return source


def describe(path: Path, columns: Columns) -> list[tuple[str, str]]:
    """What a file is, as labels and texts for a user.

    Raises:
        DataError: it cannot be loaded.
    """
    return _source_of(path).describe(path, _for_file(columns, path))


def load_prices(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load a price file of any known format.

    Raises:
        DataError: with every reason why this file cannot be replayed.
    """
    read = READ_PERCENT if columns.sort_rows else 100
    return _in_order(_load_prices(path, columns, share(progress, 0, read)), path, columns, progress)


def _load_prices(path: Path, columns: Columns, progress: ReadProgress) -> Rows:
    with _storing(path):
        rows = _source_of(path).load_prices(path, _for_file(columns, path), progress)
    return _checked(path, rows)


def _in_order(
    rows: Rows, spec: Path | str, columns: Columns, progress: ReadProgress | None
) -> Rows:
    with _storing(spec):
        return by_time(rows, columns.storage, share(progress, READ_PERCENT, 100))


def load_files(spec: str, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load the price files that ``DATA_PATH`` names, merged by time.

    Raises:
        DataError: with every reason why a file cannot be replayed.
    """
    paths = parts_of(spec)
    if len(paths) == 1:
        return load_prices(paths[0], columns, progress)
    with reading(paths[0]):
        sizes = [size_of(path) for path in paths]
    read = share(progress, 0, READ_PERCENT)

    def parts() -> Iterator[Rows]:
        for number, path in enumerate(paths):
            before = sum(sizes[:number])

            def part_done(done: int, _: int, before: int = before) -> None:
                read(before + done, sum(sizes))

            yield _load_prices(path, replace(columns, several_files=True), part_done)

    with _storing(spec):
        rows = joined(parts(), columns.storage)
    return _in_order(_checked(spec, rows), spec, columns, progress)


def _for_file(columns: Columns, path: Path) -> Columns:
    if columns.data_symbol != FILE:
        symbol = without_padding(columns.data_symbol.encode()).decode()
        return replace(columns, data_symbol=symbol)
    symbol = symbol_of_name(path)
    if not symbol:
        raise DataError(f"{path}: DATA_SYMBOL={FILE}: the file's name begins with no symbol")
    return replace(columns, data_symbol=symbol)


def _checked(path: Path | str, rows: Rows) -> Rows:
    """The rows, if their symbols fit into a frame.

    Raises:
        DataError: they do not.
    """
    checked_symbols(path, rows.symbols)
    return rows


def checked_symbols(where: Path | str, symbols: list[str]) -> None:
    """Refuse symbols that do not fit into a frame together.

    Raises:
        DataError: they do not.
    """
    size_bytes = len(encode_symbol_list(symbols))
    if size_bytes > MAX_FRAME_BYTES:
        raise DataError(
            f"{where}: {len(symbols)} symbols make a symbol list of {size_bytes} bytes, "
            f"at most {MAX_FRAME_BYTES}: leave some out"
        )


def load_sentiments(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load a sentiment file of any known format.

    Raises:
        DataError: with every reason why this file cannot be used.
    """
    read = READ_PERCENT if columns.sort_rows else 100
    with _storing(path):
        source, columns_here = _source_of(path), _for_file(columns, path)
        rows = source.load_sentiments(path, columns_here, share(progress, 0, read))
    return _in_order(rows, path, columns, progress)


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
        settings.decimal_comma,
        storage=storage_of(settings),
    )


def storage_of(settings: Settings) -> Storage:
    """How much of the data is held in memory, and where the rest goes, according to the settings.

    In the containers, RUN_DIR is on a volume.
    """
    return Storage(
        settings.data_memory_bytes_max,
        settings.data_spill_dir,
        (settings.run_dir, settings.output_dir),
        # The disk may be that of the order store, which needs its own.
        settings.order_store_free_bytes_min + FREE_BYTES_MIN,
    )


@contextmanager
def _storing(spec: Path | str) -> Iterator[None]:
    """Turn a lack of room for the rows into a DataError."""
    try:
        yield
    except NoRoom as error:
        raise DataError(f"{spec}: {error}") from None


def load_track(
    settings: Settings, rows: Rows, progress: ReadProgress | None = None
) -> tuple[SentimentTrack, bool]:
    """The sentiment of the file segment, and whether it is seeded.

    Raises:
        DataError: the sentiment file cannot be used.
    """
    storage = storage_of(settings)
    if settings.sentiment_path:
        path = Path(settings.sentiment_path)
        sentiments = load_sentiments(path, columns_of(settings), progress)
        with _storing(path):
            return file_track(rows, sentiments, storage), False
    work = share(progress, 0, 100)
    with _storing(settings.data_path):
        if rows.values is not None:
            return column_track(rows, storage, work), False
        every_ticks = settings.sentiment_every_ticks
        return seeded_track(rows, settings.seed, every_ticks, storage, work), True


def open_feed(settings: Settings, progress: ReadProgress | None = None) -> Feed:
    """Load the files that the settings name, and make the feed; of a live run, its recording.

    Raises:
        DataError: with every reason why a file cannot be replayed.
    """
    if settings.is_live:
        return follow_recording(settings)
    rows = load_files(settings.data_path, columns_of(settings), share(progress, 0, 80))
    track, seeded = load_track(settings, rows, share(progress, 80, 90))
    return Feed(rows, track, seeded, settings, share(progress, 90, 100))
