"""The undisturbed run: it can be taken further, tick by tick, and never hears of the live one."""

from app.backtest.broker import PaperBroker
from app.backtest.feed_reader import FeedReader
from app.backtest.proof.order_line import OrderLine, of_order
from app.backtest.replay import trade
from app.config.settings import Settings
from app.market_data.feed import Feed
from app.strategy.base import load_strategy
from app.strategy.engine import Engine


class Computation:
    """A run of one strategy from tick 0, at ``ticks`` ticks so far.

    Raises:
        StrategyError: the strategy cannot be loaded; also from :meth:`go_to`, if it fails.
    """

    def __init__(self, settings: Settings, feed: Feed) -> None:
        self._client = settings.strategy_client
        self._total = feed.total
        self._engine = Engine(load_strategy(settings.strategy), feed.symbols, settings)
        self._engine.start()
        self._broker = PaperBroker(settings, feed.symbols)
        self._reader = FeedReader(feed, 0)

    @property
    def ticks(self) -> int:
        """How many ticks it has seen."""
        return self._reader.next_seq

    def go_to(self, total: int) -> list[OrderLine]:
        """Go on to ``total`` ticks, or to the feed's end; returns the orders on the way."""
        self._reader.total = min(total, self._total)
        for ticks in self._reader.batches():
            for piece, signals in self._engine.decisions(ticks, self._reader.join):
                trade(self._engine, self._broker, self._client, piece, signals)
        scale = self._broker.core.scale
        return [of_order(order, scale) for order in self._broker.take_orders()]
