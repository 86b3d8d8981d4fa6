"""The result of a backtest: orders, positions and the equity curve."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, overload

import msgspec
import numpy as np
import numpy.typing as npt

from app.backtest.performance.daily import DAY_NS, DailyCloses, day_starts
from app.kernel import _kernel
from app.model.money import UNITS, WHOLE, Scale, money_text
from app.model.orders import SIDE_NAMES, STATUS_NAMES, Order
from app.model.position import YEAR_NS, Costs, Position, RunCosts
from app.model.reject_codes import RejectCode
from app.model.trades_hash import TradesHash, hash_text, trade_line

EQUITY_POINTS: Final = 500
TICKS_HELP: Final = (
    "number of ticks; default: those of the file; with REPLAY=walk or loop, made ones follow them"
)


class Fill(NamedTuple):
    """One filled order: its tick, signed quantity, mean price, and what it cost.

    ``slippage`` (with half the spread), ``impact`` and ``latency`` are in the price.  ``short``:
    what the shares that are short after it were sold for, if shorts cost something, from
    ``event_ns`` on.  ``signed_units``: the quantity, exact.
    """

    seq: int
    symbol_index: int
    signed_qty: float
    price: float
    fee: float = 0.0
    slippage: float = 0.0
    impact: float = 0.0
    borrow: float = 0.0
    short: float = 0.0
    event_ns: int = 0
    latency: float = 0.0
    signed_units: int = 0


NO_COSTS: Final = (0.0, 0.0, 0.0, 0.0, 0.0, 0, 0.0)
"""The fields of :class:`Fill` from ``fee`` to ``latency``."""


class FillsLater(Sequence[Fill]):
    """Fills of orders that cost nothing, each made when somebody looks at it."""

    def __init__(self, trades: _kernel.Trades, first: int, scale: Scale) -> None:
        """Of the trades from ``first`` to the last, as of now."""
        self.trades, self.first = trades, first
        self._end, self._scale = len(trades), scale

    def __len__(self) -> int:
        return self._end - self.first

    @overload
    def __getitem__(self, at: int) -> Fill: ...
    @overload
    def __getitem__(self, at: slice) -> list[Fill]: ...
    def __getitem__(self, at: int | slice) -> Fill | list[Fill]:
        return list(self)[at]

    def __iter__(self) -> Iterator[Fill]:
        for seq, _, symbol, units, price in self.trades.rows(self.first, self._end):
            qty = self._scale.qty(units)
            yield Fill(seq, symbol, qty, float(price) / UNITS, *NO_COSTS, units)


class OrdersLater(Sequence[Order]):
    """The orders of a run, made when somebody looks at one of them."""

    def __init__(self, count: int, make: Callable[[], list[Order]]) -> None:
        self._count, self._make = count, make
        self._made: list[Order] | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Order: ...
    @overload
    def __getitem__(self, at: slice) -> list[Order]: ...
    def __getitem__(self, at: int | slice) -> Order | list[Order]:
        return self._all()[at]

    def __iter__(self) -> Iterator[Order]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._all() == list(other)

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self._all(),)

    def _all(self) -> list[Order]:
        if self._made is None:
            self._made, self._make = self._make(), list  # and what they were made from may go
        return self._made

    def __repr__(self) -> str:
        return repr(self._all())


def share_a_ns(borrow_rate: int) -> float:
    """What a short costs in a nanosecond, as a share of what it was sold for.

    ``borrow_rate``: see :meth:`Position.accrued`.
    """
    return borrow_rate / (10_000 * UNITS * YEAR_NS)


def ticks_text(ticks: int, after_file: int, replay: str) -> str:
    """``5,000, of which 2,600 follow the file (REPLAY=walk)``; ``5,000`` if none does."""
    if not after_file:
        return f"{ticks:,}"
    return f"{ticks:,}, of which {after_file:,} follow the file (REPLAY={replay})"


class Curve:
    """Equity at evenly spaced ticks: profit since the start, holdings at their latest price.

    A short has cost what it has accrued up to that price; ``borrow_rate``: see
    :func:`share_a_ns`.
    """

    def __init__(
        self, symbols: int, total: int, points: int = EQUITY_POINTS, borrow_rate: int = 0
    ) -> None:
        self.step = max(1, -(-total // points))
        self.last_ns = np.zeros(symbols, np.int64)
        """When each symbol had its latest price, if shorts cost something."""
        self.event_ns: list[int] = []
        self.equity: list[float] = []
        self.last_price = np.zeros(symbols)
        self._worth = _kernel.Worth(
            self.last_price, self.last_ns, share_a_ns(borrow_rate), self.step
        )
        self.daily = DailyCloses(symbols)
        self._latest_ns: int | None = None
        self._unplotted = False

    def take(self, ticks: npt.NDArray[np.void], fills: Sequence[Fill]) -> None:
        """Add a batch and its fills, in order of sequence."""
        start, at = 0, 0
        found: Sequence[Fill] | _kernel.Trades = fills
        if isinstance(fills, FillsLater):
            found, at = fills.trades, fills.first
        latest_day = None if self._latest_ns is None else self._latest_ns // DAY_NS
        for stop in (*day_starts(ticks["event_ns"], latest_day), len(ticks)):
            if stop > start:
                piece = ticks[start:stop]
                self.daily.see(piece)
                at = self._worth.follow(piece, found, at, self.event_ns, self.equity)
                self._latest_ns = int(piece["event_ns"][-1])
                self._unplotted = (int(piece["seq"][-1]) + 1) % self.step != 0
                start = stop
            if stop < len(ticks):
                self._close_day()

    def close(self) -> None:
        """Add the point at the end of the run, unless it was just added, and the last day."""
        if self._latest_ns is not None and self._unplotted:
            self.event_ns.append(self._latest_ns)
            self.equity.append(self._worth.equity())
        self._close_day()

    def _close_day(self) -> None:
        if self._latest_ns is not None:
            self.daily.close(self._latest_ns, self._worth.equity(), self.last_price)


class Result(msgspec.Struct):
    """The result of a backtest.

    ``took_s``: duration of the replay, without loading.  ``signals``: how many BUY, SELL,
    FLAT and HOLD.  ``params``: the strategy's parameters, all of them.  ``accrued``: symbol -> what
    a short has cost since its last fill, as an amount.  ``placed``: orders that the strategy
    has placed itself; of these ``canceled``, with a limit, and ``left_open`` at the end.
    ``latency_cost``: an amount; ``left_in_transit``: orders on their way at the end.
    ``transit_refused``: orders that were not made, because too many were on their way.
    ``after_file``: of the ticks, those that follow the file, as the setting ``replay`` says.
    ``scale``: of quantities and amounts, also in orders and positions.
    """

    symbols: list[str]
    ticks: int
    took_s: float
    client: str
    orders: Sequence[Order]
    positions: dict[str, Position]
    last_price: dict[str, float]
    curve: Curve
    signals: tuple[int, int, int, int]
    params: str = ""
    accrued: dict[str, int] = {}
    placed: int = 0
    canceled: int = 0
    left_open: int = 0
    latency_cost: int = 0
    left_in_transit: int = 0
    transit_refused: int = 0
    after_file: int = 0
    replay: str = ""
    scale: Scale = WHOLE

    @property
    def ticks_text(self) -> str:
        """How many ticks, and how many of them are not of the data."""
        return ticks_text(self.ticks, self.after_file, self.replay)

    @property
    def ticks_per_s(self) -> float:
        """Speed of the replay."""
        return self.ticks / max(self.took_s, 1e-9)

    @property
    def costs(self) -> RunCosts:
        """What trading cost in units of 1e-9, with what shorts have accrued up to the last prices.

        ``result.costs.rows()`` is a table of it.
        """
        found = Costs(borrow=sum(self.accrued.values()))
        for position in self.positions.values():
            found = found.plus(position.costs)
        return RunCosts(*map(self.scale.money, found.of_run(self.latency_cost)))

    @property
    def trades_hash(self) -> str:
        """The digest that the stack prints for the same run, 16 hex digits."""
        trades = TradesHash()
        trades.add([_line(order, self.scale) for order in self.orders], 0, 0)
        return hash_text(trades.value)


def _line(order: Order, scale: Scale) -> str:
    price, average = order.price, order.avg_price
    return trade_line(
        order.id,
        SIDE_NAMES[order.side],
        order.symbol,
        scale.qty_text(order.qty),
        "null" if price is None else money_text(price),
        STATUS_NAMES[order.status],
        scale.qty_text(order.filled_qty),
        "null" if average is None else money_text(average),
        RejectCode(order.code).name if order.code else "",
    )
