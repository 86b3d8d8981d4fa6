"""Which columns of a file hold a tick: by the settings, and for bars and quotes by their names."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.market_data.sources.errors import DataError, missing_columns, nearest_column
from app.market_data.tick_table import Columns

BAR: Final = ("open", "high", "low", "close")
SIDES: Final = {
    "bid": ("bid", "bid price", "best bid", "best bid price", "bid px", "bid px 00"),
    "ask": ("ask", "ask price", "best ask", "best ask price", "ask px", "ask px 00", "offer"),
}
"""What other programs call the two columns of a quote."""

_MENDS: Final = {
    **dict.fromkeys(BAR, "set BARS_AS=close"),
    **dict.fromkeys(SIDES, "set QUOTES_AS=last"),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of columns.  ``values``: one column, four of a bar, or two of a quote.

    ``symbol``: None if every row has the symbol ``DATA_SYMBOL``.
    """

    timestamp: str
    symbol: str | None
    values: tuple[str, ...]
    sentiment: str | None = None


def price_layout(path: Path, names: list[str], columns: Columns) -> Layout:
    """The layout of a price file.

    Raises:
        DataError: columns are missing, with the settings that mend it.
    """
    found = _Names(path, names)
    price = found.of(columns.price)
    bar = {name: found.like((name,)) for name in BAR}
    sides = {name: found.like(likely) for name, likely in SIDES.items()}
    usual = price is None and columns.price == Columns().price
    kind = columns.data_kind
    if kind == "auto":
        kind = "bars" if usual and None not in bar.values() else "ticks"
        kind = "quotes" if usual and kind == "ticks" and None not in sides.values() else kind
    if kind == "bars" and columns.bars_as == "ohlc":
        wanted = bar | ({"close": price} if price else {})
    elif kind == "quotes" and columns.quotes_as == "mid":
        wanted = sides
    else:
        other = {"bars": bar["close"], "quotes": found.like(("last", "last price", "trade price"))}
        wanted = {"PRICE_COLUMN": price or other.get(kind)}
    values = tuple(name for name in wanted.values() if name)
    missing = {
        key: columns.price if key == "PRICE_COLUMN" else key
        for key, name in wanted.items()
        if name is None
    }
    return _with_time(found, columns, values, missing, kind != "ticks")


def sentiment_layout(path: Path, names: list[str], columns: Columns) -> Layout:
    """The layout of a sentiment file.

    Raises:
        DataError: columns are missing, with the settings that mend it.
    """
    found = _Names(path, names)
    value = found.of(columns.sentiment)
    missing = {} if value else {"SENTIMENT_COLUMN": columns.sentiment}
    return _with_time(found, columns, (value or "",), missing, False)


class _Names:
    """The names of a file's columns."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path, self.names = path, names

    def of(self, name: str) -> str | None:
        """The column of that name, else the one that differs from it in case only."""
        for fold in (str, str.casefold):
            same = [other for other in self.names if fold(other) == fold(name)]
            if len(same) > 1:
                raise DataError(f"{self.path}: has column {name} twice")
            if same:
                return same[0]
        return None

    def like(self, names: tuple[str, ...]) -> str | None:
        """The first of several names that is there; case, blanks and ``_`` do not count."""
        folded = {_folded(name): name for name in reversed(self.names)}
        return next((folded[_folded(name)] for name in names if _folded(name) in folded), None)


def _folded(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _with_time(
    found: _Names,
    columns: Columns,
    values: tuple[str, ...],
    missing: dict[str, str],
    sure: bool,
) -> Layout:
    """Add timestamp and symbol.  ``sure``: the values leave no doubt, so these two may have other
    usual names, too.
    """
    timestamp, symbol = found.of(columns.timestamp), found.of(columns.symbol)
    usual = Columns()
    if sure and not missing:
        if timestamp is None and columns.timestamp == usual.timestamp:
            timestamp = nearest_column("TIMESTAMP_COLUMN", usual.timestamp, found.names)
        if symbol is None and columns.symbol == usual.symbol and not columns.data_symbol:
            symbol = nearest_column("SYMBOL_COLUMN", usual.symbol, found.names)
    absent: dict[str, str] = {}
    if timestamp is None:
        absent["TIMESTAMP_COLUMN"] = columns.timestamp
    if symbol is None and not columns.data_symbol:
        absent["SYMBOL_COLUMN"] = columns.symbol
    absent |= missing
    if absent:
        raise _missing(found, absent)
    return Layout(timestamp or "", symbol, values, found.of(columns.sentiment))


def _missing(found: _Names, absent: dict[str, str]) -> DataError:
    named = {key: name for key, name in absent.items() if key not in _MENDS}
    if named:
        error = missing_columns(found.path, named, found.names)
        if "SYMBOL_COLUMN" in named and "SYMBOL_COLUMN=" not in str(error):
            return DataError(f"{error}, or DATA_SYMBOL to the symbol of every row")
        return error
    names = ", ".join(repr(name) for name in absent)
    mend = _MENDS[next(iter(absent))]
    return DataError(f"{found.path}: no column {names}; it has {', '.join(found.names)}: {mend}")
