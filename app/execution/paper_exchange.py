"""Paper execution: orders execute against a price source, without a market.

The echo venue does without prices, too.
"""

import random
from collections.abc import Iterable, Sequence
from typing import Final

from app.execution.costs.fees import NO_FEES, Fees
from app.execution.costs.slippage import NO_SLIPPAGE, Slippage
from app.execution.prices import PriceSource
from app.execution.venue import Execution, Report, execution_of, report_of
from app.model.money import MAX_PRICE, UNITS, money_text
from app.model.orders import BUY, IOC, LIMIT, PLAIN, SIDE_NAMES, Order
from app.model.reject_codes import RejectCode

MAX_UNITS: Final = MAX_PRICE * UNITS


class PaperExchange:
    """Executes against a price source, with slippage, fees and a fill ratio.

    - Slippage, half the spread and the impact of the order's size make a price worse; all three
      together are called the slippage here (:class:`Slippage`).
    - A PLAIN order executes at the market's price, worse by the slippage; what it leaves is
      canceled.  For a strategy's order, the market is the tick it was decided on.  For any other
      it is the book, and the order is rejected if that is worse than the price it names.
    - A MARKET order executes at the book's price, worse by the slippage; without a price it is
      rejected.
    - A LIMIT order executes when the book's price after slippage reaches its limit; the remainder
      waits (GTC, DAY) until the book crosses, or is canceled (IOC).
    - A strategy's LIMIT order that is IOC has waited in the strategy until its tick reached it.  It
      executes at its own price, without slippage: it was there first.

    The fill ratio limits an execution to a random share of the open quantity, from the ratio up to
    all of it, at least 1.  The draw depends on the seed, the order's id, symbol and filled
    quantity, so the same history gives the same fills, also across a restart and in a backtest.
    A resting order executes at most once per book update.
    """

    def __init__(
        self,
        prices: PriceSource,
        slippage: Slippage = NO_SLIPPAGE,
        fill_percent: int = 100,
        seed: int = 0,
        fees: Fees = NO_FEES,
    ) -> None:
        self._prices, self._fees, self._slippage = prices, fees, slippage
        self._is_free = not (fees.any or slippage.any)
        self._fill_percent = fill_percent
        self._seed = seed
        self._resting: dict[str, dict[int, Order]] = {}
        """Symbol -> order number -> order: a symbol without an update costs a single read."""
        self._seen: dict[str, int] = {}
        """Symbol -> sequence of the last book update that its resting orders have seen."""

    @property
    def takes_all_as_asked(self) -> bool:
        """Whether each PLAIN order at its tick executes whole, at its own price, for nothing."""
        own = type(self) in (PaperExchange, EchoVenue)  # a class of others may refuse
        return own and self._is_free and self._fill_percent == 100

    def submit(self, order: Order, at_tick: bool) -> Report:
        """Execute what the current price allows; rest or cancel the remainder."""
        if at_tick and order.type == LIMIT and order.tif == IOC:
            assert order.price is not None
            return report_of((self._execution(order, order.price, order.price),), False, None)
        tick_price = order.price if at_tick and order.type == PLAIN else None
        market = self._market(order) if tick_price is None else tick_price
        if market is None:
            if order.type == LIMIT:
                return self._execute_or_rest(order, None, 0)
            return Report(reject=(RejectCode.NO_MARKET, f"no price of {order.symbol} in the book"))
        price = self._slipped(market, order)
        if order.type == LIMIT:
            return self._execute_or_rest(order, price, market)
        if order.type == PLAIN and tick_price is None and not _marketable(order, price):
            return _off_the_market(order, price)
        if price > MAX_UNITS:
            return _beyond_money(order, price)
        return report_of((self._execution(order, price, market),), False, None)

    def _execute_or_rest(self, order: Order, price: int | None, market: int) -> Report:
        done: tuple[Execution, ...] = ()
        if price is not None and _marketable(order, price):
            done = (self._execution(order, price, market),)
        rests = order.tif != IOC and not (done and done[0].qty == order.qty)
        if rests:
            self._rest(order)
        return report_of(done, rests, None)

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
                price = self._slipped(book.price, order)
                if _marketable(order, price):
                    execution = self._execution(order, price, book.price)
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

    def _market(self, order: Order) -> int | None:
        """The book's price now."""
        book = self._prices.read(order.symbol)
        return None if book is None else book.price

    def _slipped(self, market: int, order: Order) -> int:
        return self._slippage.taker_price(market, order.side, order.qty)

    def _execution(self, order: Order, price: int, market: int) -> Execution:
        qty = self._quantity_now(order)
        if self._is_free:
            return execution_of(qty, price, 0, 0, 0)
        before = self._fees.of(order.filled_qty, order.filled_notional)
        after = self._fees.of(order.filled_qty + qty, order.filled_notional + qty * price)
        worse = abs(price - market)
        flat = min(self._slippage.flat(market), worse)
        return execution_of(qty, price, after - before, qty * flat, qty * (worse - flat))

    def _quantity_now(self, order: Order) -> int:
        """The quantity that executes now."""
        left = order.qty - order.filled_qty
        if self._fill_percent == 100:
            return left
        draw = random.Random(f"{self._seed}/{order.id}/{order.symbol}/{order.filled_qty}")
        return max(left * draw.randint(self._fill_percent, 100) // 100, 1)


class EchoVenue(PaperExchange):
    """The paper exchange, except that it takes the price of a PLAIN order for the market's.

    For trying a client of the order port without the rest of the stack.
    """

    def submit(self, order: Order, at_tick: bool) -> Report:
        """Execute what the current price allows; rest or cancel the remainder."""
        return PaperExchange.submit(self, order, at_tick or order.type == PLAIN)


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
        f"{MAX_PRICE}: set a lower PAPER_SLIPPAGE_BPS, PAPER_HALF_SPREAD_BPS or PAPER_IMPACT_BPS"
    )
    return Report(reject=(RejectCode.PRICE_TOO_HIGH, msg))
