"""The pace in the counters, and as people see it."""

from hypothesis import given
from hypothesis import strategies as st

from app.dashboard.commands import market_of
from app.runtime.control.pace import pace_numbers, pace_text


@given(st.integers(1, 10**12 - 1), st.integers(0, 999_999), st.sampled_from(["/s", "x"]))
def test_the_counters_hold_every_pace_exactly(whole: int, millionths: int, end: str) -> None:
    text = f"{whole}.{millionths:06d}".rstrip("0").rstrip(".") + end
    numbers = pace_numbers(text)
    assert pace_text(*numbers) == text
    assert numbers[1] < 1 << 63
    shown = market_of(
        {"pace_kind": numbers[0], "pace_millionths": numbers[1], "paused": 0, "hurries_to": 0}
    )
    assert shown is not None
    assert shown["pace"] == text


def test_max_has_no_number() -> None:
    assert pace_text(*pace_numbers("max")) == "max"
