"""Writes tables of NumPy columns as Parquet files."""

from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.backtest.results.tables import Table

COMPRESSION: Final = "zstd(3)"


class PackageMissing(Exception):
    """What was asked for needs a package that is not installed."""


def write_table(path: Path, table: Table, facts: dict[str, str]) -> None:
    """Write one file: times as timestamp[ns, UTC], nan as null; ``facts``: the file's metadata.

    Raises:
        PackageMissing: arro3 is not installed.
        OSError: the file cannot be written.
    """
    try:
        core: Any = import_module("arro3.core")
        io: Any = import_module("arro3.io")
    except ImportError:
        raise PackageMissing("Parquet needs arro3: pip install arro3-io") from None
    columns = {name: _array(core, values) for name, values in table.items()}
    with path.open("wb") as file:
        io.write_parquet(
            core.Table.from_pydict(columns),
            file,
            compression=COMPRESSION,
            key_value_metadata=facts,
        )


def _array(core: Any, values: npt.NDArray[Any]) -> Any:
    kind = values.dtype.kind
    if kind == "O":
        return core.Array(values.tolist(), type=core.DataType.string())
    if kind == "M" and values.dtype == np.dtype("datetime64[D]"):
        days = core.Array.from_numpy(values.astype(np.int64).astype(np.int32))
        return days.cast(core.DataType.date32())
    if kind == "M":
        whole = core.Array.from_numpy(values.astype("datetime64[ns]").astype(np.int64))
        return whole.cast(core.DataType.timestamp("ns", tz="UTC"))
    if kind == "f" and np.isnan(values).any():
        numbers = [None if value != value else value for value in values.tolist()]
        return core.Array(numbers, type=core.DataType.float64())
    return core.Array.from_numpy(np.ascontiguousarray(values))
