"""Writes the example files of this folder: the sixty prices of ``data/examples`` in binary formats.

It needs pyarrow and databento-dbn, which ``make setup`` installs.
Usage: ``python data/examples_binary/make_examples.py [FOLDER]``
"""

import runpy
import sys
from datetime import UTC, date, timedelta
from pathlib import Path
from types import SimpleNamespace

import databento_dbn as dbn
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as parquet
from backports import zstd

HERE = Path(__file__).parent
TICKS = runpy.run_path(str(HERE.parent / "examples" / "make_examples.py"))["ticks"]()
TIMES = [tick.time.replace(tzinfo=UTC) for tick in TICKS]
CENTS = [tick.cents for tick in TICKS]
DAY = date(2025, 10, 1)
CENT = 10**7
"""Databento's prices are integers of 1e-9."""


def prices(shift: int = 0) -> list[float]:
    """All prices, some cents higher."""
    return [(cents + shift) / 100 for cents in CENTS]


def tables(folder: Path) -> None:
    """Parquet and Arrow."""
    times = pa.array(TIMES, pa.timestamp("us", "UTC"))
    symbols = pa.array(["AAPL"] * len(TICKS))
    ticks = {"timestamp": times, "symbol": symbols.dictionary_encode(), "price": prices()}
    parquet.write_table(pa.table(ticks), folder / "ticks.parquet", compression="zstd")
    named = pa.table({"when": times, "ticker": symbols, "last": prices(), "size": [1] * len(TICKS)})
    with pa.ipc.new_file(folder / "other_names.arrow", named.schema) as file:
        file.write_table(named)
    bars = {"Date": times, "Open": prices(2), "High": prices(5), "Low": prices(-5)}
    bars |= {"Close": prices(), "Volume": [100] * len(TICKS)}
    parquet.write_table(pa.table(bars), folder / "bars.parquet", compression="zstd")
    quotes = {"timestamp": times, "symbol": symbols, "bid": prices(-1), "ask": prices(1)}
    wide = {"Date": times, "AAPL": prices(), "MSFT": pa.nulls(len(TICKS), pa.float64())}
    parquet.write_table(pa.table(wide), folder / "wide.parquet", compression="zstd")
    feather.write_feather(pa.table(quotes), folder / "quotes.feather", compression="lz4")


def metadata(schema: dbn.Schema) -> bytes:
    """The head of a DBN file, where AAPL is instrument 38."""
    interval = SimpleNamespace(start_date=DAY, end_date=DAY + timedelta(1), symbol="38")
    mapping = SimpleNamespace(raw_symbol="AAPL", intervals=[interval])
    start = int(TIMES[0].timestamp()) * 10**9
    kinds = (dbn.SType.RAW_SYMBOL, dbn.SType.INSTRUMENT_ID)
    return bytes(
        dbn.Metadata("XNAS.ITCH", start, *kinds, schema, symbols=["AAPL"], mappings=[mapping])
    )


def records(folder: Path) -> None:
    """Databento: trades, quotes of which every one is a trade as well, bars."""
    trades, quotes, bars = b"", b"", b""
    side, action = dbn.Side.BID, dbn.Action.TRADE
    for time, cents in zip(TIMES, CENTS, strict=True):
        at = int(time.timestamp()) * 10**9
        trades += bytes(dbn.TradeMsg(2, 38, at, cents * CENT, 1, action, side, 0, at))
        level = dbn.BidAskPair((cents - 1) * CENT, (cents + 1) * CENT, 1, 1, 1, 1)
        quotes += bytes(dbn.MBP1Msg(2, 38, at, cents * CENT, 1, action, side, 0, at, levels=level))
        bar = [(cents + shift) * CENT for shift in (2, 5, -5, 0)]
        bars += bytes(dbn.OHLCVMsg(33, 2, 38, at, *bar, 100))
    for name, schema, data in (
        ("trades", dbn.Schema.TRADES, trades),
        ("mbp-1", dbn.Schema.MBP_1, quotes),
        ("ohlcv-1m", dbn.Schema.OHLCV_1M, bars),
    ):
        (folder / f"{name}.dbn.zst").write_bytes(zstd.compress(metadata(schema) + data))


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    tables(folder)
    records(folder)


if __name__ == "__main__":
    main()
