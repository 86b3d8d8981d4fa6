"""``app.backtest.run()``: a backtest from a notebook or a script."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from app.backtest import replay
from app.backtest.performance.summary import DEFAULT_CAPITAL
from app.backtest.results.finished_run import data_facts
from app.backtest.results.recorder import ROWS_MAX, Recorder
from app.backtest.results.run_result import BacktestResult
from app.config.loading import load_settings
from app.config.settings import Settings, SettingsError
from app.market_data.sources.loader import open_feed
from app.model.money import to_units
from app.runtime.run.strategy_params import Given, setting_text
from app.strategy.base import Strategy

if TYPE_CHECKING:
    import pandas

FRAME_FILE: Final = "frame.csv"
FRAME_NAME: Final = "a DataFrame"
GIVEN_AS: Final = {"data_path": "data", "strategy": "strategy", "strategy_params": "params"}
"""Settings that are arguments of :func:`run`."""


def run(
    data: "str | os.PathLike[str] | pandas.DataFrame | None" = None,
    strategy: str | type[Strategy] | None = None,
    params: str | Mapping[str, Given] | None = None,
    *,
    ticks: int | None = None,
    capital: float = DEFAULT_CAPITAL,
    equity_rows: int = ROWS_MAX,
    **settings: Any,
) -> BacktestResult:
    """Run a strategy on prices, in this process; the orders are those of the four processes.

    Args:
        data: a file, a folder, a pattern, or a DataFrame with the columns of such a file; by
            default DATA_PATH.
        strategy: a class, or ``"file.py:Class"``; by default STRATEGY.
        params: the strategy's parameters, ``{"window": 20}`` or ``"window=20"``.
        ticks: how many; by default all of the data.  With REPLAY=walk or loop, made ones follow it:
            ``metrics["ticks_after_file"]``.
        capital: what the returns are measured on.
        equity_rows: at most so many rows of ``equity``, besides one per day.
        settings: any setting of ``.env`` by its name in small letters, such as ``order_qty=5``;
            the others are those of the environment and of ``.env`` in the current folder.

    Raises:
        SettingsError: an unknown setting, a wrong value, or wrong parameters; names each.
        DataError: the data cannot be used.
        StrategyError: the strategy cannot be loaded, or failed.
    """
    _check(ticks, capital, equity_rows)
    with contextlib.ExitStack() as stack:
        name = ""
        if data is not None and not isinstance(data, (str, os.PathLike)):
            name, data = FRAME_NAME, stack.enter_context(_as_file(data, settings))
        chosen = _settings(data, strategy, params, settings)
        feed = open_feed(chosen)
        total = feed.ticks_of_run(ticks)
        rate = to_units(chosen.paper_borrow_bps_year)
        recorder = Recorder(len(feed.symbols), total, equity_rows, rate, chosen.qty_decimals)
        made = strategy if isinstance(strategy, type) else None
        result = replay.run(chosen, feed, total, recorder=recorder, strategy=made)
        return BacktestResult(result, recorder, chosen, capital, data_facts(chosen, feed, name))


def _check(ticks: int | None, capital: float, equity_rows: int) -> None:
    if ticks is not None and ticks < 1:
        raise SettingsError(f"ticks={ticks}: must be at least 1")
    if not 0 < capital < float("inf"):
        raise SettingsError(f"capital={capital}: must be above 0, and finite")
    if equity_rows < 1:
        raise SettingsError(f"equity_rows={equity_rows}: must be at least 1")


def _settings(
    data: str | os.PathLike[str] | None,
    strategy: str | type[Strategy] | None,
    params: str | Mapping[str, Given] | None,
    given: Mapping[str, Any],
) -> Settings:
    """Those of the environment, with what is given instead.

    Raises:
        SettingsError: lists every unknown name, or every wrong value.
    """
    known = [name for name in Settings.__struct_fields__ if name not in GIVEN_AS]
    problems = [_unknown(name, known) for name in given if name not in known]
    if problems:
        raise SettingsError("\n".join(problems))
    changes = {name: _text(value) for name, value in given.items()}
    if data is not None:
        changes["data_path"] = os.fspath(data)
    if isinstance(strategy, type):
        if not issubclass(strategy, Strategy):
            raise SettingsError(f"strategy={strategy.__name__}: no subclass of Strategy")
        strategy = f"{strategy.__module__}:{strategy.__name__}"
    if strategy is not None:
        changes["strategy"] = strategy
    if params is not None:
        changes["strategy_params"] = params if isinstance(params, str) else setting_text(params)
    # As a process would get them, so that each value is checked in the same way.
    overrides = {name.upper(): value for name, value in changes.items()}
    return load_settings({**os.environ, **overrides})


def _unknown(name: str, known: list[str]) -> str:
    if name.lower() in GIVEN_AS:
        return f"{name}: give it as {GIVEN_AS[name.lower()]}=..."
    near = get_close_matches(name.lower(), [*known, *GIVEN_AS.values(), "ticks", "capital"], n=1)
    hint = f"did you mean {near[0]}?" if near else "its name is that of .env in small letters"
    return f"{name}: run() has no such setting; {hint}"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextlib.contextmanager
def _as_file(frame: "pandas.DataFrame", settings: Mapping[str, Any]) -> Iterator[Path]:
    """A file with the frame's rows, read and checked like any other."""
    if not hasattr(frame, "to_csv"):
        raise SettingsError(f"data={type(frame).__name__}: give a path or a pandas DataFrame")
    if any(frame.index.names) or hasattr(frame.index, "tz"):  # Not only the numbers of the rows.
        unnamed = settings.get("timestamp_column", "timestamp")
        names = [str(name or unnamed) for name in frame.index.names]
        frame = frame.rename_axis(index=names).reset_index()
    with tempfile.TemporaryDirectory(prefix="backtest-") as folder:
        path = Path(folder) / FRAME_FILE
        frame.to_csv(path, index=False, lineterminator="\n")
        yield path
