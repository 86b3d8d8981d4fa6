"""The input and the result of every source: how to read a file, and its usable rows."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from app.market_data.ragged import Ints
from app.market_data.storage.place import Storage

Values = npt.NDArray[np.int16]
SymbolIndex = npt.NDArray[np.int32]
NO_VALUE: Final = -1
"""Value in :attr:`Rows.values` for an empty sentiment field."""


@dataclass(slots=True)
class Rows:
    """The usable rows of one file.

    Row ``i`` is the frame ``frames[offsets[i]:offsets[i + 1]]``; ``event_ns``, ``symbol_index`` and
    ``values`` (the sentiment, or None if the file has no such column) have the shape ``(rows,)``,
    ``offsets`` the shape ``(rows + 1,)``.  ``skipped``: malformed rows left out.
    ``in_order``: False where the rows may be in another order than that of time.  All of it may be
    in mapped files: walk through it with :func:`app.market_data.storage.pieces.pieces`.
    """

    frames: bytes | bytearray | memoryview
    offsets: Ints
    event_ns: Ints
    symbol_index: SymbolIndex
    values: Values | None
    symbols: list[str]
    skipped: int = 0
    in_order: bool = True

    def __len__(self) -> int:
        return len(self.event_ns)

    def frame(self, row: int) -> bytes:
        """One frame: ``timestamp*symbol*value*``."""
        return bytes(self.frames[self.offsets[row] : self.offsets[row + 1]])


@dataclass(frozen=True, slots=True)
class Columns:
    """How to read a file; each field is the setting of that name, except for the first six.

    ``timestamp`` to ``sentiment``: names of columns.  ``data_symbol``: the symbol of a file without
    such a column.  ``data_header``: names of the columns of a file without a header.  ``data_date``
    and ``timestamp_format``: see :mod:`app.market_data.sources.timestamp_texts`.
    ``several_files``: whether other files are read in the same way.  ``storage``: where rows go.
    """

    timestamp: str = "timestamp"
    symbol: str = "symbol"
    price: str = "price"
    sentiment: str = "sentiment"
    sort_rows: bool = False
    skip_bad_rows: bool = False
    data_symbol: str = ""
    data_header: str = ""
    data_kind: str = "auto"
    bars_as: str = "close"
    quotes_as: str = "mid"
    timestamp_format: str = ""
    data_date: str = ""
    decimal_comma: bool = False
    several_files: bool = False
    storage: Storage = field(default_factory=Storage)


SENTIMENT_MAX: Final = 100
