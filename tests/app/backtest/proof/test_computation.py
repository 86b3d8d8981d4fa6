"""A computation in steps is the run in one piece, also beyond the end of the file."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.backtest.proof.computation import Computation
from app.backtest.proof.order_line import OrderLine, of_order
from app.backtest.replay import run
from app.config.settings import Settings
from app.market_data.feed import Feed
from app.market_data.sources.loader import open_feed
from tests.support.paths import ROOT

TICKS = 36_000
"""The file has 30,000."""


@cache
def feed_of(replay: str) -> tuple[Settings, Feed]:
    chosen = Settings(data_path=str(ROOT / "data/market_data.csv"), replay=replay)  # type: ignore[arg-type]
    return chosen, open_feed(chosen)


@cache
def whole(replay: str) -> list[OrderLine]:
    chosen, feed = feed_of(replay)
    return [of_order(order) for order in run(chosen, feed, TICKS).orders]


@pytest.mark.parametrize("replay", ["walk", "loop"])
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, TICKS), max_size=8).map(sorted))
def test_any_steps_give_the_same_orders(replay: str, stops: list[int]) -> None:
    computation = Computation(*feed_of(replay))
    found = []
    for stop in [*stops, TICKS]:
        found += computation.go_to(stop)
        assert computation.ticks == stop
    assert found == whole(replay)
    assert found[-1].tick > 30_000


def test_it_ends_with_the_feed() -> None:
    computation = Computation(*feed_of("once"))
    computation.go_to(10**9)
    assert computation.ticks == 30_000
