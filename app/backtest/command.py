"""``python -m app backtest``: run one and write its orders and equity curve."""

import sys
from pathlib import Path
from tempfile import TemporaryFile

import click

from app.backtest import report as backtest_report
from app.backtest.performance.summary import DEFAULT_CAPITAL
from app.backtest.replay import run
from app.backtest.result import TICKS_HELP, Result
from app.backtest.results.finished_run import data_facts
from app.backtest.results.parquet import PackageMissing
from app.backtest.results.recorder import Recorder
from app.backtest.results.run_result import REPORT_HTML, BacktestResult
from app.config.loading import EXIT_SETTINGS, print_settings_error, settings_or_exit
from app.config.settings import Settings, SettingsError
from app.kernel.compiled import warning
from app.market_data.feed import Feed
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import open_feed
from app.market_data.sources.progress import LoadProgress
from app.model.money import to_units
from app.runtime.metrics.tables import show
from app.runtime.progress import Progress
from app.strategy.failure import StrategyError


@click.command()
@click.option("--data", metavar="FILE", help="prices; default: DATA_PATH")
@click.option("--strategy", help="module:Class or file.py:Class; default: STRATEGY")
@click.option("--params", help="such as 'short=8 long=40', or a file; default: STRATEGY_PARAMS")
@click.option("--ticks", type=click.IntRange(min=1), help=TICKS_HELP)
@click.option("--out", metavar="FOLDER", help="folder for orders.csv and equity.svg")
@click.option(
    "--capital",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_CAPITAL,
    show_default=True,
    help="what the returns are measured on",
)
@click.option("--no-plot", is_flag=True, help="write no equity.svg")
@click.option("--save", metavar="FOLDER", help="folder for report.html, and the tables as Parquet")
def command(
    data: str | None,
    strategy: str | None,
    params: str | None,
    ticks: int | None,
    out: str | None,
    capital: float,
    no_plot: bool,
    save: str | None,
) -> int:
    """Exit code 0: done, 1: unusable data or strategy, or no output, 2: wrong usage or settings."""
    settings = settings_or_exit(
        "backtest", data_path=data or None, strategy=strategy or None, strategy_params=params
    )
    for option, chosen in (("--out", out), ("--save", save)):
        if chosen and (reason := _why_not_writable(Path(chosen))):
            print(f"backtest: {option} {chosen}: {reason}", file=sys.stderr)
            return 1
    try:
        with LoadProgress() as loading:
            feed = open_feed(settings, loading)
        total = feed.ticks_of_run(ticks)
        rate = to_units(settings.paper_borrow_bps_year)
        scaled = {"borrow_rate": rate, "decimals": settings.qty_decimals}
        recorder = Recorder(len(feed.symbols), total, **scaled) if save else None
        with Progress("ticks", total) as progress:
            result = run(settings, feed, total, progress, recorder)
    except SettingsError as error:
        print_settings_error("backtest", error)
        return EXIT_SETTINGS
    except (DataError, StrategyError) as error:
        print(f"backtest: {error}", file=sys.stderr)
        return 1
    _show(result, settings, capital)
    folder = Path(out or Path(settings.output_dir) / "backtest")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        print(f"orders: {backtest_report.write_orders(result, folder)}")
        if not no_plot:
            print(f"equity curve: {backtest_report.write_equity(result, folder)}")
        if save and recorder is not None:
            _save(Path(save), result, recorder, settings, capital, feed)
    except BrokenPipeError:
        raise  # The reader has closed its end: click ends the program without a message.
    except (OSError, PackageMissing, backtest_report.PlotUnavailable) as error:
        print(f"backtest: {error}", file=sys.stderr)
        return 1
    return 0


def _show(result: Result, settings: Settings, capital: float) -> None:
    """The report; and on standard error why it took so long, if nothing is compiled."""
    show(*backtest_report.blocks(result, settings.shown_data_path, capital), file=sys.stdout)
    if problem := warning():
        print(f"backtest: {problem}", file=sys.stderr)


def _why_not_writable(folder: Path) -> str:
    """Why no file can be made in a folder, which is made if it is missing; empty if one can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"no folder to write to: {error.strerror or error}"


def _save(
    folder: Path, result: Result, recorder: Recorder, settings: Settings, capital: float, feed: Feed
) -> None:
    """Write everything that a reader of the run may want, and say where."""
    whole = BacktestResult(result, recorder, settings, capital, data_facts(settings, feed))
    for path in whole.to_parquet(folder):
        print(f"{path.stem}: {path}")
    print(f"page: {whole.to_html(folder / REPORT_HTML)}")
