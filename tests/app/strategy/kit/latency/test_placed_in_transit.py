"""Orders that a strategy places itself, with latency: by example, and against a naive twin."""

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.settings import Settings
from app.execution.costs.latency import Latency
from app.execution.costs.slippage import NO_SLIPPAGE
from app.model.money import to_units
from app.strategy.base import Strategy
from app.strategy.kit.order_desk import CANCELED, FILLED, OPEN, Due, Order, OrderDesk
from tests.app.strategy.kit.latency.test_signals_in_transit import drive, ticks_of

BUY, SELL = 1, -1
MS = 1_000_000


def desk(latency_ms: float = 10.0) -> OrderDesk:
    return OrderDesk(["A", "B"], NO_SLIPPAGE, Latency(latency_ms))


def see(found: OrderDesk, index: int, price: float, at_ms: int) -> list[Due]:
    """What a tick sends."""
    found.see(index, price, at_ms, at_ms * MS)
    return found.take(1000) if found.has_due() else []


def fill(found: OrderDesk, due: list[Due]) -> None:
    for each in due:
        found.answered(each.order, each.qty, refused=False, maker=each.maker)


def test_an_order_meets_the_first_tick_of_its_symbol_that_is_late_enough() -> None:
    mine = desk()
    see(mine, 0, 100.0, 0)
    order = mine.place(0, BUY, 5)
    assert not mine.has_due()
    assert (order.is_open, mine.in_transit, mine.on_the_way(0)) == (True, 1, 5)
    assert see(mine, 0, 101.0, 9) == []
    assert see(mine, 1, 50.0, 10) == [], "of another symbol"
    (due,) = see(mine, 0, 102.5, 12)
    assert (due.order, due.qty, due.price, due.maker) == (order, 5, 102.5, False)
    assert due.moved == to_units(2.5)
    fill(mine, [due])
    assert (order.status, mine.in_transit, mine.on_the_way(0)) == (FILLED, 0, 0)


def test_exactly_the_latency_later_is_late_enough_and_the_market_may_have_moved_in_favor() -> None:
    mine = desk()
    see(mine, 0, 100.0, 0)
    mine.place(0, SELL, 5)
    mine.has_due()
    (due,) = see(mine, 0, 101.0, 10)
    assert due.moved == -to_units(1.0)


@pytest.mark.parametrize(
    ("sign", "limit", "met", "cost"),
    [
        (BUY, 101.0, 100.5, 0.5),  # at the decision the market was at 100.0, within the limit
        (BUY, 99.0, 98.5, -0.5),  # it came to the limit, and half a unit further
        (SELL, 99.0, 99.5, 0.5),
        (SELL, 101.0, 101.5, -0.5),
    ],
)
def test_a_limit_is_compared_with_what_it_could_have_had(
    sign: int, limit: float, met: float, cost: float
) -> None:
    mine = desk()
    see(mine, 0, 100.0, 0)
    mine.place(0, sign, 5, limit)
    (due,) = see(mine, 0, met, 10)
    assert due.moved == to_units(cost)


def test_in_a_symbol_without_a_price_there_is_nothing_that_it_could_have_moved_from() -> None:
    mine = desk()
    see(mine, 0, 100.0, 0)
    mine.place(1, BUY, 5)
    mine.has_due()
    assert see(mine, 1, 50.0, 9) == []
    (due,) = see(mine, 1, 51.0, 10)
    assert (due.price, due.moved) == (51.0, 0)


def test_the_time_of_an_order_is_that_of_the_tick_last_seen() -> None:
    """``on_start`` runs before the first tick; its way begins with that."""
    mine = desk()
    start, gone = mine.place(0, BUY, 1), mine.place(0, BUY, 1, 50.0)
    mine.cancel(gone)
    assert not mine.has_due()
    assert see(mine, 0, 100.0, 1000) == []
    later = mine.place(0, BUY, 2)
    assert see(mine, 0, 100.0, 1009) == []
    assert (gone.status, mine.in_transit) == (OPEN, 3)
    assert [d.order for d in see(mine, 0, 100.0, 1010)] == [start, later]
    assert gone.status == CANCELED


class Hourly(Strategy):
    """Buys at each period of its timer, with what it has seen until then."""

    timer_s = 0.1

    def on_timer(self, event_ns: int) -> None:
        self.told_ns = event_ns
        self.buy("A", 1)

    def on_tick(self, tick: Any) -> None:
        pass


