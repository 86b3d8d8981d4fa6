"""When the order manager takes the bus for lost, and what it does once."""

from hypothesis import given
from hypothesis import strategies as st

from app.config.settings import Settings
from app.execution.accounts import ACTIVE, HALTED, KILLED, REDUCE
from app.model.requests import Halt, Reduce
from app.order_manager.access.bus_watch import MODES, STANDSTILL_S, BusWatch, Ours, ours_of

LOOK_S = 0.25


def watch(rule: str = "halt", most_s: float = 10.0) -> BusWatch:
    return BusWatch(Settings(on_bus_loss=rule, bus_loss_s=most_s), 0.0)  # type: ignore[arg-type]


def looks(made: BusWatch, first_s: float, last_s: float, mode: int = ACTIVE) -> list[float]:
    """When it wants to restrict, of looks at usual intervals; nobody does it."""
    found, now_s = [], first_s
    while now_s <= last_s:
        if made.look(now_s, mode):
            found.append(now_s)
        now_s += LOOK_S
    return found


def test_nobody_is_waited_for_with_continue() -> None:
    assert looks(watch("continue", 0.1), 0.0, 100.0) == []


@given(st.lists(st.floats(0.0, 9.0), max_size=20), st.sampled_from(["reduce", "halt"]))
def test_words_within_the_time_are_enough_and_silence_is_not(gaps: list[float], rule: str) -> None:
    made, now_s = watch(rule), 0.0
    for gap in gaps:
        assert looks(made, now_s + LOOK_S, now_s + gap) == []
        now_s += gap
        made.look(now_s, ACTIVE)
        made.alive(now_s)
    assert looks(made, now_s, now_s + 9.9) == []
    (first, *_) = looks(made, now_s + 9.9, now_s + 12.0)
    assert first >= now_s + 10.0


def test_it_asks_until_the_mode_is_set_and_then_leaves_it_to_the_operator() -> None:
    made = watch()
    looks(made, 0.0, 9.0)
    assert len(looks(made, 9.0, 12.0)) > 3, "the store did not take it"
    made.restricted()
    assert looks(made, 12.0, 13.0, HALTED) == []
    assert looks(made, 13.0, 60.0, ACTIVE) == [], "an operator has resumed"
    made.alive(60.0)
    assert looks(made, 60.0, 69.0) == []
    assert looks(made, 69.0, 72.0), "another loss"


def test_a_mode_of_somebody_else_is_no_answer_to_it() -> None:
    made = watch()
    assert looks(made, 0.0, 30.0, KILLED) == []
    assert looks(made, 30.0, 31.0, ACTIVE), "resumed without a bus"
    assert looks(watch(), 0.0, 11.0, REDUCE), "halt is stricter"
    assert looks(watch("reduce"), 0.0, 11.0, REDUCE) == []


def test_a_process_that_stood_still_has_heard_nobody_and_waits_again() -> None:
    made = watch()
    looks(made, 0.0, 5.0)
    assert made.look(3605.0, ACTIVE) == 0.0
    assert looks(made, 3605.0, 3605.0 + 10.0 - 5.0 - 2 * STANDSTILL_S) == []
    assert looks(made, 3605.0, 3616.0)


@given(st.floats(0.1, 1e6), st.sampled_from(["reduce", "halt"]), st.integers(0, 1))
def test_its_reason_is_recognized(lost_s: float, rule: str, before: int) -> None:
    request = watch(rule).request(lost_s, before)
    assert isinstance(request, {"reduce": Reduce, "halt": Halt}[rule])
    found = ours_of((MODES[rule], request.reason))
    assert found == Ours(
        {"reduce": "reduce", "halt": "halted"}[rule],
        ("active", "reduce")[before],
        request.reason.partition(", before")[0],
    )
    assert request.reason.isprintable()
    assert len(request.reason) <= 200
    assert ours_of((MODES[rule], "by hand")) is None
    assert ours_of((KILLED, request.reason)) is None
    assert ours_of(None) is None
