"""The desk of a strategy's orders: what a tick reaches, against a naive twin and by example."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.execution.costs.slippage import Slippage
from app.strategy.kit.order_desk import (
    CANCELED,
    FILLED,
    OPEN,
    OPEN_MAX,
    REFUSED,
    Due,
    Order,
    OrderDesk,
)

BUY, SELL = 1, -1


def desk(bps: float = 0.0) -> OrderDesk:
    return OrderDesk(["A", "B"], Slippage(bps))


def due(found: OrderDesk) -> list[tuple[int, int, float, bool]]:
    """Number, quantity, price and whether a maker, of all that is to be sent."""
    assert found.has_due() == bool(found._due)
    return [(d.order.number, d.qty, d.price, d.maker) for d in found.take(1000)]


def fill(found: OrderDesk, *orders: Order) -> None:
    for order in orders:
        found.answered(order, order.left_qty, refused=False)


def test_a_market_order_takes_the_latest_price_of_its_symbol() -> None:
    mine = desk()
    mine.see(1, 50.0, 0)
    mine.see(0, 100.0, 1)
    mine.place(1, BUY, 3)
    mine.place(0, SELL, 2)
    assert due(mine) == [(1, 3, 50.0, False), (2, 2, 100.0, False)]


def test_an_order_before_the_first_tick_of_its_symbol_waits_for_it() -> None:
    mine = desk()
    market, near, far = mine.place(0, BUY, 1), mine.place(0, BUY, 1, 100), mine.place(0, BUY, 1, 99)
    assert not mine.has_due()
    mine.see(1, 1.0, 0)
    assert not mine.has_due()
    mine.see(0, 99.5, 1)
    assert due(mine) == [(1, 1, 99.5, False), (2, 1, 99.5, False)]
    fill(mine, market, near)
    assert [market.status, near.status, far.status] == [FILLED, FILLED, OPEN]


@pytest.mark.parametrize("side", [BUY, SELL])
def test_a_limit_is_reached_by_a_price_beyond_it_not_by_one_that_touches_it(side: int) -> None:
    mine = desk()
    mine.see(0, 100.0, 0)
    order = mine.place(0, side, 5, 100 - side)
    assert not mine.has_due()
    for seq, price in enumerate([100.0, 100 - side * 0.99, 100.0 - side], 1):
        mine.see(0, price, seq)
        assert not mine.has_due(), price
    mine.see(0, 100 - side * 1.000000001, 4)
    assert due(mine) == [(1, 5, 100.0 - side, True)]
    fill(mine, order)
    assert (order.status, order.filled_qty, mine.open_orders) == (FILLED, 5, ())


def test_a_limit_that_the_market_reaches_at_once_takes_the_market() -> None:
    """With 10 bps of slippage a buyer pays 100.10, so a limit of 100.09 waits."""
    mine = desk(10.0)
    mine.see(0, 100.0, 0)
    mine.place(0, BUY, 1, 100.10)
    mine.place(0, BUY, 1, 100.09)
    mine.place(0, SELL, 1, 99.90)
    mine.place(0, SELL, 1, 99.91)
    assert due(mine) == [(1, 1, 100.0, False), (3, 1, 100.0, False)]


def test_the_rest_of_a_partial_fill_waits_with_a_limit_and_is_canceled_without() -> None:
    mine = desk()
    mine.see(0, 100.0, 0)
    market, limit = mine.place(0, BUY, 10), mine.place(0, BUY, 10, 101.0)
    assert len(due(mine)) == 2
    mine.answered(market, 4, refused=False)
    mine.answered(limit, 4, refused=False)
    assert (market.status, market.filled_qty) == (CANCELED, 4)
    assert (limit.status, limit.left_qty) == (OPEN, 6)
    mine.see(0, 100.5, 1)
    assert due(mine) == [(2, 6, 100.5, False)], "the market is still better than its limit"
    mine.answered(limit, 1, refused=False)
    mine.see(0, 101.5, 2)
    assert not mine.has_due()
    mine.see(0, 101.0, 3)
    assert not mine.has_due(), "it waits now, so a touch is not enough"
    mine.see(0, 100.5, 4)
    assert due(mine) == [(2, 5, 101.0, True)]
    mine.answered(limit, 2, refused=False, maker=True)
    mine.see(0, 100.5, 5)
    assert due(mine) == [(2, 3, 101.0, True)]


def test_cancel() -> None:
    mine = desk()
    mine.see(0, 100.0, 0)
    fresh, resting = mine.place(0, BUY, 1), mine.place(0, BUY, 1, 99.0)
    assert mine.cancel(fresh), "the method that placed it is not done"
    assert not mine.has_due()
    assert mine.cancel(resting)
    assert not mine.cancel(resting), "harmless"
    assert {fresh.status, resting.status} == {CANCELED}
    mine.see(0, 90.0, 1)
    assert not mine.has_due()
    sent = mine.place(0, BUY, 10, 95.0)
    assert len(due(mine)) == 1
    assert mine.cancel(sent), "what is left of it"
    mine.answered(sent, 3, refused=False)
    assert (sent.status, sent.filled_qty) == (CANCELED, 3)
    assert (mine.placed, mine.canceled) == (3, 2)
    with pytest.raises(TypeError, match="what buy, sell or target returned"):
        mine.cancel(7)  # type: ignore[arg-type]


def test_a_refused_order_is_over() -> None:
    mine = desk()
    mine.see(0, 100.0, 0)
    order = mine.place(0, BUY, 10, 101.0)
    due(mine)
    mine.answered(order, 0, refused=True)
    assert (order.status, mine.open_orders) == (REFUSED, ())


def test_orders_are_numbered_within_their_tick() -> None:
    mine = desk()
    mine.see(0, 100.0, 0)
    for _ in range(3):
        mine.place(0, BUY, 1)
    assert mine.has_due()
    first = mine.take(2)
    fill(mine, *(d.order for d in first))
    mine.place(0, SELL, 1)
    assert mine.has_due()
    others = mine.take(9)
    fill(mine, *(d.order for d in others))
    assert [d.nth for d in [*first, *others]] == [0, 1, 2, 3]
    mine.see(0, 100.0, 1)
    mine.place(0, BUY, 1)
    assert mine.has_due()
    assert [d.nth for d in mine.take(9)] == [0]


def test_on_the_way_counts_open_market_orders_only() -> None:
    mine = desk()
    mine.place(0, BUY, 5)
    mine.place(0, SELL, 2)
    mine.place(0, BUY, 9, 1.0)
    mine.place(1, BUY, 7)
    assert (mine.on_the_way(0), mine.on_the_way(1)) == (3, 7)


def test_deaf_nothing_has_an_effect() -> None:
    mine = desk()
    mine.see(0, 100.0, 0)
    waiting = mine.place(0, BUY, 1, 99.0)
    mine.deaf = True
    order = mine.place(0, BUY, 1)
    assert (order.status, mine.cancel(waiting), mine.ignored) == (CANCELED, False, 2)
    assert (mine.placed, mine.open_orders) == (1, (waiting,))
    assert not mine.has_due()


def test_the_end_cancels_what_is_open() -> None:
    mine = desk()
    mine.see(0, 100.0, 0)
    orders = [mine.place(0, BUY, 1, 99.0), mine.place(1, BUY, 1)]
    assert mine.close() == orders
    assert (mine.open_orders, [o.status for o in orders]) == ((), [CANCELED, CANCELED])


@pytest.mark.parametrize("qty", [0, -1, 1.5, True, None, "7", 10**15 + 1, float("nan")], ids=str)
def test_a_quantity_that_no_order_can_have(qty: Any) -> None:
    with pytest.raises(ValueError, match=r"qty .*: must be a whole number of shares, 1 to"):
        desk().place(0, BUY, qty)


@pytest.mark.parametrize(
    "limit", [0, -1.0, 1e-10, 9e9 + 1, True, "7", float("nan"), float("inf"), [1]], ids=str
)
def test_a_limit_that_no_order_can_have(limit: Any) -> None:
    with pytest.raises(ValueError, match=r"limit .*: must be a price above 0, at most"):
        desk().place(0, BUY, 1, limit)


def test_a_limit_has_nine_decimals() -> None:
    mine = desk()
    mine.see(0, 1.0, 0)
    assert mine.place(0, BUY, 1, 1 / 3).limit == 0.333333333


def test_too_many_orders_on_one_tick_or_at_all() -> None:
    mine = desk()
    for _ in range(OPEN_MAX - 1):
        mine.place(0, BUY, 1, 1.0)
    with pytest.raises(ValueError, match="not always place another"):
        mine.place(0, BUY, 1, 1.0)
    mine.see(0, 2.0, 0)
    mine.place(0, BUY, 1, 1.0)
    with pytest.raises(ValueError, match=f"{OPEN_MAX} orders are open"):
        mine.place(0, BUY, 1, 1.0)


# ---- A naive twin


class Naive:
    """Every order looked at on every tick, with exact fractions of prices."""

    def __init__(self, bps: int) -> None:
        self.bps = bps
        self.price: dict[int, Fraction] = {}
        self.orders: list[dict[str, Any]] = []

    def place(self, index: int, sign: int, qty: int, limit: Fraction | None) -> None:
        self.orders.append(
            {
                "index": index, "sign": sign, "left": qty, "limit": limit, "new": True,
                "rests": False, "on": True,
            }
        )  # fmt: skip

    def cancel(self, number: int) -> None:
        self.orders[number]["on"] = False

    def look(self, ticked: int | None) -> Iterator[tuple[int, int, Fraction, bool]]:
        """What is due after a tick of a symbol; None: after the strategy has placed orders."""
        for number, order in enumerate(self.orders, 1):
            price = self.price.get(order["index"])
            if not order["on"] or price is None:
                continue
            sign, limit = order["sign"], order["limit"]
            if not order["rests"]:
                if not order["new"] and ticked != order["index"]:
                    continue
                order["new"] = False
                paid = price + sign * price * self.bps / 10_000
                if limit is None or (paid - limit) * sign <= 0:
                    yield number, order["left"], price, False
                else:
                    order["rests"] = True
            elif ticked == order["index"] and (price - limit) * sign < 0:
                yield number, order["left"], limit, True

    def answer(self, number: int, filled: int, refused: bool) -> None:
        order = self.orders[number - 1]
        order["left"] -= filled
        order["on"] = bool(not refused and order["left"] and order["limit"] is not None)


PRICES = [Fraction(9900 + cents, 100) for cents in range(0, 200, 25)]
action = st.one_of(
    st.tuples(st.just("tick"), st.integers(0, 1), st.sampled_from(PRICES)),
    st.tuples(
        st.just("place"),
        st.integers(0, 1),
        st.sampled_from([BUY, SELL]),
        st.integers(1, 9),
        st.one_of(st.none(), st.sampled_from(PRICES)),
    ),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
)


@given(st.lists(action, max_size=60), st.sampled_from([0, 10, 50]), st.integers(0, 6))
def test_the_desk_sends_what_a_naive_one_does(
    actions: list[tuple[Any, ...]], bps: int, answers: int
) -> None:
    mine, naive = desk(bps), Naive(bps)
    orders: list[Order] = []

    def trade(ticked: int | None) -> None:
        expected = sorted(naive.look(ticked))
        mine.has_due()
        found = sorted(mine.take(100), key=lambda each: each.order.number)
        assert [(d.order.number, d.qty, Fraction(str(d.price)), d.maker) for d in found] == expected
        for each in found:
            answer(each)
        assert not mine.has_due()

    def answer(each: Due) -> None:
        refused = (each.order.number + answers) % 5 == 0
        filled = 0 if refused else max(1, each.qty * (each.nth % 2 + 1) // 2)
        mine.answered(each.order, filled, refused=refused, maker=each.maker)
        naive.answer(each.order.number, filled, refused)

    for seq, (what, *arguments) in enumerate(actions):
        if what == "tick":
            index, price = arguments
            mine.see(index, float(price), seq)
            naive.price[index] = price
            trade(index)
        elif what == "place":
            index, sign, qty, limit = arguments
            orders.append(mine.place(index, sign, qty, None if limit is None else float(limit)))
            naive.place(index, sign, qty, limit)
            trade(None)
        elif orders:
            number = arguments[0] % len(orders)
            was_open = orders[number].is_open
            assert mine.cancel(orders[number]) == was_open
            naive.cancel(number)
        opened = [each["on"] for each in naive.orders]
        assert [order.is_open for order in orders] == opened
        assert mine.open_orders == tuple(order for order in orders if order.is_open)
        assert [order.left_qty for order in orders] == [each["left"] for each in naive.orders]


def test_a_large_taker_pays_for_its_size() -> None:
    """The same limit: 1 share takes at 100.02, 100 would pay 100.20 and so wait."""
    mine = OrderDesk(["A", "B"], Slippage(0, 0, 20, 100))
    mine.see(0, 100.0, 0)
    mine.place(0, BUY, 1, 100.1)
    mine.place(0, BUY, 100, 100.1)
    assert due(mine) == [(1, 1, 100.0, False)]


@given(st.integers(1, 9 * 10**18), st.sampled_from([BUY, SELL]), st.integers(0, 10**6))
def test_a_taker_pays_the_slippage(price: int, side: int, slippage: int) -> None:
    exact = price + side * Fraction(price * slippage, 1_000_000)
    got = Slippage(slippage / 100).taker_price(price, side, 7)
    assert got == max(round(exact - price) + price, 1)
    assert (got - price) * side >= 0 or got == 1
