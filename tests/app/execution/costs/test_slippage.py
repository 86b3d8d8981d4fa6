"""By how much a price is worse, against decimals of a hundred digits."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.config.settings import Settings, SettingsError
from app.execution.costs.slippage import Slippage
from app.execution.paper_exchange import PaperExchange
from app.execution.venue import Execution, Report
from app.model.money import MAX_PRICE, UNITS, divide
from app.model.orders import BUY, DAY, IOC, LIMIT, PENDING_NEW, PLAIN, SELL, Order
from app.model.reject_codes import RejectCode
from tests.support.orders.prices import Prices

BPS = st.integers(0, 1_000_000).map(lambda hundredths: hundredths / 100)


@given(
    st.integers(1, MAX_PRICE * UNITS), st.integers(1, 10**15), BPS, BPS, BPS, st.floats(1e-9, 1e12)
)
@example(2 * 10**6, 4, 0.0, 0.0, 0.01, 1.0)  # 2 * 2 units: exact
@example(5 * 10**5, 9, 0.01, 0.0, 0.01, 1.0)  # half a unit, and three halves: 2, which is even
@example(5 * 10**5, 16, 0.01, 0.0, 0.01, 1.0)  # half a unit and two: to the even 2
@example(5 * 10**5, 1, 0.0, 0.0, 0.01, 1.0)  # half a unit: to the even 0
@example(15 * 10**5, 1, 0.0, 0.0, 0.01, 1.0)  # one and a half: to the even 2
def test_the_sum_of_the_three_is_rounded_once(
    price: int, qty: int, bps: float, half: float, impact: float, impact_qty: float
) -> None:
    slippage = Slippage(bps, half, impact, impact_qty)
    with localcontext(prec=100):
        ratio = Decimal(qty) / round(Decimal(repr(impact_qty)), 9)
        flat = price * (Decimal(str(bps)) + Decimal(str(half))) / 10_000
        exact = flat + price * Decimal(str(impact)) / 10_000 * ratio.sqrt()
        assert slippage.worse(price, qty) == round(exact)
        assert slippage.flat(price) == round(flat)


@given(st.integers(1, MAX_PRICE * UNITS), st.integers(1, 10**15), BPS, BPS)
def test_without_an_impact_a_price_is_what_it_was_before_there_was_one(
    price: int, qty: int, bps: float, half: float
) -> None:
    hundredths = round(bps * 100) + round(half * 100)
    assert Slippage(bps, half).worse(price, qty) == divide(price * hundredths, 1_000_000)


def order(kind: int, side: int, qty: int, price: float, tif: int = IOC) -> Order:
    return Order(1, 1, 1, 0, side, "AAPL", qty, round(price * UNITS), kind, tif, None, PENDING_NEW)


@pytest.mark.parametrize(("side", "qty", "bps"), [(BUY, 100, 10), (SELL, 400, 20), (BUY, 25, 5)])
def test_an_order_of_four_times_the_size_has_twice_the_impact(
    side: int, qty: int, bps: int
) -> None:
    venue = PaperExchange(Prices(), Slippage(2, 1, 10, 100))
    report = venue.submit(order(PLAIN, side, qty, 50.0), at_tick=True)
    flat, impact = 50 * UNITS * 3 // 10_000, 50 * UNITS * bps // 10_000
    price = 50 * UNITS + side * (flat + impact)
    assert report == Report((Execution(qty, price, 0, qty * flat, qty * impact),))


def test_the_impact_is_of_all_that_was_ordered_however_little_is_executed() -> None:
    whole = PaperExchange(Prices(), Slippage(0, 0, 10, 100))
    parts = PaperExchange(Prices(), Slippage(0, 0, 10, 100), fill_percent=5)
    one, other = (
        venue.submit(order(PLAIN, BUY, 400, 50.0), at_tick=True).executions[0]
        for venue in (whole, parts)
    )
    assert one.price == other.price == 50.1 * UNITS
    assert other.qty < 400
    assert other.impact == other.qty * UNITS // 10


def test_a_large_limit_order_waits_for_a_better_price_than_a_small_one() -> None:
    venue = PaperExchange(Prices(AAPL=50.0), Slippage(0, 0, 10, 100))
    assert venue.submit(order(LIMIT, BUY, 100, 50.05, DAY), at_tick=False).executions
    report = venue.submit(order(LIMIT, BUY, 101, 50.05, DAY), at_tick=False)
    assert (report.executions, report.rests) == ((), True)


def test_a_price_is_never_below_one_unit_and_the_costs_say_so() -> None:
    venue = PaperExchange(Prices(), Slippage(6000, 0, 6000, 100))
    (done,) = venue.submit(order(PLAIN, SELL, 100, 50.0), at_tick=True).executions
    assert done.price == 1
    assert done.slippage + done.impact == 100 * (50 * UNITS - 1)
    assert done.slippage == 100 * 30 * UNITS


def test_an_impact_beyond_the_largest_price_is_refused_by_name() -> None:
    venue = PaperExchange(Prices(), Slippage(0, 0, 10_000, 1))
    report = venue.submit(order(PLAIN, BUY, 4, 4e9), at_tick=True)
    assert report.reject is not None
    assert report.reject[0] == RejectCode.PRICE_TOO_HIGH
    assert "PAPER_IMPACT_BPS" in report.reject[1]


@pytest.mark.parametrize("qty", ["", "0", "0.0000000001"])
def test_an_impact_without_a_size_is_refused_by_name(qty: str) -> None:
    environ = {"PAPER_IMPACT_BPS": "5", **({"PAPER_IMPACT_QTY": qty} if qty else {})}
    with pytest.raises(SettingsError, match=r"^PAPER_IMPACT_BPS=5: needs PAPER_IMPACT_QTY, .*$"):
        Settings.from_environ(environ)
    environ["PAPER_IMPACT_QTY"] = "0.5"
    assert Settings.from_environ(environ).paper_impact_qty == 0.5


@pytest.mark.parametrize("name", ["PAPER_IMPACT_BPS", "PAPER_IMPACT_QTY", "PAPER_BORROW_BPS_YEAR"])
@pytest.mark.parametrize("value", ["-1", "much", "nan", "1e99"])
def test_a_wrong_cost_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}={value}: .+$"):
        Settings.from_environ({name: value})
