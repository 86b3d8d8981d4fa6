"""Parquet and Arrow tables with a column for each symbol: the same ticks as their text file."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config.settings import Settings
from app.market_data.inspect.trial import try_to_load
from app.market_data.sources.columnar.decoder import BATCH_ROWS
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import load_prices
from app.market_data.tick_table import Columns
from tests.app.market_data.sources.columnar.test_files import WRITERS, as_parquet, plain

NAN = float("nan")
DATES = pd.DatetimeIndex(["2025-10-01", "2025-10-02", "2025-10-03"], name="Date")
TABLE = pd.DataFrame(
    {
        "AAPL": [173.2, 174.1, np.nan],
        "BRK.B": [np.nan, 500.0, np.nan],
        "MSFT": [402.1, np.nan, 1.5],
    },
    index=DATES,
)
WIDE = Columns(data_kind="wide")
TICKS = [
    (b"2025-10-01 00:00:00", b"AAPL", b"173.2"),
    (b"2025-10-01 00:00:00", b"MSFT", b"402.1"),
    (b"2025-10-02 00:00:00", b"AAPL", b"174.1"),
    (b"2025-10-02 00:00:00", b"BRK.B", b"500"),
    (b"2025-10-03 00:00:00", b"MSFT", b"1.5"),
]  # fmt: skip


def saved(folder: Path, table: Any, writer: Any = as_parquet) -> Path:
    path = folder / "wide.bin"
    with path.open("wb") as file:
        writer(table, file)
    return path


@pytest.mark.parametrize("writer", WRITERS)
def test_each_further_column_is_a_symbol(tmp_path: Path, writer: Any) -> None:
    path = saved(tmp_path, pa.Table.from_pandas(TABLE), writer)
    assert plain(load_prices(path, WIDE)) == TICKS


def test_nulls_nans_and_empty_texts_are_no_ticks(tmp_path: Path) -> None:
    columns = {
        "Date": pa.array(DATES),
        "AAPL": pa.array(TABLE["AAPL"].to_numpy()),  # with a NaN in it, no null
        "BRK.B": pa.array(["", "500", None]),
        "MSFT": pa.array([402.1, None, 1.5]),
        "GONE": pa.nulls(3),
    }
    assert plain(load_prices(saved(tmp_path, pa.table(columns)), WIDE)) == TICKS


def test_an_index_without_a_name_is_the_time(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    TABLE.rename_axis(None).to_parquet(path)
    trial = try_to_load(Settings(data_path=str(path)))
    assert trial.rows is not None
    assert plain(trial.rows) == TICKS
    assert trial.added == {"TIMESTAMP_COLUMN": "__index_level_0__", "DATA_KIND": "wide"}


def test_a_wrong_price_takes_its_row_along(tmp_path: Path) -> None:
    table = pa.table({"Date": pa.array(DATES), "A": [1.0, -1.0, 3.0], "B": [4.0] * 3})
    path = saved(tmp_path, table)
    with pytest.raises(DataError, match=r"2: A='-1\.0': not positive"):
        load_prices(path, WIDE)
    rows = load_prices(path, Columns(data_kind="wide", skip_bad_rows=True))
    assert [tick[1:] for tick in plain(rows)] == [
        (b"A", b"1"), (b"B", b"4"), (b"A", b"3"), (b"B", b"4"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (
            {"Date": DATES, "x y": [1.0] * 3},
            "DATA_KIND=wide: column 'x y': symbol with",
        ),
        ({"Date": DATES}, "DATA_KIND=wide: no column besides the timestamp's"),
        ({"Date": DATES, "A": [True] * 3}, "column 'A' is of type Boolean, not a number"),
    ],
)
def test_what_is_refused(tmp_path: Path, columns: dict[str, Any], reason: str) -> None:
    path = saved(tmp_path, pa.table({name: pa.array(values) for name, values in columns.items()}))
    with pytest.raises(DataError, match=reason):
        load_prices(path, WIDE)


def test_many_symbols_and_rows_fit_into_the_decoder(tmp_path: Path) -> None:
    rows, symbols = 3000, 400
    assert rows * symbols > 10 * BATCH_ROWS
    prices = np.round(np.random.default_rng(1).uniform(1, 1000, (rows, symbols)), 2)
    table = {"Date": pa.array(np.datetime64("2025-10-01T00:00:00") + np.arange(rows))}
    table |= {f"S{at}": pa.array(prices[:, at]) for at in range(symbols)}
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(pa.table(table), path)
    found = load_prices(path, WIDE)
    assert len(found) == rows * symbols
    assert found.symbols == [f"S{at}" for at in range(symbols)]
    for row in (0, 12_345, rows * symbols - 1):
        assert float(found.frame(row).split(b"*")[2]) == prices.flat[row]


FIXTURE = HealthCheck.function_scoped_fixture
PRICES = st.none() | st.integers(1, 10**9).map(lambda thousandths: thousandths / 1000)
ROWS = st.lists(st.tuples(PRICES, PRICES, PRICES), min_size=1, max_size=12)


@settings(deadline=None, max_examples=10, suppress_health_check=[FIXTURE])
@given(ROWS.filter(lambda table: any(map(any, table))))
def test_the_text_file_has_the_same_ticks(
    tmp_path: Path, table: list[tuple[float | None, ...]]
) -> None:
    frame = pd.DataFrame(table, columns=["A", "B", "C"], dtype=float)
    frame.index = pd.date_range("2025-10-01", periods=len(table), freq="h", name="Date")
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv")
    ours = load_prices(tmp_path / "a.parquet", WIDE)
    assert plain(ours) == plain(load_prices(tmp_path / "a.csv", WIDE))
