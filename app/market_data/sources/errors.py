"""Errors in a data file: which rows and lines, and how to accept them."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SHOWN_ROWS: Final = 10
SHOWN_BYTES: Final = 40


class DataError(Exception):
    """A data file cannot be replayed; the message names file, line, value and reason."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an error while reading ``path`` into a DataError."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


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

    def reject(self) -> None:
        """Reject the file if there are such rows.

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
        raise DataError("\n".join([f"{self.path}: {rows}; {self.advice}", *lines]))
