"""What a strategy holds, what it last saw, and what it says: the state behind its own methods.

Everything follows from ticks and answers in their order, so a run that is repeated gives the same.
"""

import difflib
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from app.model.money import UNITS, WHOLE, Scale, decimal_to_units, to_units
from app.model.position import Position
from app.model.token_bucket import TokenBucket
from app.strategy.kit.order_desk import Order

Note = Callable[[str, int, dict[str, Any]], None]
"""Writes a text, the sequence of the tick, and more fields."""

NOTES_PER_S = 20
FLOAT_UNITS: Final = 10**15
"""Below this, the float of a quantity in units names no other: it keeps 15 digits."""
TAKEN = {"ts", "level", "service", "event", "client", "text", "seq", "left_out"}
"""Fields that a line has already."""


class UnknownSymbol(KeyError):
    """A strategy names a symbol that the run does not have."""

    def __init__(self, symbol: object, symbols: list[str]) -> None:
        near = difflib.get_close_matches(str(symbol).upper(), symbols, n=1)
        some = ", ".join(symbols[:10]) + (", ..." if len(symbols) > 10 else "")
        hint = f"did you mean {near[0]}? " if near else ""
        super().__init__(f"no symbol {symbol!r}: {hint}the run has {some}")

    def __str__(self) -> str:
        return str(self.args[0])


class Fill(NamedTuple):
    """An order that was executed, at least in part.

    What is left of it is canceled, or waits if it has a limit.

    ``price``: the mean price of its executions; ``price_units``: the same, exact, in 1e-9.
    ``fee``: what the exchange takes.  ``borrow``: what the short that it found had cost since the
    fill before.  ``ordered_qty``: what was asked for.  ``event_ns``: the time of the order's tick.
    ``order``: what the strategy placed, if it places orders itself.  ``maker``: it has waited for
    its limit, and executed at it.
    """

    order_id: int
    seq: int
    event_ns: int
    symbol: str
    side: str
    qty: int | float
    ordered_qty: int | float
    price: float
    price_units: int
    fee: float
    borrow: float = 0.0
    order: Order | None = None
    maker: bool = False


class Reject(NamedTuple):
    """An order that was refused; ``code`` as in the order manager's answer; ``order`` as above."""

    order_id: int
    seq: int
    event_ns: int
    symbol: str
    side: str
    qty: int | float
    code: str
    msg: str
    order: Order | None = None


