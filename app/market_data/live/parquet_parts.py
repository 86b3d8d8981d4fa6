"""Writes a recording as Parquet, in parts, so that it can be used while it grows.

``python -m app.market_data.live.parquet_parts RECORDING`` brings the folder beside the recording up
to date: full parts are written once, the last one again whenever it has grown.  A part appears
under its name when it is complete.  The gateway starts this as a process of its own.
"""

import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.market_data.frame_encoder import decimals_of
from app.market_data.live.records import NO_ID, Records
from app.market_data.live.tick_log import TickLog
from app.market_data.ragged import Ints
from app.market_data.sources.errors import DataError
from app.model.money import DECIMALS_MAX

PART_TICKS: Final = 1 << 18
BATCH_TICKS: Final = 1 << 16
_DIGITS: Final = 19
_NICE: Final = 10


def parts_folder(recording: Path) -> Path:
    """The folder of the Parquet files of a recording."""
    return recording.with_suffix("")


def write_parts(recording: Path) -> list[Path]:
    """Bring the folder up to date; returns the parts that were written.

    Raises:
        DataError: the recording is damaged.
        OSError: a part cannot be written.
    """
    log = TickLog.read(recording)
    folder, written = parts_folder(recording), []
    try:
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
    # Only who writes Parquet needs the library.
    core, files = importlib.import_module("arro3.core"), importlib.import_module("arro3.io")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    batches = (
        _batch(core, log.symbols, log.ticks(at, min(at + BATCH_TICKS, end)))
        for at in range(first, max(end, first + 1), BATCH_TICKS)
    )
    head = next(batches)
    try:
        with partial.open("xb") as file:
            reader = core.RecordBatchReader.from_batches(head.schema, _chain(head, batches))
            files.write_parquet(reader, file, compression="zstd(3)")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _chain(head: Any, rest: Any) -> Any:
    yield head
    yield from rest


def _batch(core: Any, symbols: list[str], ticks: Records) -> Any:
    kinds = core.DataType
    names = core.Array(symbols, kinds.string())
    place = core.Array.from_numpy(np.ascontiguousarray(ticks["symbol"]))
    time_kind = kinds.timestamp("ns", tz="UTC")

    def time(name: str) -> Any:
        return core.Array.from_numpy(np.ascontiguousarray(ticks[name])).cast(time_kind)

    return core.RecordBatch.from_pydict(
        {
            "timestamp": time("event_ns"),
            "symbol": names.take(place),
            "price": _prices(core, np.ascontiguousarray(ticks["price"])),
            "quantity": _with_nulls(core, ticks["qty"], np.isnan(ticks["qty"]), kinds.float64()),
            "trade_id": _with_nulls(
                core, ticks["trade_id"], ticks["trade_id"] == NO_ID, kinds.int64()
            ),
            "exchange_time": time("exchange_ns"),
            "receive_time": time("receive_ns"),
        }
    )


def _prices(core: Any, units: Ints) -> Any:
    """Exact decimals; each price is written as text once."""
    different = np.unique(units)
    place = np.searchsorted(different, units)
    fields = decimals_of(different, np.full(len(different), DECIMALS_MAX, np.int64))
    data = fields.data.tobytes()
    texts = [
        data[start : start + length].decode()
        for start, length in zip(fields.starts.tolist(), fields.lengths.tolist(), strict=True)
    ]
    kind = core.DataType.decimal128(_DIGITS, DECIMALS_MAX)
    array = core.Array(texts, core.DataType.string()).cast(kind)
    return array.take(core.Array.from_numpy(place.astype(np.int64)))


def _with_nulls(core: Any, values: Any, absent: Any, kind: Any) -> Any:
    if not absent.any():
        return core.Array.from_numpy(np.ascontiguousarray(values))
    pairs = zip(absent.tolist(), values.tolist(), strict=True)
    plain = [None if gone else value for gone, value in pairs]
    return core.Array(plain, kind)


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