def test_an_order_of_the_timer_is_of_its_time_and_of_the_price_seen_before() -> None:
    """The tick that ends the period comes after it: it may meet it, and is its cost."""
    rows = [(0, 0, 100.0, 0), (0, 50, 101.0, 0), (0, 112, 107.0, 0), (0, 30, 111.0, 0)]
    ticks, script = ticks_of(rows)
    for latency_ms, place, moved in ((10.0, 2, 6.0), (70.0, 3, 10.0)):
        engine, found = drive(Hourly, ticks, script, [], Settings(paper_latency_ms=latency_ms))
        assert isinstance(engine.strategy, Hourly)
        assert engine.strategy.told_ns == 100 * MS
        assert [(o.tick, o.moved) for o in found] == [(place, to_units(moved))]


def test_the_time_of_a_symbol_does_not_go_back() -> None:
    mine = desk()
    see(mine, 0, 100.0, 1000)
    see(mine, 0, 100.0, 900)
    order = mine.place(0, BUY, 1)
    assert see(mine, 0, 100.0, 950) == [], "decided on at 1000"
    assert [d.order for d in see(mine, 0, 100.0, 1010)] == [order]


def test_a_cancel_does_not_overtake_its_order() -> None:
    """A taker is executed, whose cancel comes with the same tick; what it leaves is canceled."""
    mine = desk()
    see(mine, 0, 100.0, 0)
    orders = [mine.place(0, BUY, 4), mine.place(0, BUY, 4, 101.0), mine.place(0, BUY, 4, 99.0)]
    assert all(mine.cancel(order) for order in orders)
    see(mine, 1, 1.0, 15)
    assert [order.status for order in orders] == [OPEN] * 3, "no tick of its symbol yet"
    market, limit = see(mine, 0, 100.0, 20)
    assert [market.order, limit.order] == orders[:2]
    fill(mine, [market])
    mine.answered(limit.order, 3, refused=False)
    assert [order.status for order in orders] == [FILLED, CANCELED, CANCELED]
    assert [order.filled_qty for order in orders] == [4, 3, 0]
    assert mine.canceled == 2


def test_what_a_fill_in_part_leaves_is_not_in_transit() -> None:
    mine = desk()
    see(mine, 0, 100.0, 0)
    order = mine.place(0, BUY, 4, 101.0)
    assert mine.in_transit == 1
    assert len(see(mine, 0, 100.0, 10)) == 1
    mine.answered(order, 1, refused=False)
    assert (order.status, mine.in_transit) == (OPEN, 0)
    (due,) = see(mine, 0, 100.0, 11)
    assert due.qty == 3


def test_a_limit_takes_or_waits_when_it_arrives_and_only_a_taker_has_moved() -> None:
    mine = desk()
    see(mine, 0, 100.0, 0)
    taker, maker = mine.place(0, BUY, 4, 101.0), mine.place(0, BUY, 4, 99.0)
    assert not mine.has_due()
    assert see(mine, 0, 98.0, 5) == [], "in transit nothing is reached"
    (due,) = see(mine, 0, 100.5, 10)
    assert (due.order, due.maker, due.moved) == (taker, False, to_units(0.5))
    mine.answered(taker, 1, refused=False)
    due, made = see(mine, 0, 98.5, 11)
    assert (due.order, due.qty, due.moved) == (taker, 3, to_units(0.5)), "its way was the same"
    assert (made.order, made.price, made.maker, made.moved) == (maker, 99.0, True, 0)


def test_a_cancel_travels_too_and_until_it_arrives_the_order_may_be_executed() -> None:
    mine = desk()
    see(mine, 0, 100.0, 0)
    caught, gone = mine.place(0, BUY, 4, 99.0), mine.place(0, BUY, 4, 98.0)
    mine.has_due()
    assert see(mine, 0, 100.0, 10) == []
    for order in (caught, gone):
        assert mine.cancel(order)
        assert mine.cancel(order), "once more changes nothing"
    assert not mine.has_due()
    assert gone.is_canceling
    (due,) = see(mine, 0, 98.5, 15)
    assert due.order is caught
    fill(mine, [due])
    see(mine, 1, 1.0, 19)
    assert (caught.status, gone.status, caught.is_canceling) == (FILLED, OPEN, False)
    see(mine, 1, 1.0, 20)
    assert (gone.status, mine.canceled) == (CANCELED, 1), "any tick of the market will do"
    assert see(mine, 0, 97.0, 30) == []
    assert not mine.cancel(gone)


