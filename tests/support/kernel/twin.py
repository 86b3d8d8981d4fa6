"""The twin: an independent, slow implementation of the compiled kernel in plain Python.

Names and signatures are those of :mod:`app.kernel._kernel`, so that one test class runs both.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.support.kernel.twin_memory import BookView, Damaged, RingView, TickReader, TickWriter
from tests.support.kernel.twin_parse import (
    BAD_PRICE,
    BAD_SENTIMENT,
    BAD_SYMBOL,
    BAD_TIMESTAMP,
    FULL,
    MARK,
    NEED_MORE,
    PARSE_SLACK_BYTES,
    FieldParser,
    parse_sentiments,
    parse_ticks,
)
from tests.support.kernel.twin_trace import BatchTimes, OrderTrace

__all__ = [
    "BAD_PRICE",
    "BAD_SENTIMENT",
    "BAD_SYMBOL",
    "BAD_TIMESTAMP",
    "FULL",
    "MARK",
    "NEED_MORE",
    "PARSE_SLACK_BYTES",
    "BatchTimes",
    "BookView",
    "CrossAverage",
    "Damaged",
    "FieldParser",
    "Intent",
    "OrderGate",
    "OrderTrace",
    "RingView",
    "TickReader",
    "TickWriter",
    "join_sentiment",
    "parse_sentiments",
    "parse_ticks",
    "record_ages",
    "record_latency",
    "tally",
]


def join_sentiment(ticks: Any, events: Any, next_event: int, latest: Any, out: Any) -> int:
    """Each tick gets its symbol's last event whose time and number are not above its own."""
    if len(out) < len(ticks):
        raise ValueError("out")
    for i, tick in enumerate(ticks):
        while next_event < len(events):
            event = events[next_event]
            if event["event_ns"] > tick["event_ns"] or event["seq"] > tick["seq"]:
                break
            latest[event["symbol"]] = int(event["price"])
            next_event += 1
        out[i] = latest[tick["symbol"]]
    return next_event


class CrossAverage:
    """Two windows for each symbol, kept as lists of integers."""

    def __init__(self, count: int, short_ticks: int, long_ticks: int) -> None:
        if not 0 < short_ticks < long_ticks:
            raise ValueError("windows")
        self.short_ticks, self.long_ticks = short_ticks, long_ticks
        self.windows: list[deque[int]] = [deque(maxlen=long_ticks) for _ in range(count)]

    def _signal(self, tick: Any) -> int:
        window = self.windows[tick["symbol"]]
        window.append(round(float(tick["price"]) * 1e9))
        if len(window) < self.long_ticks:
            return 0
        short_sum = sum(list(window)[-self.short_ticks :])
        difference = short_sum * self.long_ticks - sum(window) * self.short_ticks
        return (difference > 0) - (difference < 0)

    def signals(self, ticks: Any, out: Any) -> None:
        """See the kernel."""
        if len(out) < len(ticks):
            raise ValueError("out")
        for i, tick in enumerate(ticks):
            out[i] = self._signal(tick)

    def agree(self, ticks: Any, sentiments: Any, bullish: int, bearish: int, out: Any) -> None:
        """See the kernel."""
        if len(sentiments) < len(ticks):
            raise ValueError("sentiments")
        self.signals(ticks, out)
        for i in range(len(ticks)):
            sentiment = 1 if sentiments[i] > bullish else -1 if 0 <= sentiments[i] < bearish else 0
            if out[i] != sentiment:
                out[i] = 0


class Intent(NamedTuple):
    """See the kernel."""

    seq: int
    event_ns: int
    symbol_index: int
    symbol: str
    signal: int
    target: int
    price: float
    recv_us: int
    order_id: int


class OrderGate:
    """See the kernel."""

    def __init__(
        self, position: Any, busy: Any, symbols: list[str], every: bool, orders_max: int
    ) -> None:
        if orders_max < 1:
            raise ValueError("orders_max")
        self.position, self.busy, self.symbols = position, busy, symbols
        self.every, self.orders_max = every, orders_max

    def intents(self, ticks: Any, signals: Any, start: int) -> tuple[list[Intent], int]:
        """See the kernel."""
        if len(ticks) < len(signals) or start < 0:
            raise ValueError("ticks")
        made: list[Intent] = []
        for i in range(start, len(signals)):
            signal, symbol = int(signals[i]), int(ticks[i]["symbol"])
            if signal not in (-1, 0, 1, 2):
                raise ValueError("signals")
            if signal and self.busy[symbol] and not self.every:
                return made, i
            before = int(self.position[symbol])
            target = {1: 1, -1: -1, 2: 0, 0: before}[signal]
            side = signal if signal in (1, -1) else -before
            if signal in (0, 2) if self.every else target == before:
                continue
            if len(made) == self.orders_max:
                return made, i
            self.busy[symbol] = before + 2
            self.position[symbol] = target
            tick = {name: ticks[i][name].item() for name in ("seq", "event_ns", "price", "recv_us")}
            what = {"symbol_index": symbol, "symbol": self.symbols[symbol]}
            what |= {"signal": side, "target": target, "order_id": tick["seq"] + 1}
            made.append(Intent(**what, **tick))
        return made, len(signals)

    def one_by_one(self, ticks: Any, signals: Any) -> Iterator[Intent]:
        """See the kernel."""
        tally(signals)
        for i in range(len(signals)):
            position, busy = self.position.copy(), [0] * len(self.position)
            alone = OrderGate(position, busy, self.symbols, self.every, 1)
            yield from alone.intents(ticks[i : i + 1], signals[i : i + 1], 0)[0]


def tally(signals: Any) -> tuple[int, int, int, int]:
    """See the kernel."""
    values = [int(signal) for signal in signals]
    if not set(values) <= {-1, 0, 1, 2}:
        raise ValueError("signals")
    return values.count(1), values.count(-1), values.count(2), values.count(0)


def record_latency(buckets: Any, value_ns: int, count: int = 1) -> None:
    """HdrHistogram, 256 sub-buckets: halve the value until it is below 256; count the halvings."""
    value, halvings = max(value_ns, 0), 0
    while value > 255:
        value, halvings = value >> 1, halvings + 1
    buckets[min(halvings * 128 + value, len(buckets) - 1)] += count


def record_ages(buckets: Any, ticks: Any, now_ns: int) -> None:
    """See the kernel."""
    for tick in ticks:
        record_latency(buckets, (now_ns // 1000 - int(tick["recv_us"])) % 2**32 * 1000)
