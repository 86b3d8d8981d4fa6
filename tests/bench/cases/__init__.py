"""The comparisons, in the order of the report, and the parts in which they are run."""

from tests.bench.cases import backtests, orders, ticks
from tests.bench.model import Comparison, Part, placements
from tests.bench.subjects.backtests import LARGE, SAMPLE


def parts() -> list[Part]:
    """Each takes less than six minutes on two cores."""
    anywhere, *placed = placements()
    return [
        Part(
            "ticks",
            "throughput: wire, pipeline, price book",
            (ticks.wire(), ticks.throughput(), ticks.books()),
        ),
        Part(
            "orders",
            "latency of orders, the system places the processes",
            (orders.latency(anywhere), orders.orders()),
        ),
        Part(
            "placement",
            "latency of orders with the processes on given cores",
            tuple(orders.latency(place) for place in placed),
        ),
        Part("pages", "latency of orders beside open pages", (orders.open_pages(),)),
        Part(
            "backtest",
            "backtests beside those of others, and a sweep",
            (backtests.backtest(SAMPLE), backtests.sweep()),
        ),
        Part(
            "backtest-large",
            "the same backtests on many more ticks",
            (backtests.backtest(LARGE),),
        ),
    ]


def all_comparisons() -> list[Comparison]:
    """All comparisons, in the order of the report."""
    return [each for part in parts() for each in part.comparisons]
