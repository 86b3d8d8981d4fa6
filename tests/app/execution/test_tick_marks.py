"""What an order is checked against: the prices of its tick if it has one, else the book's."""

from typing import Any

from app.config.settings import Settings
from app.execution.peer_marks import PeerMarks
from app.execution.prices import BookPrice
from app.execution.risk_checks import ACCOUNT, CHECKS
from app.execution.risk_config import Limits
from app.model.money import UNITS
from app.model.orders import BUY, SELL
from app.model.reject_codes import RejectCode
from app.model.requests import Marks
from tests.support.orders.desk import Desk
from tests.support.orders.prices import Prices

MONDAY, TUESDAY = '"2025-10-06 00:00:00"', '"2025-10-07 00:00:00"'


def test_marks_belong_to_a_connection() -> None:
    marks: PeerMarks[str] = PeerMarks()
    marks.update("a", Marks("", {"AAPL": 1.5, "MSFT": 2.0}))
    marks.update("a", Marks("", {"AAPL": 1.25}))
    assert marks.of("a") == {"AAPL": 1_250_000_000, "MSFT": 2 * UNITS}
    assert marks.of("b") == {}
    marks.forget(lambda peer: peer == "a")
    assert marks.of("a") == {}


def test_daily_loss_values_holdings_at_the_orders_tick_in_replay_and_live() -> None:
    """The book is somewhere else meanwhile; so is the last fill."""
    for replaying in (True, False):
        desk = Desk(client=Limits(daily_loss_max=100 * UNITS), replaying=replaying)
        assert desk.code(BUY, 10, 100.0, marks={"AAPL": 100.0}) == "ok"
        assert desk.code(BUY, 1, 90.0, marks={"AAPL": 90.0}) == "ok"
        assert desk.code(BUY, 1, 10.0, marks={"AAPL": 10.0}) == "DAILY_LOSS"


def test_daily_loss_values_holdings_at_the_book_for_an_order_by_hand() -> None:
    desk = Desk(client=Limits(daily_loss_max=100 * UNITS))
    assert desk.code(BUY, 10, 100.0, proof=None) == "ok"
    desk.prices.book["AAPL"] = BookPrice(10 * UNITS, 0, 2)
    assert desk.code(BUY, 1, 20.0, proof=None) == "DAILY_LOSS"


def test_exposure_values_holdings_at_the_orders_tick() -> None:
    desk = Desk(Prices(AAPL=1.0, MSFT=1.0), client=Limits(exposure_max=2000 * UNITS))
    assert desk.code(BUY, 10, 100.0, marks={"AAPL": 100.0}) == "ok"
    msft: dict[str, Any] = {"symbol": "MSFT"}
    assert desk.code(BUY, 10, 90.0, marks={"AAPL": 111.0, "MSFT": 90.0}, **msft) == "GROSS_EXPOSURE"
    assert desk.code(BUY, 10, 90.0, marks={"AAPL": 110.0, "MSFT": 90.0}, **msft) == "ok"


def test_the_stacks_limits_value_what_other_clients_hold() -> None:
    """At the book: the strategy sends the prices of its own symbols."""
    desk = Desk(Prices(AAPL=100.0, MSFT=50.0), stack=Limits(daily_loss_max=100 * UNITS))
    assert desk.code(BUY, 10, 100.0, proof=None, client="hand") == "ok"
    msft: dict[str, Any] = {"symbol": "MSFT", "marks": {"MSFT": 50.0}}
    assert desk.code(BUY, 1, 50.0, **msft) == "ok"
    desk.prices.book["AAPL"] = BookPrice(10 * UNITS, 0, 2)
    assert desk.code(BUY, 1, 50.0, **msft) == "DAILY_LOSS"


def test_an_order_by_hand_names_no_time_that_counts() -> None:
    """Neither a collar nor a day's loss can be escaped with ``ts``."""
    desk = Desk(
        price_collar_bps=100.0, price_age_ms_max=500, client=Limits(daily_loss_max=100 * UNITS)
    )
    desk.prices.book["AAPL"] = BookPrice(100 * UNITS, 0, 7, 0, 1_760_000_000 * UNITS)
    for ts in (None, '"2001-01-01 00:00:00"', '"2100-01-01 00:00:00"', "1"):
        assert desk.code(BUY, 1, 200.0, ts=ts, proof=None) == "PRICE_COLLAR"
    assert desk.code(BUY, 10, 100.0, proof=None) == "ok"
    desk.prices.book["AAPL"] = BookPrice(80 * UNITS, 0, 8, 0, 1_760_000_000 * UNITS)
    assert desk.code(BUY, 1, 80.0, ts='"2100-01-01 00:00:00"', proof=None) == "DAILY_LOSS"


def test_a_strategys_collar_is_its_tick() -> None:
    """In a replay the book has gone on; the order has its own tick's price."""
    for replaying, code in ((True, "ok"), (False, "PRICE_COLLAR")):
        desk = Desk(price_collar_bps=100.0, price_age_ms_max=500, replaying=replaying)
        assert desk.code(BUY, 1, 150.0) == code


def test_a_sell_is_measured_at_what_it_may_get() -> None:
    desk = Desk(client=Limits(notional_max=1000 * UNITS))
    assert desk.code(SELL, 11, 1.0, proof=None) == "NOTIONAL_MAX"
    assert desk.code(SELL, 10, 1.0, proof=None) == "ok"
    assert desk.code(SELL, 11, 1.0) == "ok", "a strategy's order gets the price of its tick"


def test_the_proof_of_another_book_is_sent_again_later() -> None:
    desk = Desk()
    reject = desk.order(proof="0123456789abcdef")
    assert (reject.code, reject.retryable) == (RejectCode.OTHER_BOOK, True)
    assert desk.core.clients == {}, "nothing of it is recorded"


def test_the_day_never_goes_back() -> None:
    """A strategy that joins late must not give the stack a new budget for its loss."""
    desk = Desk(stack=Limits(daily_loss_max=100 * UNITS))
    desk.order(BUY, 10, 100.0, ts=TUESDAY)
    assert desk.code(SELL, 9, 91.0, ts=TUESDAY) == "ok"
    assert desk.code(BUY, 1, 91.0, ts=MONDAY, client="late") == "ok"
    assert desk.code(SELL, 1, 70.0, ts=TUESDAY) == "ok"
    assert desk.code(BUY, 1, 70.0, ts=MONDAY, client="late") == "DAILY_LOSS"


def test_which_checks_need_marks() -> None:
    """The strategy sends marks if one of these has a limit."""
    assert not Settings().limits_value_holdings
    for check in CHECKS:
        if check.kind == ACCOUNT:
            for account in ("client", "stack"):
                settings = Settings(**{f"risk_{account}_{check.name}": 5})
                assert settings.limits_value_holdings is check.marks, check.name
