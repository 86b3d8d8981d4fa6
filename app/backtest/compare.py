"""``python -m app compare``: the orders of a run so far against a backtest of the same ticks.

The backtest ends with the tick of the last stored order, so a run may go on meanwhile.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import apsw
import click

from app.backtest.outcome import Outcome, first_difference, of_backtest, read_outcome
from app.backtest.replay import run
from app.config.loading import EXIT_SETTINGS, print_settings_error, settings_or_exit
from app.config.settings import Settings, SettingsError
from app.market_data.feed import Feed
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import open_feed
from app.market_data.sources.progress import LoadProgress
from app.model.money import WHOLE, Scale, to_units
from app.order_manager.store.files import store_path
from app.order_manager.store.schema import StoreError
from app.order_manager.store.tools import reading
from app.strategy.attach import SAME_SETTINGS, mark_of
from app.strategy.failure import StrategyError

NAME: Final = "strategy"
"""The client's name on both sides of a comparison."""


class CompareError(Exception):
    """There is nothing to compare; the message says why and what to do."""


class NoOrdersYet(CompareError):
    """The strategy has not sent an order."""


class Comparison(NamedTuple):
    """What the store has of one client, and what the backtest has up to the same tick."""

    stored: Outcome
    expected: Outcome
    profit: int
    scale: Scale = WHOLE

    @property
    def difference(self) -> str | None:
        """The first difference, the store's side first; None if they are equal."""
        return first_difference(self.stored, self.expected, self.scale)

    @property
    def lost(self) -> int:
        """Orders of the backtest that the store lacks."""
        return (_ids(self.expected) - _ids(self.stored)).total()

    @property
    def doubled(self) -> int:
        """Orders and fills that the store has in addition."""
        orders = (_ids(self.stored) - _ids(self.expected)).total()
        fills = Counter(self.stored.fills) - Counter(self.expected.fills)
        return orders + (fills.total() if not orders else 0)

    def __str__(self) -> str:
        orders, fills, _ = self.stored
        profit = f"{self.scale.amount(self.profit):z,.2f}"
        return f"{len(orders):,} orders, {len(fills):,} fills, PnL {profit} at the last order"


def _ids(outcome: Outcome) -> Counter[int]:
    return Counter(order.tick for order in outcome.orders)


class Comparer:
    """Loads the feed once, then compares as often as asked.

    Raises:
        DataError: the data file cannot be used.
        SettingsError: STRATEGY_PARAMS is wrong.
        StrategyError: the strategy cannot be loaded.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        with LoadProgress() as loading:
            self._feed: Feed = open_feed(settings, loading)
        self.client = f"{settings.strategy_client}@{mark_of(settings, self._feed.feed_id)}"

    def compare(self, path: str, run_id: str | None = None) -> list[Comparison]:
        """Compare each strategy of a run, by default the run of the newest order.

        Raises:
            CompareError: the run has no order of a strategy with these settings.
            StoreError: the store cannot be read.
            StrategyError: the strategy cannot be loaded, or failed.
        """
        with reading(path) as connection:
            names = self._clients(connection, run_id)
            stored = [read_outcome(connection, {number: NAME}) for number in names]
        return [self._against_backtest(outcome) for outcome in stored]

    def _clients(self, connection: apsw.Connection, run_id: str | None) -> list[int]:
        """The client numbers of the run's strategies: ``strategy@...``, ``strategy-2@...``."""
        if run_id is None:
            newest = "SELECT client_no FROM orders ORDER BY order_no DESC LIMIT 1"
            run_id = connection.execute(
                f"SELECT run_id FROM clients WHERE client_no = ({newest})"
            ).get
        rows = connection.execute(
            "SELECT client_no, name FROM clients c WHERE run_id = ? AND EXISTS "
            "(SELECT 1 FROM orders o WHERE o.client_no = c.client_no) ORDER BY client_no",
            (run_id,),
        )
        own, _, mark = self.client.partition("@")
        ours, others = [], []
        for number, name in rows:
            base, at, suffix = name.partition("@")
            if at and (base == own or base.startswith(f"{own}-")):
                ours.append(number) if suffix == mark else others.append(name)
        if not ours and others:
            raise CompareError(
                f"the run has orders of {', '.join(others)}, but data, seed and settings here give "
                f"{self.client}: {SAME_SETTINGS}"
            )
        if not ours:
            raise NoOrdersYet(f"no order of {own} yet; try again when the run has some")
        return ours

    def _against_backtest(self, stored: Outcome) -> Comparison:
        """Compare with a backtest that ends with the tick of the last stored order."""
        total = max(order.tick for order in stored.orders) + 1
        result = run(self._settings, self._feed, total)
        expected = of_backtest(result)
        expected = Outcome(
            [line._replace(client=NAME) for line in expected.orders],
            [line._replace(client=NAME) for line in expected.fills],
            [line._replace(client=NAME) for line in expected.positions],
        )
        marks = {symbol: to_units(price) for symbol, price in result.last_price.items()}
        # What shorts have accrued is the backtest's: equal if the positions are.
        profit = sum(
            position.realized + position.qty * marks[position.symbol] - position.cost
            for position in stored.positions
        ) - sum(result.accrued.values())
        return Comparison(stored, expected, profit, result.scale)


def shown(comparisons: list[Comparison]) -> tuple[bool, str]:
    """Whether all are equal, and one line for each strategy."""
    lines, equal = [], True
    for found in comparisons:
        difference = found.difference
        equal = equal and difference is None
        what = f"equal: {found}"
        lines.append(what if difference is None else f"different: stored | backtest: {difference}")
    return equal, "\n".join(lines)


@click.command()
@click.option("--run-id", help="this run; default: that of the newest order")
@click.option("--store", metavar="FILE", help="default: ORDER_STORE_PATH")
def command(run_id: str | None, store: str | None) -> int:
    """Exit code 0: equal, 1: different, or nothing to compare, 2: wrong usage or settings."""
    settings = settings_or_exit("compare")
    path = store or store_path(settings)
    try:
        if not Path(path).exists():
            raise StoreError(f"{path}: no such order store")
        equal, text = shown(Comparer(settings).compare(path, run_id))
    except SettingsError as error:
        print_settings_error("compare", error)
        return EXIT_SETTINGS
    except (CompareError, DataError, StoreError, StrategyError, OSError, apsw.Error) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    print(text)
    return 0 if equal else 1
