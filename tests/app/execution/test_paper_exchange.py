"""Paper execution: marketable and resting orders, slippage, partial fills; the shared book."""

import secrets
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.execution.costs.fees import Fees
from app.execution.costs.slippage import Slippage
from app.execution.paper_exchange import EchoVenue, PaperExchange
from app.execution.prices import BookPrice
from app.execution.venue import Execution, Report, Venue
from app.model.money import UNITS
from app.model.orders import (
    ACCEPT,
    BUY,
    DAY,
    GTC,
    IOC,
    LIMIT,
    MARKET,
    OPEN_STATES,
    PENDING_NEW,
    PLAIN,
    SELL,
    Order,
)
from app.model.reject_codes import RejectCode
from app.order_manager.book_prices import SharedBookPrices
from tests.support.orders.prices import Prices


def order(kind: int, side: int = BUY, qty: int = 10, price: float = 100.0, tif: int = GTC) -> Order:
    units = None if kind == MARKET else round(price * UNITS)
    made = Order(1, 1, 1, 0, side, "AAPL", qty, units, kind, tif, None, PENDING_NEW)
    made.apply(ACCEPT)
    return made


def at(price: float, seq: int) -> BookPrice:
    return BookPrice(round(price * UNITS), 0, seq)


def test_implements_the_venue_port() -> None:
    venue: Venue = PaperExchange(Prices())
    venue.committed()


@pytest.mark.parametrize(("side", "price"), [(BUY, 101.0), (SELL, 99.0)])
def test_strategys_order_executes_at_its_ticks_price_worse_by_the_slippage(
    side: int, price: float
) -> None:
    venue = PaperExchange(Prices(AAPL=50.0), Slippage(100))
    report = venue.submit(order(PLAIN, side), at_tick=True)
    slippage = 10 * abs(round(price * UNITS) - 100 * UNITS)
    assert report == Report((Execution(10, round(price * UNITS), 0, slippage),))


