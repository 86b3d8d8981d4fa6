"""Each pre-trade check: limit, reject code, numbers in the message, position in the sequence."""

from typing import Any

import msgspec
import pytest

from app.config.settings import Settings
from app.execution.accounts import ACTIVE, HALTED, KILLED, REDUCE, STACK_CLIENT_NO, Account
from app.execution.prices import BookPrice
from app.execution.risk import RiskGate
from app.execution.risk_checks import ACCOUNT, CHECKS, SHARED
from app.execution.risk_config import Limits, RiskConfig
from app.model.money import UNITS
from app.model.orders import BUY, DAY, GTC, IOC, LIMIT, MARKET, SELL, Order
from app.model.reject_codes import ALWAYS_RETRYABLE, CLOCK_BOUND, RejectCode, retryable
from app.model.requests import Reject
from app.model.token_bucket import TokenBucket
from tests.support.orders.desk import Desk
from tests.support.orders.prices import PROOF, Prices

MS = 1_000_000
MONDAYS = ('"2025-10-06 00:00:00"', "1759708800", '"2025-10-06T23:59:59.999999999Z"')
TUESDAYS = ('"2025-10-07 00:00:00"', "1759795200", "1759795200.000000000", "1.7597952e9")


def test_no_limits_by_default() -> None:
    desk = Desk()
    assert [desk.code(BUY, 10**9, 1e6) for _ in range(50)] == ["ok"] * 50


def test_default_settings_accept_ordinary_orders() -> None:
    desk = Desk(Prices(AAPL=1e6))
    config = RiskConfig.from_values(msgspec.structs.asdict(Settings()))
    desk.core.gate = RiskGate(config, desk.prices, desk.core.stack)
    assert [desk.code(BUY, 10**6, 1e6) for _ in range(50)] == ["ok"] * 50


@pytest.mark.parametrize("proof", [None, PROOF])
@pytest.mark.parametrize("replaying", [True, False])
def test_a_symbol_that_no_book_knows_is_refused(proof: str | None, replaying: bool) -> None:
    """In a replay the order may be sent again, so that a strategy waits for the book."""
    desk = Desk(known_symbols=True, replaying=replaying)
    assert desk.code(symbol="AAPL", proof=proof) == "ok"
    assert desk.code(symbol="NONE", proof=proof) == "UNKNOWN_SYMBOL"
    desk.prices.attached = False
    refused = desk.order(symbol="NONE", proof=proof, id=7)
    assert RejectCode(refused.code).name == "NO_BOOK"
    assert isinstance(refused, Reject) is replaying
    assert "RISK_KNOWN_SYMBOLS=false" in refused.msg
    desk.prices.attached = True
    desk.prices.book["NONE"] = desk.prices.book["AAPL"]
    desk.store.commit()
    assert desk.code(symbol="NONE", proof=proof, id=7) == ("ok" if replaying else "NO_BOOK")


def test_without_a_market_no_book_is_needed() -> None:
    values = msgspec.structs.asdict(Settings(venue="echo"))
    desk = Desk()
    desk.prices.attached = False
    for venue, code in (("echo", "ok"), ("paper", "NO_BOOK")):
        config = RiskConfig.from_values(values | {"venue": venue})
        desk.core.gate = RiskGate(config, desk.prices, desk.core.stack)
        assert desk.code() == code


def test_made_up_symbols_are_bounded() -> None:
    desk = Desk(symbols_max=2)
    for name in ("B", "C"):
        desk.prices.book[name] = desk.prices.book["AAPL"]
    assert desk.code(symbol="AAPL") == desk.code(symbol="B") == "ok"
    assert desk.code(symbol="C") == "SYMBOLS_MAX"
    assert desk.code(symbol="C", client="other") == "SYMBOLS_MAX"
    assert desk.code(symbol="B", client="other") == "ok"
    assert sorted(desk.core.stack.positions) == ["AAPL", "B"]


