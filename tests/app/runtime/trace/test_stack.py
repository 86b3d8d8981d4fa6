"""The trace of a thousand orders of the real stack, while each of its processes is killed."""

import signal
import time
from bisect import bisect_left, bisect_right
from collections import Counter

import pytest

from app.runtime.metrics.histogram import HistogramSnapshot
from app.runtime.metrics.snapshot import ProcessSnapshot
from app.runtime.trace.layout import STAGE_NAMES
from app.runtime.trace.reader import Attempt, OrderTimes, read_orders
from tests.chaos.host import NEXT_SEQ, HostStack, dying, opened, word
from tests.support.children import SHM
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

SAMPLE = ROOT / "data" / "market_data.csv"
EVERY = 25
ORDERS = 1000
OFTEN = f"""
from app.strategy import Strategy

class Often(Strategy):
    def on_tick(self, tick):
        turn, rest = divmod(tick.seq, {EVERY})
        return ("BUY" if turn % 2 else "SELL") if rest == {EVERY - 1} else "HOLD"
"""
KILLS = (
    (2_000, "order_manager"),
    (6_000, "orderbook"),
    (9_000, "order_manager"),
    (13_000, "order_manager"),
    (17_000, "gateway"),
)
STRATEGY_DIES_AT = (4_000 + EVERY - 1, 15_000 + EVERY - 1)
"""On ticks with an order: while it is on its way, or soon after."""
BUCKET_ERROR = 0.008
TICK_STAGES = ("due", "tick_sent", "tick_received", "published")
STRATEGYS_SHARE = STAGE_NAMES[: STAGE_NAMES.index("order_sent") + 1]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[OrderTimes], ProcessSnapshot]:
    """The trace after a thousand orders, and the strategy's metrics at the same moment."""
    folder = tmp_path_factory.mktemp("trace")
    strategy = dying(folder / "strategy", OFTEN, "Often", STRATEGY_DIES_AT)
    stack = HostStack(
        folder / "run",
        data_path=SAMPLE,
        replay="walk",  # on a busy machine it may take more ticks than the file has
        pace="5000/s",
        order_mode="every",
        strategy=strategy,
    )
    killed: list[int | None] = []
    with stack:
        for tick, service in KILLS:
            stack.wait_until(f"tick {tick}", lambda t=tick: seen(stack) >= t, 40)
            if service == "gateway":
                # What waits while it starts again is of an older schedule, and has no due time.
                assert stack.signal(service, signal.SIGSTOP)
                stack.wait_until("a strategy that has caught up", lambda: not behind(stack), 40)
            # It may still be starting after the last time, or ending.
            stack.wait_until(service, lambda s=service: stack.pid_of(s) not in (None, *killed), 40)
            killed.append(stack.pid_of(service))
            assert stack.signal(service, signal.SIGKILL)
        last = max(EVERY * (ORDERS + 10), seen(stack) + EVERY * 100)
        stack.wait_until(f"tick {last}", lambda: seen(stack) >= last, 40)
        # Nothing changes while we read.
        for service in ("gateway", "strategy"):
            assert stack.signal(service, signal.SIGSTOP)
        time.sleep(0.1)
        orders, metrics = read_orders(stack.segment("trace")), stack.metrics("strategy")
        assert metrics is not None
        assert stack.log_path.read_text().count("process_died") == len(KILLS) + 2
        assert (SHM / stack.segment("trace")).exists()
    assert not (SHM / stack.segment("trace")).exists()
    return orders, metrics


def seen(stack: HostStack) -> int:
    return stack.counter("strategy", "ticks_consumed")


def behind(stack: HostStack) -> int:
    with opened(stack, "ring") as ring:
        return word(ring, NEXT_SEQ) - seen(stack)


def live(order: OrderTimes) -> list[Attempt]:
    """Without what a restarted strategy repeats of the run."""
    return [attempt for attempt in order.attempts if not attempt.recovery]


Found = tuple[list[OrderTimes], ProcessSnapshot]


def test_every_order_has_every_stage_in_order(found: Found) -> None:
    orders = [order for order in found[0] if order.id <= EVERY * ORDERS]
    assert sorted(order.id for order in orders) == [EVERY * n for n in range(1, ORDERS + 1)]
    for order in orders:
        answered = [attempt for attempt in live(order) if "ack_received" in attempt.stage_ns]
        assert len(answered) == 1, order
        assert answered[0].ok
        assert tuple(answered[0].stage_ns) == STAGE_NAMES, order
        for attempt in order.attempts:
            times = list(attempt.stage_ns.values())
            assert times == sorted(times), order


