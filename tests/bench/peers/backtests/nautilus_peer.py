"""NautilusTrader, as in its quick start: an engine with a venue, instruments, ticks, a strategy.

A price is a quote with bid and ask at it, at which a market order executes.  The venue has the
least to do: a book of one level, cash enough, no fees, no latency.
"""

from collections.abc import Callable
from decimal import Decimal

import numpy as np
from common import CASH, LONG, MIDDLE, ORDER, QTY, SHORT, Ticks, main
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.indicators import SimpleMovingAverage
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

VENUE = Venue("SIM")
TICK_SIZE = 1_000_000
"""Shares on offer at each price: more than any order wants."""


class Crossover(Strategy):
    """The rule of the built-in strategy; sentiment is looked up by the number of the tick."""

    def __init__(self, instruments: list[Equity], sentiment: list[int]) -> None:
        super().__init__()
        self.instruments, self.sentiment = instruments, sentiment
        self.seen = 0
        self.filled: list[tuple[int, str, int, float]] = []
        # Own averages of two windows for each symbol, of whole cents.
        self.averages = {
            each.id: (SimpleMovingAverage(SHORT), SimpleMovingAverage(LONG), [0])
            for each in instruments
        }

    def on_start(self) -> None:
        """Ask for the ticks of every symbol."""
        for each in self.instruments:
            self.subscribe_quote_ticks(each.id)

    def on_quote_tick(self, tick: QuoteTick) -> None:
        """Reverse the position where averages and sentiment agree on the other side."""
        sentiment = self.sentiment[self.seen]
        self.seen += 1
        short, long, held = self.averages[tick.instrument_id]
        cents = round(tick.bid_price.as_double() * 100)
        short.update_raw(cents)
        long.update_raw(cents)
        if not long.initialized:
            return
        if short.value > long.value and sentiment > MIDDLE:
            side, wanted = OrderSide.BUY, QTY
        elif short.value < long.value and 0 <= sentiment < MIDDLE:
            side, wanted = OrderSide.SELL, -QTY
        else:
            return
        missing = abs(wanted - held[0])
        if missing:
            held[0] = wanted
            qty = Quantity.from_int(missing)
            self.submit_order(self.order_factory.market(tick.instrument_id, side, qty))

    def on_order_filled(self, event: object) -> None:
        """Note what was executed, and at which tick."""
        qty = int(event.last_qty) * (1 if event.order_side == OrderSide.BUY else -1)
        name = event.instrument_id.symbol.value
        self.filled.append((self.seen - 1, name, qty, event.last_px.as_double()))


def _instrument(name: str) -> Equity:
    return Equity(
        instrument_id=InstrumentId(Symbol(name), VENUE),
        raw_symbol=Symbol(name),
        currency=USD,
        price_precision=2,
        price_increment=Price.from_str("0.01"),
        lot_size=Quantity.from_int(1),
        ts_event=0,
        ts_init=0,
    )


def prepare(ticks: Ticks) -> Callable[[], np.ndarray]:
    """An engine with its data, and the objects of all ticks."""
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(
        venue=VENUE,
        oms_type=OmsType.NETTING,
        account_type=AccountType.MARGIN,
        base_currency=USD,
        starting_balances=[Money(CASH, USD)],
        default_leverage=Decimal(1000),
    )
    instruments = [_instrument(f"S{index}") for index in range(int(ticks.symbol.max()) + 1)]
    for each in instruments:
        engine.add_instrument(each)
    size = Quantity.from_int(TICK_SIZE)
    columns = (column.tolist() for column in (ticks.symbol, ticks.price, ticks.event_ns))
    engine.add_data(
        [
            QuoteTick(instruments[symbol].id, Price(price, 2), Price(price, 2), size, size, ns, ns)
            for symbol, price, ns in zip(*columns, strict=True)
        ]
    )
    strategy = Crossover(instruments, ticks.sentiment.tolist())
    engine.add_strategy(strategy)

    def run() -> np.ndarray:
        engine.run()
        rows = [(tick, int(name[1:]), qty, price) for tick, name, qty, price in strategy.filled]
        engine.dispose()
        return np.array(rows, ORDER)

    return run


main("nautilus_trader", prepare)
