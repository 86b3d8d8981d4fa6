"""``/metrics``: the portfolio in Prometheus' text format.

Amounts are floats there, as everywhere in Prometheus; ``/state`` has them exactly.
"""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.portfolio.fills import ALL
from app.portfolio.intake.following import Following, Progress
from app.portfolio.limits import values_of
from app.portfolio.page.counts import Counts
from app.portfolio.service import Portfolio

PREFIX = "trading_portfolio"


class PortfolioCollector(Collector):
    """Collects from the running portfolio."""

    def __init__(self, portfolio: Portfolio, following: Following, counts: Counts) -> None:
        self._portfolio, self._following, self._counts = portfolio, following, counts

    def collect(self) -> Iterator[Metric]:
        """Everything, as of now."""
        yield from self._bus()
        yield from self._shards()
        yield from self._limits()
        yield from self._sums()
        for name, value in sorted(self._counts.totals.items()):
            yield _counter(name, f"{name.replace('_', ' ')} of the page", value)

    def _bus(self) -> Iterator[Metric]:
        following = self._following
        yield _gauge("bus_connected", "whether there is a connection", following.link is not None)
        yield _counter("bus_connections", "connections made", following.connections)

    def _shards(self) -> Iterator[Metric]:
        portfolio, following = self._portfolio, self._following
        reading = _labeled("shard_reading", "whether the shard's fills are being read")
        pending = _labeled("lag_messages", "fills that the stream has and the books have not")
        lag = _labeled("lag_seconds", "for how long the books have not had all of the shard")
        beat = _labeled("heartbeat_age_seconds", "since the last heartbeat of the publisher")
        age = _labeled("last_fill_age_seconds", "age of the latest fill")
        last = _labeled(
            "last_message_age_seconds", "age of the last order or fill that the stream has"
        )
        counters = {
            "fills": "fills in the books",
            "repeats": "messages whose fill the books had already",
            "refused": "messages that were no fills",
            "lost": "messages that the stream no longer had when their turn came",
        }
        families = {
            name: CounterMetricFamily(f"{PREFIX}_{name}", text, labels=["shard"])
            for name, text in counters.items()
        }
        for shard, state in sorted(portfolio.shards.items()):
            progress = following.progress.get(shard) or Progress()
            reading.add_metric([shard], progress.reading)
            pending.add_metric([shard], progress.pending)
            if (lag_s := following.lag_s(shard)) is not None:
                lag.add_metric([shard], lag_s)
            if (age_s := following.heartbeats.age_s(shard)) is not None:
                beat.add_metric([shard], age_s)
            if state.last_fill_ns:
                age.add_metric([shard], max(0.0, time.time() - state.last_fill_ns / 1e9))
            if progress.last_message_s > 0:
                last.add_metric([shard], max(0.0, time.time() - progress.last_message_s))
            for name, family in families.items():
                family.add_metric([shard], getattr(state, name))
        yield from (reading, pending, lag, beat, age, last, *families.values())

    def _limits(self) -> Iterator[Metric]:
        portfolio = self._portfolio
        values = values_of(portfolio.books.total())
        value = _labeled("limit_value", "what is limited", "limit")
        most = _labeled("limit_max", "the limit; absent if there is none", "limit")
        passed = _labeled("limit_passed", "whether the limit is passed", "limit")
        for limit in portfolio.watch.limits:
            value.add_metric([limit.name], ALL.amount(values[limit.name]))
            if limit.most:
                most.add_metric([limit.name], ALL.amount(limit.most))
            passed.add_metric([limit.name], limit.name in portfolio.watch.active)
        yield from (value, most, passed)
        yield _gauge("controls_unsent", "controls that no stream has yet", portfolio.unsent)

    def _sums(self) -> Iterator[Metric]:
        """Over all, with an empty ``shard``, and of each shard."""
        books = self._portfolio.books
        pnl = _labeled("pnl", "profit since the first fill, net of fees and borrow")
        day = _labeled("day_pnl", "profit of the day, UTC")
        gross = _labeled("exposure", "sum of all positions, long or short, at their marks")
        for shard in (None, *sorted(self._portfolio.shards)):
            summed, label = books.total(shard), [shard or ""]
            pnl.add_metric(label, ALL.amount(summed.pnl))
            day.add_metric(label, ALL.amount(summed.day_pnl))
            gross.add_metric(label, ALL.amount(summed.exposure))
        yield from (pnl, day, gross)


def _labeled(name: str, text: str, label: str = "shard") -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=[label])


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, value=float(value))


def figures_text(portfolio: Portfolio, following: Following, counts: Counts) -> bytes:
    """The answer to ``GET /metrics``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PortfolioCollector(portfolio, following, counts))
    return generate_latest(registry)
