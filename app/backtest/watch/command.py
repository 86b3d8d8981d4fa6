"""``python -m app watch``: the backtest again on every save of the strategy."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from app.backtest.performance.summary import DEFAULT_CAPITAL
from app.backtest.replay import replay
from app.backtest.result import TICKS_HELP, Result, ticks_text
from app.backtest.sweep.shared_ticks import SharedReader, TickMemory
from app.backtest.watch.files import Changed, Watched
from app.backtest.watch.modules import OwnModules
from app.backtest.watch.rerun import Facts, facts_of, hash_line, problem, rows
from app.config.loading import settings_or_exit
from app.config.settings import Settings, SettingsError
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import open_feed, storage_of
from app.market_data.sources.progress import LoadProgress
from app.market_data.storage.place import NoRoom
from app.runtime.metrics.tables import number, show, table
from app.runtime.progress import Progress
from app.runtime.run.strategy_params import PARAM_FILES
from app.strategy.failure import StrategyError
from app.strategy.kit.own_files import beside

SILENT_S: Final = 2.0
"""A run that takes longer shows a bar."""
FILE_CLOCK_NS: Final = 20_000_000
"""How far the clock of files may be behind."""
POINTS: Final = 1
"""Of the equity curve, which nobody draws."""


@click.command()
@click.option("--data", metavar="FILE", help="prices; default: DATA_PATH")
@click.option("--strategy", help="module:Class or file.py:Class; default: STRATEGY")
@click.option("--params", help="such as 'short=8 long=40', or a file; default: STRATEGY_PARAMS")
@click.option("--ticks", type=click.IntRange(min=1), help=TICKS_HELP)
@click.option("--capital", type=click.FloatRange(min=0, min_open=True), default=DEFAULT_CAPITAL,
              show_default=True, help="what the returns are measured on")  # fmt: skip
def command(
    data: str | None, strategy: str | None, params: str | None, ticks: int | None, capital: float
) -> int:
    """The data is read once; Ctrl-C ends it.

    Exit code 0: ended by Ctrl-C, 1: unusable data, 2: wrong usage or settings.
    """
    settings = settings_or_exit(
        "watch", data_path=data or None, strategy=strategy or None, strategy_params=params
    )
    watch = None
    try:
        with LoadProgress() as loading:
            feed = open_feed(settings, loading)
        total = feed.ticks_of_run(ticks)
        ticks_shown = ticks_text(total, feed.ticks_added(total), settings.replay)
        with TickMemory(feed, total, storage_of(settings)) as memory, _no_bytecode():
            del feed  # Only the decoded copy is needed.
            watch = Watch(settings, memory, capital, ticks_shown)
            watch.go_on()
    except (DataError, NoRoom) as error:
        print(f"watch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        runs = watch.runs if watch else 0
        print(f"\nwatch: ended after {runs:,} run{'' if runs == 1 else 's'}", file=sys.stderr)
    return 0


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """A compiled file is taken for current if it has the second and the size of its source: after
    two saves within a second, it may be neither."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


class Watch:
    """The decoded ticks, the files that decide, and the last run that went well."""

    def __init__(self, settings: Settings, memory: TickMemory, capital: float, ticks: str) -> None:
        """``ticks``: how many, as it is shown."""
        self.settings, self._ticks, self._capital = settings, memory.shared, capital
        self._ticks_shown = ticks
        self._reader = SharedReader(memory.shared)
        self._own = OwnModules(settings.strategy)
        self._before: Facts | None = None
        self.watched = Watched()
        self.runs = 0

    def go_on(self) -> None:
        """Run it, wait for a save, and again, for ever."""
        while True:
            try:
                self.run()
            except Changed:
                self.watched.wait()  # It has; this waits for the end of the writing.
                continue
            self.runs += 1
            if self.runs == 1:
                names = ", ".join(map(_shown, self.watched.files))
                print(f"watching {names}; Ctrl-C ends it\n", flush=True)
            self.watched.wait()

    def named_files(self) -> list[Path]:
        """Those that the settings name, and what is beside them: also one that cannot be loaded."""
        source = self.settings.strategy.rpartition(":")[0]
        params = self.settings.strategy_params.strip()
        files = [Path(params)] if params.endswith(PARAM_FILES) and "=" not in params else []
        if source.endswith(".py"):
            files += [Path(source), *beside(Path(source))]
        return [file.resolve() for file in files]

    def run(self) -> None:
        """Run it once and show the result, or what is wrong; both are the end of a run.

        Raises:
            Changed: a file was saved meanwhile.
        """
        since_ns = time.time_ns() - FILE_CLOCK_NS
        self.watched.take([*self.named_files(), *self.watched.files])
        self._own.forget()
        try:
            try:
                result = self._replay()
            finally:
                self.watched.add(self._own.files().values(), since_ns)
        except (SettingsError, StrategyError) as error:
            text = problem(error) if isinstance(error, StrategyError) else str(error)
            print(f"watch: {text}", file=sys.stderr, flush=True)
            return
        except SystemExit as error:
            print(f"watch: the strategy called exit({error.code})", file=sys.stderr, flush=True)
            return
        now = facts_of(result, self._capital)
        self._show(result, now)
        self._before = now

    def _replay(self) -> Result:
        ticks = self._ticks
        bar = Progress("ticks", ticks.total, silent_s=SILENT_S, transient=True)
        with bar as progress, self.watched.interrupting():
            return replay(
                self.settings, ticks.symbols, self._reader, ticks.total, progress, points=POINTS
            )

    def _show(self, result: Result, now: Facts) -> None:
        name = self.settings.strategy.rpartition(":")[2]
        count, _, of_which = self._ticks_shown.partition(", ")
        speed = f"{count} ticks in {number(result.took_s, 3)} s"
        speed += f", {of_which}" if of_which else ""
        print(f"{time.strftime('%H:%M:%S')} {name} {result.params}".rstrip() + f": {speed}")
        header = ["", "now"] if self._before is None else ["", "now", "before", "change"]
        show(table(header, rows(now, self._before)), file=sys.stdout)
        print(f"{hash_line(now, self._before)}\n", flush=True)


def _shown(path: Path) -> str:
    """A path as short as it can be named."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
