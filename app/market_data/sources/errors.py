"""Errors in a data file: which rows and lines, and how to accept them."""

import difflib
import lzma
import re
import shlex
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.model.symbols import symbol_problem
from app.runtime.readable import why_unreadable

SHOWN_ROWS: Final = 10
SHOWN_BYTES: Final = 40
SHOWN_HEADER: Final = 200

SYNONYMS: Final = {
    "TIMESTAMP_COLUMN": (
        "timestamp", "time", "datetime", "date", "ts", "date time", "event time", "open time",
        "trade time", "transact time", "ts event", "ts recv", "local time", "gmt time", "utc",
        "when", "datum", "zeit", "zeitpunkt", "fecha", "__index_level_0__",
    ),
    "SYMBOL_COLUMN": (
        "symbol", "ticker", "sym", "instrument", "asset", "pair", "name", "code", "sym root",
        "security", "stock", "market", "wertpapier", "isin", "instrument id", "instrument name",
        "product id", "inst id", "security id", "sec id", "contract", "product", "coin",
    ),
    "PRICE_COLUMN": (
        "price", "close", "last", "px", "last price", "trade price", "close last", "adj close",
        "mid", "mid price", "value", "rate", "kurs", "schlusskurs", "cours", "precio",
    ),
    "SENTIMENT_COLUMN": ("sentiment", "sentiment score", "score"),
}  # fmt: skip
"""Setting -> what other programs call that column, most likely first."""

_OTHERWISE: Final = {
    "BARS_AS": ("open", "high", "low", "close"),
    "QUOTES_AS": ("bid", "ask"),
}
"""Columns that no setting names -> the setting that does without them."""


_PUNCTUATION: Final = frozenset(",;:")
FILE: Final = "{file}"
"""Value of DATA_SYMBOL: each file's name begins with its symbol."""


class DataError(Exception):
    """A data file cannot be replayed; the message names file, line, value and reason."""


@contextmanager
def reading(path: Path, packing: str = "") -> Iterator[None]:
    """Turn an error while reading ``path`` into a DataError; ``packing``: how it is compressed."""
    damaged = f"damaged {packing} file".replace("  ", " ")
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: {damaged}: {error}") from None
    except OSError as error:
        if error.errno is None:  # gzip.BadGzipFile, and what bz2 raises
            raise DataError(f"{path}: {damaged}: {error}") from None
        raise DataError(f"{path}: {why_unreadable(str(path), error)}") from None


def printable(value: bytes) -> str:
    """A field for an error message: printable and short."""
    text = ascii(value[:SHOWN_BYTES].decode("utf-8", "replace"))
    return text if len(value) <= SHOWN_BYTES else f"{text}... ({len(value)} bytes)"


@dataclass(slots=True)
class MalformedRows:
    """Rows of one file with the same fault: their number, and the first few as text.

    ``fault``: what is wrong with them.  ``advice``: the setting that accepts them.
    """

    path: Path
    fault: str
    advice: str
    count: int = 0
    _first: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, reason: str) -> None:
        """Add the row at ``line``, counted from 1."""
        self.count += 1
        self._first.append((line, reason))
        if len(self._first) > 4 * SHOWN_ROWS:
            self._first = sorted(self._first)[:SHOWN_ROWS]

    def add_field(self, line: int, column: str, value: bytes, reason: str) -> None:
        """Add the row at ``line`` because of its value in ``column``."""
        self.add(line, f"{column}={printable(value)}: {reason}")

    def reject(self, others: bool) -> None:
        """Reject the file if there are such rows; ``others``: there are good rows, too.

        Raises:
            DataError: with the first rows and their total number.
        """
        if not self.count:
            return
        first = sorted(self._first)[:SHOWN_ROWS]
        lines = [f"{self.path}:{line}: {reason}" for line, reason in first]
        if self.count > len(lines):
            lines.append(f"... and {self.count - len(lines)} more")
        rows = f"{self.count} row{'s'[: self.count > 1]} {self.fault}"
        advice = self.advice if others else "no row is good"
        raise DataError("\n".join([f"{self.path}: {rows}; {advice}", *lines]))


