"""DBN files, plain or zstd: trades, quotes and bars.

Records of a kind have one layout, so NumPy reads them where they are, a megabyte at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from app.market_data.ragged import Ints, Mask
from app.market_data.sources.columnar.row_builder import BadRow, DecodedRows, RowBuilder
from app.market_data.sources.columnar.ticks import ticks_of
from app.market_data.sources.dbn.instruments import Instruments
from app.market_data.sources.dbn.metadata import (
    MAGIC,
    PREFIX,
    Metadata,
    parse_metadata,
    parse_prefix,
)
from app.market_data.sources.dbn.records import (
    BAR,
    FORMS,
    QUOTE,
    SAMPLED,
    SYMBOL_MAPPING,
    UNDEF_PRICE,
    UNDEF_TIMESTAMP,
    RecordSplitter,
    Run,
)
from app.market_data.sources.errors import DataError, reading
from app.market_data.sources.source import ReadProgress
from app.market_data.sources.text.streams import ZSTD_MAGIC, zstd_module
from app.market_data.sources.text.text_file import KINDS
from app.market_data.tick_table import Columns, Rows
from app.model.money import MAX_PRICE, UNITS, money_text
from app.model.timestamps import MAX_EVENT_NS, YEAR_MAX, YEAR_MIN

CHUNK_BYTES: Final = 1 << 20
TIMES: Final = ("ts_recv", "ts_event")
_WITH_PRICES: Final = "trades, tbbo, mbp-1, mbp-10, bbo, cmbp-1, cbbo, tcbbo and ohlcv"


def matches(head: bytes) -> bool:
    """Whether the file is DBN, or zstd with DBN in it."""
    if head.startswith(ZSTD_MAGIC):
        zstd = zstd_module()
        if zstd is None:
            return False
        try:
            head = zstd.ZstdDecompressor().decompress(head, PREFIX.size)
        except zstd.ZstdError:
            return False
    # The version is no character of a text.
    return head.startswith(MAGIC) and head[3:4] < b"\x09" and len(head) > 3


def describe(path: Path, columns: Columns) -> list[tuple[str, str]]:
    """What the file is, as labels and texts for a user.

    Raises:
        DataError: it cannot be loaded.
    """
    with _stream(path) as stream, _damage(path):
        metadata = _read_metadata(stream)
    packing = ", packed with zstd" if stream.is_packed else ""
    kind = "quotes" if columns.quotes_as == "last" or columns.data_kind == "ticks" else "mid"
    if metadata.schema.startswith("ohlcv"):
        kind = "ohlc" if columns.bars_as == "ohlc" and columns.data_kind != "ticks" else "bars"
    elif metadata.schema in ("", "trades", "tbbo", "tcbbo"):
        kind = "ticks"
    return [
        ("format", f"Databento DBN, version {metadata.version}{packing}"),
        ("schema", metadata.schema or "several"),
        ("instruments", f"{len(metadata.instruments):,}"),
        ("a row is", KINDS[kind]),
    ]


def load_prices(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Load trades, quotes or bars.

    Raises:
        DataError: with every reason why this file cannot be replayed.
    """
    with _stream(path) as stream, _damage(path):
        return _Loader(path, columns, stream, progress).load()


def load_sentiments(path: Path, columns: Columns, progress: ReadProgress | None = None) -> Rows:
    """Always an error: DBN has no sentiments.

    Raises:
        DataError: always.
    """
    raise DataError(f"{path}: a DBN file has no sentiments: set SENTIMENT_PATH to a file that has")


class _Stream:
    """A file's content, and how much of the file has been read."""

    def __init__(self, path: Path, raw: IO[bytes]) -> None:
        self._path, self._raw = path, raw
        self.size_bytes = path.stat().st_size
        zipped = raw.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC
        raw.seek(0)
        self._zstd = zstd_module() if zipped else None
        self._content: IO[bytes] = raw if self._zstd is None else self._zstd.ZstdFile(raw)

    @property
    def is_packed(self) -> bool:
        """Whether the file is zstd."""
        return self._zstd is not None

    @property
    def done_bytes(self) -> int:
        return self._raw.tell()

    def read(self, count: int) -> bytes:
        """``count`` bytes, fewer at the end."""
        with reading(self._path):
            if self._zstd is None:
                return self._content.read(count)
            try:
                return self._content.read(count)
            except (self._zstd.ZstdError, EOFError) as error:
                raise DataError(f"{self._path}: damaged zstd file: {error}") from None


@contextmanager
def _stream(path: Path) -> Iterator[_Stream]:
    with reading(path):
        raw = path.open("rb")
    with raw:
        yield _Stream(path, raw)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise DataError(f"{path}: DBN file: {error}") from None


def _read_metadata(stream: _Stream) -> Metadata:
    """The metadata that a file begins with.

    Raises:
        ValueError: why it cannot be read.
    """
    version, size = parse_prefix(stream.read(PREFIX.size))
    data = stream.read(size)
    if len(data) < size:
        raise ValueError("truncated: ends inside its metadata")
    return parse_metadata(version, data)


