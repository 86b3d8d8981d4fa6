"""Two sequences of orders, equal or with one difference, in any interleaving."""

from hashlib import blake2b
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backtest.proof.matching import Difference, Matcher
from app.backtest.proof.order_line import OrderLine
from app.model.orders import order_id_of_tick


def line(order_id: int, **changes: Any) -> OrderLine:
    made = OrderLine(
        order_id, "BUY", "AAPL", 10, "173.2", "PLAIN", "IOC", "1.5", "Filled", 10, "173.2", 1, ""
    )
    return made._replace(**changes)


PLACES = st.tuples(st.integers(0, 499), st.integers(0, 3))
IDS = st.lists(PLACES, min_size=1, max_size=40, unique=True).map(
    lambda places: [order_id_of_tick(seq, nth) for seq, nth in sorted(places)]
)
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
            computed = (expected[count] if expected[count:] else expected[-1]).tick
            computed += count == len(expected)
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


def digest(lines: list[OrderLine]) -> int:
    """As the strategy counts it."""
    text = "".join(
        f"{o.id},{o.side},{o.symbol},{o.qty},{o.price},{o.status},{o.filled_qty},{o.avg_price},"
        f"{o.code}\n"
        for o in lines
    )
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


@given(IDS, st.integers(0, 40))
def test_orders_that_were_not_seen_are_equal_if_the_digest_is(ids: list[int], seen: int) -> None:
    lines = [line(each) for each in ids]
    matcher = Matcher("c")
    matcher.expect(lines)
    matcher.see(lines[:seen])
    matcher.match(1000, 0)
    matcher.conclude(len(lines), digest(lines))
    assert (matcher.equal, matcher.expected, matcher.seen) == (len(ids),) * 3
    assert matcher.difference is None
    assert matcher.hash == f"{digest(lines):016x}"


@given(IDS, st.integers(0, 40), st.sampled_from(["qty", "lost", "more"]), RANDOM)
def test_a_digest_that_is_another_is_a_difference(
    ids: list[int], seen: int, change: str, random: Random
) -> None:
    lines = [line(each) for each in ids]
    at = random.randrange(len(ids))
    live = list(lines)
    live[at : at + 1] = {
        "qty": [line(ids[at], qty=11)], "lost": [], "more": [lines[at], line(ids[at] + 1000)],
    }[change]  # fmt: skip
    matcher = Matcher("c")
    matcher.expect(lines)
    matcher.see(live[: min(seen, at)])  # of what was seen, nothing differs
    matcher.match(2000, 0)
    matcher.conclude(len(live), digest(live))
    found = matcher.difference
    assert found is not None
    assert (found.client, found.id, found.field) == ("c", ids[min(seen, at)], "trades hash")
    assert found.expected == f"{digest(lines):016x} of {len(lines)} orders"
    assert found.seen == f"{digest(live):016x} of {len(live)}" if live else "- of 0"


def test_a_difference_that_was_seen_stays() -> None:
    matcher = Matcher("c")
    matcher.expect([line(3), line(7)])
    matcher.see([line(3, qty=11)])
    matcher.match(100, 0)
    before = matcher.difference
    matcher.conclude(2, digest([line(3), line(7)]))
    assert matcher.difference is before is not None
    assert before.field == "qty"


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
