"""Mean reversion of each symbol, with a stop loss, by target positions."""

from collections import defaultdict

from app.strategy import Param, Strategy


class MeanReversion(Strategy):
    """Buy what is unusually cheap against its own last prices, sell what is unusually dear.

    A price that is far from its mean, in standard deviations, comes back, is the idea.  If it does
    not, the stop loss ends the position, and the symbol is left alone for a while.
    """

    window = Param(120, low=10, high=5_000, help="ticks of the mean")
    entry = Param(2.5, low=0, help="standard deviations from the mean to open")
    exit = Param(0.25, low=0, help="standard deviations from the mean to close")
    stop_bps = Param(60.0, low=0, help="loss of a position that ends it, basis points")
    qty = Param(20.0, low=1e-9, help="shares or coins of a position")
    history_ticks = 5_000

    def on_start(self):
        """No symbol waits."""
        self.waits = defaultdict(int)

    def on_tick(self, tick):
        """Close by the stop or near the mean; open far from it."""
        symbol, held = tick.symbol, self.position(tick.symbol)
        if held and self.loss_bps(tick, held) > self.stop_bps:
            self.target(symbol, 0)
            self.waits[symbol] = self.window
            self.log("stopped out", symbol=symbol, price=tick.price)
            return
        if self.waits[symbol] > 0:
            self.waits[symbol] -= 1
            return
        prices = self.history(symbol, self.window)
        mean, deviation = prices.mean(), prices.std()
        if len(prices) < self.window or deviation < 1e-9 * mean:
            return
        score = (tick.price - mean) / deviation
        if not held and abs(score) > self.entry:
            self.target(symbol, -self.qty if score > 0 else self.qty)
        elif held and score * held > -self.exit * abs(held):
            self.target(symbol, 0)

    def loss_bps(self, tick, held):
        """The loss of the position at this price, in basis points of what was paid."""
        gain = tick.price / self.average_price(tick.symbol) - 1
        return -gain * 10_000 if held > 0 else gain * 10_000