def missing_columns(
    path: Path,
    missing: Mapping[str, str],
    found: Sequence[str],
    date_and_time: str | None = None,
    several_files: bool = False,
) -> DataError:
    """The error for a file without some columns; ``missing``: setting -> the name that it has.

    It names the header and, where a column of it looks right, the setting that uses it.
    ``date_and_time``: two columns that look like the timestamp together.
    """
    header = ", ".join(found)
    if len(header) > SHOWN_HEADER:
        header = f"{header[:SHOWN_HEADER]}... ({len(found)} columns)"
    names = ", ".join(repr(name) for name in missing.values())
    free = [name for name in found if name]
    remedies = []
    for setting, name in missing.items():
        guess = nearest_column(setting, name, free)
        if setting == "TIMESTAMP_COLUMN" and date_and_time:
            guess = date_and_time
        remedies.append(_remedy(path, setting, guess, several_files))
        free = [other for other in free if other != guess]
    if "PRICE_COLUMN" in missing and "SYMBOL_COLUMN" in missing and _are_symbols(free):
        remedies = [*remedies[: "TIMESTAMP_COLUMN" in missing], _WIDE]
    return DataError(
        f"{path}: no column {names}; the header has {header}: {', '.join(dict.fromkeys(remedies))}"
    )


_WIDE: Final = "set DATA_KIND=wide, if each further column has the prices of one symbol"
_TICKER: Final = re.compile(r"[A-Z][A-Z0-9]*([./=^-][A-Z0-9]+)*")


def _are_symbols(names: Sequence[str]) -> bool:
    """Whether the columns of a file, but that of the time, look like a symbol each."""
    return len(names) > 1 and all(_TICKER.fullmatch(name) for name in names)


def _remedy(path: Path, setting: str, guess: str | None, several_files: bool) -> str:
    if guess and setting in SYNONYMS:
        return f"set {setting}={quoted(guess)}"
    if setting == "SYMBOL_COLUMN":
        return symbol_remedy(path, several_files)
    if setting == "QUOTES_AS":
        return "set QUOTES_AS=mid"
    if setting in _OTHERWISE["BARS_AS"]:
        return "set BARS_AS=close"
    if setting in _OTHERWISE["QUOTES_AS"]:
        return "set QUOTES_AS=last"
    return f"set {setting} to its name"


def quoted(value: str) -> str:
    """A setting's value as a shell takes it, and so that its end can be told in a sentence."""
    text = shlex.quote(value)
    return f"'{text}'" if text == value and _PUNCTUATION & set(value) else text


def symbol_remedy(path: Path, several_files: bool) -> str:
    """How to give a file without a symbol column one."""
    if several_files:
        return f"set DATA_SYMBOL='{FILE}', if each file's name begins with its symbol"
    name = symbol_of_name(path)
    likely = "AAPL" if symbol_problem(name.encode()) else name
    return f"set DATA_SYMBOL={likely}, if that is the symbol of every row"


def symbol_of_name(path: Path) -> str:
    """The symbol that the name of a file begins with: BTCUSDT of btcusdt-1m-2025-01.csv.gz."""
    found = re.match(r"[A-Za-z0-9]+", path.name)
    return found[0].upper() if found else ""


def nearest_column(setting: str, name: str, found: Sequence[str]) -> str | None:
    """The column of a file that is most likely meant: by its case, a synonym, or its spelling.

    Of a member of an object in JSON, also its own name counts.
    """
    folded = {_folded(other): other for other in reversed(found)}
    inner = {_folded(other.rpartition(".")[2]): other for other in reversed(found)}
    for names in (folded, inner):
        for wanted in (name, *SYNONYMS.get(setting, ())):
            if _folded(wanted) in names:
                return names[_folded(wanted)]
    near = difflib.get_close_matches(_folded(name), folded, 1, 0.75)
    return folded[near[0]] if near else None


def _folded(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
