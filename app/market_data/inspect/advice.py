"""The settings that load a file, as a line for a shell, and on which condition they are right."""

import shlex
from typing import Final

from app.config.settings import Settings
from app.market_data.inspect.trial import Trial
from app.market_data.sources.errors import FILE
from app.market_data.sources.text.headerless import KNOWN

SETTINGS: Final = (
    "timestamp_column",
    "symbol_column",
    "price_column",
    "sentiment_column",
    "data_symbol",
    "data_header",
    "data_kind",
    "bars_as",
    "quotes_as",
    "timestamp_format",
    "data_date",
    "decimal_comma",
    "sort_rows",
    "skip_bad_rows",
)
"""Those that decide how a file is read."""
_OF_BARS_AND_QUOTES: Final = frozenset({"open", "high", "low", "close", "bid", "ask", "last"})
_OF_NO_HEADER: Final = frozenset({"price", *(known.time for known in KNOWN)})
"""What the documented files without a header are read by."""


def shell_line(trial: Trial) -> str:
    """The file and the settings that are not the default, also those that were set before."""
    values, usual = trial.settings.to_environ(), Settings().to_environ()
    names = [name.upper() for name in SETTINGS]
    needed = ["DATA_PATH"]
    needed += [name for name in names if values[name] != usual[name] or name in trial.added]
    return " ".join(f"{name}={shlex.quote(values[name])}" for name in needed)


def condition(trial: Trial, columns: str) -> str:
    """What only the user can know and the trial has assumed; empty if it has assumed nothing.

    ``columns``: the names of all columns, as they are shown.
    """
    symbol = trial.added.get("DATA_SYMBOL")
    if symbol == FILE:
        return f", if each file's name begins with its symbol{_unused(trial.settings, columns)}"
    if symbol:
        return f", if {symbol} is the symbol of every row{_unused(trial.settings, columns)}"
    if trial.added.get("DATA_KIND") == "wide":
        return ", if each column but that of the time has the prices of one symbol"
    return ""


def _unused(settings: Settings, columns: str) -> str:
    """The columns that no setting names: one of them may be that of the symbol."""
    named = [*settings.timestamp_column.split("+"), settings.timestamp_column]
    named += [settings.price_column, settings.sentiment_column]
    used = {name.casefold() for name in named} | _OF_BARS_AND_QUOTES | _OF_NO_HEADER
    left = [name for name in columns.split(", ") if name.casefold() not in used]
    return f"; columns not used: {', '.join(left)}" if left else ""
