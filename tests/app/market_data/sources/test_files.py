"""DATA_PATH as one file, several, a folder or a pattern; the rows merged by time."""

import gzip
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config.settings import Settings
from app.gateway.process import load_data
from app.market_data.sources.errors import DataError
from app.market_data.sources.files import files_of
from app.market_data.sources.loader import READ_PERCENT, load_files, open_feed
from app.market_data.tick_table import Columns
from tests.app.market_data.sources.text.test_shapes import frames_of, mends

HEAD = "timestamp,symbol,price\n"


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)


def test_the_ways_to_name_files(tmp_path: Path) -> None:
    write(tmp_path, b_csv="", a_csv="", c_txt="")
    (tmp_path / ".hidden").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "x,y.csv").touch()
    names = {
        "a.csv": ["a.csv"],
        "b.csv, a.csv": ["b.csv", "a.csv"],
        "x,y.csv": ["x,y.csv"],
        "*.csv": ["a.csv", "b.csv", "x,y.csv"],
        "[ab].csv": ["a.csv", "b.csv"],
        "": ["a.csv", "b.csv", "c.txt", "x,y.csv"],
    }
    for spec, found in names.items():
        assert files_of(f"{tmp_path}/{spec}") == [tmp_path / name for name in found]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("*.csv", "no file has a name like this"),
        ("", "an empty folder"),
        ("none.csv", "No such file"),
        ("none.csv,other.csv", "none.csv: No such file"),
    ],
)
def test_no_file(tmp_path: Path, spec: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        load_files(f"{tmp_path}/{spec}", Columns())


TICKS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from("ABCD"), st.integers(1, 9)),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TICKS, min_size=1, max_size=4))
def test_rows_of_the_same_time_are_in_the_order_of_the_files(
    tmp_path: Path, files: list[list[tuple[int, str, int]]]
) -> None:
    names = [f"{number}.csv" for number in range(len(files))]
    everything = []
    for name, ticks in zip(names, files, strict=True):
        ticks.sort(key=lambda tick: tick[0])
        everything += ticks
        body = "".join(f"2025-10-01 09:30:{t:02},{s},{p}\n" for t, s, p in ticks)
        (tmp_path / name).write_text(HEAD + body)
    rows = load_files(f"{tmp_path}/{','.join(names)}", Columns())
    everything.sort(key=lambda tick: tick[0])
    assert frames_of(rows) == [
        f"2025-10-01 09:30:{t:02}*{s}*{p}*".encode() for t, s, p in everything
    ]
    assert [rows.symbols[index] for index in rows.symbol_index] == [s for _, s, _ in everything]
    assert (np.diff(rows.event_ns) >= 0).all()


def test_files_of_different_formats_and_sentiment_in_one(tmp_path: Path) -> None:
    write(tmp_path, a_csv="timestamp,symbol,price,sentiment\n2025-10-01,A,1,7\n2025-10-03,A,1,\n")
    (tmp_path / "b.csv.gz").write_bytes(
        gzip.compress(b"Timestamp;Symbol;Price\n2025-10-02;B;2\n2025-10-02;B;x\n")
    )
    rows = load_files(str(tmp_path), Columns(skip_bad_rows=True))
    assert frames_of(rows) == [
        b"2025-10-01 00:00:00*A*1*", b"2025-10-02 00:00:00*B*2*", b"2025-10-03 00:00:00*A*1*",
    ]  # fmt: skip
    assert rows.values is not None
    assert (rows.values.tolist(), rows.skipped) == ([7, -1, -1], 1)


def test_the_symbol_in_the_files_names(tmp_path: Path) -> None:
    write(tmp_path, **{"msft-2025_csv": "timestamp,price\n2025-10-01,2\n"})
    write(tmp_path, **{"aapl-2025_csv": "timestamp,price\n2025-10-01,1\n"})
    with pytest.raises(DataError, match="no column 'symbol'") as caught:
        load_files(f"{tmp_path}/*.csv", Columns())
    (mend,) = mends(str(caught.value))
    assert mend == {"DATA_SYMBOL": "{file}"}
    rows = load_files(f"{tmp_path}/*.csv", Columns(data_symbol=mend["DATA_SYMBOL"]))
    assert frames_of(rows) == [b"2025-10-01 00:00:00*AAPL*1*", b"2025-10-01 00:00:00*MSFT*2*"]
    (tmp_path / "_.csv").write_text("timestamp,price\n2025-10-01,2\n")
    with pytest.raises(DataError, match=r"_.csv: DATA_SYMBOL={file}: .* begins with no symbol"):
        load_files(f"{tmp_path}/_.csv", Columns(data_symbol="{file}"))


def test_progress_is_of_all_files(tmp_path: Path) -> None:
    write(tmp_path, a_csv=HEAD + "2025-10-01,A,1\n", b_csv=HEAD + "2025-10-02,A,1\n" * 9)
    seen: list[Fraction] = []
    load_files(str(tmp_path), Columns(), lambda done, total: seen.append(Fraction(done, total)))
    assert seen == sorted(seen)
    first, other = (path.stat().st_size for path in sorted(tmp_path.iterdir()))
    read = Fraction(READ_PERCENT, 100)
    assert {read * first / (first + other), read} <= set(seen)


def test_feed_and_stream_agree(tmp_path: Path) -> None:
    write(tmp_path, a_csv=HEAD + "2025-10-02,A,1\n", b_csv=HEAD + "2025-10-01,B,2\n")
    settings = Settings(data_path=str(tmp_path), replay="once")
    feed = open_feed(settings)
    assert [feed.frame(0), feed.frame(1)] == load_data(settings=settings)[0]
    assert feed.symbols == ["A", "B"]
