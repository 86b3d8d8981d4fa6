"""What all shards hold: a pure function of the set of their fills.

Every number here is the same in whatever order fills arrive, and however often: a fill counts once
by its key (shard, run, number), and all that is kept are sums, and the price of the latest fill.
So what is shown does not depend on redelivery, on a restart, or on which shard was read first.  It
is the arithmetic of the order manager's own account of the whole stack
(app/execution/accounts.py): a position is its quantity and the cash paid for it, fees included, so
its profit is ``qty * mark - cost`` and adds up over clients, symbols and shards.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from app.model.position import Costs, Position
from app.model.timestamps import DAY_NS
from app.portfolio.fills import Fill
from app.portfolio.numbers import Numbers

Key = tuple[str, str]
"""Shard and symbol."""
MarkKey = tuple[int, int, int]
"""When, fill number, price: the largest is the latest price, whoever has it."""


class Holding:
    """What one shard holds in one symbol: now, and what of it is from before the current day."""

    __slots__ = ("before", "now")

    def __init__(self, now: Position | None = None, before: Position | None = None) -> None:
        self.now = now or Position()
        self.before = before or Position()


def mark_key(position: Position) -> MarkKey:
    """Of its latest fill."""
    return (position.since_ns or 0, position.fill_no, position.mark)


def add_fill(position: Position, fill: Fill) -> None:
    """Add a fill; ``mark``, ``fill_no`` and ``since_ns`` are those of the latest one."""
    notional = fill.qty * fill.price
    position.qty += fill.side * fill.qty
    position.cost += fill.side * notional + fill.fee + fill.borrow
    position.fees += fill.fee
    position.slippage += fill.slippage
    position.impact += fill.impact
    position.borrow += fill.borrow
    position.turnover += notional
    if (fill.at_ns, fill.no, fill.price) > mark_key(position):
        position.since_ns, position.fill_no, position.mark = fill.at_ns, fill.no, fill.price


def copied(position: Position) -> Position:
    """A copy of what :func:`add_fill` keeps."""
    return Position(
        position.qty,
        position.cost,
        mark=position.mark,
        fill_no=position.fill_no,
        fees=position.fees,
        slippage=position.slippage,
        impact=position.impact,
        borrow=position.borrow,
        turnover=position.turnover,
        since_ns=position.since_ns,
    )


class Line(NamedTuple):
    """One symbol of one shard, or of all; quantities in 1e-9, amounts in 1e-18.

    ``pnl``: since the first fill; ``day_pnl``: since the day began; both net of fees and borrow.
    """

    qty: int
    mark: int
    pnl: int
    day_pnl: int
    costs: Costs

    @property
    def value(self) -> int:
        """Of the position at its mark; negative when short."""
        return self.qty * self.mark


NOTHING: Final = Line(0, 0, 0, 0, Costs())


class Total(NamedTuple):
    """Of one shard, or of all; units of 1e-18.  Quantities of different symbols do not add up.

    ``exposure``: gross, the sum of all positions, long or short, at their marks.  A symbol that two
    shards hold counts in that of all with what they hold together, as clients of one stack do.
    ``held``: how many symbols.
    """

    exposure: int = 0
    pnl: int = 0
    day_pnl: int = 0
    held: int = 0
    costs: Costs = Costs()

    def changed(self, old: Line, new: Line) -> "Total":
        """With another line in the place of one."""
        return Total(
            self.exposure + abs(new.value) - abs(old.value),
            self.pnl + new.pnl - old.pnl,
            self.day_pnl + new.day_pnl - old.day_pnl,
            self.held + (new.qty != 0) - (old.qty != 0),
            Costs(*(c + n - o for c, n, o in zip(self.costs, new.costs, old.costs, strict=True))),
        )


class Books:
    """The holdings of all shards, and which fills they contain.

    ``day``: the current day, UTC, in days since 1970: the latest of a fill or of the clock
    (:meth:`begin_day`).  Lines and totals are kept, and computed again for symbols that changed, so
    a look at the limits costs what has changed, not what is held.
    """

    def __init__(self) -> None:
        self.holdings: dict[Key, Holding] = {}
        self.seen: dict[tuple[str, str], Numbers] = {}
        """Shard and run -> numbers of the fills in the books."""
        self.day = 0
        self.market: dict[str, int] = {}
        """Symbol -> price in the market, units of 1e-9, where something newer than a fill is known.
        Not part of the durable state: after a restart the next ticks bring it."""
        self._by_symbol: dict[str, dict[str, Holding]] = {}
        """The same holdings: symbol -> shard."""
        self._changed: set[str] = set()
        """Symbols whose lines have to be computed again."""
        self._lines: dict[str | None, dict[str, Line]] = {}
        self._totals: dict[str | None, Total] = {}
        """By shard; None: of all."""

    def hold(self, shard: str, symbol: str) -> Holding:
        """The holding that is about to be changed, a new one if there is none."""
        self._changed.add(symbol)
        holding = self.holdings.get((shard, symbol))
        if holding is None:
            holding = self.holdings[shard, symbol] = Holding()
            self._by_symbol.setdefault(symbol, {})[shard] = holding
        return holding

    def apply(self, shard: str, fill: Fill) -> bool:
        """Take a fill; False if the books have it already."""
        seen = self.seen.get((shard, fill.run))
        if seen is None:
            seen = self.seen[shard, fill.run] = Numbers()
        if not seen.add(fill.no):
            return False
        day = fill.at_ns // DAY_NS
        if day > self.day:
            self.begin_day(day)
        holding = self.hold(shard, fill.symbol)
        add_fill(holding.now, fill)
        if day < self.day:  # late: it belongs to what was there when the day began
            add_fill(holding.before, fill)
        return True

    def begin_day(self, day: int) -> bool:
        """From here on the day's profit counts; False if that day has begun."""
        if day <= self.day:
            return False
        self.day = day
        for holding in self.holdings.values():
            holding.before = copied(holding.now)
        self._changed.update(self._by_symbol)
        return True

    def set_market(self, prices: Mapping[str, int]) -> None:
        """Prices of the market, units of 1e-9, by symbol."""
        for symbol, price in prices.items():
            if symbol in self._by_symbol and self.market.get(symbol) != price:
                self.market[symbol] = price
                self._changed.add(symbol)

    def shards(self) -> list[str]:
        """Who has fills, in order."""
        return sorted({shard for shard, _ in self.holdings})

    def lines(self, shard: str | None = None) -> dict[str, Line]:
        """By symbol, in order: of one shard, or of all shards together."""
        self._refresh()
        lines = self._lines.get(shard, {})
        return {symbol: lines[symbol] for symbol in sorted(lines)}

    def total(self, shard: str | None = None) -> Total:
        """The sum of the lines."""
        self._refresh()
        return self._totals.get(shard, Total())

    def _refresh(self) -> None:
        while self._changed:
            symbol = self._changed.pop()
            owners = self._by_symbol[symbol]
            self._put(None, symbol, self._line(symbol, list(owners.values())))
            for shard, holding in owners.items():
                self._put(shard, symbol, self._line(symbol, [holding]))

    def _put(self, shard: str | None, symbol: str, line: Line) -> None:
        lines = self._lines.setdefault(shard, {})
        before = self._totals.get(shard, Total())
        self._totals[shard] = before.changed(lines.get(symbol, NOTHING), line)
        lines[symbol] = line

    def _line(self, symbol: str, holdings: list[Holding]) -> Line:
        """Of several shards: a symbol that was moved has one price, the latest of them."""
        latest = max((holding.now for holding in holdings), key=mark_key)
        opening = max((holding.before for holding in holdings), key=mark_key).mark
        mark = self.market.get(symbol) or latest.mark
        costs = Costs()
        pnl = day_pnl = qty = 0
        for holding in holdings:
            qty += holding.now.qty
            profit = holding.now.unrealized(mark)
            pnl += profit
            day_pnl += profit - holding.before.unrealized(opening)
            costs = costs.plus(holding.now.costs)
        return Line(qty, mark, pnl, day_pnl, costs)
