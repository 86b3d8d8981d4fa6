"""Prices for the page: the book, and a chosen symbol's latest ticks from the ring.

The ring is read without a slot in it, so no writer ever waits for this reader.  What it copies may
be overwritten meanwhile: it looks afterwards at how far the writer has got, and leaves out what was
not safe.
"""

import math
from collections import deque
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from app.config.settings import Settings
from app.dashboard.sources.sentiment import NONE, Sentiments
from app.kernel import _kernel
from app.model.tick import TICK_DTYPE
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.segment import SegmentError, SegmentMissing
from app.shared_memory_utils.tick_ring import TickRing

POINTS_MAX: Final = 1800
"""Of a symbol's history."""
POINTS_PER_READ_MAX: Final = 5
"""A faster symbol is thinned: 25 points a second are more than the eye follows."""
TICKS_PER_READ_MAX: Final = 16_384
"""Of all symbols.  A feed that is faster leaves a gap in the history."""
SYMBOLS_MAX: Final = 64
"""Symbols with a history; the one that was not asked for the longest gives way."""
UNSAFE_SHARE: Final = 4
"""The writer may be overwriting up to a quarter of the ring (app/kernel/ring.pxi, BURST_TICKS)."""

Ticks = npt.NDArray[np.void]


class Point(NamedTuple):
    """One tick of a symbol as the chart shows it; None where it is not known."""

    seq: int
    event_ms: float
    price: float
    short: float | None
    long: float | None
    sentiment: int | None
    signal: int
    """What the default strategy's two signals agree on: 1 BUY, -1 SELL, 0 neither."""


def columns(points: list[Point]) -> dict[str, list[Any]]:
    """The points as the page gets them."""
    return {name: [each[at] for each in points] for at, name in enumerate(Point._fields)}


class History:
    """The latest points of one symbol, with the moving averages of the strategy's settings."""

    def __init__(self, symbol: str, index: int, settings: Settings) -> None:
        self.symbol, self.index = symbol, index
        self.points: deque[Point] = deque(maxlen=POINTS_MAX)
        self.fresh: list[Point] = []
        """Those of the last read."""
        self._short, self._long = settings.short_window_ticks, settings.long_window_ticks
        self._bullish, self._bearish = settings.bullish_threshold, settings.bearish_threshold
        self._tail: npt.NDArray[np.float64] = np.zeros(0)
        """The prices before the next one, as far as the averages need them."""

    def forget_tail(self) -> None:
        """Ticks are missing: the averages begin anew."""
        self._tail = np.zeros(0)

    def add(self, ticks: Ticks, sentiments: Sentiments, points_max: int) -> None:
        """Take the symbol's next ticks, at most ``points_max`` of them as points."""
        self.fresh = []
        if not len(ticks):
            return
        prices = np.concatenate([self._tail, ticks["price"]])
        chosen = np.arange(len(ticks))
        if len(ticks) > points_max:
            step = math.ceil(len(ticks) / points_max)
            chosen = np.unique(np.append(chosen[step - 1 :: step], len(ticks) - 1))
        sums = np.concatenate([[0.0], np.cumsum(prices)])
        behind = len(self._tail)
        for at in chosen.tolist():
            end = behind + at + 1
            short = self._average(sums, end, self._short)
            long = self._average(sums, end, self._long)
            event_ns = int(ticks["event_ns"][at])
            sentiment = sentiments.at(self.index, event_ns)
            self.fresh.append(
                Point(
                    int(ticks["seq"][at]),
                    event_ns / 1e6,
                    float(ticks["price"][at]),
                    short,
                    long,
                    None if sentiment == NONE else sentiment,
                    self._signal(short, long, sentiment),
                )
            )
        self._tail = prices[-(self._long - 1) :] if self._long > 1 else np.zeros(0)
        self.points.extend(self.fresh)

    @staticmethod
    def _average(sums: npt.NDArray[np.float64], end: int, window: int) -> float | None:
        if end < window:
            return None
        return round(float(sums[end] - sums[end - window]) / window, 6)

    def _signal(self, short: float | None, long: float | None, sentiment: int) -> int:
        if short is None or long is None or sentiment == NONE:
            return 0
        if short > long and sentiment > self._bullish:
            return 1
        return -1 if short < long and sentiment < self._bearish else 0


