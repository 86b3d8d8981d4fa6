"""``python -m app.backtest``: run one and write what it found."""

import argparse
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec

from app.backtest import report as backtest_report
from app.backtest.run import run
from app.config import EXIT_SETTINGS, settings_or_exit
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import open_feed
from app.market_data.sources.progress import LoadProgress
from app.strategy.base import StrategyError


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
