"""A run without the stack: the same data, strategy, positions and order core, in one process.

``python -m app.backtest [--data FILE] [--ticks N] [--out FOLDER]`` replays the file (``--ticks``:
also what REPLAY puts behind it), prints a summary, and writes the orders as CSV and the equity
curve as SVG.  The orders are those of the four processes, id for id.
"""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from app import backtest_report
from app.backtest_feed import FeedReader
from app.config import EXIT_SETTINGS, Settings, settings_or_exit
from app.market_data.feed import Feed
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import open_feed
from app.market_data.sources.progress import LoadProgress
from app.model.money import UNITS
from app.model.orders import Order
from app.model.position import Position
from app.model.timestamps import TimestampText
from app.model.wire.order_json import encode_order
from app.paper_broker import PaperBroker
from app.strategy.base import SIGNAL_NAMES, StrategyError, load_strategy
from app.strategy.engine import Engine

EQUITY_POINTS: Final = 500
PROGRESS_EVERY_TICKS: Final = 1 << 18


class Curve:
    """Equity (profit since the start, holdings at their latest price) at evenly spaced ticks."""

    def __init__(self, symbols: int, total: int) -> None:
        self.step = max(1, -(-total // EQUITY_POINTS))
        self.event_ns: list[int] = []
        self.equity: list[float] = []
        self.last_price = np.zeros(symbols)
        self._qty = np.zeros(symbols)
        self._cash = 0.0
        self._tail_ns: int | None = None

    def take(self, ticks: npt.NDArray[np.void], fills: list[tuple[int, int, int, float]]) -> None:
        """A batch, and what was filled in it: sequence, symbol index, signed quantity, price."""
        first, start, at = int(ticks["seq"][0]), 0, 0
        count = len(ticks)
        while start < count:
            # A point stands behind every step-th tick.
            stop = min(count, start + self.step - (first + start) % self.step)
            piece = ticks[start:stop]
            # Where a symbol stands twice, NumPy keeps the last assignment: its latest tick.
            self.last_price[piece["symbol"]] = piece["price"]
            while at < len(fills) and fills[at][0] < first + stop:
                _, symbol, qty, price = fills[at]
                self._qty[symbol] += qty
                self._cash -= qty * price
                at += 1
            start = stop
            event_ns = int(ticks["event_ns"][stop - 1])
            self._tail_ns = event_ns
            if (first + stop) % self.step == 0:
                self._point(event_ns)

    def close(self) -> None:
        """The last point, at the end of the run, unless it is there."""
        if self._tail_ns is not None:
            self._point(self._tail_ns)

    def _point(self, event_ns: int) -> None:
        self._tail_ns = None
        self.event_ns.append(event_ns)
        self.equity.append(self._cash + float(self._qty @ self.last_price))


class Result(msgspec.Struct):
    """What a backtest found.  ``took_s`` is the replay without the loading."""

    symbols: list[str]
    ticks: int
    took_s: float
    client: str
    orders: list[Order]
    positions: dict[str, Position]
    last_price: dict[str, float]
    curve: Curve
    signals: tuple[int, int, int]

    @property
    def ticks_per_s(self) -> float:
        """Speed of the replay."""
        return self.ticks / max(self.took_s, 1e-9)


def run(
    settings: Settings,
    feed: Feed,
    total: int | None = None,
    progress: Callable[[int], None] = lambda _done: None,
) -> Result:
    """Replay the first ``total`` ticks of ``feed``, by default its file.

    Raises:
        StrategyError: the strategy cannot be loaded, or failed.
    """
    total = feed.file.ticks if total is None else min(total, feed.total)
    engine = Engine(load_strategy(settings.strategy), feed.symbols, settings)
    broker, client = PaperBroker(settings), settings.strategy_client
    reader, curve = FeedReader(feed, total), Curve(len(feed.symbols), total)
    timestamp_text = TimestampText()
    tally = np.zeros(3, np.int64)
    next_progress = PROGRESS_EVERY_TICKS
    started_s = time.perf_counter()
    for ticks in reader.batches():
        signals = engine.signals(ticks, reader.join)
        fills: list[tuple[int, int, int, float]] = []
        for intents in engine.intents(ticks, signals):
            for intent in intents:
                frame = encode_order(
                    intent.seq + 1,
                    client,
                    SIGNAL_NAMES[intent.signal],
                    intent.symbol,
                    engine.qty(intent),
                    intent.price,
                    timestamp_text(intent.event_ns),
                )
                accepted = broker.submit(frame, intent.event_ns)
                engine.settle(intent, accepted)
                order = broker.orders[-1]
                if order.filled_qty:
                    signed = order.side * order.filled_qty
                    price = order.filled_notional / order.filled_qty / UNITS
                    fills.append((intent.seq, intent.symbol_index, signed, price))
        curve.take(ticks, fills)
        tally += np.bincount(signals + 1, minlength=3)
        done = int(ticks["seq"][-1]) + 1
        if done >= next_progress:
            next_progress = done + PROGRESS_EVERY_TICKS
            progress(done)
    curve.close()
    took_s = time.perf_counter() - started_s
    progress(total)
    known = broker.core.clients
    return Result(
        feed.symbols,
        total,
        took_s,
        client,
        broker.orders,
        dict(known[client].positions) if client in known else {},
        dict(zip(feed.symbols, curve.last_price.tolist(), strict=True)),
        curve,
        (int(tally[2]), int(tally[0]), int(tally[1])),
    )


class ReplayBar(AbstractContextManager["ReplayBar"]):
    """A progress bar where standard error is a terminal and rich is there, else silence."""

    def __init__(self, total: int) -> None:
        self._bar: Any = None
        if not sys.stderr.isatty():
            return
        try:
            from rich.console import Console
            from rich.progress import Progress
        except ImportError:
            return
        self._bar = Progress(console=Console(stderr=True))
        self._task = self._bar.add_task("ticks", total=total)
        self._bar.start()

    def __call__(self, done: int) -> None:
        """So many ticks are done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app.backtest", description=__doc__)
    parser.add_argument("--data", help="price file; default: DATA_PATH")
    parser.add_argument("--strategy", help="module:Class or file.py:Class; default: STRATEGY")
    parser.add_argument("--ticks", type=int, help="how many; default: those of the file")
    parser.add_argument("--out", help="folder for orders.csv and equity.svg")
    parser.add_argument("--no-plot", action="store_true", help="write no equity.svg")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run a backtest.  0 done, 1 the data or the strategy is no good, 2 wrong settings."""
    arguments = _arguments(argv)
    settings = settings_or_exit("backtest")
    if arguments.data:
        settings = msgspec.structs.replace(settings, data_path=arguments.data)
    if arguments.strategy:
        settings = msgspec.structs.replace(settings, strategy=arguments.strategy)
    if arguments.ticks is not None and arguments.ticks < 1:
        print(f"backtest: --ticks {arguments.ticks}: must be at least 1", file=sys.stderr)
        return EXIT_SETTINGS
    try:
        with LoadProgress(lambda: False) as loading:
            feed = open_feed(settings, loading)
        total = feed.file.ticks if arguments.ticks is None else min(arguments.ticks, feed.total)
        with ReplayBar(total) as bar:
            result = run(settings, feed, total, bar)
    except (DataError, StrategyError) as error:
        print(f"backtest: {error}", file=sys.stderr)
        return 1
    print(backtest_report.to_text(result, settings.data_path))
    folder = Path(arguments.out or Path(settings.output_dir) / "backtest")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        print(f"orders: {backtest_report.write_orders(result, folder)}")
        if not arguments.no_plot:
            print(f"equity curve: {backtest_report.write_equity(result, folder)}")
    except (OSError, backtest_report.PlotUnavailable) as error:
        print(f"backtest: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
