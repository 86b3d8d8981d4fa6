"""When a limit is passed, and when it may be passed again."""

from hypothesis import given
from hypothesis import strategies as st

from app.config.settings import Settings
from app.portfolio.books import Total
from app.portfolio.limits import (
    DAILY_LOSS,
    EXPOSURE,
    REARM_PERCENT,
    Limit,
    Watch,
    limits_of,
    values_of,
)

MONEY = 10**18


def watch_of(most: int) -> Watch:
    return Watch([Limit("exposure", "PORTFOLIO_EXPOSURE_MAX", most, "reduce")], {}, 0)


def test_limits_come_from_the_settings_exactly() -> None:
    settings = Settings(portfolio_exposure_max=1_000_000.1, portfolio_on_limit="halt")
    found = {limit.name: limit for limit in limits_of(settings)}
    assert found[EXPOSURE].most == 1_000_000_100_000_000_000_000_000
    assert found[EXPOSURE].mode == "halt"
    assert found[DAILY_LOSS].most == 0


def test_what_is_limited() -> None:
    assert values_of(Total(exposure=350, day_pnl=-20)) == {EXPOSURE: 350, DAILY_LOSS: 20}
    assert values_of(Total(day_pnl=5))[DAILY_LOSS] == 0, "a profit is no loss"


@given(st.lists(st.integers(0, 200), max_size=60))
def test_one_breach_from_passing_to_well_below(values: list[int]) -> None:
    watch, active, number = watch_of(100), False, 0
    for now, value in enumerate(values):
        begun, ended = watch.look({"exposure": value}, now)
        assert bool(begun) == (not active and value > 100)
        assert bool(ended) == (active and value <= REARM_PERCENT)
        number += len(begun)
        active = (active or bool(begun)) and not ended
        assert bool(watch.active) == active
        for breach in begun:
            assert (breach.number, breach.value, breach.began_ns) == (number, value, now)


def test_at_the_limit_is_within_it() -> None:
    watch = watch_of(100)
    assert watch.look({"exposure": 100}, 1) == ([], [])
    (breach,), _ = watch.look({"exposure": 101}, 2)
    assert watch.look({"exposure": 91}, 3) == ([], [])
    assert watch.look({"exposure": 90}, 4) == ([], [breach])


def test_without_a_limit_nothing_is_passed_and_one_that_is_removed_ends_its_breach() -> None:
    watch = watch_of(0)
    assert watch.look({"exposure": 10**30}, 1) == ([], [])
    passed = watch_of(5 * MONEY)
    (breach,), _ = passed.look({"exposure": 6 * MONEY}, 1)
    assert breach.reason == "exposure over all shards is 6.00, the limit 5.00"
    without = Watch(watch.limits, {"exposure": breach}, 1)
    assert without.look({"exposure": 6 * MONEY}, 2) == ([], [breach])
