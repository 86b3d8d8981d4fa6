"""Which columns of a file hold a tick; by the same rules as in a text file."""

from dataclasses import dataclass
from pathlib import Path

from app.market_data.sources.text.layout import Header, layout_of, sentiment_layout_of
from app.market_data.sources.text.wide import one_row_layout
from app.market_data.tick_table import Columns


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of columns.  ``timestamp``: one column, or date and time of day.

    ``values``: one column, four of a bar, two of a quote, or one for each of ``symbols``: then a
    row need not have all of them.  ``symbol``: None if the rows do not name it; without ``symbols``
    it is ``DATA_SYMBOL``.  ``form``: what a row is.
    """

    timestamp: tuple[str, ...]
    symbol: str | None
    values: tuple[str, ...]
    sentiment: str | None = None
    form: str = "ticks"
    symbols: tuple[bytes, ...] = ()


def find_layout(path: Path, names: list[str], columns: Columns, prices: bool) -> Layout:
    """The layout of a file with prices, or of one with sentiments.

    Raises:
        DataError: columns are missing; the message has the settings that mend it.
    """
    wide = prices and columns.data_kind == "wide"
    find = one_row_layout if wide else layout_of if prices else sentiment_layout_of
    found = find(path, Header(path, names), columns, b"", (0, 0))
    return Layout(
        tuple(names[column] for column in found.time),
        None if found.symbol is None else names[found.symbol],
        tuple(names[column] for group in found.groups for column in group.values),
        None if found.sentiment is None else names[found.sentiment],
        found.form if found.form != "value" else found.kind,
        tuple(group.symbol or b"" for group in found.groups) if wide else (),
    )
