"""A strategy that trades fractions: by money, with floats that have no exact decimals."""

from typing import Any, ClassVar

from app.strategy import Fill, Reject, Strategy


class Coins(Strategy):
    """Holds so much money of each symbol, quotes on both sides, and closes all now and then."""

    ended: ClassVar[list[Any]] = []
    """Instances whose run is over, for tests in the same process."""

    def on_start(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.kinds: set[type] = set()

    def on_tick(self, tick: Any) -> None:
        symbol, held = tick.symbol, self.position(tick.symbol)
        self.kinds.add(type(held))
        for order in self.open_orders:
            if order.symbol == symbol and tick.seq - order.seq > 12:
                self.cancel(order)
        if tick.seq % 29 == 0:
            self.target(symbol, 0)
        elif tick.seq % 7 == 0:
            self.target(symbol, (tick.seq % 5 - 2) * 1000 / tick.price)
        elif tick.seq % 3 == 0 and len(self.open_orders) < 6:
            self.buy(symbol, 0.1 + 0.2, tick.price * 0.9996)
            self.sell(symbol, 0.00000001 + abs(held), tick.price * 1.0004)

    def on_fill(self, fill: Fill) -> None:
        assert fill.order is not None
        self.kinds |= {type(fill.qty), type(fill.order.left_qty)}
        held = self.position(fill.symbol)
        self.told.append((fill.order_id, fill.qty, fill.ordered_qty, held, fill.fee))

    def on_reject(self, reject: Reject) -> None:
        self.told.append((reject.order_id, reject.qty, reject.code))

    def on_stop(self) -> None:
        self.ended.append(self)


class Swing(Strategy):
    """By signals: buys what has risen since its symbol's last tick."""

    def on_start(self) -> None:
        self.last: dict[str, float] = {}

    def on_tick(self, tick: Any) -> str:
        before, self.last[tick.symbol] = self.last.get(tick.symbol, tick.price), tick.price
        return "BUY" if tick.price > before else "SELL" if tick.price < before else "HOLD"