class _Loader:
    """One pass over one file."""

    def __init__(
        self, path: Path, columns: Columns, stream: _Stream, progress: ReadProgress | None
    ) -> None:
        self._path, self._columns, self._stream = path, columns, stream
        self._progress = progress
        self._builder = RowBuilder(path, columns)
        self._metadata = _read_metadata(stream)
        table = self._builder.symbols
        self._instruments = Instruments(self._metadata, table, columns.data_symbol)
        self._others: dict[int, int] = {}
        if columns.timestamp not in (Columns().timestamp, *TIMES):
            raise ValueError(
                f"no time {columns.timestamp!r}: set TIMESTAMP_COLUMN=ts_recv or "
                "TIMESTAMP_COLUMN=ts_event"
            )

    def load(self) -> Rows:
        splitter = RecordSplitter()
        while data := self._stream.read(CHUNK_BYTES):
            for run in splitter.feed(data):
                self._take(run)
            if self._progress:
                self._progress(self._stream.done_bytes, self._stream.size_bytes)
        splitter.finish()
        if self._others and not self._builder.has_rows:
            schema = self._metadata.schema or ", ".join(f"type {key}" for key in self._others)
            raise ValueError(
                f"records of the schema {schema} give no ticks; those of {_WITH_PRICES} do"
            )
        return self._builder.build()

    def _take(self, run: Run) -> None:
        form = FORMS.get(run.rtype)
        if run.rtype == SYMBOL_MAPPING:
            self._instruments.learn(run)
        elif form is None:
            self._others[run.rtype] = self._others.get(run.rtype, 0) + len(run.data)
        else:
            records = run.view(form)
            names, values, wanted = self._values(run.rtype, form, records)
            number = np.arange(run.first, run.first + len(records), dtype=np.int64)[wanted]
            values = [value[wanted] for value in values]
            self._builder.add(self._rows(number, records[wanted], names, values))

    def _values(
        self, rtype: int, form: Any, records: Any
    ) -> tuple[tuple[str, ...], list[Ints], Mask]:
        """The prices of each record: their names, and which records are ticks."""
        columns = self._columns
        every = np.ones(len(records), np.bool_)
        if form is BAR:
            ohlc = columns.bars_as == "ohlc" and columns.data_kind != "ticks"
            names: tuple[str, ...] = ("open", "high", "low", "close") if ohlc else ("close",)
            return names, [records[name] for name in names], every
        trades_only = self._metadata.schema in ("tbbo", "tcbbo") and columns.data_kind == "auto"
        last = columns.quotes_as == "last" or columns.data_kind == "ticks" or trades_only
        if form is QUOTE and last:
            traded = records["price"] != UNDEF_PRICE
            if rtype not in SAMPLED:
                traded = records["action"] == b"T"
            return ("price",), [records["price"]], traded
        if form is QUOTE:
            names = ("bid_px_00", "ask_px_00")
            sides = [records[name] for name in names]
            return names, sides, (sides[0] != UNDEF_PRICE) & (sides[1] != UNDEF_PRICE)
        return ("price",), [records["price"]], every

    def _rows(
        self, number: Ints, records: Any, names: tuple[str, ...], values: list[Ints]
    ) -> DecodedRows:
        bad: dict[int, BadRow] = {}

        def fault(rows: Any, name: str, text_of: Any, reason: str) -> None:
            for row in rows.tolist():
                bad.setdefault(row, (int(number[row]), name, text_of(row), reason))

        time = self._columns.timestamp
        if time not in records.dtype.names:
            time = "ts_recv" if "ts_recv" in records.dtype.names else "ts_event"
        stamps = records[time]
        fault(np.flatnonzero(stamps == UNDEF_TIMESTAMP), time, lambda _: b"", "missing")
        outside = f"outside the years {YEAR_MIN} to {YEAR_MAX}"
        late = np.flatnonzero(stamps > MAX_EVENT_NS)
        fault(late, time, lambda row: b"%d" % stamps[row], outside)
        event_ns = np.where(stamps > MAX_EVENT_NS, 0, stamps).astype(np.int64)
        index, unnamed = self._instruments.indices(records["instrument_id"], event_ns)
        for row, (text, reason) in unnamed.items():
            bad.setdefault(row, (int(number[row]), "symbol", text, reason))
        for name, units in zip(names, values, strict=True):
            text = _price_text(units)
            fault(np.flatnonzero(units == UNDEF_PRICE), name, lambda _: b"", "missing")
            fault(np.flatnonzero(units <= 0), name, text, "not positive")
            fault(np.flatnonzero(units > MAX_PRICE * UNITS), name, text, f"above {MAX_PRICE}")
        keep = np.ones(len(number), np.bool_)
        keep[list(bad)] = False
        values = [value[keep].astype(np.int64) for value in values]
        rows = DecodedRows(number[keep], event_ns[keep], index[keep], values[0])
        rows.bad = [bad[row] for row in sorted(bad)]
        return ticks_of(rows, values)


def _price_text(units: Ints) -> Any:
    return lambda row: money_text(int(units[row])).encode()
