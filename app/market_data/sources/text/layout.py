"""Where the fields of a tick are in a row, according to the header and the settings."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.market_data.sources.errors import DataError, missing_columns, nearest_column
from app.market_data.tick_table import Columns

DELIMITERS: Final = b",;\t|"
_QUOTED: Final = re.compile(rb'"[^"]*"')
BAR: Final = ("open", "high", "low", "close")
SIDES: Final = {
    "bid": ("bid", "bid price", "best bid", "best bid price", "bid px", "bid px 00"),
    "ask": ("ask", "ask price", "best ask", "best ask price", "ask px", "ask px 00", "offer"),
}
"""What other programs call the two columns of a quote."""


@dataclass(frozen=True, slots=True)
class Group:
    """The ticks of one row for one symbol: the columns of their values.

    ``symbol``: the symbol, or None if the row names it.
    """

    values: tuple[int, ...]
    symbol: bytes | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns are indices into ``names``.

    ``form``: how values become prices: ``value`` (each is one), ``ohlc`` (four ticks of a bar) or
    ``mid`` (one tick between bid and ask).  ``time``: one column, or date and time of day.
    ``head_bytes`` and ``head_lines``: what comes before the first row.  ``sparse``: a row need not
    have values for each group.  ``is_json``: rows are JSON objects, the columns their members.
    """

    kind: str
    delimiter: bytes
    names: list[str]
    head_bytes: int
    head_lines: int
    time: tuple[int, ...]
    symbol: int | None
    groups: list[Group]
    form: str = "value"
    sentiment: int | None = None
    sparse: bool = False
    is_json: bool = False
    wanted: list[int] = field(init=False)

    def __post_init__(self) -> None:
        found = [*self.time]
        found += [self.symbol] if self.symbol is not None else []
        found += [column for group in self.groups for column in group.values]
        found += [self.sentiment] if self.sentiment is not None else []
        object.__setattr__(self, "wanted", list(dict.fromkeys(found)))

    @property
    def plain(self) -> bool:
        """Whether the wanted fields are timestamp, symbol, value and perhaps sentiment."""
        return (
            self.form == "value"
            and self.symbol is not None
            and len(self.groups) == len(self.time) == 1
            and len(self.groups[0].values) == 1
            and len(self.wanted) == (3 if self.sentiment is None else 4)
        )

    @property
    def time_name(self) -> str:
        """The name of the timestamp's columns, as in ``TIMESTAMP_COLUMN``."""
        return "+".join(self.names[column] for column in self.time)


def first_line_of(head: bytes) -> bytes:
    """The first line, with its end."""
    end = head.find(b"\n") + 1
    return head[:end] if end else head


def sniff_delimiter(line: bytes) -> bytes:
    """The delimiter that occurs most often outside quotes; a comma if none does."""
    bare = _QUOTED.sub(b"", line)
    counts = [bare.count(bytes([byte])) for byte in DELIMITERS]
    best = counts.index(max(counts))
    return DELIMITERS[best : best + 1]


def split_line(line: bytes, delimiter: bytes) -> list[str]:
    """The fields of one line, without blanks around them."""
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    return [name.strip() for name in next(csv.reader([text], delimiter=delimiter.decode()), [])]


