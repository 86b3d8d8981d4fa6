"""Strategies that place their own orders, for tests; their trades depend on all that they see."""

from typing import Any, ClassVar

from app.strategy import Fill, Param, Reject, Strategy


class Placing(Strategy):
    """Quotes on both sides, chases after fills, reduces at the minute, and pauses when refused."""

    width = Param(0.0004, low=0)
    most = Param(40, low=1)
    timer_s = 60

    ended: ClassVar[list[Any]] = []
    """Instances whose run is over, for tests in the same process."""

    def on_start(self) -> None:
        self.pause: dict[str, int] = {}
        self.told: list[tuple[Any, ...]] = []
        self.first = self.buy(0, 3)
        self.buy(1, 5, 1e-9)  # never reached

    def on_timer(self, event_ns: int) -> None:
        for symbol in self.context.symbols[:2]:
            self.target(symbol, self.position(symbol) // 2)

    def on_fill(self, fill: Fill) -> None:
        order = fill.order
        assert order is not None
        self.told.append((*fill[:10], order.number, order.left_qty, order.status, fill.maker))
        if fill.maker and fill.seq % 3 == 0:
            away = self.width * (2 if fill.side == "BUY" else -2)
            place = self.sell if fill.side == "BUY" else self.buy
            place(fill.symbol, fill.qty, round(fill.price * (1 + away), 2))

    def on_reject(self, reject: Reject) -> None:
        assert reject.order is not None
        self.told.append((*reject[:8], reject.order.number, reject.order.status))
        self.pause[reject.symbol] = 20

    def on_tick(self, tick: Any) -> None:
        symbol, held = tick.symbol, self.position(tick.symbol)
        mine = [order for order in self.open_orders if order.symbol == symbol]
        if self.pause.get(symbol, 0):
            self.pause[symbol] -= 1
            return
        for order in mine:
            if order.limit is not None and tick.seq - order.seq > 40:
                self.cancel(order)
        if len(mine) > 6:
            return
        if tick.seq % 11 == 0:  # of another symbol, at its latest price
            self.target(self.context.symbols[tick.seq // 11 % 3], tick.seq % 7 - 3)
        if held < self.most:
            self.buy(symbol, 10, round(tick.price * (1 - self.width), 2))
        if held > -self.most:
            self.sell(symbol, 10, round(tick.price * (1 + self.width), 2))
        if tick.seq % 13 == 0:  # both at once, one of them a taker
            self.buy(symbol, 4, round(tick.price * 1.01, 2))
            self.sell(symbol, 6)

    def on_stale(self, age_s: float) -> None:
        for order in self.open_orders:
            self.cancel(order)
        self.target(0, 0)

    def on_stop(self) -> None:
        self.ended.append(self)
