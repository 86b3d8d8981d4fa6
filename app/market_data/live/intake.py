"""Numbers the trades of a live feed: drops repeated ones, counts missing ones, keeps time going on.

Pure: no clock and no socket.  What it decides depends on the trades and on the ticks before them,
so after a crash it goes on from the recording.

* A trade whose id is not above the last of its symbol is repeated, or late: it is dropped.
* Ids between the last and a new one are missing trades: a gap.
* An id far below the last begins a new numbering.
* The event time is the exchange's, or that of the tick before if it is earlier.
* A time far ahead of this machine's clock would hold all later times up, so it is refused.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from app.market_data.live.records import NO_ID, TICK, Records
from app.model.timestamps import MIN_EVENT_NS, NS_PER_S

AHEAD_NS_MAX: Final = 60 * NS_PER_S
RENUMBERED: Final = 100_000
"""An id so far below the last one of its symbol begins a new numbering."""


class Gap(NamedTuple):
    """Trades of a symbol that did not arrive: ``missing`` after the id ``after``."""

    symbol: int
    after: int
    missing: int


class Ahead(NamedTuple):
    """A trade whose time is ahead of the clock by so much."""

    symbol: int
    ahead_ns: int


@dataclass(slots=True)
class Taken:
    """The ticks that some trades make, without checksums, and what was noticed about them."""

    ticks: Records
    repeated: int
    late: int
    gaps: list[Gap]
    renumbered: list[int]
    ahead: list[Ahead]


class Intake:
    """Knows the last trade id of each symbol, and the last time."""

    def __init__(self, symbols: int) -> None:
        self.last_ids = [NO_ID] * symbols
        self.last_ns = MIN_EVENT_NS

    def restore(self, last_ids: list[int], last_ns: int) -> None:
        """Go on after these."""
        self.last_ids, self.last_ns = list(last_ids), last_ns

    def take(self, trades: Records) -> Taken:
        """The ticks of the next trades, in the order of their arrival."""
        keep = np.zeros(len(trades), np.bool_)
        event_ns = np.zeros(len(trades), np.int64)
        taken = Taken(trades, 0, 0, [], [], [])
        numbers = zip(
            trades["symbol"].tolist(),
            trades["trade_id"].tolist(),
            trades["exchange_ns"].tolist(),
            trades["receive_ns"].tolist(),
            strict=True,
        )
        for row, (symbol, trade_id, exchange_ns, receive_ns) in enumerate(numbers):
            if exchange_ns - receive_ns > AHEAD_NS_MAX:
                taken.ahead.append(Ahead(symbol, exchange_ns - receive_ns))
            elif trade_id == NO_ID or self._is_new(symbol, trade_id, taken):
                keep[row] = True
                taken.late += exchange_ns < self.last_ns
                event_ns[row] = self.last_ns = max(exchange_ns, self.last_ns)
        kept = trades[keep]
        ticks = np.zeros(len(kept), TICK)
        for name in kept.dtype.names or ():
            ticks[name] = kept[name]
        ticks["event_ns"] = event_ns[keep]
        taken.ticks = ticks
        return taken

    def _is_new(self, symbol: int, trade_id: int, taken: Taken) -> bool:
        last = self.last_ids[symbol]
        if last - RENUMBERED < trade_id <= last:
            taken.repeated += 1
            return False
        if trade_id < last:
            taken.renumbered.append(symbol)
        elif last != NO_ID and trade_id > last + 1:
            taken.gaps.append(Gap(symbol, last, trade_id - last - 1))
        self.last_ids[symbol] = trade_id
        return True
