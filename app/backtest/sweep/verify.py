"""``sweep --verify``: some cells again, through the four processes."""

import sys
from collections.abc import Sequence

import numpy as np

from app.backtest.sweep.cell_run import Outcome
from app.backtest.sweep.grid import Cell
from app.backtest.sweep.live_cell import LiveError, live_hash
from app.config.settings import Settings
from app.market_data.generated.counter_rng import CounterRng


def chosen(ranked: Sequence[Outcome], count: int, seed: int) -> list[Outcome]:
    """The best cell, and others drawn from those that ran."""
    order = np.argsort(CounterRng(seed, "verify").words(np.arange(1, len(ranked))), kind="stable")
    return [*ranked[:1], *(ranked[1 + place] for place in order[: count - 1].tolist())]


def verify(
    settings: Settings, cells: Sequence[Cell], ranked: Sequence[Outcome], count: int, seed: int
) -> bool:
    """Run up to ``count`` cells; print a line for each.  Returns whether all traded the same."""
    equal = True
    for outcome in chosen(ranked, count, seed):
        cell = cells[outcome.number]
        try:
            found = live_hash(settings, cell)
        except LiveError as error:
            print(f"sweep: verify: {cell.text}: {error}", file=sys.stderr, flush=True)
            equal = False
            continue
        if found == outcome.trades_hash:
            print(f"verified: {cell.text}: {outcome.orders:,} orders, hash {found}", flush=True)
            continue
        equal = False
        print(
            f"sweep: verify: {cell.text}: hash {outcome.trades_hash} in the sweep, {found} in the "
            "four processes: does the strategy use anything but its ticks?",
            file=sys.stderr,
            flush=True,
        )
    return equal
