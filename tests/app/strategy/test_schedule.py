"""Due times: a pause, a jump and another pace are no latency."""

import secrets
from collections.abc import Iterator

import pytest

from app.config.settings import Settings
from app.gateway.mirror import publish
from app.gateway.transport import Transport
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.shared_memory_utils.segment import SHM_DIRECTORY
from app.strategy.schedule import Schedule

AT = 5_000_000_000_000
PLAYS = Transport("1000/s")
MS = 1_000_000


@pytest.fixture
def gateway() -> Iterator[ProcessMetrics]:
    name = f"test_schedule_{secrets.token_hex(4)}"
    metrics = ProcessMetrics.open(name, "gateway")
    metrics.segment_name = name  # type: ignore[attr-defined]
    yield metrics
    metrics.close()
    (SHM_DIRECTORY / name).unlink(missing_ok=True)


class Arrivals:
    """What the strategy knows of the ring."""

    published = 0
    gaps = 0


@pytest.fixture
def arrivals() -> Arrivals:
    return Arrivals()


@pytest.fixture
def schedule(gateway: ProcessMetrics, arrivals: Arrivals) -> Iterator[Schedule]:
    settings = Settings(shm_metrics=gateway.segment_name)  # type: ignore[attr-defined]
    found = Schedule(settings, lambda: arrivals.gaps, lambda: arrivals.published)
    yield found
    found.close()


def test_ticks_are_due_at_the_pace(gateway: ProcessMetrics, schedule: Schedule) -> None:
    publish(gateway, PLAYS, 100, AT, 0)
    assert schedule.due_ns(100) == AT
    assert schedule.due_ns(107) == AT + 7 * MS
    assert schedule.due_ns(99) is None, "of a schedule before this one"


def test_no_tick_is_due_in_a_pause(gateway: ProcessMetrics, schedule: Schedule) -> None:
    publish(gateway, PLAYS, 0, AT, 0)
    assert schedule.due_ns(50) == AT + 50 * MS
    publish(gateway, PLAYS.pause(), 0, 0, 0)
    assert schedule.due_ns(50) is None
    publish(gateway, PLAYS, 60, AT + 9_000 * MS, 0)
    assert schedule.due_ns(59) is None
    assert schedule.due_ns(61) == AT + 9_001 * MS


@pytest.mark.parametrize("pace", ["max", "60x"])
def test_other_paces_have_no_due_times(
    gateway: ProcessMetrics, schedule: Schedule, pace: str
) -> None:
    publish(gateway, Transport(pace), 0, AT, 0)
    assert schedule.due_ns(5) is None


def test_a_pace_may_change_at_any_tick(gateway: ProcessMetrics, schedule: Schedule) -> None:
    publish(gateway, PLAYS, 0, AT, 0)
    assert schedule.due_ns(10) == AT + 10 * MS
    publish(gateway, Transport("0.5/s"), 20, AT + 20 * MS, 0)
    assert schedule.due_ns(21) == AT + 2_020 * MS


def test_what_waits_behind_a_jump_is_not_measured(
    gateway: ProcessMetrics, schedule: Schedule, arrivals: Arrivals
) -> None:
    """The jump ended at tick 5000; when the strategy gets there, 5300 ticks have arrived."""
    publish(gateway, PLAYS, 5000, AT, 5000)
    arrivals.published = 5100
    assert schedule.due_ns(4000) is None
    arrivals.published = 5300
    assert schedule.due_ns(5000) is None
    assert schedule.due_ns(5299) is None
    arrivals.published = 6000
    assert schedule.due_ns(5300) == AT + 300 * MS


def test_half_a_change_is_not_believed(gateway: ProcessMetrics, schedule: Schedule) -> None:
    publish(gateway, PLAYS, 0, AT, 0)
    assert schedule.due_ns(1) == AT + MS
    gateway.add("market_changes")  # a gateway that is killed in the middle
    gateway.set("schedule_seq", 1)
    assert schedule.due_ns(1) is None
    publish(gateway, PLAYS, 1, AT + 7 * MS, 0)
    assert gateway.get("market_changes") % 2 == 0
    assert schedule.due_ns(1) == AT + 7 * MS


def test_the_counters_may_move_when_the_feed_is_interrupted(
    gateway: ProcessMetrics, arrivals: Arrivals
) -> None:
    """The metrics segment was removed; nobody has written to it yet."""
    schedule = Schedule(
        Settings(shm_metrics=f"absent_{secrets.token_hex(4)}"), lambda: arrivals.gaps, lambda: 0
    )
    assert schedule.due_ns(1) is None
    schedule._segment = gateway.segment_name  # type: ignore[attr-defined]
    publish(gateway, PLAYS, 0, AT, 0)
    assert schedule.due_ns(1) is None, "it looks again when the feed was interrupted"
    arrivals.gaps = 1
    assert schedule.due_ns(1) == AT + MS
    schedule.close()
