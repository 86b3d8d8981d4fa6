"""What the backtests of others share: the ticks, the clock, and the form of the result.

Each peer is a program that runs with the Python of its own environment: ``peer.py TICKS OUT``.
Nothing of this project is imported here.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

SHORT, LONG, MIDDLE, QTY = 5, 20, 50, 10
"""Windows in ticks, the sentiment between BUY and SELL, shares: the built-in strategy's."""
CASH = 1e12
WARMUP_TICKS = 20_000
"""Run untimed first: what is compiled or imported on first use is not part of the figure."""


class Ticks(NamedTuple):
    """The decoded file, in order: arrays of one length.

    ``cents`` are whole numbers, so that averages are exact and no rounding error gives a signal.
    """

    symbol: "np.ndarray"
    event_ns: "np.ndarray"
    price: "np.ndarray"
    cents: "np.ndarray"
    sentiment: "np.ndarray"

    def first(self, count: int) -> "Ticks":
        """The first ``count`` ticks."""
        return Ticks(*(column[:count] for column in self))

    def of_symbol(self, index: int) -> "tuple[np.ndarray, Ticks]":
        """The tick numbers of a symbol, and its ticks."""
        numbers = np.flatnonzero(self.symbol == index)
        return numbers, Ticks(*(column[numbers] for column in self))


ORDER = np.dtype([("tick", "i8"), ("symbol", "i4"), ("signed_qty", "i8"), ("price", "f8")])
"""An order that was filled."""


def in_order(parts: "list[np.ndarray]") -> "np.ndarray":
    """The orders of several runs as one, by tick."""
    found = np.concatenate(parts) if parts else np.zeros(0, ORDER)
    return found[np.argsort(found["tick"], kind="stable")]


def main(distribution: str, prepare: Callable[[Ticks], Callable[[], "np.ndarray"]]) -> None:
    """Run the peer; ``prepare`` returns the function that is timed, and that has the orders.

    What ``prepare`` does itself is loading, and is not timed.
    """
    source, out = sys.argv[1:3]
    with np.load(source) as file:
        ticks = Ticks(*(file[name] for name in Ticks._fields))
    prepare(ticks.first(WARMUP_TICKS))()
    run = prepare(ticks)
    start = time.perf_counter()
    orders = run()
    seconds = time.perf_counter() - start
    np.save(out, orders)
    print(json.dumps({"version": version(distribution), "seconds": seconds}))
