"""Records of an order put together: whatever is missing, and whatever is torn."""

import itertools
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.config.settings import Settings
from app.kernel._kernel import OrderTrace
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.trace.layout import ACKED, DUPLICATE, HANDLED, OK, SENT, STAGE_NAMES
from app.runtime.trace.reader import Step, assemble, read_orders, trace_of, whole_records
from app.runtime.trace.writer import TraceSegment
from tests.support.children import SHM, Spawn, eventually

LIMIT = settings(max_examples=300, deadline=None, derandomize=True)
CLOCK = 1_000_000
NOT_ITS_OWN = ("due", "order_received", "committed", "ack_sent")
"""Stages of the tick, and by the order manager."""


def stages(**at_ns: int) -> tuple[int, ...]:
    return tuple(at_ns.get(name, 0) for name in STAGE_NAMES)


def attempt_steps(begin_ns: int, *, again: bool = False) -> list[Step]:
    """The three records of an attempt that is answered."""
    at = dict(zip(STAGE_NAMES, itertools.count(begin_ns, 10), strict=False))
    tick = {name: at[name] for name in ("tick_sent", "tick_received", "published")}
    ours = {name: at[name] for name in ("decided", "order_sent")}
    theirs = {name: at[name] for name in ("order_received", "committed", "ack_sent")}
    flags = OK | DUPLICATE if again else OK
    return [
        Step(SENT, 0, stages(**ours, **({} if again else tick)), again),
        Step(HANDLED, flags, stages(**theirs), again),
        Step(
            ACKED,
            flags,
            stages(
                due=0 if again else at["due"],
                order_sent=at["order_sent"],
                ack_received=at["ack_received"],
            ),
            again,
        ),
    ]


def test_one_attempt() -> None:
    (attempt,) = assemble(attempt_steps(CLOCK))
    assert list(attempt.stage_ns) == list(STAGE_NAMES)
    assert list(attempt.stage_ns.values()) == list(range(CLOCK, CLOCK + 100, 10))
    assert (attempt.ok, attempt.repeated, attempt.recovery) == (True, False, False)
    assert attempt.between_ns("tick_received", "ack_received") == 70


def test_the_order_manager_was_killed_before_its_answer() -> None:
    sent, *_ = attempt_steps(CLOCK)
    first, second = assemble([sent, *attempt_steps(CLOCK + 500)])
    assert first.ok is None
    assert list(first.stage_ns) == [
        "tick_sent", "tick_received", "published", "decided", "order_sent",
    ]  # fmt: skip
    assert second.ok
    assert len(second.stage_ns) == 10


def test_the_due_time_comes_with_the_answer_but_counts_for_each_attempt() -> None:
    sent, *_ = attempt_steps(CLOCK)
    _, handled, acked = attempt_steps(CLOCK + 500)
    retried = sent._replace(stages=stages(decided=CLOCK + 40, order_sent=CLOCK + 550))
    acked = acked._replace(
        stages=stages(due=CLOCK, order_sent=CLOCK + 550, ack_received=CLOCK + 590)
    )
    first, second = assemble([sent, retried, handled, acked])
    assert first.stage_ns["due"] == CLOCK
    assert second.stage_ns["due"] == CLOCK


def test_the_strategy_was_killed_before_the_answer() -> None:
    sent, handled, _ = attempt_steps(CLOCK)
    first, second = assemble([sent, handled, *attempt_steps(CLOCK + 500)])
    assert first.ok is None
    assert "ack_sent" in first.stage_ns
    assert "ack_received" not in first.stage_ns
    assert second.ok


def test_the_strategy_was_killed_before_it_noted_that_it_sent() -> None:
    _, handled, _ = attempt_steps(CLOCK)
    first, second = assemble([handled, *attempt_steps(CLOCK + 500)])
    assert list(first.stage_ns) == ["order_received", "committed", "ack_sent"]
    assert len(second.stage_ns) == 10


def test_an_order_by_hand_has_what_the_order_manager_knows() -> None:
    _, handled, _ = attempt_steps(CLOCK)
    (attempt,) = assemble([handled])
    assert list(attempt.stage_ns) == ["order_received", "committed", "ack_sent"]
    assert attempt.ok is None