class Header:
    """The column names of one file."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path, self.names = path, list(names)
        self._folded = [name.casefold() for name in names]

    def find(self, name: str) -> int | None:
        """The column of that name, else the one that differs from it in case only.

        Raises:
            DataError: two columns have the name.
        """
        for names, wanted in ((self.names, name), (self._folded, name.casefold())):
            if names.count(wanted) > 1:
                raise DataError(f"{self.path}: the header names column {name} twice: rename one")
            if wanted in names:
                return names.index(wanted)
        return None

    def find_any(self, names: Sequence[str]) -> int | None:
        """The first of several names that is there; blanks and ``_`` do not count."""
        folded = [re.sub(r"[\W_]", "", name) for name in self._folded]
        wanted = (re.sub(r"[\W_]", "", name.casefold()) for name in names)
        return next((folded.index(name) for name in wanted if name in folded), None)

    def find_time(self, name: str) -> tuple[int, ...] | None:
        """The column of the timestamp, or those of ``Date+Time``."""
        column = self.find(name)
        if column is not None:
            return (column,)
        parts = [self.find(part) for part in name.split("+")]
        if len(parts) != 2 or None in parts:
            return None
        return tuple(part for part in parts if part is not None)

    @property
    def date_and_time(self) -> str | None:
        """``Date+Time``, if there are two such columns."""
        date, time = (self.find_any([part, f"<{part}>"]) for part in ("date", "time"))
        if date is None or time is None:
            return None
        return f"{self.names[date]}+{self.names[time]}"


def layout_of(
    path: Path, header: Header, columns: Columns, delimiter: bytes, head: tuple[int, int]
) -> Layout:
    """The layout of a price file; ``head``: bytes and lines above its first row.

    Raises:
        DataError: a column is missing; the message has the settings that mend it.
    """
    kind, form, values, missing = _values(header, columns)
    time, symbol = header.find_time(columns.timestamp), header.find(columns.symbol)
    if kind != "ticks" and not missing:
        # Such a header leaves no doubt, so its other columns may have their usual names, too.
        default = Columns()
        if time is None and columns.timestamp == default.timestamp:
            nearest = nearest_column("TIMESTAMP_COLUMN", default.timestamp, header.names)
            time = header.find_time(header.date_and_time or nearest or "")
        if symbol is None and columns.symbol == default.symbol and not columns.data_symbol:
            symbol = header.find(nearest_column("SYMBOL_COLUMN", "symbol", header.names) or "")
    if time is None:
        missing = {"TIMESTAMP_COLUMN": columns.timestamp, **missing}
    if symbol is None and not columns.data_symbol:
        missing["SYMBOL_COLUMN"] = columns.symbol
    if missing:
        order = {name: missing[name] for name in _ORDER if name in missing}
        raise missing_columns(
            path, order, header.names, header.date_and_time, columns.several_files
        )
    constant = columns.data_symbol.encode() if symbol is None else None
    sentiment = header.find(columns.sentiment)
    group = Group(tuple(values), constant)
    return Layout(
        kind, delimiter, header.names, *head, time or (), symbol, [group], form, sentiment
    )


_ORDER: Final = ("TIMESTAMP_COLUMN", "SYMBOL_COLUMN", "PRICE_COLUMN", "QUOTES_AS", *SIDES, *BAR)


def _values(header: Header, columns: Columns) -> tuple[str, str, list[int], dict[str, str]]:
    """Kind and form of a row, its value columns, and the settings of those that are missing."""
    price = header.find(columns.price)
    bar = {name: header.find_any([name]) for name in BAR}
    sides = {name: header.find_any(names) for name, names in SIDES.items()}
    kind = columns.data_kind
    if kind == "auto":
        usual = columns.price == Columns().price
        if price is None and usual and None not in bar.values():
            kind = "bars"
        elif price is None and usual and None not in sides.values():
            kind = "quotes"
        else:
            kind = "ticks"
    if kind == "bars" and columns.bars_as == "ohlc":
        if price is not None:
            bar["close"] = price
        return kind, "ohlc", *_found(bar)
    if kind == "bars":
        close = bar["close"] if price is None else price
        return kind, "value", *_found({"PRICE_COLUMN": close}, columns.price)
    if kind == "quotes" and columns.quotes_as == "mid":
        return kind, "mid", *_found(sides)
    if kind == "quotes" and price is None:
        price = header.find_any(("last", "last price", "trade price"))
        if price is None and None not in sides.values():
            return kind, "value", [], {"QUOTES_AS": "last"}
    return kind, "value", *_found({"PRICE_COLUMN": price}, columns.price)


def _found(places: dict[str, int | None], name: str = "") -> tuple[list[int], dict[str, str]]:
    """The columns that are there, and setting -> name of those that are not."""
    missing = {key: name or key for key, column in places.items() if column is None}
    return [column for column in places.values() if column is not None], missing


def sentiment_layout_of(
    path: Path, header: Header, columns: Columns, delimiter: bytes, head: tuple[int, int]
) -> Layout:
    """The layout of a sentiment file.

    Raises:
        DataError: a column is missing; the message has the settings that mend it.
    """
    time, symbol = header.find_time(columns.timestamp), header.find(columns.symbol)
    value = header.find(columns.sentiment)
    missing = {}
    if time is None:
        missing["TIMESTAMP_COLUMN"] = columns.timestamp
    if symbol is None and not columns.data_symbol:
        missing["SYMBOL_COLUMN"] = columns.symbol
    if value is None:
        missing["SENTIMENT_COLUMN"] = columns.sentiment
    if time is None or value is None or missing:
        raise missing_columns(path, missing, header.names, header.date_and_time)
    constant = columns.data_symbol.encode() if symbol is None else None
    group = Group((value,), constant)
    return Layout("sentiment", delimiter, header.names, *head, time, symbol, [group])
