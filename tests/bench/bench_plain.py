"""How much slower the plain kernel is than the compiled one, on the same work.

``python -m tests.bench.bench_plain`` lets them take turns and prints medians.  It needs both, so a
compiler.  Seconds are of the CPU, so that other load changes the ratios little.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from app.kernel.compiled import warning
from app.model.tick import TICK_DTYPE
from tests.support.environ import default_environ
from tests.support.kernel.helpers import KERNELS, PLAIN_FIRST, book_image, padded, ring_image
from tests.support.paths import ROOT

ROUNDS = 5
SYMBOLS = [f"SYM{i}" for i in range(10)]
BATCH = 2048
RING_TICKS = 4096
BACKTEST = """
import time
from app.backtest import replay
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
settings = Settings(data_path={path!r}, replay="once")
feed = open_feed(settings)
begin = time.process_time()
replay.run(settings, feed)
print(feed.ticks_of_run(None) / (time.process_time() - begin))
"""
SAMPLE = ROOT / "data/market_data.csv"


def text() -> bytes:
    """A batch as the gateway sends it."""
    rows = (
        f"2025-10-01 09:{30 + i // 600:02d}:{i // 10 % 60:02d}*{SYMBOLS[i % 10]}*{100 + i % 97}.25*"
        for i in range(BATCH)
    )
    return "".join(rows).encode()


def per_second(work: Callable[[], object], seconds: float = 0.3) -> float:
    """Ticks a second, of a call that handles a batch."""
    work()
    calls, begin = 0, time.process_time()
    while (spent := time.process_time() - begin) < seconds:
        work()
        calls += 1
    return calls * BATCH / spent


def writing(kernel: Any) -> tuple[Callable[[], object], bytearray]:
    """Parse a batch and write it into a ring and a book."""
    data, ring = text(), ring_image(RING_TICKS)
    buffer = padded(data)
    writer = kernel.TickWriter(ring, book_image(SYMBOLS), kernel.FieldParser(SYMBOLS))
    return lambda: writer.push(buffer, 0, len(data), 1), ring


def reading(kernel: Any) -> Callable[[], object]:
    """Copy a batch out of the ring, and check it."""
    write, ring = writing(kernel)
    write()
    reader, out = kernel.TickReader(ring, 0), np.zeros(BATCH, TICK_DTYPE)
    return lambda: reader.copy(out)


def ticks() -> Any:
    """The batch as records."""
    kernel, out = KERNELS["plain"], np.zeros(BATCH, TICK_DTYPE)
    kernel.parse_ticks(kernel.FieldParser(SYMBOLS), padded(text()), 0, len(text()), out)
    return out


def averages(kernel: Any) -> Callable[[], object]:
    """The signals of the built-in strategy."""
    cross, batch, out = kernel.CrossAverage(10, 5, 20), ticks(), np.zeros(BATCH, np.int8)
    return lambda: cross.signals(batch, out)


def on_tick(kernel: Any) -> Callable[[], object]:
    """A user's ``on_tick`` that does nothing."""
    batch, out, moods = ticks(), np.zeros(BATCH, np.int8), np.zeros(BATCH, np.int16)
    return lambda: kernel.call_on_tick(lambda tick: None, batch, moods, SYMBOLS, out)


def backtest(name: str) -> float:
    """Ticks a second of a backtest of the sample, in a process of its own."""
    code = (PLAIN_FIRST if name == "plain" else "") + BACKTEST.format(path=str(SAMPLE))
    with TemporaryDirectory() as folder:
        found = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env=default_environ() | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
    return float(found.stdout)


WORK: dict[str, Callable[[str], float]] = {
    "parse, write book and ring": lambda name: per_second(writing(KERNELS[name])[0]),
    "read a batch": lambda name: per_second(reading(KERNELS[name])),
    "signals of the built-in strategy": lambda name: per_second(averages(KERNELS[name])),
    "calls of on_tick": lambda name: per_second(on_tick(KERNELS[name])),
    "backtest of the sample": backtest,
}


def main(argv: list[str] | None = None) -> int:
    """Print the table; 2: there is no compiled kernel."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_plain", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args(argv).rounds
    if problem := warning():
        print(f"bench_plain: {problem}", file=sys.stderr)
        return 2
    print("| ticks per CPU second | compiled | plain | times slower |\n|---|---:|---:|---:|")
    for title, measure in WORK.items():
        figures: dict[str, list[float]] = {name: [] for name in KERNELS}
        for _ in range(rounds):
            for name in KERNELS:
                figures[name].append(measure(name))
        compiled, plain = (statistics.median(figures[name]) for name in ("compiled", "plain"))
        print(
            f"| {title} | {compiled / 1e6:.2f} M | {plain / 1e6:.3f} M | {compiled / plain:.0f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
