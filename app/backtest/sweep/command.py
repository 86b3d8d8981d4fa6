"""``python -m app sweep``: a backtest for each combination of parameters, on all cores, or on the
workers of a Dask cluster."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import click
import msgspec

from app.backtest.performance.summary import ANNUAL_DAYS_MIN, DEFAULT_CAPITAL
from app.backtest.result import TICKS_HELP, ticks_text
from app.backtest.sweep import grid, page, table
from app.backtest.sweep.cell_run import Outcome, Status, Task, source_digest
from app.backtest.sweep.cluster.options import Cluster, cluster_of, cluster_options, security_of
from app.backtest.sweep.folder import ROWS_FILE, FolderError, Identity, SweepFolder
from app.backtest.sweep.grid import Axis, Cell, GridError
from app.backtest.sweep.judgement import (
    JudgementError,
    check_folds,
    folds_blocks,
    overfitting_blocks,
    returns_of,
)
from app.backtest.sweep.pool import Pool, PoolError
from app.backtest.sweep.progress import CellProgress
from app.backtest.sweep.search import ROUND, Listed, Plan, Search, optuna
from app.backtest.sweep.shared_ticks import TickMemory
from app.backtest.sweep.verify import verify
from app.config.loading import EXIT_SETTINGS, print_settings_error, settings_or_exit
from app.config.settings import Settings, SettingsError
from app.market_data.feed import Feed
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import open_feed, storage_of
from app.market_data.sources.progress import LoadProgress
from app.market_data.storage.place import NoRoom
from app.runtime.log import setup_logging
from app.runtime.metrics.tables import show
from app.runtime.run.strategy_params import read_params, setting_text, value_text
from app.strategy.attach import decides_orders
from app.strategy.base import load_strategy
from app.strategy.failure import StrategyError
from app.strategy.kit.params import declared, resolve

EXIT_INTERRUPTED: Final = 130


class Request(NamedTuple):
    """What the command line asks for."""

    settings: Settings
    axes: list[Axis]
    cells: list[Cell]
    ticks: int | None
    capital: float
    by: str | None
    jobs: int
    out: Path | None
    verify: int
    seed: int
    folds: int
    search: int = 0
    cluster: Cluster | None = None


@click.command()
@click.option("--param", "specs", multiple=True, required=True, metavar="NAME=low:high:step|a,b,c",
              help="a parameter and its values; once for each")  # fmt: skip
@click.option("--data", metavar="FILE", help="prices; default: DATA_PATH")
@click.option("--strategy", help="module:Class or file.py:Class; default: STRATEGY")
@click.option("--params", help="parameters that all cells share; default: STRATEGY_PARAMS")
@click.option("--random", "sample", type=click.IntRange(min=1), help="run only so many, drawn")
@click.option("--optuna", "search", type=click.IntRange(min=1),
              help="run so many, chosen by Optuna from the results so far")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True,
              help="of what is drawn")  # fmt: skip
@click.option("--ticks", type=click.IntRange(min=1), help=TICKS_HELP)
@click.option("--capital", type=click.FloatRange(min=0, min_open=True), default=DEFAULT_CAPITAL,
              show_default=True, help="what the returns are measured on")  # fmt: skip
@click.option("--by", type=click.Choice(table.MEASURES),
              help="what the best is best at; default: sharpe, with few days profit")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 1024), help="processes; default: one per CPU")
@click.option("--out", metavar="FOLDER", help="folder of the results; default: one per sweep")
@click.option("--verify", "verify_cells", type=click.IntRange(min=1), metavar="K",
              help="run the best cell and K - 1 drawn ones through the four processes")  # fmt: skip
@click.option("--folds", type=click.IntRange(min=1), metavar="N",
              help="walk forward: choose by the days so far, judge by the next")  # fmt: skip
@cluster_options
def command(
    specs: tuple[str, ...],
    data: str | None,
    strategy: str | None,
    params: str | None,
    sample: int | None,
    search: int | None,
    seed: int,
    ticks: int | None,
    capital: float,
    by: str | None,
    jobs: int | None,
    out: str | None,
    verify_cells: int | None,
    folds: int | None,
    **where: str | None,
) -> int:
    """Exit code 0: done, 1: unusable data or strategy, a cell that failed or is not the same in the
    four processes, or no output, 2: wrong usage or settings, 130: interrupted; the same command
    goes on.
    """
    settings = settings_or_exit(
        "sweep", data_path=data or None, strategy=strategy or None, strategy_params=params
    )
    setup_logging("sweep", settings.log_level)
    try:
        fixed = read_params(settings.strategy_params)
        axes = [grid.axis(spec) for spec in specs]
        if params is not None:
            grid.check_once(axes, fixed)
        cells = _check_search(sample) if search else grid.cells(axes, fixed, sample, seed)
        _check_names(settings, axes)
        request = Request(
            settings,
            axes,
            cells,
            ticks,
            capital,
            by,
            jobs or len(os.sched_getaffinity(0)),
            Path(out) if out else None,
            verify_cells or 0,
            seed,
            folds or 0,
            search or 0,
            _cluster(jobs, where),
        )
        return sweep(request)
    except (GridError, JudgementError) as error:
        raise click.UsageError(str(error)) from None
    except SettingsError as error:
        print_settings_error("sweep", error)
        return EXIT_SETTINGS
    except BrokenPipeError:
        raise  # The reader has closed its end: click ends the program without a message.
    except (DataError, StrategyError, FolderError, PoolError, OSError) as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 1


def _cluster(jobs: int | None, where: dict[str, str | None]) -> Cluster | None:
    cluster = cluster_of(**where)
    if cluster is not None and jobs is not None:
        raise click.UsageError(
            "--jobs: is of this machine; on a cluster each worker runs as many cells as it has "
            "threads (dask worker --nthreads)"
        )
    return cluster


def _check_search(sample: int | None) -> list[Cell]:
    """A search begins without cells."""
    optuna()
    if sample is not None:
        raise GridError("--optuna chooses the cells, and so does --random: give one of them")
    return []


def _check_names(settings: Settings, axes: list[Axis]) -> None:
    """Refuse a name that the strategy does not have; a wrong value is a cell that says so.

    Raises:
        ParamError: lists the unknown names and the nearest ones.
        StrategyError: the strategy cannot be loaded.
    """
    strategy = load_strategy(settings.strategy)
    try:
        known = declared(strategy)
    except TypeError:
        return  # Each cell would say it: resolve() names the place.
    given = {**read_params(settings.strategy_params), **{each.name: "" for each in axes}}
    unknown = {name: value for name, value in given.items() if name not in known}
    if unknown:
        resolve(strategy, msgspec.structs.replace(settings, strategy_params=setting_text(unknown)))


def identity(request: Request, plan: Plan, feed: Feed, total: int) -> Identity:
    """Everything that decides the results, by names that a message can use."""
    settings = request.settings
    deciding = {
        name.upper(): str(value)
        for name, value in msgspec.structs.asdict(settings).items()
        if decides_orders(name) and name not in ("strategy", "strategy_params")
    }
    values = [f"{each.name}={','.join(map(value_text, each.values))}" for each in request.axes]
    after = feed.ticks_added(total)
    return {
        "data": feed.feed_id,
        "ticks": total,
        **({"which ticks": ticks_text(total, after, settings.replay)} if after else {}),
        "strategy": settings.strategy,
        "strategy's source": source_digest(settings.strategy),
        "parameters": values,
        "shared parameters": setting_text(read_params(settings.strategy_params)),
        "cells": plan.count,
        "choice of cells": plan.choice,
        "capital": request.capital,
        "settings": deciding,
    }


def sweep(request: Request) -> int:
    """Run the cells that the folder does not have, and show the best of all."""
    started_s = time.perf_counter()
    settings = request.settings
    with ExitStack() as stack:
        # The workers import while the data is loaded.
        pool = stack.enter_context(_pool(request))
        with LoadProgress() as loading:
            feed = open_feed(settings, loading)
        total = feed.ticks_of_run(request.ticks)
        if request.verify and total != feed.ticks_in_file:
            raise click.UsageError("--verify runs the whole file: leave out --ticks")
        memory = stack.enter_context(_decoded(feed, total, settings))
        if request.folds:
            check_folds(len(memory.days), request.folds, _by(request, memory.days))
        plan = _plan(request, memory.days)
        what = identity(request, plan, feed, total)
        del feed  # Only the decoded copy is needed.
        path = request.out or _default_folder(settings, what)
        names = [each.name for each in request.axes]
        days = len(memory.days)
        folder = stack.enter_context(SweepFolder(path, what, names, plan.cells, days, plan.count))
        if folder.known:
            print(f"sweep: {folder.known:,} of {plan.count:,} cells are in {path}")
        request = request._replace(cells=plan.cells)
        task = Task(settings, memory.shared, request.capital, what["strategy's source"])
        try:
            ran = run_cells(pool, task, plan, folder)
            took_s = time.perf_counter() - started_s
            return _conclude(request, folder, memory.days, what, ran, took_s)
        except KeyboardInterrupt:
            done = f"{folder.known:,} of {plan.count:,} cells are in {path}"
            print(f"\nsweep: interrupted; {done}; the same command goes on", file=sys.stderr)
            return EXIT_INTERRUPTED
        except PoolError as error:
            done = f"{folder.known:,} of {plan.count:,} cells are in {path}"
            raise PoolError(f"{error}; {done}; the same command goes on") from None


class CellPool(AbstractContextManager["CellPool"], Protocol):
    """Runs cells: :class:`Pool` here, a :class:`ClusterPool` elsewhere."""

    def outcomes(self, task: Task, cells: Iterable[Cell]) -> Iterator[Outcome]:
        """Run the cells; their outcomes as they end.  The task is that of the first call."""


def _pool(request: Request) -> CellPool:
    if request.cluster is None:
        at_once = min(request.search, ROUND) or len(request.cells)
        return Pool(min(request.jobs, at_once))
    security = security_of(request.cluster)
    from app.backtest.sweep.cluster.pool import ClusterPool  # it needs a package that is optional

    return ClusterPool(request.cluster, security)


def _decoded(feed: Feed, total: int, settings: Settings) -> TickMemory:
    try:
        return TickMemory(feed, total, storage_of(settings))
    except NoRoom as error:
        raise DataError(f"{settings.shown_data_path}: {error}") from None


def _plan(request: Request, days: list[int]) -> Plan:
    if not request.search:
        return Listed(request.cells)
    fixed = read_params(request.settings.strategy_params)
    return Search(request.axes, fixed, request.search, request.seed, _by(request, days))


class Ran(NamedTuple):
    """How many cells ended, and how many of them after the last tick."""

    cells: int
    whole: int


def run_cells(pool: CellPool, task: Task, plan: Plan, folder: SweepFolder) -> Ran:
    """Run the cells that the folder does not have, and write each down as it ends."""
    ran, whole, first = 0, 0, folder.known
    with CellProgress(first, plan.count) as progress:
        while cells := plan.next_round():
            folder.recall(cells)
            left = [cell for cell in cells if cell.number not in folder.outcomes]
            for outcome in pool.outcomes(task, left):
                folder.add(outcome)
                ran += 1
                whole += outcome.status is Status.OK
                progress(first + ran)
            plan.tell(folder.outcomes)
    return Ran(ran, whole)


def _default_folder(settings: Settings, what: Identity) -> Path:
    """One per sweep, so that the same command goes on and another begins anew."""
    name = settings.strategy.rpartition(":")[2]
    mark = sha256(repr(sorted(what.items())).encode()).hexdigest()[:8]
    return Path(settings.output_dir) / "sweep" / f"{name}-{mark}"


def _conclude(
    request: Request, folder: SweepFolder, days: list[int], what: Identity, ran: Ran, took_s: float
) -> int:
    """Show the best cells, and where everything is."""
    outcomes = [folder.outcomes[number] for number in sorted(folder.outcomes)]
    by = _by(request, days)
    ranked = table.best_first(outcomes, by)
    written = None
    if ranked:
        numbers = [each.number for each in outcomes if each.status is Status.OK]
        returns = returns_of(folder.profit, numbers, days, request.capital)
        shown = table.blocks(request.axes, request.cells, ranked, by)
        shown += overfitting_blocks(returns, ranked[0].number)
        if request.folds and returns.numbers:
            shown += folds_blocks(returns, request.axes, request.cells, request.folds, by)
        show(*shown, file=sys.stdout)
        content = page.Content(
            request.axes, request.cells, outcomes, ranked, by, shown, _about(request, what)
        )
        written = page.write(folder.path, content)
        print(f"\nbest by {by}: --params {value_text(request.cells[ranked[0].number].text)}")
        if beside := table.neighbours(request.axes, request.cells, ranked, by):
            print(table.neighbours_text(beside, by))
    rate = f", {ran.cells / took_s:,.1f} a second" if ran.cells else ""
    if ran.whole:
        rate += f", {ran.whole * int(what['ticks']) / took_s:,.0f} ticks/s"
    print(f"cells: {table.ends(outcomes)}{rate}")
    if which := what.get("which ticks"):
        print(f"ticks: {which}")
    print(f"all cells: {folder.path / ROWS_FILE}")
    if written:
        print(f"page: {written}")
    sys.stdout.flush()
    for line in table.problems(request.cells, outcomes):
        print(f"sweep: {line}", file=sys.stderr)
    if not ranked:
        print(f"sweep: no cell ran; the first: {_first_note(outcomes)}", file=sys.stderr)
        return 1
    good = all(each.status not in (Status.FAILED, Status.KILLED) for each in outcomes)
    if request.verify:
        good &= verify(request.settings, request.cells, ranked, request.verify, request.seed)
    return 0 if good else 1


def _about(request: Request, what: Identity) -> dict[str, object]:
    """What the page says of the sweep: of the settings only those that are not the default."""
    default = msgspec.structs.asdict(Settings())
    changed = [
        f"{name}={value}"
        for name, value in what["settings"].items()
        if value != str(default[name.lower()])
    ]
    data = {
        "data": request.settings.shown_data_path,
        "feed id (data, seed, settings)": what["data"],
    }
    rest = {name: value for name, value in what.items() if name not in ("data", "settings")}
    rest["ticks"] = rest.pop("which ticks", f"{what['ticks']:,}")
    rest["cells"] = f"{what['cells']:,}"
    rest["capital"] = f"{request.capital:,.2f}"
    return data | rest | {"settings that are not the default": changed}


def _by(request: Request, days: list[int]) -> str:
    return request.by or ("sharpe" if len(days) >= ANNUAL_DAYS_MIN else "profit")


def _first_note(outcomes: list[Outcome]) -> str:
    return outcomes[0].note if outcomes else "none"
