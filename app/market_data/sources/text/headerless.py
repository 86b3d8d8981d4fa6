"""Files without a header: those whose columns are documented, and a guess for the others.

Binance's columns: https://github.com/binance/binance-public-data, where times are microseconds
from 2025 on in spot files, and milliseconds before and elsewhere.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.market_data.sources.errors import DataError, printable, symbol_remedy
from app.market_data.sources.timestamp_texts import TimestampReader, likely_forms
from app.model.symbols import symbol_problem, without_padding

_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_TIME_OF_DAY: Final = re.compile(r"\d\d?:\d\d(?::\d\d(?:\.\d{1,9})?)?")
_KINDS: Final = {
    "id": re.compile(r"\d+"),
    "number": re.compile(r"\d+(?:\.\d+)?(?:[eE]-?\d+)?"),
    "time": re.compile(r"\d{13}|\d{16}"),
    "flag": re.compile(r"true|false", re.IGNORECASE),
}


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A documented file without a header: what it is called, and its columns and their kinds."""

    title: str
    time: str
    columns: dict[str, str]

    def matches(self, fields: Sequence[str]) -> bool:
        """Whether a row may be from such a file."""
        kinds = self.columns.values()
        return len(fields) == len(self.columns) and all(
            _KINDS[kind].fullmatch(text) for text, kind in zip(fields, kinds, strict=True)
        )


_KLINE: Final = {
    "open_time": "time", "open": "number", "high": "number", "low": "number", "close": "number",
    "volume": "number", "close_time": "time", "quote_volume": "number", "count": "id",
    "taker_buy_volume": "number", "taker_buy_quote_volume": "number", "ignore": "number",
}  # fmt: skip
_AGGREGATE: Final = {
    "agg_trade_id": "id", "price": "number", "quantity": "number", "first_trade_id": "id",
    "last_trade_id": "id", "transact_time": "time", "is_buyer_maker": "flag",
}  # fmt: skip
_TRADE: Final = {
    "id": "id", "price": "number", "qty": "number", "quote_qty": "number", "time": "time",
    "is_buyer_maker": "flag",
}  # fmt: skip
_SPOT: Final = {"is_best_match": "flag"}
"""The last column of spot files, which files of futures lack."""

KNOWN: Final = (
    KnownFile("Binance klines", "open_time", _KLINE),
    KnownFile("Binance aggTrades", "transact_time", _AGGREGATE | _SPOT),
    KnownFile("Binance aggTrades", "transact_time", _AGGREGATE),
    KnownFile("Binance trades", "time", _TRADE | _SPOT),
    KnownFile("Binance trades", "time", _TRADE),
)


def is_row(fields: Sequence[str]) -> bool:
    """Whether the first line of a file is a row: no column is called like a number or a time."""
    return any(_NUMBER.fullmatch(field) or _is_time(field) for field in fields)


def known_file(fields: Sequence[str]) -> KnownFile | None:
    """The documented file that begins with this row."""
    return next((known for known in KNOWN if known.matches(fields)), None)


def no_header(
    path: Path, fields: Sequence[str], line: bytes, several_files: bool = False
) -> DataError:
    """The error for a file of unknown columns, with the settings that may name them."""
    names = likely_names(fields)
    remedies = [f"set DATA_HEADER='{','.join(names)}'"]
    if "date" in names:
        remedies.append("set TIMESTAMP_COLUMN=date+time")
    if "symbol" not in names:
        remedies.append(symbol_remedy(path, several_files))
    shown = printable(line.rstrip(b"\r\n"))
    return DataError(f"{path}: no header; the first line is {shown}: {', '.join(remedies)}")


def _is_time(field: str) -> bool:
    if likely_forms(field.encode()):
        return True
    try:
        TimestampReader().one(field.encode())
    except ValueError:
        return False
    return True


def likely_names(fields: Sequence[str]) -> list[str]:
    """Names for the columns of a row, guessed from its fields."""
    names = [f"column_{number}" for number in range(1, len(fields) + 1)]
    time = next((at for at, field in enumerate(fields) if _is_time(field)), None)
    if time is not None:
        names[time] = "timestamp"
        if time + 1 < len(fields) and _TIME_OF_DAY.fullmatch(fields[time + 1]):
            names[time : time + 2] = "date", "time"
    symbol = next(
        (
            at
            for at, field in enumerate(fields)
            if names[at].startswith("column_")
            and re.search("[A-Za-z]", field)
            and not _KINDS["flag"].fullmatch(field)
            and symbol_problem(without_padding(field.encode())) is None
        ),
        None,
    )
    if symbol is not None:
        names[symbol] = "symbol"
    numbers = [
        at
        for at, field in enumerate(fields)
        if names[at].startswith("column_") and _NUMBER.fullmatch(field)
    ]
    four = [float(fields[at]) for at in numbers[:4]]
    if len(four) == 4 and four[1] == max(four) and four[2] == min(four) > 0:
        for at, name in zip(numbers, ("open", "high", "low", "close"), strict=False):
            names[at] = name
    elif numbers:
        names[numbers[0]] = "price"
    return names
