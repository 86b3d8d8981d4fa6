"""Which columns of a file hold a tick; by the same rules as in a text file."""

from dataclasses import dataclass
from pathlib import Path

from app.market_data.sources.errors import DataError
from app.market_data.sources.text.layout import Header, layout_of, sentiment_layout_of
from app.market_data.tick_table import Columns


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of columns.  ``values``: one column, four of a bar, or two of a quote.

    ``symbol``: None if every row has the symbol ``DATA_SYMBOL``.  ``form``: what a row is.
    """

    timestamp: str
    symbol: str | None
    values: tuple[str, ...]
    sentiment: str | None = None
    form: str = "ticks"


def find_layout(path: Path, names: list[str], columns: Columns, prices: bool) -> Layout:
    """The layout of a file with prices, or of one with sentiments.

    Raises:
        DataError: columns are missing; the message has the settings that mend it.
    """
    if prices and columns.data_kind == "wide":
        raise DataError(
            f"{path}: DATA_KIND=wide: a column for each symbol is read from text files only: write "
            "a row for each price, as pandas' melt() makes them"
        )
    find = layout_of if prices else sentiment_layout_of
    found = find(path, Header(path, names), columns, b"", (0, 0))
    if len(found.time) > 1:
        raise DataError(
            f"{path}: TIMESTAMP_COLUMN={found.time_name}: date and time in two columns are read "
            "from text files only: write one column of timestamps"
        )
    return Layout(
        names[found.time[0]],
        None if found.symbol is None else names[found.symbol],
        tuple(names[column] for column in found.groups[0].values),
        None if found.sentiment is None else names[found.sentiment],
        found.form if found.form != "value" else found.kind,
    )
