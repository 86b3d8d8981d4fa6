"""From signals to the orders that a strategy wants to send."""

from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.kernel.plain.memory import checked, records_of

Int8s = npt.NDArray[np.int8]

FLAT: Final = 2
"""The signal; the position it wants is 0."""
_INVALID_SIGNAL: Final = "signals must be +1 (BUY), -1 (SELL), 2 (FLAT) or 0 (HOLD)"


class Intent:
    """An order that the strategy wants to send.

    ``seq`` and ``price`` are those of its tick; ``order_id`` follows from ``seq``.  ``signal`` is
    +1 to buy, -1 to sell; ``target`` is the position after the order: +1 long, 0 flat, -1 short.
    """

    __slots__ = (
        "_event_ns", "_order_id", "_price", "_recv_us", "_seq", "_signal", "_symbol",
        "_symbol_index", "_target",
    )  # fmt: skip

    def __init__(
        self,
        seq: int,
        event_ns: int,
        symbol_index: int,
        symbol: str,
        signal: int,
        target: int,
        price: float,
        recv_us: int,
        order_id: int,
    ) -> None:
        # Never a number of NumPy, which JSON does not write.
        self._seq, self._event_ns, self._symbol_index = int(seq), int(event_ns), int(symbol_index)
        self._symbol, self._signal, self._target = symbol, int(signal), int(target)
        self._price, self._recv_us, self._order_id = float(price), int(recv_us), int(order_id)

    # Read-only, as the compiled kernel's, and as fast as an attribute.
    seq = property(attrgetter("_seq"))
    event_ns = property(attrgetter("_event_ns"))
    symbol_index = property(attrgetter("_symbol_index"))
    symbol = property(attrgetter("_symbol"))
    signal = property(attrgetter("_signal"))
    target = property(attrgetter("_target"))
    price = property(attrgetter("_price"))
    recv_us = property(attrgetter("_recv_us"))
    order_id = property(attrgetter("_order_id"))

    def __repr__(self) -> str:
        return (
            f"Intent(seq={self.seq}, signal={self.signal}, target={self.target}, "
            f"symbol={self.symbol!r}, price={self.price}, event_ns={self.event_ns})"
        )


def _intent(tick: np.void, symbols: list[str], held: int, target: int) -> Intent:
    """The order that leads from the position ``held`` to ``target``, or repeats it."""
    event_ns, price, seq, _, symbol, recv_us = tick.item()
    side = target or -held
    return Intent(seq, event_ns, symbol, symbols[symbol], side, target, price, recv_us, seq + 1)


class OrderGate:
    """Decides which signals become orders, from one strategy's positions and unanswered orders.

    ``position`` is -1, 0 or +1 per symbol.  BUY wants +1, SELL -1, FLAT 0; a signal that wants the
    position it finds sends no order.  With ``every``, each BUY and SELL sends one, FLAT none.
    ``busy`` marks a symbol whose order has no answer yet: the position before the order, plus 2.
    The next signal of a busy symbol ends the batch, even if it is the same again, because whether
    it becomes an order depends on that answer.  The caller clears ``busy`` when it has the answers.
    """

    def __init__(
        self,
        position: Int8s,
        busy: npt.NDArray[np.uint8],
        symbols: list[str],
        every: bool,
        orders_max: int,
    ) -> None:
        if orders_max < 1:
            raise ValueError(f"orders_max {orders_max}: must be at least 1")
        self.position, self._busy = checked(position, np.int8), checked(busy, np.uint8)
        self.symbols = symbols
        self.every, self._orders_max = bool(every), orders_max

    def intents(self, ticks: Any, signals: Int8s, start: int) -> tuple[list[Intent], int]:
        """The next orders, at most ``orders_max``, and the index of the tick to continue with.

        Raises:
            ValueError: a signal other than +1, -1, 2, 0; fewer ticks than signals.
            IndexError: a tick with an unknown symbol.
        """
        records, made, signals = records_of(ticks), list[Intent](), checked(signals, np.int8)
        if len(records) < len(signals) or start < 0:
            raise ValueError("ticks are fewer than signals")
        position, busy = self.position, self._busy
        for i in (np.flatnonzero(signals[start:]) + start).tolist():
            signal = int(signals[i])
            if not -1 <= signal <= FLAT:
                raise ValueError(_INVALID_SIGNAL)
            tick = records[i]
            symbol = int(tick["symbol"])
            if busy[symbol] and not self.every:
                return made, i
            held = int(position[symbol])
            target = self.target(signal, held)
            if target is None:
                continue
            if len(made) == self._orders_max:
                return made, i
            made.append(_intent(tick, self.symbols, held, target))
            busy[symbol] = held + 2
            position[symbol] = target
        return made, max(start, len(signals))

    def target(self, signal: int, held: int) -> int | None:
        """The position that the signal's order leads to; None: it sends no order."""
        target = 0 if signal == FLAT else signal
        sends = target != 0 if self.every else target != held
        return target if sends else None

    def one_by_one(self, ticks: Any, signals: Int8s) -> "IntentSearch":
        """The same orders, each decided on when it is read: settle it before the next.

        Raises:
            ValueError: as above, before the first.
            IndexError: as above, while it is read.
        """
        return IntentSearch(self, ticks, signals)


class IntentSearch:
    """Iterates over the orders of a batch; leaves position and ``busy`` to its reader."""

    def __init__(self, gate: OrderGate, ticks: Any, signals: Int8s) -> None:
        self.gate, self.records = gate, records_of(ticks)
        tally(signals)
        if len(self.records) < len(signals):
            raise ValueError("ticks are fewer than signals")
        self.signals = signals
        self._found = np.flatnonzero(signals).tolist()
        self._next = 0

    def __iter__(self) -> "IntentSearch":
        return self

    def __next__(self) -> Intent:
        found = self.peek()
        if found is None:
            raise StopIteration
        self.step()
        tick, held, target = found
        return _intent(tick, self.gate.symbols, held, target)

    def peek(self) -> tuple[np.void, int, int] | None:
        """Tick, position and target of the next order; None: there is no more."""
        gate = self.gate
        while self._next < len(self._found):
            at = self._found[self._next]
            tick = self.records[at]
            held = int(gate.position[int(tick["symbol"])])
            target = gate.target(int(self.signals[at]), held)
            if target is not None:
                return tick, held, target
            self._next += 1
        return None

    def step(self) -> None:
        """Go past the order that :meth:`peek` has found."""
        self._next += 1


def tally(signals: Int8s) -> tuple[int, int, int, int]:
    """``(buys, sells, flats, holds)``.  ``ValueError`` for a signal other than +1, -1, 2, 0."""
    signals = checked(signals, np.int8)
    counts = [int(np.count_nonzero(signals == signal)) for signal in (1, -1, FLAT, 0)]
    if sum(counts) != len(signals):
        raise ValueError(_INVALID_SIGNAL)
    buys, sells, flats, holds = counts
    return buys, sells, flats, holds
