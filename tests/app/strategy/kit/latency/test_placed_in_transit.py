"""Orders that a strategy places itself, with latency: by example, and against a naive twin."""

from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from app.execution.costs.latency import Latency
from app.execution.costs.slippage import NO_SLIPPAGE
from app.model.money import to_units
from app.strategy.kit.order_desk import CANCELED, FILLED, OPEN, Due, Order, OrderDesk

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


def test_in_a_symbol_without_a_price_there_is_nothing_that_it_could_have_moved_from() -> None:
    mine = desk()
    see(mine, 0, 100.0, 0)
    mine.place(1, BUY, 5)
    mine.has_due()
    assert see(mine, 1, 50.0, 9) == []
    (due,) = see(mine, 1, 51.0, 10)
    assert (due.price, due.moved) == (51.0, 0)


def test_the_time_of_an_order_is_that_of_the_tick_which_its_method_belongs_to() -> None:
    """``on_timer`` runs before the desk sees its tick, and ``on_start`` before the first."""
    mine = desk()
    start = mine.place(0, BUY, 1)
    assert see(mine, 0, 100.0, 1000) == []
    timer = mine.place(0, BUY, 2)
    assert see(mine, 0, 100.0, 1009) == []
    assert [d.order for d in see(mine, 0, 100.0, 1018)] == [start]
    assert [d.order for d in see(mine, 0, 100.0, 1019)] == [timer]


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

    Read off the ticks: it arrives with the first of its symbol that is late enough, and a cancel
    has arrived with the first tick of all that is.  None if it is never executed.
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
        if canceled_ms is not None and times[seq] >= canceled_ms:
            return None
        if index != order.index or times[seq] < times[at] + latency_ms:
            continue
        beyond = 0.0 if order.limit is None else (order.limit - price) * order.side
        if not rests and beyond >= 0:
            return seq, price, False, order.side * (price - seen[-1]) if seen else 0.0
        if rests and beyond > 0:
            assert order.limit is not None
            return seq, order.limit, True, 0.0
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
