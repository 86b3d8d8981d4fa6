"""Backtests of the same strategy on the same ticks: this stack's and others'; and a sweep.

The ticks are decoded once, for the peers and for nobody else: this stack's figure includes decoding
the bytes of the file.  The orders of each run are compared with those of the built-in strategy.
"""

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from app.backtest.feed_reader import FeedReader
from app.backtest.replay import run
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.model.money import UNITS
from app.strategy.engine import MAX_BATCH_TICKS
from tests.bench.model import Absent, Context, Figures
from tests.bench.subjects.processes import Link, Role, run_roles
from tests.bench.subjects.ticks import price_file
from tests.support.children import die_with_parent
from tests.support.paths import ROOT

PEERS_FOLDER: Final = ROOT / "build/bench_peers"
BUILT_IN: Final = Settings().strategy
ON_TICK: Final = "tests/bench/subjects/on_tick_crossover.py:Crossover"
SAMPLE: Final = "sample"
LARGE: Final = "large"
LARGE_TICKS, LARGE_QUICK_TICKS, SLOW_TICKS = 2_000_000, 200_000, 50_000
WARMUP_TICKS: Final = 20_000
TIMEOUT_S: Final = 170.0
SWEEP_AXES: Final = ("short=2:21", "long=30:300:30")
EACH_CELL: Final = 20
"""Of the sweep's cells, every 20th is run by one process alone."""
ORDER: Final = np.dtype([("tick", "i8"), ("symbol", "i4"), ("signed_qty", "i8"), ("price", "f8")])

Orders = npt.NDArray[np.void]


@dataclass(frozen=True)
class Peer:
    """A backtest of others: its environment, its package, what it cannot express.

    ``slow``: of the large file it gets only the first ticks, for the rest would take minutes.
    """

    name: str
    distribution: str
    cannot: str
    slow: bool = False

    @property
    def title(self) -> str:
        """Its name with the version that is installed."""
        found = (PEERS_FOLDER / self.name).glob(
            f"lib/python*/site-packages/{self.distribution}-*.dist-info"
        )
        versions = [path.name.removesuffix(".dist-info").rpartition("-")[2] for path in found]
        name = {"backtesting": "backtesting.py", "nautilus": "NautilusTrader"}.get(self.name)
        return " ".join([name or self.name, *versions])


PEERS: Final = (
    Peer("vectorbt", "vectorbt", "decides on arrays, before the first order: not on its answers"),
    Peer(
        "backtesting",
        "backtesting",
        "knows one symbol (ten runs here) and reads ticks as bars",
        slow=True,
    ),
    Peer(
        "nautilus",
        "nautilus_trader",
        "can express all of it, and keeps books and accounts of a venue beside",
        slow=True,
    ),
)


def data_file(context: Context, data: str) -> tuple[Path, int]:
    """The price file and its number of ticks."""
    if data == SAMPLE:
        path = ROOT / "data/market_data.csv"
        return path, path.read_bytes().count(b"\n") - 1
    rows = LARGE_QUICK_TICKS if context.quick else LARGE_TICKS
    return price_file(context.data_dir, rows, 10), rows


def _settings(path: Path, strategy: str, params: str = "") -> Settings:
    return msgspec.convert(
        {
            "data_path": str(path),
            "replay": "once",
            "strategy": strategy,
            "strategy_params": params,
        },
        Settings,
    )


def ours(context: Context, data: str, strategy: str) -> Figures:
    """This stack's backtest; the time is that of the replay, without opening the file."""
    path, rows = data_file(context, data)
    ((seconds, orders),) = run_roles([Role(_replay, (path, strategy, rows))], TIMEOUT_S)
    _check(orders, _decoded(context, data, rows)[1])
    return {"ticks_per_s": rows / seconds, "orders": len(orders)}


def _replay(_link: Link, path: Path, strategy: str, rows: int) -> tuple[float, Orders]:
    settings = _settings(path, strategy)
    feed = open_feed(settings)
    run(settings, feed, min(WARMUP_TICKS, rows))
    start = time.perf_counter()
    result = run(settings, feed, rows)
    orders = list(result.orders)  # made when somebody looks, which the peers' are in this time
    seconds = time.perf_counter() - start
    index = {symbol: number for number, symbol in enumerate(feed.symbols)}
    filled = [order for order in orders if order.filled_qty]
    if len(filled) != len(orders):
        raise AssertionError(f"{len(orders) - len(filled)} orders were not filled")
    rows_of = [
        (
            order.id - 1,
            index[order.symbol],
            order.side * order.filled_qty,
            order.filled_notional / order.filled_qty / UNITS,
        )
        for order in filled
    ]
    return seconds, np.array(rows_of, ORDER)