@LIMIT
@given(
    st.integers(1, 4),
    st.sets(st.integers(0, 11)),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_any_records_missing_in_any_order(
    count: int, missing: set[int], recovers: bool, random: Random
) -> None:
    """Each record is in one attempt, attempts follow each other, and in each its stages do."""
    written = [
        step
        for number in range(count)
        for step in attempt_steps(CLOCK + 1000 * number, again=recovers and number == count - 1)
    ]
    kept = [step for number, step in enumerate(written) if number not in missing]
    shuffled = random.sample(kept, len(kept))
    attempts = assemble(shuffled)
    assert attempts == assemble(kept)
    begins = []
    for attempt in attempts:
        times = list(attempt.stage_ns.values())
        assert times == sorted(times)
        assert [n for n in STAGE_NAMES if n in attempt.stage_ns] == list(attempt.stage_ns)
        begins.append(times[-1])
        # Nothing of one attempt is in another, as far as the strategy's records go.
        by_strategy = [at for name, at in attempt.stage_ns.items() if name not in NOT_ITS_OWN]
        assert not by_strategy or by_strategy[-1] - by_strategy[0] < 1000
    assert begins == sorted(begins)
    for name in STAGE_NAMES[1:]:
        found = sorted(a.stage_ns[name] for a in attempts if name in a.stage_ns)
        at = STAGE_NAMES.index(name)
        assert found == sorted({step.stages[at] for step in kept if step.stages[at]})


# ---- Torn records


class Written(NamedTuple):
    """One record and its bytes in the ring."""

    id: int
    body: bytes


def write(memory: bytearray, trace: OrderTrace, count: int) -> list[Written]:
    before, written = bytes(memory), []
    for number in range(count):
        trace.append(SENT, 0, number, f"c{number}".encode(), [number * 7 + k for k in range(10)])
        changed = bytes(memory)
        written.append(Written(number, changed))
        before = changed
    assert before == bytes(memory)
    return written


@LIMIT
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_a_write_that_stops_halfway_never_shows_a_record_that_was_not_written(
    first: int, second: int, data: st.DataObject
) -> None:
    """The bytes of two moments in the life of a ring, mixed at any words."""
    memory = bytearray(64 + 3 * 192)
    trace = OrderTrace(memory)
    write(memory, trace, first)
    old = bytes(memory)
    write(memory, trace, second)
    new = bytes(memory)
    mask = data.draw(st.lists(st.booleans(), min_size=72, max_size=72))
    words = [(new if take else old)[64 + 8 * i : 72 + 8 * i] for i, take in enumerate(mask)]
    found, _ = whole_records(b"".join(words))
    real = {image[64 + 192 * slot : 256 + 192 * slot] for image in (old, new) for slot in range(3)}
    assert all(record.tobytes() in real for record in found)


@LIMIT
@given(st.integers(0, 191), st.integers(0, 7))
def test_any_flipped_bit_is_noticed(offset: int, bit: int) -> None:
    memory = bytearray(64 + 3 * 192)
    write(memory, OrderTrace(memory), 3)
    memory[64 + 192 + offset] ^= 1 << bit
    found, torn = whole_records(bytes(memory[64:]))
    assert sorted(found["id"].tolist()) == [0, 2]
    assert torn == 1


HAMMER = """
import sys
from app.runtime.trace.layout import check_header
from app.kernel._kernel import OrderTrace
from app.shared_memory_utils.segment import Segment

segment = Segment.attach(sys.argv[1])
trace = OrderTrace(check_header(sys.argv[1], segment.buf).ring(segment.buf, repeats=False))
print("up", flush=True)
number = int(sys.argv[2])
while True:
    number += 2
    trace.append(1, 0, number, b"c%d" % number, [number + k for k in range(10)])
"""


@pytest.fixture
def chosen(name: str) -> Iterator[Settings]:
    made = Settings(shm_metrics=name, trace_orders=2, ring_capacity_ticks=1024)
    yield made
    (SHM / made.shm_trace).unlink(missing_ok=True)


@pytest.mark.medium
def test_two_processes_at_full_pace_never_show_a_torn_record(
    chosen: Settings, spawn: Spawn
) -> None:
    metrics = ProcessMetrics.open(chosen.shm_metrics, "strategy")
    made = TraceSegment.open(chosen, metrics)
    assert made is not None
    children = [spawn(HAMMER, chosen.shm_trace, begin) for begin in (0, 1)]
    assert [child.line() for child in children] == ["up", "up"]
    seen: set[int] = set()

    def enough() -> bool:
        for order in read_orders(chosen.shm_trace):
            (attempt,) = order.attempts
            assert order.client == f"c{order.id}"
            assert list(attempt.stage_ns.values()) == list(range(order.id, order.id + 10))
            seen.add(order.id)
        return len(seen) > 2000 and {number % 2 for number in seen} == {0, 1}

    eventually(enough, "two thousand records")
    for child in children:
        child.kill()
    # What a killed writer leaves half written counts as not written.
    assert len(read_orders(chosen.shm_trace)) >= 4
    metrics.close()


def test_by_id_and_client(chosen: Settings) -> None:
    metrics = ProcessMetrics.open(chosen.shm_metrics, "strategy")
    made = TraceSegment.open(chosen, metrics)
    assert made is not None
    made.orders.append(SENT, 0, 5, b"strategy@12345678", range(10, 20))
    made.orders.append(HANDLED, OK, 5, b"default", [0, 0, 0, 0, 0, 0, 30, 31, 32, 0])
    made.orders.append(HANDLED, OK, 6, b"default", [0, 0, 0, 0, 0, 0, 40, 41, 42, 0])
    found = {order.client for order in trace_of(chosen.shm_trace, 5)}
    assert found == {"strategy@12345678", "default"}
    for client in ("strategy", "strategy@12345678"):
        (order,) = trace_of(chosen.shm_trace, 5, client)
        assert (order.client, order.tick) == ("strategy@12345678", 4)
    (order,) = trace_of(chosen.shm_trace, 5, "default")
    assert order.tick is None
    assert trace_of(chosen.shm_trace, 5, "strat") == []
    assert trace_of(chosen.shm_trace, 7) == []
    assert [order.id for order in read_orders(chosen.shm_trace, newest=2)] == [5, 6]
    metrics.close()
