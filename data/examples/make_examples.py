"""Writes the example files of this folder: the same sixty prices in every shape that loads.

The prices are invented.  Usage: ``python data/examples/make_examples.py [FOLDER]``
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile, ZipInfo

START = datetime(2025, 10, 1, 9, 30)
MINUTES = 60


class Tick(NamedTuple):
    """One price, in hundredths, and its minute."""

    time: datetime
    cents: int


def ticks() -> list[Tick]:
    """Prices that turn every seven minutes, so that averages cross."""
    found, cents = [], 17320
    for minute in range(MINUTES):
        cents += (1 if minute // 7 % 2 else -1) * (7 + minute * minute % 5)
        found.append(Tick(START + timedelta(minutes=minute), cents))
    return found


def price(cents: int) -> str:
    """173.20"""
    return f"{cents // 100}.{cents % 100:02}"


def lines(form: str) -> Iterator[str]:
    """The rows of a form; ``form`` has the names below in braces."""
    for tick in ticks():
        epoch_us = int(tick.time.replace(tzinfo=UTC).timestamp() * 10**6)
        yield form.format(
            time=tick.time,
            us=epoch_us,
            ms=epoch_us // 1000,
            end_us=epoch_us + 59_999_999,
            end_ms=epoch_us // 1000 + 59_999,
            day_ms=(tick.time.hour * 60 + tick.time.minute) * 60_000,
            price=price(tick.cents),
            comma=price(tick.cents).replace(".", ","),
            open=price(tick.cents + 2),
            high=price(tick.cents + 5),
            low=price(tick.cents - 5),
            bid=price(tick.cents - 1),
            ask=price(tick.cents + 1),
            id=tick.time.minute + 1000,
        )


FILES = {
    "ticks.csv": ("timestamp,symbol,price", "{time},AAPL,{price}"),
    "semicolons.csv": ("Timestamp;Symbol;Price", "{time};AAPL;{price}"),
    "other_names.csv": ("when,ticker,last,note", "{time},AAPL,{price},x"),
    "one_symbol.csv": ("timestamp,price", "{time},{price}"),
    "decimal_comma.csv": ("Datum;Symbol;Kurs", "{time:%d.%m.%Y %H:%M};AAPL;{comma}"),
    "us_dates.csv": ("timestamp,symbol,price", "{time:%m/%d/%Y %I:%M %p},AAPL,{price}"),
    "date_and_time.csv": ("date,time,symbol,price", "{time:%Y-%m-%d},{time:%H:%M:%S},AAPL,{price}"),
    "milliseconds.csv": ("timestamp,symbol,price", "{day_ms},AAPL,{price}"),
    "bars.csv": ("Date,Open,High,Low,Close,Volume", "{time},{open},{high},{low},{price},100"),
    "quotes.csv": ("timestamp,symbol,bid,ask", "{time},AAPL,{bid},{ask}"),
    "lines.jsonl": (
        "",
        '{{"time": {ms}, "trade": {{"symbol": "AAPL", "price": "{price}", "size": 100}}}}',
    ),
    "wide.csv": ("Date,AAPL,MSFT", "{time},{price},"),
    "no_header.csv": ("", "{time:%Y%m%d %H%M%S};{price};100"),
    "binance_klines.csv": (
        "",
        "{us},{open},{high},{low},{price},9.5,{end_us},1640.1,12,4.1,700.5,0",
    ),
    "binance_aggtrades.csv": ("", "{id},{price},0.5,{id},{id},{us},True,True"),
    "binance_trades.csv": ("", "{id},{price},0.5,86.50,{ms},false,true"),
    "yfinance.csv": (
        "Price,Close,High,Low,Open,Volume\nTicker,AAPL,AAPL,AAPL,AAPL,AAPL\nDatetime,,,,,",
        "{time}+00:00,{price},{high},{low},{open},100",
    ),
}
"""Name -> header and form of a row."""


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, (header, form) in FILES.items():
        rows = [header, *lines(form)] if header else [*lines(form)]
        (folder / name).write_text("\n".join([*rows, ""]))
    form = '{{"timestamp": "{time}", "symbol": "AAPL", "price": {price}}}'
    (folder / "array.json").write_text("[{}]\n".format(",\n ".join(lines(form))))
    form = '[{ms},"{open}","{high}","{low}","{price}","9.5",{end_ms},"1640.1",12,"4.1","700.5","0"]'
    (folder / "binance_rest_klines.json").write_text("[{}]\n".format(",".join(lines(form))))
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    header, form = FILES["one_symbol.csv"]
    rows, half = [*lines(form)], MINUTES // 2
    for number, some in ((1, rows[:half]), (2, rows[half:])):
        (parts / f"aapl-{number}.csv").write_text("\n".join([header, *some, ""]))
    with ZipFile(folder / "parts.zip", "w") as archive:
        for path in sorted(parts.iterdir()):
            # The time of day would make each file another one.
            archive.writestr(ZipInfo(path.name, (2025, 10, 1, 0, 0, 0)), path.read_bytes())


if __name__ == "__main__":
    main()
