"""The interface of a file format: one file in this folder and one row in ``loader.SOURCES``."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from app.market_data.tick_table import Columns, Rows

HEAD_BYTES: Final = 1 << 18
"""How much of a file a source gets to recognize its format: a whole block of zstd, and more."""

ReadProgress = Callable[[int, int], None]
"""Called with the bytes read so far and the bytes of the file."""


class Source(Protocol):
    """A file format; a module with these functions is a source."""

    def matches(self, head: bytes) -> bool:
        """Whether a file that starts with ``head``, as stored, has this format."""

    def describe(self, path: Path, columns: Columns) -> list[tuple[str, str]]:
        """What the file is, as labels and texts for a user.

        Raises:
            DataError: it cannot be loaded.
        """

    def load_prices(
        self, path: Path, columns: Columns, progress: ReadProgress | None = None
    ) -> Rows:
        """Load timestamp, symbol, price and, if the file has it, sentiment.

        Raises:
            DataError: with every reason why this file cannot be replayed.
        """

    def load_sentiments(
        self, path: Path, columns: Columns, progress: ReadProgress | None = None
    ) -> Rows:
        """Load timestamp, symbol and sentiment.

        Raises:
            DataError: with every reason why this file cannot be used.
        """
