"""What ``app.backtest.run()`` returns: a run's tables as pandas, its measures, its files."""

import json
import os
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app.backtest.results.facts import facts
from app.backtest.results.finished_run import FinishedRun
from app.backtest.results.page.markup import printable
from app.backtest.results.page.run_page import notebook_part, run_page
from app.backtest.results.parquet import PackageMissing, write_table

if TYPE_CHECKING:
    import pandas

REPORT_JSON: Final = "report.json"
REPORT_HTML: Final = "report.html"


class BacktestResult(FinishedRun):
    """A finished run, for a notebook.

    ``trades``, ``orders``, ``equity``, ``positions`` and ``daily`` are pandas DataFrames, made when
    they are first asked for.  The page on backtests lists their columns.
    """

    @cached_property
    def trades(self) -> "pandas.DataFrame":
        """One row per execution."""
        return self._frame("trades")

    @cached_property
    def orders(self) -> "pandas.DataFrame":
        """One row per order, also those refused."""
        return self._frame("orders")

    @cached_property
    def equity(self) -> "pandas.DataFrame":
        """One row per tick, or per n-th tick of a long run."""
        return self._frame("equity")

    @cached_property
    def positions(self) -> "pandas.DataFrame":
        """One row per symbol with orders, at the end."""
        return self._frame("positions")

    @cached_property
    def daily(self) -> "pandas.DataFrame":
        """One row per day with ticks."""
        return self._frame("daily")

    def _frame(self, name: str) -> "pandas.DataFrame":
        try:
            pd = import_module("pandas")
        except ImportError:
            raise PackageMissing("tables need pandas: pip install pandas") from None
        frame: pandas.DataFrame = pd.DataFrame(self.tables[name])
        if "time_utc" in frame:
            frame["time_utc"] = frame["time_utc"].dt.tz_localize("UTC")
        return frame

    def to_parquet(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write each table as a Parquet file, and ``report.json``; returns their paths.

        Raises:
            PackageMissing: arro3 is not installed.
            OSError: a file cannot be written.
        """
        into = Path(folder)
        into.mkdir(parents=True, exist_ok=True)
        about = facts(self)
        named = {
            "strategy": self.settings.strategy,
            "params": self.params,
            "trades_hash": self.trades_hash,
            "data": self.data.name,
            "feed_id": self.data.feed_id,
        }
        named = {name: printable(value) for name, value in named.items()}
        written = []
        for name, table in self.tables.items():
            written.append(into / f"{name}.parquet")
            write_table(written[-1], table, named)
        written.append(into / REPORT_JSON)
        written[-1].write_text(json.dumps(about, indent=1, allow_nan=False) + "\n", "utf-8")
        return written

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the report: one file that opens offline.

        Raises:
            OSError: it cannot be written.
        """
        Path(path).write_text(run_page(self), encoding="utf-8")
        return Path(path)

    def _repr_html_(self) -> str:
        return notebook_part(self)

    def __repr__(self) -> str:
        of = self.metrics
        return (
            f"<{type(self).__name__} {self.settings.strategy} {self.params}: "
            f"{of['orders']:,} orders, {of['trades']:,} trades, profit {of['profit']:,.2f}, "
            f"trades hash {self.trades_hash}>"
        )