def test_an_order_that_a_crash_came_upon_has_both_attempts(found: Found) -> None:
    retried = [order for order in found[0] if len(live(order)) > 1]
    # An order manager that is killed mostly leaves an order without an answer.
    assert retried
    for order in retried:
        *lost, last = live(order)
        assert last.ok or order.id > EVERY * ORDERS
        for attempt in lost:
            assert attempt.ok is None
            assert "ack_received" not in attempt.stage_ns
            if "order_sent" in attempt.stage_ns:
                assert tuple(attempt.stage_ns)[: len(STRATEGYS_SHARE)] == STRATEGYS_SHARE
                assert attempt.stage_ns["order_sent"] < last.stage_ns["order_sent"]
        # The tick came once, unless it was read again from the gateway.
        assert [last.stage_ns[name] for name in TICK_STAGES]


def test_a_restarted_strategy_repeats_what_it_had_sent(found: Found) -> None:
    for order in found[0]:
        again = [attempt for attempt in order.attempts if attempt.recovery]
        # Some are lost with an order manager that is killed meanwhile.
        again = [attempt for attempt in again if attempt.ok is not None]
        expected = sum(order.id <= tick for tick in STRATEGY_DIES_AT)
        # The order on its way when the strategy was killed is sent again from the ring.
        assert expected - 1 <= len(again) <= expected + 1, order
        assert all(attempt.repeated and attempt.ok for attempt in again)


@pytest.mark.parametrize(
    ("histogram", "first", "slack_ns"),
    [("tick_to_ack_ns", "tick_received", 1000), ("scheduled_to_ack_ns", "due", 0)],
)
def test_sums_match_the_histograms(found: Found, histogram: str, first: str, slack_ns: int) -> None:
    took = [a.stage_ns["ack_received"] - a.stage_ns[first] for a in answered(found[0])]
    # A strategy that is killed between two notes leaves one of them.
    matches(took, found[1].histograms[histogram], len(STRATEGY_DIES_AT) + 1, slack_ns)


def test_the_time_of_the_orders_matches(found: Found) -> None:
    """The strategy counts from when it sent first, but a restarted one from when it did itself."""
    first, last = [], []
    group: Counter[int] = Counter()
    for order in found[0]:
        sent = [a.stage_ns["order_sent"] for a in live(order) if "order_sent" in a.stage_ns]
        if "ack_received" in live(order)[-1].stage_ns:
            done_ns = live(order)[-1].stage_ns["ack_received"]
            first.append(done_ns - sent[0])
            last.append(done_ns - sent[-1])
            group[sent[-1]] += 1
    # Orders sent together have one time, and a busy machine may stop the strategy between notes.
    slack = max(5, *group.values())
    measured = found[1].histograms["order_ack_ns"]
    for percent in (5, 25, 50, 75, 90):
        value = measured.percentile(percent)
        rank = measured.total * percent / 100
        lowest = bisect_left(sorted(first), value * (1 - BUCKET_ERROR) - 20_000)
        highest = bisect_right(sorted(last), value * (1 + BUCKET_ERROR) + 20_000)
        assert lowest - slack <= rank <= highest + slack, (percent, value)


def answered(orders: list[OrderTimes]) -> list[Attempt]:
    """The last attempt of each, without what was on its way when the strategy was stopped."""
    last = [live(order)[-1] for order in orders]
    return [attempt for attempt in last if "ack_received" in attempt.stage_ns]


def matches(took: list[int], measured: HistogramSnapshot, slack: int, slack_ns: int) -> None:
    """Each percentile has its place among our times, give or take ``slack`` orders."""
    took.sort()
    assert abs(measured.total - len(took)) <= slack
    for percent in (5, 25, 50, 75, 90):
        value = measured.percentile(percent)
        low = bisect_left(took, value * (1 - BUCKET_ERROR) - slack_ns)
        high = bisect_right(took, value * (1 + BUCKET_ERROR) + slack_ns)
        rank = len(took) * percent / 100
        assert low - slack <= rank <= high + slack, (percent, value, took[round(rank)])
