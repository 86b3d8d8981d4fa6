"""Runs ``python -m app sweep`` in this process, and reads what it writes."""

import csv
from pathlib import Path

import pytest

from app.__main__ import main
from tests.support.paths import ROOT

SAMPLE = ROOT / "data" / "market_data.csv"

PLAIN = """
import os, signal, sys, time
from app.strategy import Param, ParamError, Strategy


class Plain(Strategy):
    a = Param(1, low=0, high=9)
    b = Param(1.5)
    how = Param("well", choices=("well", "raise", "die", "leave", "slow"))

    def __init__(self, context):
        super().__init__(context)
        if self.a == self.b:
            raise ParamError(f"a={self.a}: must not be b")

    def on_tick(self, tick):
        if self.how == "slow" and "SLOW" in os.environ:
            time.sleep(0.02)
        if tick.seq == 700:
            if self.how == "raise":
                raise RuntimeError("no more")
            if self.how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "leave":
                sys.exit(7)
        return "BUY" if tick.seq // 100 % (self.a + 2) else "SELL"
"""


def plain(folder: Path) -> str:
    """``STRATEGY`` of a strategy that ends in the way that ``how`` says."""
    path = folder / "plain.py"
    path.write_text(PLAIN)
    return f"{path}:Plain"


class Sweeps:
    """``app sweep`` with its results in one folder."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capture = folder, capture
        self.out = self.err = ""

    def run(self, *arguments: str) -> int:
        """Its exit code; what it prints is in ``out`` and ``err``."""
        own = ["--out", str(self.folder), "--data", str(SAMPLE), "--jobs", "2"]
        code = main(["sweep", *own, *arguments])
        self.out, self.err = self._capture.readouterr()
        return code

    def rows(self) -> list[dict[str, str]]:
        """The rows of sweep.csv, in order of cells, without the time taken."""
        return rows_of(self.folder)


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The rows of a folder's sweep.csv, in order of cells, without the time taken."""
    with (folder / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["took_ms"]
    return sorted(rows, key=lambda row: int(row["cell"]))
