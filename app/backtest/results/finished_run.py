"""A finished run: its tables and measures, and what it was of."""

from functools import cached_property
from hashlib import file_digest
from types import MappingProxyType
from typing import NamedTuple

from app.backtest.result import Result
from app.backtest.results import metrics, tables
from app.backtest.results.recorder import Recorder
from app.backtest.results.tables import Table
from app.config.settings import Settings
from app.market_data.feed import Feed
from app.market_data.sources.files import files_of
from app.model.position import RunCosts
from app.strategy.attach import decides_orders


class DataFacts(NamedTuple):
    """Which data a run had.  ``sha256``: of the file; empty if it was several, or none.

    ``feed_id``: of the ticks and sentiment, as gateway and sweep say it.
    """

    name: str
    sha256: str
    feed_id: str


def data_facts(settings: Settings, feed: Feed, name: str = "") -> DataFacts:
    """Of the files that the settings name; ``name``: what to call them instead."""
    if name or settings.is_live:
        return DataFacts(name or settings.shown_data_path, "", feed.feed_id)
    paths = files_of(settings.data_path)
    digest = ""
    if len(paths) == 1:
        with paths[0].open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
    return DataFacts(settings.shown_data_path, digest, feed.feed_id)


class FinishedRun:
    """What is known of a run when it is over; everything is computed when first asked for."""

    def __init__(
        self,
        result: Result,
        recorder: Recorder,
        settings: Settings,
        capital: float,
        data: DataFacts,
    ) -> None:
        self.result, self.recorder = result, recorder
        self.settings, self.capital, self.data = settings, capital, data

    @cached_property
    def tables(self) -> dict[str, Table]:
        """All tables as NumPy columns, by name."""
        traded = tables.trades(self.result, self.recorder, self.settings)
        curve = tables.equity(self.recorder, self.capital)
        return {
            "trades": traded,
            "orders": tables.orders(self.result),
            "equity": curve,
            "positions": tables.positions(self.result, traded),
            "daily": tables.daily(curve, self.recorder.fill_ns, self.capital),
        }

    @cached_property
    def metrics(self) -> MappingProxyType[str, float | int | None]:
        """The measures by name; None where one is not defined."""
        all_of = self.tables
        return MappingProxyType(
            metrics.metrics(
                self.result,
                all_of["trades"],
                all_of["equity"],
                all_of["daily"],
                all_of["positions"],
                self.capital,
            )
        )

    @property
    def costs(self) -> RunCosts:
        """What trading cost, by kind; its ``rows()`` are a table of it."""
        return self.result.costs

    @property
    def trades_hash(self) -> str:
        """The digest that the stack prints for the same run, 16 hex digits."""
        return self.result.trades_hash

    @property
    def params(self) -> str:
        """The strategy's parameters, all of them, as ``STRATEGY_PARAMS`` takes them."""
        return self.result.params

    @property
    def symbols(self) -> list[str]:
        """In order of first appearance."""
        return self.result.symbols

    @property
    def changed_settings(self) -> dict[str, str]:
        """The settings that decide orders and are not the default, in the form of ``.env``."""
        default, ours = Settings().to_environ(), self.settings.to_environ()
        return {
            name: value
            for name, value in ours.items()
            if value != default[name]
            and decides_orders(name.lower())
            and name not in ("STRATEGY", "STRATEGY_PARAMS")
        }
