"""What strategies compute over a batch of ticks."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.kernel.plain.memory import checked, records_of
from app.kernel.plain.orders import FLAT, Int8s

Int16s = npt.NDArray[np.int16]

UNDECIDED: Final = -128
_UNITS: Final = 1e9
_WINDOW_PRICES_MAX: Final = 1 << 40


class Tick:
    """One tick as a plain-Python strategy sees it.

    ``event_ns`` is int64 ns since the epoch; ``sentiment`` is 0 to 100, or -1 before the first.
    """

    __slots__ = ("_event_ns", "_price", "_sentiment", "_seq", "_symbol")
    _symbol: str
    _price: float
    _event_ns: int
    _seq: int
    _sentiment: int

    # Read-only, as the compiled kernel's, and as fast as an attribute.
    symbol = property(attrgetter("_symbol"))
    price = property(attrgetter("_price"))
    event_ns = property(attrgetter("_event_ns"))
    seq = property(attrgetter("_seq"))
    sentiment = property(attrgetter("_sentiment"))

    def __repr__(self) -> str:
        return (
            f"Tick(symbol={self.symbol!r}, price={self.price}, event_ns={self.event_ns}, "
            f"seq={self.seq}, sentiment={self.sentiment})"
        )


_SIGNALS: Final = {None: 0, "HOLD": 0, "BUY": 1, "SELL": -1, "FLAT": FLAT}


def call_on_tick(
    on_tick: Callable[[Tick], str | None],
    ticks: Any,
    sentiments: Int16s,
    symbols: list[str],
    signals: Int8s,
) -> None:
    """Call ``on_tick(Tick)`` for each record; BUY, SELL, FLAT, HOLD or None: +1, -1, 2, 0."""
    moods, signals = checked(sentiments, np.int16).tolist(), checked(signals, np.int8)
    for i, (event_ns, price, seq, _, symbol, _) in enumerate(records_of(ticks).tolist()):
        tick = Tick.__new__(Tick)
        tick._symbol, tick._price, tick._event_ns = symbols[symbol], price, event_ns
        tick._seq, tick._sentiment = seq, moods[i]
        signals[i] = UNDECIDED  # stays if on_tick raises
        answer = on_tick(tick)
        signal = _signal_of(answer)
        if signal is None:
            raise ValueError(f"on_tick returned {answer!r}: BUY, SELL, FLAT, HOLD or None")
        signals[i] = signal


def _signal_of(answer: object) -> int | None:
    try:
        return _SIGNALS.get(answer)  # type: ignore[call-overload, no-any-return]
    except TypeError:  # not hashable
        return None


def join_sentiment(ticks: Any, events: Any, next_event: int, latest: Int16s, out: Int16s) -> int:
    """Write to ``out`` each tick's sentiment: its symbol's latest that the tick may see.

    A tick may see an event whose time and ``seq`` are not above its own.  ``events`` is in event
    order; ``latest`` keeps each symbol's sentiment between calls.  Returns the index of the next
    event.
    """
    records, ahead = records_of(ticks), records_of(events)
    latest, out = checked(latest, np.int16), checked(out, np.int16)
    if len(out) < len(records):
        raise ValueError("out is shorter than ticks")
    if next_event < 0:
        raise IndexError(next_event)
    at, last = next_event, len(ahead)
    event = ahead[at].item() if at < last else None
    for i, (event_ns, _, seq, _, symbol, _) in enumerate(records.tolist()):
        while event is not None and event[0] <= event_ns and event[2] <= seq:
            latest[event[4]] = int(event[1])
            at += 1
            event = ahead[at].item() if at < last else None
        out[i] = latest[symbol]
    return at


class _Averages:
    """The prices of one symbol's long window, and the difference of its averages."""

    __slots__ = ("at", "difference", "leaving", "missing", "window")

    def __init__(self, short_ticks: int, long_ticks: int) -> None:
        # Zeros: subtracting them while a window fills changes no sum.
        self.window, self.at = [0] * long_ticks, 0
        self.leaving, self.missing = long_ticks - short_ticks, long_ticks
        self.difference = 0
        """The short window's sum times ``long_ticks``, less that of the long one times
        ``short_ticks``."""


class CrossAverage:
    """Short and long moving average of every symbol, exact: prices are int64 in units of 1e-9."""

    def __init__(self, count: int, short_ticks: int, long_ticks: int) -> None:
        if not 0 < short_ticks < long_ticks:
            raise ValueError(f"short window {short_ticks} must be above 0, below {long_ticks}")
        if count < 0 or long_ticks > _WINDOW_PRICES_MAX // (count + 1):
            raise MemoryError(f"{count} windows of {long_ticks} ticks")
        self.count, self.short_ticks, self.long_ticks = count, short_ticks, long_ticks
        self._of_symbol: dict[int, _Averages] = {}

    def _add(self, symbol: int, price: int) -> int:
        """+1: short above long; -1: below; 0: equal, or the long window is not full."""
        own = self._of_symbol.get(symbol)
        if own is None:
            own = self._of_symbol[symbol] = _Averages(self.short_ticks, self.long_ticks)
        window, at, leaving = own.window, own.at, own.leaving
        own.difference += (price - window[leaving]) * self.long_ticks
        own.difference -= (price - window[at]) * self.short_ticks
        window[at] = price
        own.at = (at + 1) % self.long_ticks
        own.leaving = (leaving + 1) % self.long_ticks
        if own.missing > 1:
            own.missing -= 1
            return 0
        return (own.difference > 0) - (own.difference < 0)

    def signals(self, ticks: Any, out: Int8s) -> None:
        """The moving averages' signal for each tick."""
        records, out = records_of(ticks), checked(out, np.int8)
        if len(out) < len(records):
            raise ValueError("out is shorter than ticks")
        symbols = records["symbol"].tolist()
        for symbol in symbols:
            if symbol >= self.count:
                raise IndexError(symbol)
        add = self._add
        out[: len(records)] = [
            add(symbol, round(price * _UNITS))
            for symbol, price in zip(symbols, records["price"].tolist(), strict=True)
        ]

    def agree(self, ticks: Any, sentiments: Int16s, bullish: int, bearish: int, out: Int8s) -> None:
        """The averages' signal where the sentiment agrees with it, else 0."""
        count = len(records_of(ticks))
        if len(checked(sentiments, np.int16)) < count:
            raise ValueError("sentiments are shorter than ticks")
        self.signals(ticks, out)
        moods, signals = sentiments[:count], out[:count]
        bears = (moods >= 0) & (moods < bearish)
        signals[signals != (moods > bullish).astype(np.int8) - bears.astype(np.int8)] = 0
