"""Writes a recording as Parquet, in parts, so that it can be used while it grows.

``python -m app.market_data.live.parquet.parts RECORDING`` brings the folder beside the recording up
to date: full parts are written once, the last one again whenever it has grown.  A part appears
under its name when it is complete.  The gateway starts this as a process of its own.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.market_data.live.parquet.file import (
    arrow,
    names,
    prices,
    times,
    with_nulls,
    write_batches,
)
from app.market_data.live.records import NO_ID, Records
from app.market_data.live.tick_log import TickLog
from app.market_data.sources.errors import DataError
from app.market_data.storage.whole_file import remove_partial

PART_TICKS: Final = 1 << 18
BATCH_TICKS: Final = 1 << 16
_NICE: Final = 10


def parts_folder(recording: Path) -> Path:
    """The folder of the Parquet files of a recording."""
    return recording.with_suffix("")


def write_parts(recording: Path) -> list[Path]:
    """Bring the folder up to date; returns the parts that were written.

    The recording is brought to the disk before, so a power failure costs what came after.

    Raises:
        DataError: the recording is damaged.
        OSError: a part cannot be written.
    """
    log = TickLog.read(recording)
    folder, written = parts_folder(recording), []
    try:
        log.sync()
        remove_partial(folder, ".parquet")
        for number in range(-(-log.count // PART_TICKS)):
            first, end = number * PART_TICKS, min((number + 1) * PART_TICKS, log.count)
            path = folder / f"part-{number:06d}.parquet"
            mark = path.with_name(f".{path.name}.ticks")
            if path.exists() and _text(mark) == str(end - first):
                continue
            write_parquet(log, path, first, end)
            mark.write_text(str(end - first))
            written.append(path)
    finally:
        log.close()
    return written


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def write_parquet(log: TickLog, path: Path, first: int, end: int) -> None:
    """Write some ticks of a recording as one file; the same ticks are the same bytes.

    Raises:
        DataError: the recording is damaged.
        OSError: the file cannot be written.
    """
    write_batches(
        path,
        (
            _batch(log.symbols, log.ticks(at, min(at + BATCH_TICKS, end)))
            for at in range(first, max(end, first + 1), BATCH_TICKS)
        ),
    )


def _batch(symbols: list[str], ticks: Records) -> Any:
    kinds = arrow().DataType
    return arrow().RecordBatch.from_pydict(
        {
            "timestamp": times(ticks["event_ns"]),
            "symbol": names(symbols, ticks["symbol"]),
            "price": prices(ticks["price"]),
            "quantity": with_nulls(ticks["qty"], np.isnan(ticks["qty"]), kinds.float64()),
            "trade_id": with_nulls(ticks["trade_id"], ticks["trade_id"] == NO_ID, kinds.int64()),
            "exchange_time": times(ticks["exchange_ns"]),
            "receive_time": times(ticks["receive_ns"]),
        }
    )


def main() -> int:
    """Exit code 0: up to date, 1: not; the reason is on standard error."""
    os.nice(_NICE)
    try:
        write_parts(Path(sys.argv[1]))
    except (DataError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
