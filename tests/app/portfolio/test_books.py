"""The books are a function of the set of fills, and equal sums in Decimal."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext

from hypothesis import given
from hypothesis import strategies as st

from app.model.timestamps import DAY_NS
from app.portfolio.books import Books
from app.portfolio.fills import ALL, Fill, decode_fill
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
    store=st.just("one"),
)
fills_of = st.lists(told, max_size=40, unique_by=lambda t: (t.shard, t.run, t.fill_no))


def fill_of(told: Told) -> Fill:
    return decode_fill(told.message(), told.marks)


def applied(fills: list[Told]) -> Books:
    books = Books()
    for fill in fills:
        books.apply(fill.shard, fill_of(fill))
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
        books.apply(fill.shard, fill_of(fill))
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
        books.apply(fill.shard, fill_of(fill))
    books.begin_day(day)
    assert books.day == max([day, *(fill.at_ns // DAY_NS for fill in fills)])
    check(books, fills)


def test_a_repeat_is_known_by_shard_run_and_number() -> None:
    books = applied([Told()])
    assert not books.apply("a", fill_of(Told(qty=99, symbol="X")))
    assert books.apply("b", fill_of(Told()))
    assert books.apply("a", fill_of(Told(run="s")))
    assert books.apply("a", fill_of(Told(fill_no=2)))
    assert books.lines()["AAPL"].qty == 30 * 10**9, "r has the highest number: s is older"


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
    books.set_market({"AAPL": 90 * 10**9, "NOBODY": 1}, NOON_NS)
    assert exact(books.lines()["AAPL"].pnl) == exact(books.total().pnl) == -20
    assert exact(books.total().exposure) == exact(books.total("a").exposure) == 180
    books.apply("a", fill_of(Told(fill_no=2, qty=1, price=95 * 10**9)))
    assert exact(books.total().pnl) == -25
    later = Told(fill_no=3, qty=1, price=70 * 10**9, at_ns=NOON_NS + 1)
    books.apply("a", fill_of(later))
    assert books.lines()["AAPL"].mark == 70 * 10**9, "a fill after it is newer"


def test_a_new_run_begins_flat_and_the_older_one_is_kept_apart() -> None:
    old = [Told(qty=10), Told(fill_no=2, symbol="X", qty=1), Told(shard="b", symbol="X", qty=5)]
    books = applied([*old, Told(run="s", fill_no=3, qty=2, price=120 * 10**9)])
    assert {symbol: line.qty for symbol, line in books.lines("a").items()} == {"AAPL": 2 * 10**9}
    assert {symbol: line.qty // 10**9 for symbol, line in books.lines().items()} == {
        "AAPL": 2, "X": 5,
    }  # fmt: skip
    assert exact(books.total().exposure) == 240 + 500
    assert exact(books.total().pnl) == 0
    (older,) = books.older_runs()
    assert (older.run, books.run_total(older).held) == ("r", 2)
    assert exact(books.run_total(older).exposure) == 1100


def test_a_late_fill_of_an_older_run_changes_only_that_run() -> None:
    books = applied([Told(), Told(run="s", fill_no=3), Told(fill_no=2, qty=100)])
    assert books.lines()["AAPL"].qty == 10 * 10**9
    (older,) = books.older_runs()
    assert exact(books.run_total(older).exposure) == 11_000


def test_a_run_that_is_taken_up_again_is_the_latest_and_keeps_its_day() -> None:
    """Its part of the day begins when the day did, also if it was an older run then."""
    yesterday = [Told(qty=10), Told(run="s", fill_no=2)]
    books = applied(yesterday)
    books.begin_day(NOON_NS // DAY_NS + 1)
    again = Told(fill_no=3, qty=1, price=110 * 10**9, at_ns=NOON_NS + DAY_NS)
    books.apply("a", fill_of(again))
    assert books.current["a"].run == "r"
    line = books.lines()["AAPL"]
    assert (line.qty, exact(line.day_pnl)) == (11 * 10**9, 100)


def test_another_store_has_other_fills_under_the_same_numbers() -> None:
    books = applied([Told(store="one"), Told(fill_no=2, store="one")])
    assert books.apply("a", fill_of(Told(qty=3, store="two")))
    assert not books.apply("a", fill_of(Told(qty=3, store="two")))
    assert books.current["a"] == ("a", "two", "r")
    assert books.lines()["AAPL"].qty == 3 * 10**9
    assert books.apply("a", fill_of(Told(fill_no=3)))
    assert books.current["a"] == ("a", "one", "r"), "the first store is back, and goes on"
