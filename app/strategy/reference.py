"""The two classroom strategies in plain Python: the reference for the compiled cross-check."""

from collections import deque
from dataclasses import dataclass
from datetime import datetime

from app.model.money import UNITS
from app.strategy.base import BUY, HOLD, SELL


@dataclass(frozen=True, slots=True)
class MarketDataPoint:
    """One price of one symbol; ``timestamp`` (text, datetime or int64 ns) is not interpreted."""

    timestamp: str | datetime | int
    symbol: str
    price: float


@dataclass(frozen=True, slots=True)
class SentimentDataPoint:
    """One sentiment, 0 (bearish) to 100 (bullish), of one symbol."""

    timestamp: str | datetime | int
    symbol: str
    sentiment: int


class WindowedMovingAverageStrategy:
    """Short against long simple moving average, separately for each symbol.

    Args:
        s: ticks in the short window.
        l: ticks in the long window.

    Raises:
        ValueError: unless 0 < s < l.
    """

    def __init__(self, s: int, l: int) -> None:  # noqa: E741 (the published signature)
        if not 0 < s < l:
            raise ValueError(f"short window {s} must be above 0 and below the long window {l}")
        self.short_ticks, self.long_ticks = s, l
        self._windows: dict[str, deque[int]] = {}

    def on_tick(self, tick: MarketDataPoint) -> str:
        """BUY while the short average is above the long one, SELL below, else HOLD.

        Also HOLD until the long window is full.  Averages are compared exactly, as sums of integers
        in units of 1e-9, so that a rounding error never gives a signal on a flat price.
        """
        window = self._windows.setdefault(tick.symbol, deque(maxlen=self.long_ticks))
        window.append(round(tick.price * UNITS))
        if len(window) < self.long_ticks:
            return HOLD
        short_sum = sum(list(window)[-self.short_ticks :])
        difference = short_sum * self.long_ticks - sum(window) * self.short_ticks
        return BUY if difference > 0 else SELL if difference < 0 else HOLD

    def generate_signals(self, tick: MarketDataPoint) -> str:
        """The signal for one tick, as :meth:`on_tick`: one point in, one of BUY, SELL, HOLD out.

        Takes O(long_ticks) time; keeps the last ``long_ticks`` prices of each symbol, so one
        instance sees the ticks of all symbols, each once and in order.
        """
        return self.on_tick(tick)


class SentimentStrategy:
    """BUY above the bullish threshold, SELL below the bearish one, else HOLD.

    Raises:
        ValueError: unless 0 <= bearish <= bullish <= 100.
    """

    def __init__(self, bullish: int = 50, bearish: int = 50) -> None:
        if not 0 <= bearish <= bullish <= 100:
            raise ValueError(f"thresholds {bearish}, {bullish}: 0 <= bearish <= bullish <= 100")
        self.bullish, self.bearish = bullish, bearish

    def on_sentiment(self, point: SentimentDataPoint) -> str:
        """The signal for one sentiment."""
        if point.sentiment > self.bullish:
            return BUY
        return SELL if point.sentiment < self.bearish else HOLD

    def generate_signal(self, point: SentimentDataPoint) -> str:
        """The signal for one sentiment, as :meth:`on_sentiment`: one of BUY, SELL, HOLD.

        Keeps no state; ``point.sentiment`` is a whole number from 0 to 100.
        """
        return self.on_sentiment(point)


def cross_check(average: str, sentiment: str) -> str:
    """The signal that both give, or HOLD where they differ."""
    return average if average == sentiment else HOLD
