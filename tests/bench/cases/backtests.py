"""The comparisons of backtests and sweeps."""

import os
from functools import partial

from tests.bench.cases.names import STACK
from tests.bench.model import Comparison, Ratio, Subject
from tests.bench.subjects import backtests

SIMPLE = f"{STACK}, the same as a user's on_tick in Python"
SWEEP = f"{STACK}, sweep of 200 cells"
ONE_BY_ONE = f"{STACK}, cells one by one in one process"


def backtest(data: str) -> Comparison:
    """This stack's backtest beside those that users would take instead."""
    peers = [(each, each.title) for each in backtests.PEERS]
    large = data == backtests.LARGE
    what = "2 M generated ticks of 10 symbols" if large else "data/market_data.csv"
    slow = f" Of the large file, the slow ones ran the first {backtests.SLOW_TICKS:,} ticks."
    return Comparison(
        name=f"backtest-{data}",
        title=f"Backtest of the built-in strategy on {what}",
        subjects=(
            Subject(STACK, partial(backtests.ours, data=data, strategy=backtests.BUILT_IN)),
            Subject(SIMPLE, partial(backtests.ours, data=data, strategy=backtests.ON_TICK)),
            *(
                Subject(title, partial(backtests.peer, which=each, data=data), quick=False)
                for each, title in peers
            ),
        ),
        figures=("ticks_per_s", "orders"),
        ratios=(
            *(Ratio("ticks_per_s", STACK, title, at_least=1.0) for _, title in peers),
            *(Ratio("ticks_per_s", SIMPLE, title) for _, title in peers),
            Ratio("ticks_per_s", SIMPLE, STACK),
        ),
        leaves_out="every run has sent the orders of the built-in strategy: the same tick, symbol, "
        "quantity and price; a run with others fails. Loading is not timed; this stack decodes the "
        "bytes of the file and follows the equity in the time that is, the peers get arrays. "
        + " ".join(f"{title} {each.cannot}." for each, title in peers)
        + (slow if large else ""),
        quick=not large,
        subject_s=13 if large else 4,
    )


def sweep() -> Comparison:
    """A sweep on all cores against one backtest after another."""
    cores = len(os.sched_getaffinity(0))
    return Comparison(
        name="sweep",
        title=f"Sweep of 200 cells on data/market_data.csv, {cores} cores",
        subjects=(Subject(ONE_BY_ONE, backtests.one_by_one), Subject(SWEEP, backtests.sweep)),
        figures=("ticks_per_s",),
        ratios=(Ratio("ticks_per_s", SWEEP, ONE_BY_ONE, at_least=0.9 * cores),),
        leaves_out="the sweep's time begins with the start of its workers and includes reading "
        "and decoding the file, once. One by one are every 20th of the same cells, each with "
        "decoding and with the equity curve that a sweep does not draw.",
        subject_s=4,
        quick=False,
    )
