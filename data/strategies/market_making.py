"""Market making: a limit order on either side of the price, moved with it."""

from app.strategy import Param, Strategy


class MarketMaker(Strategy):
    """Earn the distance between two quotes, and keep the position small.

    The quotes lean against what is held: who is long quotes lower, to sell sooner and buy later.
    They are moved only when the price has left them, because a new order has to wait again.
    What it loses is the adverse selection: an order is reached when the price goes on against it.
    """

    width_bps = Param(8.0, low=0.1, help="from the middle to either quote, basis points")
    move_bps = Param(4.0, low=0, help="change of the price that moves the quotes")
    qty = Param(10.0, low=1e-9, help="shares or coins of a quote")
    most = Param(50.0, low=1e-9, help="shares or coins held at most, long or short")
    cent = Param(0.01, low=1e-9, help="smallest step of a quote")

    def on_start(self):
        """No quotes yet."""
        self.quoted = {}  # symbol -> the price that its two orders are around

    def on_fill(self, fill):
        """Quote anew at the next tick, from the new position."""
        self.quoted.pop(fill.symbol, None)

    def on_tick(self, tick):
        """Quote, or leave the quotes where they are."""
        symbol, price = tick.symbol, tick.price
        if symbol in self.quoted:
            moved_bps = abs(price / self.quoted[symbol] - 1) * 10_000
            if moved_bps < self.move_bps:
                return
        for order in self.open_orders:
            if order.symbol == symbol:
                self.cancel(order)
        self.quoted[symbol] = price
        held = self.position(symbol)
        width = price * self.width_bps / 10_000
        middle = price - width * held / self.most
        # Never beyond the price itself: a quote waits, it does not take.
        bid = self.rounded(min(middle - width, price - self.cent))
        ask = self.rounded(max(middle + width, price + self.cent))
        if held < self.most and bid > 0:
            self.buy(symbol, min(self.qty, self.most - held), limit=bid)
        if held > -self.most:
            self.sell(symbol, min(self.qty, self.most + held), limit=ask)

    def rounded(self, price):
        """The nearest price that is a multiple of the smallest step."""
        return round(round(price / self.cent) * self.cent, 9)