@pytest.mark.parametrize("side", [BUY, SELL])
def test_a_strategys_order_that_has_waited_executes_at_its_own_price(side: int) -> None:
    prices = Prices(AAPL=50.0)
    venue = PaperExchange(prices, Slippage(100, 50), fees=Fees(per_share=0.01))
    waited = order(LIMIT, side, price=100.0, tif=IOC)
    report = venue.submit(waited, at_tick=True)
    assert report == Report((Execution(10, 100 * UNITS, UNITS // 10),))
    partly = PaperExchange(prices, fill_percent=30, seed=3).submit(waited, at_tick=True)
    assert not partly.rests
    assert 3 <= partly.executions[0].qty <= 10


@pytest.mark.parametrize("venue", [PaperExchange, EchoVenue])
def test_nobody_else_gets_that_price(venue: type[PaperExchange]) -> None:
    """Without the proof of a strategy, such an order executes at the book's price or not at all."""
    made = venue(Prices(AAPL=50.0), Slippage(100))
    by_hand = order(LIMIT, BUY, price=100.0, tif=IOC)
    assert made.submit(by_hand, at_tick=False) == Report(
        (Execution(10, round(50.5 * UNITS), slippage=5 * UNITS),)
    )
    assert made.submit(order(LIMIT, BUY, price=50.0, tif=IOC), at_tick=False) == Report()


def test_half_the_spread_is_added_to_the_slippage_before_the_rounding() -> None:
    venue = PaperExchange(Prices(), Slippage(0.5, 0.25))
    for side in (BUY, SELL):
        made = order(PLAIN, side, price=2e-6)  # 2,000 units, of which 0.75 bps is 0.15
        assert venue.submit(made, at_tick=True).executions[0].price == 2000
        made = order(PLAIN, side, price=1e-5)  # 10,000 units: 0.75 each, and together
        assert venue.submit(made, at_tick=True).executions[0].price == 10_000 + side


@pytest.mark.parametrize(
    ("fees", "qty", "price", "fee"),
    [
        (Fees(per_share=0.005), 300, 10.0, 1.5),
        (Fees(bps=2.5), 300, 10.0, 0.75),
        (Fees(per_share=0.005, bps=2.5), 300, 10.0, 2.25),
        (Fees(per_share=0.005, minimum=1.0), 300, 10.0, 1.5),
        (Fees(per_share=0.005, minimum=2.0), 300, 10.0, 2.0),
        (Fees(minimum=0.35), 1, 10.0, 0.35),
        (Fees(), 300, 10.0, 0.0),
        # Half a unit: to the even one.
        (Fees(bps=0.5), 1, 1e-5, 0.0),
        (Fees(bps=0.5), 3, 1e-5, 2e-9),
        (Fees(bps=0.000000001), 10**9, 9e6, 900.0),
    ],
)
def test_the_fee_of_an_order(fees: Fees, qty: int, price: float, fee: float) -> None:
    venue = PaperExchange(Prices(), fees=fees)
    (execution,) = venue.submit(order(PLAIN, qty=qty, price=price), at_tick=True).executions
    assert execution.fee == round(fee * UNITS)


@given(
    st.lists(st.tuples(st.integers(1, 500), st.integers(1, 10**14)), min_size=1, max_size=8),
    st.floats(0, 10), st.floats(0, 1000), st.floats(0, 1000),
)  # fmt: skip
def test_an_orders_fee_does_not_depend_on_how_it_was_executed(
    executions: list[tuple[int, int]], per_share: float, bps: float, least: float
) -> None:
    fees = Fees(per_share, bps, least)
    made = order(LIMIT, qty=sum(qty for qty, _ in executions))
    paid = 0
    for qty, price in executions:
        before = fees.of(made.filled_qty, made.filled_notional)
        made.fill(qty, price)
        step = fees.of(made.filled_qty, made.filled_notional) - before
        assert step >= 0
        paid += step
    notional = sum(qty * price for qty, price in executions)
    exact = sum(qty for qty, _ in executions) * round(Fraction(repr(per_share)) * UNITS)
    exact += round(Fraction(notional) * round(Fraction(repr(bps)) * UNITS) / (10_000 * UNITS))
    assert paid == max(exact, round(Fraction(repr(least)) * UNITS))


def test_a_resting_order_pays_the_minimum_once_also_after_a_restart() -> None:
    prices = Prices(AAPL=101.0)
    fees = Fees(per_share=0.001, minimum=0.5)
    resting, paid, seq = order(LIMIT, qty=1000, tif=DAY), 0, 2
    while resting.status in OPEN_STATES:
        venue = PaperExchange(prices, fill_percent=30, fees=fees)
        venue.restore([resting])
        prices.book["AAPL"] = at(99.0, seq)
        ((_, execution),) = venue.poll()
        resting.fill(execution.qty, execution.price)
        paid += execution.fee
        seq += 1
    assert seq > 4
    assert paid == UNITS


def test_strategys_order_is_filled_in_part() -> None:
    venue = PaperExchange(Prices(), fill_percent=10)
    (execution,) = venue.submit(order(PLAIN, qty=1000), at_tick=True).executions
    assert 100 <= execution.qty < 1000


@pytest.mark.parametrize(
    ("side", "limit", "slippage_bps", "price"),
    [(BUY, 100.0, 0, 50.0), (BUY, 50.0, 0, 50.0), (BUY, 50.5, 100, 50.5), (SELL, 1.0, 0, 50.0)],
)
def test_order_by_hand_executes_at_the_market(
    side: int, limit: float, slippage_bps: int, price: float
) -> None:
    venue = PaperExchange(Prices(AAPL=50.0), Slippage(slippage_bps))
    report = venue.submit(order(PLAIN, side, price=limit), at_tick=False)
    slippage = 10 * abs(round(price * UNITS) - 50 * UNITS)
    assert report == Report((Execution(10, round(price * UNITS), 0, slippage),))


@pytest.mark.parametrize(
    ("side", "limit", "slippage_bps"), [(BUY, 49.99, 0), (BUY, 50.4, 100), (SELL, 50.01, 0)]
)
def test_order_by_hand_off_the_market_is_rejected(
    side: int, limit: float, slippage_bps: int
) -> None:
    venue = PaperExchange(Prices(AAPL=50.0), Slippage(slippage_bps))
    report = venue.submit(order(PLAIN, side, price=limit), at_tick=False)
    assert (report.executions, report.rests) == ((), False)
    assert report.reject is not None
    code, msg = report.reject
    assert code == RejectCode.NOT_MARKETABLE
    assert "LIMIT" in msg


def test_order_by_hand_without_a_market() -> None:
    report = PaperExchange(Prices()).submit(order(PLAIN), at_tick=False)
    assert report.reject is not None
    assert report.reject[0] == RejectCode.NO_MARKET


def test_the_echo_venue_has_no_market() -> None:
    report = EchoVenue(Prices(AAPL=50.0)).submit(order(PLAIN), at_tick=False)
    assert report == Report((Execution(10, 100 * UNITS),))


@pytest.mark.parametrize(("side", "price"), [(BUY, 50.05), (SELL, 49.95)])
def test_market_order_slips(side: int, price: float) -> None:
    report = PaperExchange(Prices(AAPL=50.0), Slippage(10)).submit(
        order(MARKET, side), at_tick=False
    )
    assert report.executions == (Execution(10, round(price * UNITS), 0, UNITS // 2),)


def test_market_order_without_a_market() -> None:
    report = PaperExchange(Prices()).submit(order(MARKET), at_tick=True)
    assert report.reject is not None
    assert report.executions == ()


@pytest.mark.parametrize(
    ("side", "limit", "fills"),
    [(BUY, 50.0, True), (BUY, 49.99, False), (SELL, 50.0, True), (SELL, 50.01, False)],
)
def test_limit_order_executes_or_rests(side: int, limit: float, fills: bool) -> None:
    venue = PaperExchange(Prices(AAPL=50.0))
    report = venue.submit(order(LIMIT, side, price=limit), at_tick=True)
    assert (bool(report.executions), report.rests) == (fills, not fills)
    assert (
        PaperExchange(Prices(AAPL=50.0))
        .submit(order(LIMIT, side, price=limit, tif=IOC), at_tick=False)
        .rests
        is False
    )


def test_resting_order_fills_when_the_book_crosses_once_per_update() -> None:
    prices = Prices(AAPL=101.0)
    venue = PaperExchange(prices, fill_percent=30)
    resting = order(LIMIT, qty=1000, tif=DAY)
    assert venue.submit(resting, at_tick=False).rests
    assert list(venue.poll()) == []
    filled, seq = 0, 2
    while resting.status in OPEN_STATES:
        prices.book["AAPL"] = at(99.0, seq)
        done = list(venue.poll())
        assert [execution.price for _, execution in done] == [99 * UNITS]
        for _, execution in done:
            resting.fill(execution.qty, execution.price)
            filled += execution.qty
        assert list(venue.poll()) == [], "no update in the book"
        seq += 1
    assert filled == 1000
    assert 3 <= seq < 30
    prices.book["AAPL"] = at(98.0, seq + 1)
    assert list(venue.poll()) == []


def test_canceled_order_does_not_fill() -> None:
    prices = Prices(AAPL=101.0)
    venue = PaperExchange(prices)
    resting = order(LIMIT)
    venue.submit(resting, at_tick=False)
    venue.cancel(resting)
    prices.book["AAPL"] = at(50.0, 2)
    assert list(venue.poll()) == []


def test_same_seed_gives_same_fills_across_restarts() -> None:
    def fills(seed: int, restart: bool) -> list[int]:
        prices = Prices(AAPL=101.0)
        venue = PaperExchange(prices, fill_percent=20, seed=seed)
        resting = order(LIMIT, qty=500)
        venue.submit(resting, at_tick=False)
        found = []
        for seq in range(2, 12):
            prices.book["AAPL"] = at(90.0, seq)
            for _, execution in venue.poll():
                resting.fill(execution.qty, execution.price)
                found.append(execution.qty)
            if restart:
                venue = PaperExchange(prices, fill_percent=20, seed=seed)
                venue.restore([resting] if resting.status in OPEN_STATES else [])
        return found

    assert fills(1, restart=False) == fills(1, restart=True)
    assert fills(1, restart=False) != fills(2, restart=False)


# The shared book


@pytest.fixture
def name() -> str:
    return f"orders_book_{secrets.token_hex(6)}"


def test_attaches_a_new_book_and_its_replacement(name: str) -> None:
    from app.shared_memory_utils.price_book import SharedPriceBook

    prices = SharedBookPrices(name, heartbeat_timeout_s=5.0, retry_s=0.0)
    prices.refresh()
    assert prices.read("AAPL") is None
    assert prices.knows("AAPL") is None
    with SharedPriceBook(["AAPL", "MSFT"], name=name) as book:
        book.update("AAPL", 173.2, recv_ns=time.monotonic_ns() - 10**9)
        prices.refresh()
        found = prices.read("AAPL")
        assert found is not None
        assert found.price == 173_200_000_000
        assert 10**9 <= found.age_ns < 10 * 10**9
        assert prices.read("MSFT") is None, "no trade yet"
        assert prices.read("NONE") is None
        assert (prices.knows("MSFT"), prices.knows("NONE")) == (True, False)
        book.unlink()
    with SharedPriceBook(["NVDA"], name=name) as book:
        book.update("NVDA", 5.0)
        prices.refresh()
        assert (prices.knows("AAPL"), prices.knows("NVDA")) == (False, True)
        found = prices.read("NVDA")
        assert found is not None
        assert found.price == 5 * UNITS
        book.unlink()
    prices.close()


def test_book_without_heartbeat_answers_only_for_the_symbols_in_it(name: str) -> None:
    from app.shared_memory_utils.price_book import SharedPriceBook

    with SharedPriceBook(["AAPL"], name=name) as book:
        prices = SharedBookPrices(name, heartbeat_timeout_s=1e-9, retry_s=0.0)
        prices.refresh()
        assert prices.knows("NONE") is None
        assert prices.knows("AAPL") is True
        book.unlink()
        prices.refresh()
        assert prices.knows("NONE") is None
        assert prices.knows("AAPL") is None, "the segment is gone"
        prices.close()


def test_a_lost_book_is_logged_once_and_so_is_its_return(name: str) -> None:
    from app.shared_memory_utils.price_book import SharedPriceBook

    prices = SharedBookPrices(name, heartbeat_timeout_s=5.0, retry_s=0.0)
    with capture_logs() as lines:
        for _ in range(2):
            with SharedPriceBook(["AAPL"], name=name) as book:
                prices.refresh()
                prices.refresh()
                book.unlink()
            prices.refresh()
            prices.refresh()
    prices.close()
    seen = [(line["log_level"], line["event"]) for line in lines]
    assert seen == [("info", "book_found"), ("warning", "book_lost")] * 2
    assert "the segment is gone" in lines[1]["reason"]