class Market:
    """The book and the ring, attached as long as there are any."""

    def __init__(self, settings: Settings, sentiments: Sentiments) -> None:
        self._settings, self._sentiments = settings, sentiments
        self._book: SharedPriceBook | None = None
        self._ring: TickRing | None = None
        self._position = 0
        self._histories: dict[str, History] = {}
        self.problem = "no price book yet"
        self.generation = 0
        """Changes when the run's ticks begin anew."""

    @property
    def symbols(self) -> list[str]:
        """All symbols of the book, in order."""
        return self._book.get_symbols() if self._book else []

    @property
    def next_seq(self) -> int | None:
        """The sequence number of the next tick; None without a ring."""
        return self._ring.state.next_seq if self._ring else None

    def attach(self) -> bool:
        """Attach, or attach anew where the segments were replaced; whether there are any."""
        if self._book and self._ring and self._book.is_current() and self._ring.is_current():
            return True
        self._detach()
        try:
            self._book = SharedPriceBook(name=self._settings.shm_price_book, create=False)
            self._ring = TickRing.attach(self._settings.shm_tick_ring)
        except (SegmentError, SegmentMissing) as error:
            self.problem = str(error)
            self._detach()
            return False
        self.problem = ""
        self.generation += 1
        self._position = self._ring.state.published
        self._sentiments.use(self._book.get_symbols())
        return True

    def _detach(self) -> None:
        for segment in (self._book, self._ring):
            if segment is not None:
                segment.close()
        self._book = self._ring = None
        self._histories.clear()

    def close(self) -> None:
        """Detach."""
        self._detach()

    def read(self) -> None:
        """Take the ticks since the last read into the histories."""
        if self._ring is None:
            return
        try:
            ticks, complete, self._position = self._copy(self._position, TICKS_PER_READ_MAX)
        except _kernel.Damaged as error:
            self.problem = str(error)
            return
        for history in self._histories.values():
            if not complete:
                history.forget_tail()
            own = ticks[ticks["symbol"] == history.index] if len(ticks) else ticks
            history.add(own, self._sentiments, POINTS_PER_READ_MAX)

    def _copy(self, begin: int, ticks_max: int) -> tuple[Ticks, bool, int]:
        """Ticks from position ``begin`` on, the newest at most.

        Also returns whether none is missing, and the position after the last.
        """
        ring = self._ring
        assert ring is not None
        published = ring.state.published
        first = max(begin, published - min(ticks_max, ring.capacity // 2))
        if first >= published:
            return np.zeros(0, TICK_DTYPE), begin <= published, published
        positions = np.arange(first, published) & (ring.capacity - 1)
        ticks = ring.records[positions]  # a copy
        safe = ring.state.published - ring.capacity + ring.capacity // UNSAFE_SHARE
        if safe > first:
            ticks, first = ticks[min(safe - first, len(ticks)) :], safe
        return ticks, first == begin, published

    def history(self, symbol: str) -> History | None:
        """The history of a symbol, from what the ring holds if it is new; None if unknown."""
        if self._book is None or symbol not in self._book.symbol_to_index:
            return None
        found = self._histories.pop(symbol, None)
        if found is None:
            found = History(symbol, self._book.symbol_to_index[symbol], self._settings)
            assert self._ring is not None
            ticks, _, end = self._copy(0, self._ring.capacity)
            # Up to what the other histories have: the next read continues all of them.
            ticks = ticks[: len(ticks) - max(end - self._position, 0)]
            own = ticks[ticks["symbol"] == found.index]
            found.add(own, self._sentiments, POINTS_MAX)
            found.fresh = []
            if len(self._histories) >= SYMBOLS_MAX:
                del self._histories[next(iter(self._histories))]
        self._histories[symbol] = found  # the last one is the latest
        return found

    def rest(self) -> None:
        """No page is open: histories are made again from the ring."""
        self._histories.clear()
        if self._ring is not None:
            self._position = self._ring.state.published

    def fresh(self) -> dict[str, list[Point]]:
        """By symbol: the points of the last read."""
        return {symbol: history.fresh for symbol, history in self._histories.items()}

    def event_ns(self) -> int | None:
        """The time of the latest tick; None before the first."""
        ring = self._ring
        if ring is None or not (published := ring.state.published):
            return None
        return int(ring.records["event_ns"][(published - 1) & (ring.capacity - 1)])

    def feed_age_s(self) -> float | None:
        """For how long the prices are not known to be current; None without a ring."""
        return None if self._ring is None else round(self._ring.heartbeat_age_s(), 2)

    def prices(self, symbols_max: int = 48) -> dict[str, float]:
        """The latest price of the first symbols."""
        if self._book is None:
            return {}
        prices = self._book.last_prices[:symbols_max].tolist()
        return dict(zip(self.symbols, prices, strict=False))
