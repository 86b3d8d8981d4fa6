"""The books are a function of the set of fills, and equal sums in Decimal."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext

from hypothesis import given
from hypothesis import strategies as st

from app.model.timestamps import DAY_NS
from app.portfolio.books import Books
from app.portfolio.fills import ALL, decode_fill
from tests.app.portfolio.fill_messages import NOON_NS, Told, decimal_sums

SHARDS, SYMBOLS = ("a", "b", "c"), ("AAPL", "MSFT", "X")

amounts = st.integers(0, 10**14)
told = st.builds(
    Told,
    shard=st.sampled_from(SHARDS),
    run=st.sampled_from(["r", "s"]),
    fill_no=st.integers(1, 60),
    at_ns=st.integers(NOON_NS - 2 * DAY_NS, NOON_NS + 2 * DAY_NS),
    symbol=st.sampled_from(SYMBOLS),
    side=st.sampled_from(["BUY", "SELL"]),
    qty=st.integers(1, 10**15),
    price=st.integers(1, 9 * 10**18),
    fee=st.integers(-(10**9), 10**12),
    slippage=amounts,
    impact=amounts,
    borrow=amounts,
    qty_decimals=st.integers(0, 9),
)
fills_of = st.lists(told, max_size=40, unique_by=lambda t: (t.shard, t.run, t.fill_no))


def applied(fills: list[Told]) -> Books:
    books = Books()
    for fill in fills:
        books.apply(fill.shard, decode_fill(fill.message()))
    return books


def exact(units: int) -> Decimal:
    return Decimal(ALL.amount_text(units))


def check(books: Books, fills: list[Told], shard: str | None = None) -> None:
    lines, total = books.lines(shard), books.total(shard)
    today = datetime.fromtimestamp(0, UTC) + timedelta(days=books.day)
    sums = decimal_sums(fills, today.strftime("%Y-%m-%d"))
    assert list(lines) == list(sums)
    for symbol, line in lines.items():
        expected = sums[symbol]
        assert Decimal(ALL.qty_text(line.qty)) == expected.qty
        assert Decimal(line.mark).scaleb(-9) == expected.mark
        assert exact(line.pnl) == expected.pnl
        assert exact(line.day_pnl) == expected.day_pnl
        assert exact(line.costs.fees) == expected.fees
        assert exact(line.costs.turnover) == expected.turnover
    with localcontext() as context:
        context.prec = 200
        assert exact(total.exposure) == sum(abs(s.qty * s.mark) for s in sums.values())
        assert exact(total.pnl) == sum(s.pnl for s in sums.values())
        assert exact(total.day_pnl) == sum(s.day_pnl for s in sums.values())
        assert exact(total.costs.fees) == sum(s.fees for s in sums.values())
    assert total.held == sum(s.qty != 0 for s in sums.values())


@given(fills_of, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_give_the_decimal_sums(
    fills: list[Told], rng: random.Random
) -> None:
    delivered = fills + rng.choices(fills, k=len(fills)) if fills else []
    rng.shuffle(delivered)
    books = Books()
    for fill in delivered:
        books.apply(fill.shard, decode_fill(fill.message()))
        if rng.random() < 0.3:  # what is kept between two looks must not show
            books.total()
    check(books, fills)
    for shard in SHARDS:
        check(books, [fill for fill in fills if fill.shard == shard], shard)


@given(fills_of, st.lists(st.integers(0, 40), min_size=1), st.integers(0, 6))
def test_the_clock_may_begin_the_day_at_any_moment(
    fills: list[Told], moments: list[int], days: int
) -> None:
    """The day of the clock comes before, between or after the fills of older days."""
    day = (NOON_NS - 3 * DAY_NS) // DAY_NS + days
    books = Books()
    for index, fill in enumerate(fills):
        if index in moments:
            books.begin_day(day)
        books.apply(fill.shard, decode_fill(fill.message()))
    books.begin_day(day)
    assert books.day == max([day, *(fill.at_ns // DAY_NS for fill in fills)])
    check(books, fills)


def test_a_repeat_is_known_by_shard_run_and_number() -> None:
    books = applied([Told()])
    assert not books.apply("a", decode_fill(Told(qty=99, symbol="X").message()))
    assert books.apply("b", decode_fill(Told().message()))
    assert books.apply("a", decode_fill(Told(run="s").message()))
    assert books.apply("a", decode_fill(Told(fill_no=2).message()))
    assert books.lines()["AAPL"].qty == 40 * 10**9


def test_a_moved_symbol_counts_with_what_its_shards_hold_together() -> None:
    books = applied(
        [
            Told(shard="a", side="BUY", qty=10, price=100 * 10**9),
            Told(shard="b", side="SELL", qty=4, price=110 * 10**9, at_ns=NOON_NS + 1),
        ]
    )
    line = books.lines()["AAPL"]
    assert ALL.qty_text(line.qty) == "6"
    assert exact(books.total().exposure) == 660
    assert exact(line.pnl) == 100  # both at 110: 10 bought at 100, 4 sold at 110
    assert exact(books.total("a").exposure) == 1000, "a shard alone knows its own price"


def test_a_price_of_the_market_is_used_while_it_is_known() -> None:
    books = applied([Told(qty=2, price=100 * 10**9)])
    assert exact(books.total().pnl) == 0
    books.set_market({"AAPL": 90 * 10**9, "NOBODY": 1})
    assert exact(books.lines()["AAPL"].pnl) == exact(books.total().pnl) == -20
    assert exact(books.total().exposure) == exact(books.total("a").exposure) == 180
    books.apply("a", decode_fill(Told(fill_no=2, qty=1, price=95 * 10**9).message()))
    assert exact(books.total().pnl) == -25