def test_what_a_partial_fill_leaves_is_executed_until_the_cancel_arrives() -> None:
    mine = desk()
    see(mine, 0, 100.0, 0)
    order = mine.place(0, BUY, 4, 101.0)
    mine.has_due()
    assert len(see(mine, 0, 100.0, 10)) == 1
    mine.cancel(order)
    mine.answered(order, 1, refused=False)
    assert not mine.has_due()
    assert order.status == OPEN
    assert len(see(mine, 0, 100.0, 19)) == 1
    mine.answered(order, 1, refused=False)
    assert see(mine, 0, 100.0, 20) == []
    assert (order.status, order.filled_qty) == (CANCELED, 2)


def test_at_the_end_of_the_run_what_is_in_transit_is_canceled() -> None:
    mine = desk()
    see(mine, 0, 100.0, 0)
    waits = mine.place(0, BUY, 4, 99.0)
    mine.has_due()
    see(mine, 0, 100.0, 10)
    market = mine.place(0, BUY, 4)
    mine.has_due()
    assert mine.in_transit == 1
    assert mine.close() == [waits, market]
    assert {waits.status, market.status} == {CANCELED}
    assert see(mine, 0, 90.0, 50) == []


# Against a naive twin: random ticks, orders and cancels


class Placed(NamedTuple):
    """When and what; ``cancel_ms``: None, or how much later it is canceled."""

    side: int
    index: int
    limit: float | None
    cancel_ms: int | None


prices = st.sampled_from([98.0, 99.0, 100.0, 101.0, 102.0])
placed = st.builds(
    Placed,
    st.sampled_from([BUY, SELL]),
    st.integers(0, 1),
    st.none() | prices,
    st.none() | st.integers(0, 30),
)
market = st.lists(
    st.tuples(st.integers(0, 1), prices, st.sampled_from([0, 1, 4, 12]), st.none() | placed),
    min_size=1,
    max_size=60,
)
"""Symbol, price, milliseconds since the tick before, what the strategy places on the tick."""


def fate(made: list[Any], at: int, latency_ms: int) -> tuple[int, float, bool, float] | None:
    """Tick, price, whether a maker, and move of the market, of the order placed on tick ``at``.

    Read off the ticks: it arrives with the first of its symbol that is late enough.  A cancel has
    arrived with the first tick of all that is, but not before its order.  None if it is never
    executed.
    """
    times = [sum(row[2] for row in made[: place + 1]) for place in range(len(made))]
    order: Placed = made[at][3]
    canceled_ms = None
    if order.cancel_ms is not None:
        # The strategy cancels on the first tick that is so much later.
        told = [t for t in times[at:] if t >= times[at] + order.cancel_ms]
        canceled_ms = told[0] + latency_ms if told else None
    seen = [row[1] for row in made[: at + 1] if row[0] == order.index]
    rests = False
    for seq in range(at + 1, len(made)):
        index, price = made[seq][:2]
        gone = canceled_ms is not None and times[seq] >= canceled_ms
        if rests and gone:
            return None
        if index != order.index or times[seq] < times[at] + latency_ms:
            continue
        beyond = 0.0 if order.limit is None else (order.limit - price) * order.side
        if not rests and beyond >= 0:
            if not seen:
                return seq, price, False, 0.0
            could = seen[-1]
            if order.limit is not None and (could - order.limit) * order.side > 0:
                could = order.limit
            return seq, price, False, order.side * (price - could)
        if rests and beyond > 0:
            assert order.limit is not None
            return seq, order.limit, True, 0.0
        if gone:
            return None
        rests = True
    return None


@given(market, st.sampled_from([1, 3, 10, 40]))
def test_each_order_ends_as_the_ticks_alone_say(made: list[Any], latency_ms: int) -> None:
    mine = desk(latency_ms)
    orders: dict[int, Order] = {}
    cancels: list[tuple[int, Order]] = []
    found: dict[int, tuple[int, float, bool, float]] = {}
    now_ms = 0
    for seq, (index, price, later_ms, places) in enumerate(made):
        now_ms += later_ms
        mine.see(index, price, seq, now_ms * MS)
        while mine.has_due():
            for due in mine.take(3):
                moved = due.moved / 10**9
                found[due.order.number] = (seq, due.price, due.maker, moved)
                mine.answered(due.order, due.qty, refused=False, maker=due.maker)
        if places is not None:
            order = mine.place(places.index, places.side, 5, places.limit)
            orders[seq] = order
            if places.cancel_ms is not None:
                cancels.append((now_ms + places.cancel_ms, order))
        for cancel_ms, order in cancels:
            if cancel_ms <= now_ms and not order.is_canceling:
                mine.cancel(order)
        assert not mine.has_due(), "nothing is sent on the tick it is decided on"
    for seq, order in orders.items():
        expected = fate(made, seq, latency_ms)
        assert found.get(order.number) == expected, seq
        assert (order.status == FILLED) == (expected is not None)
