"""How much of a large file is resident, in a gateway that sends all of it and in a backtest."""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.feed_helpers import make_settings
from tests.support.large.replays import in_backtest, in_gateway

files = pytest.importorskip("tests.support.large.files", reason="needs pyarrow")

MB: Final = 1 << 20
GB: Final = 1 << 30

Environ = Callable[..., dict[str, str]]


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[Environ]:
    name = f"resident_test_{uuid.uuid4().hex}"

    def of(**changes: object) -> dict[str, str]:
        fixed = {"log_level": "INFO", "shm_metrics": name, "output_dir": str(tmp_path / "out")}
        return os.environ | make_settings(**(fixed | changes)).to_environ()

    yield of
    for segment in Path("/dev/shm").glob(f"{name}*"):
        segment.unlink(missing_ok=True)


@pytest.mark.medium
@pytest.mark.parametrize("sentiment", [False, True])
def test_of_three_million_rows(tmp_path: Path, environ: Environ, sentiment: bool) -> None:
    """As arrays they take 300 MB while they load, and with a sentiment in each row 600 MB."""
    path = tmp_path / "big.csv"
    count = files.write_csv(path, 120 * MB, sentiment)
    changes = environ(data_path=str(path), data_memory_bytes_max=16 * MB)
    sent, tested = in_gateway(changes), in_backtest(changes, tmp_path)
    assert sent.ticks == tested.ticks == count
    assert sent.size_bytes > 30 * count, "whole frames"
    assert 0 < sent.peak_bytes < 220 * MB
    assert 0 < tested.peak_bytes < 220 * MB


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_of_a_file_of_a_gigabyte(tmp_path: Path, environ: Environ, form: str) -> None:
    """With the default settings: far less than the file."""
    needed = 10 * GB if form == "parquet" else 5 * GB
    if shutil.disk_usage(tmp_path).free < needed:
        pytest.skip(f"needs {needed // GB} GB of disk for the file and its rows")
    path = tmp_path / f"big.{form}"
    try:
        count = getattr(files, f"write_{form}")(path, GB)
        assert path.stat().st_size >= GB
        changes = environ(data_path=str(path))
        sent, tested = in_gateway(changes), in_backtest(changes, tmp_path)
        assert sent.ticks == tested.ticks == count
        assert sent.peak_bytes < 400 * MB
        assert tested.peak_bytes < 400 * MB
    finally:
        path.unlink()
