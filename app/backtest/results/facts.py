"""What a run was of, and on which machine: for its report and its files."""

import os
import platform
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.backtest.results.finished_run import FinishedRun

SCHEMA: Final = 1
"""Of report.json; it grows when a member changes its meaning."""
CPUINFO: Final = Path("/proc/cpuinfo")


def facts(result: FinishedRun) -> dict[str, Any]:
    """The content of ``report.json``."""
    settings = result.settings
    return {
        "schema": SCHEMA,
        "strategy": settings.strategy,
        "params": result.params,
        "trades_hash": result.trades_hash,
        "data": {
            "name": result.data.name,
            "sha256": result.data.sha256 or None,
            "feed_id": result.data.feed_id,
            "symbols": len(result.symbols),
            "ticks": result.result.ticks_text,
            "first_utc": _time(result, 0),
            "last_utc": _time(result, -1),
        },
        "settings": result.changed_settings,
        "metrics": dict(result.metrics),
        "machine": machine(),
    }


def _time(result: FinishedRun, place: int) -> str | None:
    """Of the first or last row of the equity table."""
    times = result.tables["equity"]["time_utc"]
    return f"{np.datetime_as_string(times[place])}Z" if len(times) else None


def machine() -> dict[str, str | int]:
    """Where this process runs, and with which versions."""
    return {
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _cpu() -> str:
    try:
        lines = CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")
