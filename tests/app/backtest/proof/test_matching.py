"""Two sequences of orders, equal or with one difference, in any interleaving."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backtest.proof.matching import Difference, Matcher
from app.backtest.proof.order_line import OrderLine


def line(order_id: int, **changes: Any) -> OrderLine:
    made = OrderLine(
        order_id, "BUY", "AAPL", 10, "173.2", "PLAIN", "IOC", "1.5", "Filled", 10, "173.2", 1, ""
    )
    return made._replace(**changes)


IDS = st.lists(st.integers(1, 500), min_size=1, max_size=40, unique=True).map(sorted)
RANDOM = st.randoms(use_true_random=False)
CHANGES: dict[str, Any] = {
    "side": "SELL", "symbol": "MSFT", "qty": 11, "price": "173.3", "ts": "1.6", "type": "MARKET",
    "tif": "DAY", "status": "Denied", "filled_qty": 9, "avg_price": "173.1", "fills": 2,
    "code": "LIMIT_QTY",
}  # fmt: skip


def played(
    matcher: Matcher, expected: list[OrderLine], seen: list[OrderLine], random: Random
) -> None:
    """Both grow in pieces; the computation is at times ahead, at times behind."""
    computed = 0
    while expected or seen:
        if expected and (not seen or random.random() < 0.5):
            count = random.randint(1, len(expected))
            computed = expected[count - 1].tick + 1
            matcher.expect(expected[:count])
            del expected[:count]
        else:
            count = random.randint(1, len(seen))
            matcher.see(seen[:count])
            del seen[:count]
        matcher.match(computed, 0)
    matcher.match(1000, 1000)


@given(IDS, RANDOM)
def test_the_same_orders_are_equal(ids: list[int], random: Random) -> None:
    matcher = Matcher("c")
    played(matcher, [line(each) for each in ids], [line(each) for each in ids], random)
    assert (matcher.equal, matcher.expected, matcher.seen) == (len(ids),) * 3
    assert matcher.difference is None
    assert matcher.waiting == 0


@given(IDS, st.sampled_from(sorted(CHANGES)), RANDOM)
def test_a_changed_field_is_named(ids: list[int], field: str, random: Random) -> None:
    at = random.choice(ids)
    seen = [line(each, **({field: CHANGES[field]} if each == at else {})) for each in ids]
    matcher = Matcher("c")
    played(matcher, [line(each) for each in ids], seen, random)
    before = str(getattr(line(at), field))
    assert matcher.difference == Difference("c", at, field, before, str(CHANGES[field]))
    assert matcher.equal == len(ids) - 1


@given(IDS, RANDOM)
def test_a_lost_order_is_named(ids: list[int], random: Random) -> None:
    at = random.choice(ids)
    matcher = Matcher("c")
    seen = [line(each) for each in ids if each != at]
    played(matcher, [line(each) for each in ids], seen, random)
    assert matcher.difference == Difference("c", at, "order", str(line(at)), None)
    assert matcher.equal == len(ids) - 1


@given(IDS, RANDOM)
def test_an_order_too_many_is_named(ids: list[int], random: Random) -> None:
    at = random.choice(ids)
    matcher = Matcher("c")
    expected = [line(each) for each in ids if each != at]
    played(matcher, expected, [line(each) for each in ids], random)
    assert matcher.difference == Difference("c", at, "order", None, str(line(at)))
    assert matcher.equal == len(ids) - 1


def test_a_repeated_order_is_one_too_many() -> None:
    matcher = Matcher("c")
    matcher.expect([line(3), line(7)])
    matcher.see([line(3), line(3), line(7)])
    matcher.match(100, 100)
    assert matcher.difference == Difference("c", 3, "order", None, str(line(3)))


@pytest.mark.parametrize("passed", [0, 2])
def test_an_order_that_may_still_come_is_not_missing(passed: int) -> None:
    matcher = Matcher("c")
    matcher.expect([line(3)])
    matcher.match(100, passed)
    assert matcher.difference is None
    matcher.match(100, 3)
    assert matcher.difference is not None


def test_an_order_beyond_the_computation_waits() -> None:
    matcher = Matcher("c")
    matcher.see([line(3)])
    matcher.match(2, 0)
    assert (matcher.waiting, matcher.difference) == (1, None)
    matcher.match(3, 0)
    assert (matcher.waiting, matcher.difference.field if matcher.difference else "") == (0, "order")


def test_the_first_difference_stays() -> None:
    matcher = Matcher("c")
    matcher.expect([line(3), line(7)])
    matcher.see([line(3, qty=1), line(7, qty=2)])
    matcher.match(100, 100)
    assert str(matcher.difference) == "c: order 3: qty: expected 10, seen 1"
