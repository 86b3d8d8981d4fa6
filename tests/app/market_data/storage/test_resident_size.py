"""How much of a large file is resident, in a gateway that sends all of it and in a backtest.

Measured is VmHWM: the highest resident size of the process, with every page of a file that is
mapped, although the kernel could take those at any time.
"""

import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.feed_helpers import WireClient, make_settings
from tests.support.paths import ROOT

big_files = pytest.importorskip("tests.support.big_files", reason="needs pyarrow")

MB: Final = 1 << 20
GB: Final = 1 << 30
STRATEGY: Final = """
import numpy as np
from app.strategy.base import Strategy

class Seldom(Strategy):
    def on_batch(self, ticks):
        turn = ticks["seq"] // 50_000 % 2 * 2 - 1
        return np.where(ticks["seq"] % 50_000 == 0, turn, 0).astype(np.int8)
"""

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


def peak_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def drain(port: int, count: int) -> tuple[int, bytes]:
    """Read ticks to the end of the run; returns how many bytes, and the last of them."""
    buffer = bytearray(4 * MB)
    size, tail = 0, b""
    with WireClient(port, b"RESUME|0*") as client:
        while got := client.socket.recv_into(buffer):
            size += got
            tail = (tail + buffer[max(0, got - 200) : got])[-200:]
    assert tail.endswith(b"END|%d*" % count)
    return size, tail


def gateway_peak(environ: dict[str, str], count: int, wait_s: float) -> int:
    """The highest resident size of a gateway that loads a file and sends it."""
    child = subprocess.Popen(
        [sys.executable, "-m", "app.gateway"],
        cwd=ROOT,
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stderr is not None
        lines = []
        for line in child.stderr:
            lines.append(line)
            if found := re.search(r" ready price_port=(\d+) .* ticks_in_file=(\d+)", line):
                break
        else:
            raise AssertionError("".join(lines))
        assert int(found[2]) == count
        size, _ = drain(int(found[1]), count)
        assert size > 30 * count, "whole frames of every tick"
        return peak_bytes(child.pid)
    finally:
        child.terminate()
        child.communicate(timeout=wait_s)


def backtest_peak(environ: dict[str, str], folder: Path) -> int:
    """The highest resident size of a backtest, told by the system when it ends."""
    (folder / "seldom.py").write_text(STRATEGY)
    command = [sys.executable, "-m", "app", "backtest", "--no-plot"]
    command += ["--strategy", f"{folder / 'seldom.py'}:Seldom"]
    with (folder / "said").open("w") as said:
        child = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=said, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, (folder / "said").read_text()
    return usage.ru_maxrss * 1024


@pytest.mark.medium
@pytest.mark.parametrize("sentiment", [False, True])
def test_of_three_million_rows(tmp_path: Path, environ: Environ, sentiment: bool) -> None:
    """They take 290 MB as arrays while they load, and a sentiment of each row 230 MB more."""
    path = tmp_path / "big.csv"
    count = big_files.write_csv(path, 120 * MB, sentiment)
    changes = environ(data_path=str(path), data_memory_bytes_max=16 * MB)
    assert gateway_peak(changes, count, 30) < 220 * MB
    assert backtest_peak(changes, tmp_path) < 260 * MB
    assert not list((tmp_path / "out").glob("tmp*")), "what was on disk had no name"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_of_a_file_of_a_gigabyte(tmp_path: Path, environ: Environ, form: str) -> None:
    """With the default settings: far less than the file."""
    needed = 10 * GB if form == "parquet" else 5 * GB
    if shutil.disk_usage(tmp_path).free < needed:
        pytest.skip(f"needs {needed // GB} GB of disk for the file and its rows")
    path = tmp_path / f"big.{form}"
    try:
        count = getattr(big_files, f"write_{form}")(path, GB)
        assert path.stat().st_size >= GB
        changes = environ(data_path=str(path))
        assert gateway_peak(changes, count, 30) < 400 * MB
        assert backtest_peak(changes, tmp_path) < 400 * MB
    finally:
        path.unlink()
