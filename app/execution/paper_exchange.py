"""Paper execution: orders execute against a price source, without a market."""

import random
from collections.abc import Iterable, Sequence
from typing import Final

from app.execution.prices import PriceSource
from app.execution.venue import Execution, Report
from app.model.money import MAX_PRICE, UNITS, divide, money_text, to_units
from app.model.orders import BUY, IOC, LIMIT, PLAIN, SIDE_NAMES, Order
from app.model.reject_codes import RejectCode

SLIPPAGE_SCALE: Final = 1_000_000
"""Slippage is counted in hundredths of a basis point."""
MAX_UNITS: Final = MAX_PRICE * UNITS


class Fees:
    """What the exchange takes for an order: per share and of its notional, at least a minimum.

    An order costs ``qty * per_share + notional * bps / 10,000`` of all it has executed, rounded
    to the nearest unit of 1e-9 (half to even), or the minimum if that is more; an order without an
    execution costs nothing.  An execution costs what the order costs with it, less what it cost
    before.  So the sum does not depend on how an order was executed, and a restart changes nothing.
    """

    def __init__(self, per_share: float = 0.0, bps: float = 0.0, minimum: float = 0.0) -> None:
        self._per_share, self._minimum = to_units(per_share), to_units(minimum)
        self._bps = to_units(bps)  # in 1e-9 of a basis point
        self.any = bool(self._per_share or self._minimum or self._bps)

    def of(self, qty: int, notional: int) -> int:
        """The fee of an order that has executed ``qty`` for ``notional``, in units."""
        if not qty:
            return 0
        share = divide(notional * self._bps, 10_000 * UNITS)
        return max(qty * self._per_share + share, self._minimum)


NO_FEES: Final = Fees()