def _decode(_link: Link, path: Path, rows: int, out: Path) -> None:
    """Write the first ``rows`` ticks as arrays, and the orders of the built-in strategy on them."""
    feed = open_feed(_settings(path, BUILT_IN))
    reader, sentiment = FeedReader(feed, rows), np.zeros(MAX_BATCH_TICKS, np.int16)
    ticks, joined = [], []
    for batch in reader.batches():
        reader.join(batch, sentiment[: len(batch)])
        ticks.append(batch.copy())
        joined.append(sentiment[: len(batch)].copy())
    whole = np.concatenate(ticks)
    columns = {name: whole[name] for name in ("symbol", "event_ns", "price")}
    cents = np.rint(whole["price"] * 100).astype(np.int64)
    np.savez(out, **columns, cents=cents, sentiment=np.concatenate(joined))
    np.save(out.with_suffix(".npy"), _replay(_link, path, BUILT_IN, rows)[1])


def _decoded(context: Context, data: str, rows: int) -> tuple[Path, Orders]:
    """The arrays for the peers, and what they have to trade; made once in each run."""
    path = context.work_dir / f"{data}_{rows}.npz"
    expected = path.with_suffix(".npy")
    if not expected.exists():
        run_roles([Role(_decode, (data_file(context, data)[0], rows, path))], TIMEOUT_S)
    return path, np.load(expected)


def _check(found: Orders, expected: Orders) -> None:
    """The same orders at the same ticks, filled in the same quantity at the same price.

    Raises:
        AssertionError: the first difference.
    """
    for number, (here, there) in enumerate(zip(found, expected, strict=False)):
        same = all(here[name] == there[name] for name in ("tick", "symbol", "signed_qty"))
        if not same or abs(here["price"] - there["price"]) > 1e-6:
            raise AssertionError(f"order {number} is {here}, not {there}")
    if len(found) != len(expected):
        raise AssertionError(f"{len(found)} orders, not {len(expected)}")


def peer(context: Context, which: Peer, data: str) -> Figures:
    """A backtest of others, in its own environment."""
    python = PEERS_FOLDER / which.name / "bin/python"
    if not python.exists():
        raise Absent("not installed; make bench PART=backtest installs it")
    rows = data_file(context, data)[1]
    rows = min(rows, SLOW_TICKS) if which.slow else rows
    source, expected = _decoded(context, data, rows)
    out = context.work_dir / f"{which.name}.npy"
    script = ROOT / f"tests/bench/peers/backtests/{which.name}_peer.py"
    done = subprocess.run(
        [python, script, source, out],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        preexec_fn=die_with_parent,
    )
    if done.returncode:
        raise AssertionError(done.stderr.strip().splitlines()[-1:])
    _check(np.load(out), expected)
    seconds = json.loads(done.stdout.splitlines()[-1])["seconds"]
    return {"ticks_per_s": rows / seconds, "orders": len(expected)}


def sweep(context: Context) -> Figures:
    """``app sweep`` of 200 cells on the sample, on all cores: the start of its workers included."""
    folder = context.work_dir / f"sweep-{time.monotonic_ns()}"
    options = [text for axis in SWEEP_AXES for text in ("--param", axis)]
    command = [sys.executable, "-m", "app", "sweep", *options, "--out", str(folder)]
    command += ["--data", str(data_file(context, SAMPLE)[0]), "--strategy", BUILT_IN]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        preexec_fn=die_with_parent,
    )
    rate = re.search(r"([\d,]+) ticks/s", done.stdout)
    if done.returncode or rate is None:
        raise AssertionError(done.stderr.strip().splitlines()[-1:])
    return {"ticks_per_s": float(rate[1].replace(",", ""))}


def one_by_one(context: Context) -> Figures:
    """Some cells of that sweep in one process, one after another, each a backtest of its own."""
    path, rows = data_file(context, SAMPLE)
    ((count, seconds),) = run_roles([Role(_cells, (path, rows))], TIMEOUT_S)
    return {"ticks_per_s": count * rows / seconds}


def _cells(_link: Link, path: Path, rows: int) -> tuple[int, float]:
    cells = [f"short={s} long={n}" for s in range(2, 22) for n in range(30, 301, 30)][::EACH_CELL]
    feed = open_feed(_settings(path, BUILT_IN))
    run(_settings(path, BUILT_IN), feed, rows)
    start = time.perf_counter()
    for cell in cells:
        run(_settings(path, BUILT_IN, cell), feed, rows)
    return len(cells), time.perf_counter() - start
