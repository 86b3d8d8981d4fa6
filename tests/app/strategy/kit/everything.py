"""A strategy that uses all that a strategy has at hand, and whose trades depend on all of it."""

from typing import Any, ClassVar

from app.strategy import Fill, Param, Reject, Strategy


class Everything(Strategy):
    """Reverts to the mean of the last prices, with a stop loss and a pause after a refusal."""

    span = Param(8, low=2, high=100)
    away = Param(0.0004, low=0)
    stop = Param(0.0006, low=0)
    timer_s = 60
    history_ticks = 100

    ended: ClassVar[list[Any]] = []
    """Instances whose run is over, for tests in the same process."""

    def on_start(self) -> None:
        self.minutes = self.filled = 0
        self.pause: dict[str, int] = {}
        self.seen: list[tuple[Any, ...]] = []
        self.log("started", span=self.span)

    def on_timer(self, event_ns: int) -> None:
        assert event_ns % (60 * 10**9) == 0
        self.minutes += 1
        self.log("minute", number=self.minutes, profit=self.realised() + self.unrealised())

    def on_fill(self, fill: Fill) -> None:
        self.filled += fill.qty
        self.seen.append(tuple(fill))
        # The next decisions depend on the price paid: a bad one makes the strategy wait.
        paid = fill.price - self.history(fill.symbol, 1)[-1]
        self.pause[fill.symbol] = 3 if paid * (1 if fill.side == "BUY" else -1) > 0 else 1

    def on_reject(self, reject: Reject) -> None:
        self.seen.append(tuple(reject))
        self.pause[reject.symbol] = 20

    def on_tick(self, tick: Any) -> str | None:
        if self.pause.get(tick.symbol, 0):
            self.pause[tick.symbol] -= 1
            return None
        prices = self.history(tick.symbol, self.span)
        if len(prices) < self.span:
            return None
        held, paid = self.position(tick.symbol), self.average_price(tick.symbol)
        if paid is not None and (tick.price / paid - 1) * held < -self.stop * abs(held):
            return "FLAT"
        if self.unrealised(tick.symbol) > 4 + self.minutes % 3:
            return "FLAT"
        away = tick.price / prices.mean() - 1
        if abs(away) < self.away * (1 + self.filled % 3) or self.realised() < -10_000:
            return "HOLD"
        return "SELL" if away > 0 else "BUY"

    def on_stop(self) -> None:
        self.ended.append(self)


class Batched(Everything):
    """The same by batches."""

    def on_batch(self, ticks: Any) -> Any:
        signals = self.signal_buffer(len(ticks))
        for at, tick in enumerate(ticks):
            shown = Shown(self.context.symbols[tick["symbol"]], float(tick["price"]))
            word = self.on_tick(shown) or "HOLD"
            signals[at] = {"BUY": 1, "SELL": -1, "FLAT": 2, "HOLD": 0}[word]
        return signals


class Shown:
    """A tick as ``on_tick`` gets it."""

    def __init__(self, symbol: str, price: float) -> None:
        self.symbol, self.price = symbol, price