class PaperExchange:
    """Executes against a price source, with slippage, half a spread, fees and a fill ratio.

    - Slippage and half the spread make a price worse; both together are called the slippage here,
      counted in hundredths of a basis point and rounded once (half to even).
    - A PLAIN order executes at the market's price, worse by the slippage; what it leaves is
      canceled.  For a strategy's order, the market is the tick it was decided on.  For any other
      it is the book, and the order is rejected if that is worse than the price it names.
    - A MARKET order executes at the book's price, worse by the slippage; without a price it is
      rejected.
    - A LIMIT order executes when the book's price after slippage reaches its limit; the remainder
      waits (GTC, DAY) until the book crosses, or is canceled (IOC).

    The fill ratio limits an execution to a random share of the open quantity, from the ratio up to
    all of it, at least 1.  The draw depends on the seed, the order's id, symbol and filled
    quantity, so the same history gives the same fills, also across a restart and in a backtest.
    A resting order executes at most once per book update.
    """

    def __init__(
        self,
        prices: PriceSource,
        slippage_bps: float = 0.0,
        fill_percent: int = 100,
        seed: int = 0,
        half_spread_bps: float = 0.0,
        fees: Fees = NO_FEES,
    ) -> None:
        self._prices, self._fees = prices, fees
        self._slippage = round(slippage_bps * 100) + round(half_spread_bps * 100)
        self._fill_percent = fill_percent
        self._seed = seed
        self._resting: dict[str, dict[int, Order]] = {}
        """Symbol -> order number -> order: a symbol without an update costs a single read."""
        self._seen: dict[str, int] = {}
        """Symbol -> sequence of the last book update that its resting orders have seen."""

    def submit(self, order: Order, *, at_tick: bool) -> Report:
        """Execute what the current price allows; rest or cancel the remainder."""
        tick_price = order.price if at_tick and order.type == PLAIN else None
        if tick_price is None:
            price = self._price_now(order)
        else:
            price = self._slipped(tick_price, order.side)
        if order.type == LIMIT:
            return self._execute_or_rest(order, price)
        if price is None:
            return Report(reject=(RejectCode.NO_MARKET, f"no price of {order.symbol} in the book"))
        if order.type == PLAIN and tick_price is None and not _marketable(order, price):
            return _off_the_market(order, price)
        if price > MAX_UNITS:
            return _beyond_money(order, price)
        return Report((self._execution(order, price),))

    def _execute_or_rest(self, order: Order, price: int | None) -> Report:
        done: tuple[Execution, ...] = ()
        if price is not None and _marketable(order, price):
            done = (self._execution(order, price),)
        rests = order.tif != IOC and not (done and done[0].qty == order.qty)
        if rests:
            self._rest(order)
        return Report(done, rests)

    def cancel(self, order: Order) -> None:
        """Forget a resting order."""
        self._resting.get(order.symbol, {}).pop(order.order_no, None)

    def poll(self) -> Iterable[tuple[Order, Execution]]:
        """Check the resting orders of each symbol whose book has an update."""
        for symbol, orders in self._resting.items():
            if not orders:
                continue
            book = self._prices.read(symbol)
            if book is None or book.seq == self._seen.get(symbol):
                continue
            self._seen[symbol] = book.seq
            for order in list(orders.values()):
                price = self._slipped(book.price, order.side)
                if _marketable(order, price):
                    execution = self._execution(order, price)
                    if execution.qty == order.qty - order.filled_qty:
                        del orders[order.order_no]
                    yield order, execution

    def _rest(self, order: Order) -> None:
        self._resting.setdefault(order.symbol, {})[order.order_no] = order

    def committed(self) -> None:
        """Nothing to do: paper executes immediately."""

    def restore(self, orders: Sequence[Order]) -> None:
        """Rest these orders and no others."""
        self._resting.clear()
        self._seen.clear()
        for order in orders:
            self._rest(order)

    def _price_now(self, order: Order) -> int | None:
        """The price the order would get now: the book's, worse by the slippage."""
        book = self._prices.read(order.symbol)
        return None if book is None else self._slipped(book.price, order.side)

    def _slipped(self, price: int, side: int) -> int:
        worse = divide(price * self._slippage, SLIPPAGE_SCALE)
        return max(price + worse, 1) if side == BUY else max(price - worse, 1)

    def _execution(self, order: Order, price: int) -> Execution:
        qty = self._quantity_now(order)
        if not self._fees.any:
            return Execution(qty, price)
        before = self._fees.of(order.filled_qty, order.filled_notional)
        after = self._fees.of(order.filled_qty + qty, order.filled_notional + qty * price)
        return Execution(qty, price, after - before)

    def _quantity_now(self, order: Order) -> int:
        """The quantity that executes now."""
        left = order.qty - order.filled_qty
        if self._fill_percent == 100:
            return left
        draw = random.Random(f"{self._seed}/{order.id}/{order.symbol}/{order.filled_qty}")
        return max(left * draw.randint(self._fill_percent, 100) // 100, 1)


def _marketable(order: Order, price: int) -> bool:
    assert order.price is not None
    return price <= order.price if order.side == BUY else price >= order.price


def _off_the_market(order: Order, price: int) -> Report:
    """Reject an order that executes at once or not at all, and that names a better price."""
    assert order.price is not None
    msg = (
        f"{SIDE_NAMES[order.side]} at {money_text(order.price)} does not reach the market's "
        f'{money_text(price)}: name a price that does, or send "type":"LIMIT" to wait for one'
    )
    return Report(reject=(RejectCode.NOT_MARKETABLE, msg))


def _beyond_money(order: Order, price: int) -> Report:
    """Reject an order whose price is more than the store's 64 bits hold."""
    msg = (
        f"{order.symbol} at {money_text(price)}, slippage included, is above the largest price "
        f"{MAX_PRICE}: set a lower PAPER_SLIPPAGE_BPS or PAPER_HALF_SPREAD_BPS"
    )
    return Report(reject=(RejectCode.PRICE_TOO_HIGH, msg))