def test_tick_size() -> None:
    desk = Desk(tick_size=UNITS // 100)
    assert desk.code(BUY, 1, 100.01) == "ok"
    assert desk.code(BUY, 1, 100.005) == "TICK_SIZE"
    assert desk.code(BUY, 1, None, type=MARKET) == "ok"
    assert "100.005" in desk.order(BUY, 1, 100.005).msg
    assert "0.01" in desk.order(BUY, 1, 100.005).msg


def test_lot_size() -> None:
    desk = Desk(lot_size=100)
    assert desk.code(BUY, 200) == "ok"
    assert desk.code(BUY, 150) == "LOT_SIZE"


@pytest.mark.parametrize("account", ["client", "stack"])
def test_largest_quantity(account: str) -> None:
    desk = Desk(**{account: Limits(qty_max=50)})
    assert desk.code(BUY, 50) == "ok"
    denied = desk.order(BUY, 51)
    assert (RejectCode(denied.code).name, "51" in denied.msg, "50" in denied.msg) == (
        "QTY_MAX",
        True,
        True,
    )
    assert ("whole stack" if account == "stack" else "client desk") in denied.msg


@pytest.mark.parametrize("account", ["client", "stack"])
def test_largest_notional(account: str) -> None:
    desk = Desk(**{account: Limits(notional_max=1000 * UNITS)})
    assert desk.code(BUY, 10, 100.0) == "ok"
    denied = desk.order(BUY, 10, 100.01)
    assert RejectCode(denied.code).name == "NOTIONAL_MAX"
    assert "1000.10" in denied.msg
    assert desk.code(BUY, 11, None, type=MARKET) == "NOTIONAL_MAX", "measured at the book's price"


def test_price_collar_around_a_fresh_price() -> None:
    desk = Desk(price_collar_bps=100.0, price_age_ms_max=500)
    by_hand: dict[str, Any] = {"proof": None}
    assert desk.code(BUY, 1, 101.0, **by_hand) == "ok"
    assert desk.code(SELL, 1, 99.0, **by_hand) == "ok"
    reject = desk.order(BUY, 1, 101.01, **by_hand)
    assert (reject.code, reject.retryable) == (RejectCode.PRICE_COLLAR, True)
    assert "101.0 bps" in reject.msg
    assert desk.code(SELL, 1, 98.9, **by_hand) == "PRICE_COLLAR"
    desk.prices.book["AAPL"] = BookPrice(100 * UNITS, 501 * MS, 1)
    stale = desk.order(BUY, 1, 100.0)
    assert (stale.code, stale.retryable) == (RejectCode.STALE_PRICE, True)
    assert "501 ms" in stale.msg
    assert "500 ms" in stale.msg
    assert desk.code(symbol="NONE") == "STALE_PRICE", "a missing price is not fresh"


@pytest.mark.parametrize("account", ["client", "stack"])
def test_position_limit_counts_resting_orders_and_lets_positions_shrink(account: str) -> None:
    desk = Desk(**{account: Limits(position_qty_max=100)})
    assert desk.code(BUY, 60) == "ok"
    assert desk.code(BUY, 41) == "POSITION_LIMIT"
    assert desk.code(BUY, 30, 50.0, type=LIMIT, tif=GTC) == "ok"
    assert desk.code(BUY, 11) == "POSITION_LIMIT"
    assert desk.code(BUY, 10) == "ok"
    assert desk.code(SELL, 170) == "ok", "down to 100 short"
    assert desk.code(SELL, 1) == "POSITION_LIMIT"
    assert "-101" in desk.order(SELL, 1).msg


def test_stack_position_is_the_sum_of_clients() -> None:
    desk = Desk(stack=Limits(position_qty_max=100))
    assert desk.code(BUY, 60, client="ann") == "ok"
    assert desk.code(BUY, 60, client="bob") == "POSITION_LIMIT"
    assert desk.code(SELL, 60, client="cem") == "ok"
    assert desk.code(BUY, 60, client="bob") == "ok"


@pytest.mark.parametrize("account", ["client", "stack"])
def test_gross_exposure(account: str) -> None:
    desk = Desk(Prices(AAPL=100.0, MSFT=10.0), **{account: Limits(exposure_max=2000 * UNITS)})
    assert desk.code(BUY, 10, 100.0) == "ok"
    assert desk.code(SELL, 50, 10.0, symbol="MSFT") == "ok"
    assert desk.code(BUY, 5, 100.0) == "ok"
    denied = desk.order(BUY, 1, 10.0, symbol="NVDA")
    assert RejectCode(denied.code).name == "GROSS_EXPOSURE"
    assert "2010.00" in denied.msg
    assert desk.code(SELL, 5, 100.0) == "ok"
    assert desk.code(BUY, 1, 10.0, symbol="NVDA") == "ok"


@pytest.mark.parametrize("account", ["client", "stack"])
def test_open_orders(account: str) -> None:
    desk = Desk(**{account: Limits(open_orders_max=2)})
    resting = {"type": LIMIT, "tif": DAY}
    first = desk.order(BUY, 1, 50.0, **resting)
    assert desk.code(BUY, 1, 50.0, **resting) == "ok"
    assert desk.code(BUY, 1, 50.0, **resting) == "OPEN_ORDERS"
    assert desk.code(BUY, 1, 100.0) == "ok", "an order that does not rest does not count"
    assert desk.code(BUY, 1, 50.0, type=LIMIT, tif=IOC) == "ok"
    assert isinstance(desk.core.cancel("desk", first.id, desk.now_ns), Order)
    assert desk.code(BUY, 1, 50.0, **resting) == "ok"


@pytest.mark.parametrize("account", ["client", "stack"])
def test_daily_loss_pulls_the_kill_switch_until_a_human_resumes(account: str) -> None:
    desk = Desk(**{account: Limits(daily_loss_max=100 * UNITS)})
    desk.order(BUY, 10, 100.0)
    desk.order(BUY, 1, 50.0, type=LIMIT, tif=GTC)
    assert desk.code(SELL, 5, 80.0) == "ok", "a loss of 100 realized and 100 unrealized"
    denied = desk.order(BUY, 1, 80.0)
    assert RejectCode(denied.code).name == "DAILY_LOSS"
    assert "200.00" in denied.msg
    assert desk.core.open == {}, "resting orders are canceled"
    killed = desk.core.stack if account == "stack" else desk.core.clients["desk"]
    assert killed.mode == KILLED
    assert desk.code(BUY, 1, 80.0, ts=TUESDAYS[0]) == "KILL_SWITCH", (
        "a new day does not reset the kill switch"
    )
    desk.core.set_mode(None if account == "stack" else "desk", ACTIVE, "", desk.now_ns)
    assert desk.code(BUY, 1, 80.0) == "ok"


@pytest.mark.parametrize("monday", MONDAYS)
@pytest.mark.parametrize("tuesday", TUESDAYS)
def test_daily_loss_resets_on_each_day_of_the_data(monday: str, tuesday: str) -> None:
    desk = Desk(client=Limits(daily_loss_max=100 * UNITS))
    desk.order(BUY, 10, 100.0, ts=monday)
    assert desk.code(SELL, 5, 90.0, ts=monday) == "ok"
    assert desk.code(BUY, 1, 90.0, ts=tuesday) == "ok"
    assert desk.code(SELL, 1, 80.0, ts=tuesday) == "ok"
    assert desk.code(SELL, 1, 70.0, ts=tuesday) == "ok"
    assert desk.code(SELL, 1, 70.0, ts=tuesday) == "DAILY_LOSS"


def test_both_forms_of_a_time_name_one_day() -> None:
    desk = Desk(client=Limits(daily_loss_max=100 * UNITS))
    desk.order(BUY, 10, 100.0, ts=MONDAYS[0])
    assert desk.code(SELL, 5, 80.0, ts="1759795199.999999999") == "ok"
    assert desk.code(SELL, 1, 80.0, ts=MONDAYS[0]) == "DAILY_LOSS"


def test_orders_per_second() -> None:
    desk = Desk(client=Limits(orders_per_s_max=2), stack=Limits(orders_per_s_max=3))
    assert [desk.code(client="a") for _ in range(3)] == ["ok", "ok", "RATE_LIMIT"]
    assert [desk.code(client="b") for _ in range(2)] == ["ok", "RATE_LIMIT"]
    desk.now_ns += UNITS // 2
    assert desk.code(client="a") == "ok"
    assert desk.code(client="a") == "RATE_LIMIT"


def test_repeated_executions_are_throttled() -> None:
    desk = Desk(client=Limits(repeats_max=2), repeat_window_s=1.0)
    assert [desk.code(BUY, 10) for _ in range(3)] == ["ok", "ok", "THROTTLED"]
    assert desk.code(BUY, 11) == "ok"
    assert desk.code(SELL, 10) == "ok"
    assert desk.code(BUY, 10, client="other") == "ok"
    desk.now_ns += UNITS
    assert desk.code(BUY, 10) == "ok"


def test_modes() -> None:
    desk = Desk()
    desk.order(BUY, 10)
    core = desk.core
    core.set_mode("desk", REDUCE, "", desk.now_ns)
    assert desk.code(BUY, 1) == "REDUCE_ONLY"
    assert desk.code(SELL, 11) == "REDUCE_ONLY"
    assert desk.code(SELL, 4, 200.0, type=LIMIT, tif=GTC) == "ok"
    assert desk.code(SELL, 7) == "REDUCE_ONLY", "resting orders already close 4 of 10"
    assert desk.code(SELL, 6) == "ok"
    core.set_mode(None, HALTED, "", desk.now_ns)
    assert desk.code(SELL, 1, client="new") == "HALTED"
    core.set_mode(None, ACTIVE, "", desk.now_ns)
    core.set_mode("desk", ACTIVE, "", desk.now_ns)
    assert desk.code(BUY, 1) == "ok"


def test_order_of_checks() -> None:
    everything = Limits(
        qty_max=1,
        notional_max=1,
        position_qty_max=1,
        exposure_max=1,
        open_orders_max=1,
        daily_loss_max=1,
        orders_per_s_max=1,
        repeats_max=1,
    )
    order = {"type": LIMIT, "tif": GTC, "symbol": "NONE"}
    expected = [
        ("known_symbols", "UNKNOWN_SYMBOL"),
        ("tick_size", "TICK_SIZE"),
        ("lot_size", "LOT_SIZE"),
        ("client", "QTY_MAX"),
        ("price_collar_bps", "STALE_PRICE"),
    ]
    config: dict[str, Any] = {
        "known_symbols": True,
        "tick_size": UNITS,
        "lot_size": 7,
        "client": everything,
        "price_collar_bps": 1.0,
        "price_age_ms_max": 1,
    }
    for name, code in expected:
        assert Desk(**config).code(BUY, 10, 100.5, **order) == code
        del config[name]
    limits = ["qty_max", "notional_max", "position_qty_max", "exposure_max"]
    codes = ["QTY_MAX", "NOTIONAL_MAX", "POSITION_LIMIT", "GROSS_EXPOSURE"]
    for index, code in enumerate(codes):
        left = Limits(**dict.fromkeys(limits[index:], 1))
        assert Desk(client=left).code(BUY, 10, 100.5, **order) == code


@pytest.mark.parametrize("code", list(RejectCode))
def test_clock_bound_rejects_are_retryable_in_a_replay_and_final_live(code: RejectCode) -> None:
    assert retryable(code, replaying=True) is (code in ALWAYS_RETRYABLE or code in CLOCK_BOUND)
    assert retryable(code, replaying=False) is (code in ALWAYS_RETRYABLE)


def test_order_held_back_passes_later_under_the_same_id() -> None:
    desk = Desk(price_age_ms_max=500)
    desk.prices.book["AAPL"] = BookPrice(100 * UNITS, 501 * MS, 1)
    assert isinstance(desk.order(id=5), Reject)
    assert desk.core.clients == {}, "nothing of it is recorded"
    desk.prices.book["AAPL"] = BookPrice(100 * UNITS, 1 * MS, 2)
    assert desk.code(id=5) == "ok"


def test_live_the_same_order_is_denied_for_good() -> None:
    desk = Desk(price_age_ms_max=500, replaying=False)
    desk.prices.book["AAPL"] = BookPrice(100 * UNITS, 501 * MS, 1)
    assert desk.code(id=5) == "STALE_PRICE"
    desk.prices.book["AAPL"] = BookPrice(100 * UNITS, 1 * MS, 2)
    desk.store.commit()
    assert desk.code(id=5) == "STALE_PRICE"
    assert desk.code(id=6) == "ok"


def test_too_many_clients() -> None:
    desk = Desk()
    desk.core._clients_max = 2
    assert [desk.code(client=name) for name in "aabbc"] == ["ok"] * 4 + ["CLIENTS_MAX"]


def test_token_bucket_keeps_to_its_rate() -> None:
    bucket = TokenBucket(10)
    times = range(0, 10 * UNITS, 7 * MS)
    taken = [t for t in times if bucket.take(t)]
    for start in range(0, 9 * UNITS, UNITS // 3):
        assert sum(start <= t < start + UNITS for t in taken) <= 20
    assert 100 <= len(taken) <= 111
    assert TokenBucket(1).take(5 * UNITS)
    backwards = TokenBucket(1)
    assert backwards.take(10 * UNITS)
    assert not backwards.take(9 * UNITS), "a clock that runs backward adds no tokens"


def test_each_limit_has_its_settings_and_each_risk_setting_its_limit() -> None:
    names = {"risk_repeat_window_s"}
    for check in CHECKS:
        if check.kind == SHARED:
            names.add(f"risk_{check.name}")
        elif check.kind == ACCOUNT:
            names |= {f"risk_client_{check.name}", f"risk_stack_{check.name}"}
    assert names == {name for name in Settings.__struct_fields__ if name.startswith("risk_")}
    assert {check.code for check in CHECKS} == {code for code in RejectCode if 200 <= code < 300}


def test_config_holds_the_settings_with_money_in_units() -> None:
    values = msgspec.structs.asdict(Settings())
    values |= {"risk_tick_size": 0.25, "risk_client_qty_max": 7, "risk_stack_exposure_max": 1.5}
    config = RiskConfig.from_values(values)
    gate = RiskGate(config, Prices(), Account(STACK_CLIENT_NO, ""))
    assert config.tick_size == UNITS // 4
    assert gate.limits(Account(1, "desk"))["qty_max"] == 7
    assert gate.limits(gate.stack)["exposure_max"] == 3 * UNITS // 2
    with pytest.raises(ValueError, match="price_age_ms_max"):
        RiskConfig(price_collar_bps=1.0)


def test_timeless_leaves_only_checks_that_do_not_depend_on_the_clock() -> None:
    limits = Limits(**dict.fromkeys(Limits.__struct_fields__, 9))
    config = RiskConfig(
        client=limits, stack=limits, price_collar_bps=1.0, price_age_ms_max=1, lot_size=5
    ).timeless()
    gate = RiskGate(config, Prices(), Account(STACK_CLIENT_NO, ""))
    left = {name for name, value in gate.limits(gate.stack).items() if value}
    off = {check.name for check in CHECKS if check.code in CLOCK_BOUND}
    assert left == {*Limits.__struct_fields__, "lot_size", "repeat_window_s"} - off
