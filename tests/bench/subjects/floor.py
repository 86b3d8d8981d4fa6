"""Compiles ``floor.c`` on first use and runs it."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.bench.model import (
    ANYWHERE,
    RATE_PER_S,
    WARMUP_TICKS,
    Absent,
    Context,
    Figures,
    Placement,
)
from tests.bench.subjects import ticks

SOURCE = Path(__file__).with_name("floor.c")
HEADER = SOURCE.with_name("floor.h")
FRAME_ROWS = 2_000_000
TIMEOUT_S = 60.0


def binary(folder: Path) -> Path:
    """The compiled floor, built with the system's C compiler on first use.

    Raises:
        Absent: there is no C compiler.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise Absent("no C compiler (cc)")
    digest = hashlib.sha256(SOURCE.read_bytes() + HEADER.read_bytes()).hexdigest()[:12]
    path = folder / f"floor-{digest}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-O2", "-o", str(partial), str(SOURCE)], check=True)
        partial.rename(path)
    return path


def run(folder: Path, mode: str, **options: object) -> Figures:
    """Run one mode; percentiles are returned as ``recv_to_ack_us_p50`` and so on."""
    command = [str(binary(folder)), mode, *(f"{key}={value}" for key, value in options.items())]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    figures: Figures = {}
    for name, value in json.loads(done.stdout).items():
        if isinstance(value, dict):
            figures.update({f"{name}_{point}": number for point, number in value.items()})
        else:
            figures[name] = value
    return figures


def chain(context: Context, place: Placement, commit: bool = False, into: str = "") -> Figures:
    """Tick to ACK over all four processes; with ``commit``, a disk sync before each ACK.

    ``into`` lists the containers that the processes enter: ``PID:IP``, separated by slashes.
    """
    extra: dict[str, object] = {"commit": context.work_dir / "floor.log"} if commit else {}
    if into:
        extra["into"] = into
    return run(
        context.data_dir, "chain", rate=RATE_PER_S, count=context.latency_ticks,
        warmup=WARMUP_TICKS, cpus=place.cpus, **extra,
    )  # fmt: skip


def echo(context: Context, commit: bool = False) -> Figures:
    """Order to ACK over one TCP connection: at the fixed rate, and back to back."""
    extra = {"commit": context.work_dir / "floor.log"} if commit else {}
    count = context.latency_ticks
    paced = run(context.data_dir, "echo", rate=RATE_PER_S, count=count, warmup=200, **extra)
    del paced["round_trips_per_s"]
    count = context.scaled(3_000 if commit else 30_000)
    free = run(context.data_dir, "echo", rate=0, count=count, warmup=200, **extra)
    return {**paced, "round_trips_per_s": free["round_trips_per_s"]}


def bandwidth(context: Context, symbols: int, place: Placement = ANYWHERE) -> Figures:
    """Real tick bytes over raw loopback TCP: bytes and ticks per second."""
    frames = ticks.frame_file(context.data_dir, FRAME_ROWS, symbols)
    size = frames.stat().st_size
    passes = 10 if context.quick else 20
    figures = run(context.data_dir, "bandwidth", file=frames, bytes=size * passes, cpus=place.cpus)
    del figures["seconds"]
    return {**figures, "ticks_per_s": figures["bytes_per_s"] / (size / FRAME_ROWS)}