class Desk:
    """One strategy's holdings, prices and notes.

    ``told``: whether the strategy sees each answer before its next tick, so that its holdings are
    those as of now; otherwise asking for them is refused.
    """

    def __init__(self, symbols: list[str], scale: Scale = WHOLE) -> None:
        """``scale``: of quantities, and so of amounts."""
        self.scale = scale
        self.told = False
        self.seq = 0
        """Of the tick that the strategy is shown."""
        self._symbols = symbols
        self._index = {symbol: index for index, symbol in enumerate(symbols)}
        self._positions: dict[int, Position] = {}
        self._price: dict[int, float] = {}
        self._rings: dict[int, _Ring] = {}
        self._history_ticks = 0
        self._note: Note | None = None
        self._bucket = TokenBucket(NOTES_PER_S)
        self._left_out = 0

    # What the engine tells

    def keep(self, history_ticks: int) -> None:
        """Keep this many prices of each symbol."""
        self._history_ticks = history_ticks

    def see(self, index: int, price: float, seq: int) -> None:
        """Take note of a tick, before the strategy decides on it."""
        self.seq = seq
        self._price[index] = price
        if self._history_ticks:
            ring = self._rings.get(index)
            if ring is None:
                ring = self._rings[index] = _Ring(self._history_ticks)
            ring.add(price)

    def execute(
        self, index: int, side: int, qty: int, price: int, fee: int = 0, borrow: int = 0
    ) -> None:
        """Account for an execution, as the order manager does; all in its units."""
        position = self._positions.get(index)
        if position is None:
            position = self._positions[index] = Position()
        position.charge(fee, 0, 0, borrow)
        position.apply(side, qty, price)

    def restore(self, index: int, row: Mapping[str, Any]) -> None:
        """Holdings from before a restart that repeats nothing, as the order manager lists them."""
        average = decimal_to_units(Decimal(str(row["avg_cost"] or 0)))
        qty = self.scale.qty_units(row["qty"])
        assert qty is not None, row
        of = self.scale.amount_units
        realized, fees, borrow = (of(row.get(name, 0.0)) for name in ("realised", "fees", "borrow"))
        position = Position(qty, qty * average, realized, average, fees=fees, borrow=borrow)
        self._positions[index] = position

    def log_to(self, note: Note | None) -> None:
        """Where notes go; None: nowhere."""
        self._note = note

    # What the strategy asks

    def index_of(self, symbol: str | int) -> int:
        """A symbol's index; the strategy may name either.

        Raises:
            KeyError: there is no such symbol.
        """
        index = self._index.get(symbol, -1) if isinstance(symbol, str) else int(symbol)
        if not 0 <= index < len(self._symbols):
            raise UnknownSymbol(symbol, self._symbols)
        return index

    def holding(self, symbol: str | int) -> Position:
        """A copy of the exact account of one symbol.

        Raises:
            RuntimeError: the strategy decides on ticks before it sees the answers.
        """
        if not self.told:
            raise RuntimeError(
                "this strategy decides on many ticks before it sees the answers to its orders; set "
                "sees_answers = True on its class, so that positions are those as of the tick"
            )
        found = self._positions.get(self.index_of(symbol))
        if found is None:
            return Position()
        paid = {"fees": found.fees, "borrow": found.borrow}
        return Position(found.qty, found.cost, found.realized, found.mark, **paid)

    def exact_qty(self, index: int, qty: object) -> int | None:
        """The units held, signed as ``qty``, if that is their float and has not all their digits.

        So an order for what the strategy was told it holds leaves nothing.
        """
        position = self._positions.get(index)
        if position is None or not self.scale.decimals or not isinstance(qty, float):
            return None
        held = abs(position.qty)
        if held < FLOAT_UNITS or self.scale.qty(held) != abs(qty):
            return None
        return held if qty > 0 else -held

    def realised(self, symbol: str | int | None) -> int:
        """Profit of closed positions, as an amount in units."""
        return sum(self.holding(index).realized for index in self._asked(symbol))

    def unrealised(self, symbol: str | int | None) -> int:
        """Profit of open positions at the last prices seen, as an amount in units."""
        return sum(
            self.holding(index).unrealized(to_units(self._price[index]))
            for index in self._asked(symbol)
            if index in self._price
        )

    def _asked(self, symbol: str | int | None) -> list[int]:
        return list(self._positions) if symbol is None else [self.index_of(symbol)]

    def history(self, symbol: str | int, count: int) -> npt.NDArray[np.float64]:
        """The last prices of a symbol, the newest last; fewer if there are not so many yet.

        Raises:
            ValueError: more than are kept.
        """
        if not 0 < count <= self._history_ticks:
            raise ValueError(
                f"history of {count} ticks: set history_ticks = {max(count, 1)} on the class, or "
                f"ask for 1 to {self._history_ticks}"
                if self._history_ticks
                else f"history of {count} ticks: set history_ticks = {max(count, 1)} on the class"
            )
        ring = self._rings.get(self.index_of(symbol))
        return np.empty(0) if ring is None else ring.last(count)

    def note(self, text: str, fields: dict[str, Any]) -> None:
        """Write a line to the log, unless there were too many within the last second."""
        if self._note is None:
            return
        if not self._bucket.take(time.monotonic_ns()):
            self._left_out += 1
            return
        if self._left_out:
            fields = {**fields, "left_out": self._left_out}
            self._left_out = 0
        self._note(text, self.seq, fields)


class _Ring:
    """The last prices of one symbol; each is stored twice, so that any of them are one slice."""

    def __init__(self, size: int) -> None:
        self._size, self._count = size, 0
        self._values = np.zeros(2 * size)

    def add(self, price: float) -> None:
        at = self._count % self._size
        self._values[at] = self._values[at + self._size] = price
        self._count += 1

    def last(self, count: int) -> npt.NDArray[np.float64]:
        count = min(count, self._count)
        end = (self._count - 1) % self._size + 1 + self._size
        return self._values[end - count : end].copy()


def renamed(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a note; those whose name a line has already get an underscore."""
    return {f"{name}_" if name in TAKEN else name: value for name, value in fields.items()}


def money(units: int) -> float:
    """A price in units of 1e-9 as a number of the currency, the nearest there is."""
    return units / UNITS
