"""What all shards hold: a pure function of the set of their fills.

Every number here is the same in whatever order fills arrive, and however often: a fill counts once
by its key (shard, order store, run, number), and all that is kept are sums, and the price of the
latest fill.  So what is shown does not depend on redelivery, on a restart, or on which shard was
read first.  It is the arithmetic of the order manager's own account of the whole stack
(app/execution/accounts.py): a position is its quantity and the cash paid for it, fees included, so
its profit is ``qty * mark - cost`` and adds up over clients, symbols and shards.

A new run of a shard begins flat, so only a shard's latest run counts in what is held; the sums of
its older runs are kept beside it.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from app.model.position import Costs, Position
from app.model.timestamps import DAY_NS
from app.portfolio.fills import Fill
from app.portfolio.numbers import Numbers

MarkKey = tuple[int, int, int]
"""When, fill number, price: the largest is the latest price, whoever has it."""


class RunKey(NamedTuple):
    """One run of a shard.  ``store``: the id of the order store that has it; another store may have
    a run of the same name, with other fills under the same numbers."""

    shard: str
    store: str
    run: str


class Mark(NamedTuple):
    """A price of the market, units of 1e-9, and when it was seen, by this machine's clock."""

    at_ns: int
    price: int


class Holding:
    """What one run holds in one symbol: now, and what of it is from before the current day."""

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


class Unsaved:
    """What of the books is newer than their file."""

    def __init__(self) -> None:
        self.runs: set[RunKey] = set()
        self.holdings: set[tuple[RunKey, str]] = set()
        """Run and symbol."""
        self.marks: set[str] = set()
        """Symbols."""
        self.day = False
        """The day and its opening marks."""


class Run:
    """A run's fills and what they add up to.

    ``day``: of which ``before`` of its holdings is.  ``turn``: rises each time that the shard's
    fills come from another order store than before.
    """

    __slots__ = ("day", "holdings", "numbers", "turn")

    def __init__(self, day: int, turn: int = 0) -> None:
        self.day, self.turn = day, turn
        self.numbers = Numbers()
        self.holdings: dict[str, Holding] = {}
        """By symbol."""


class Books:
    """The runs of all shards, and what the latest of each holds.

    ``day``: the current day, UTC, in days since 1970: the latest of a fill or of the clock
    (:meth:`begin_day`).  Lines and totals are kept, and computed again for symbols that changed, so
    a look at the limits costs what has changed, not what is held.
    """

    def __init__(self) -> None:
        self.runs: dict[RunKey, Run] = {}
        self.current: dict[str, RunKey] = {}
        """Shard -> its latest run: that with the highest number of a fill.  A store numbers all its
        runs in one row; of two stores, the one that had the last new fill."""
        self.day = 0
        self.market: dict[str, Mark] = {}
        """By symbol: counts unless a fill is newer."""
        self.opening: dict[str, Mark] = {}
        """``market`` as the day began."""
        self.unsaved = Unsaved()
        self._by_symbol: dict[str, dict[str, Holding]] = {}
        """What is held now: symbol -> shard."""
        self._changed: set[str] = set()
        """Symbols whose lines have to be computed again."""
        self._lines: dict[str | None, dict[str, Line]] = {}
        self._totals: dict[str | None, Total] = {}
        """By shard; None: of all."""

    def apply(self, shard: str, fill: Fill) -> bool:
        """Take a fill; False if the books have it already."""
        key = RunKey(shard, fill.store, fill.run)
        run = self.runs.get(key)
        if run is not None and fill.no in run.numbers:
            return False
        day = fill.at_ns // DAY_NS
        if day > self.day:
            self.begin_day(day)
        if run is None:
            run = self.runs[key] = Run(self.day)
        self._roll(key)
        run.numbers.add(fill.no)
        if (current := self.current.get(shard)) is not None:
            run.turn = self.runs[current].turn + (current.store != key.store)
        holding = run.holdings.setdefault(fill.symbol, Holding())
        add_fill(holding.now, fill)
        if day < self.day:  # late: it belongs to what was there when the day began
            add_fill(holding.before, fill)
        self.unsaved.runs.add(key)
        self.unsaved.holdings.add((key, fill.symbol))
        if current != key and (current is None or self._order(key) > self._order(current)):
            self._make_current(key)
        elif current == key:
            self._show(shard, fill.symbol, holding)
        return True

    def _order(self, key: RunKey) -> tuple[int, int, str]:
        """The largest of a shard is its latest run."""
        run = self.runs[key]
        return (run.turn, run.numbers.last, key.run)

    def _make_current(self, key: RunKey) -> None:
        shard = key.shard
        for symbol in self.holdings_of(shard):
            del self._by_symbol[symbol][shard]
            self._changed.add(symbol)
        self._lines.pop(shard, None)
        self._totals.pop(shard, None)
        self.current[shard] = key
        self._roll(key)
        for symbol, holding in self.runs[key].holdings.items():
            self._show(shard, symbol, holding)

    def _show(self, shard: str, symbol: str, holding: Holding) -> None:
        self._by_symbol.setdefault(symbol, {})[shard] = holding
        self._changed.add(symbol)

    def settle(self) -> None:
        """Find each shard's latest run, after ``runs`` was filled from a file."""
        latest = {key.shard: key for key in sorted(self.runs, key=self._order)}
        for key in latest.values():
            self._make_current(key)

    def begin_day(self, day: int) -> bool:
        """From here on the day's profit counts, at the marks of this moment; False if that day has
        begun."""
        if day <= self.day:
            return False
        self.day = day
        self.opening = dict(self.market)
        self.unsaved.day = True
        for key in self.current.values():
            self._roll(key)
        self._changed.update(self._by_symbol)
        return True

    def _roll(self, key: RunKey) -> None:
        """Bring a run to the current day; an older run only when something happens to it."""
        run = self.runs[key]
        if run.day >= self.day:
            return
        run.day = self.day
        self.unsaved.runs.add(key)
        for symbol, holding in run.holdings.items():
            holding.before = copied(holding.now)
            self.unsaved.holdings.add((key, symbol))

    def set_market(self, prices: Mapping[str, int], at_ns: int) -> None:
        """Prices of the market, units of 1e-9, by symbol, as seen at ``at_ns``."""
        for symbol, price in prices.items():
            if symbol in self._by_symbol:
                self.market[symbol] = Mark(at_ns, price)
                self.unsaved.marks.add(symbol)
                self._changed.add(symbol)

    def shards(self) -> list[str]:
        """Who has fills, in order."""
        return sorted(self.current)

    def holdings_of(self, shard: str) -> dict[str, Holding]:
        """Of the shard's latest run, by symbol."""
        key = self.current.get(shard)
        return self.runs[key].holdings if key else {}

    def older_runs(self) -> Iterator[RunKey]:
        """Runs that a later run of their shard has followed, in no line and no total; the one that
        began last comes first."""
        return (key for key in reversed(self.runs) if self.current[key.shard] != key)

    def run_total(self, key: RunKey) -> Total:
        """The sum of one run, at the prices of its own last fills."""
        total = Total()
        for holding in self.runs[key].holdings.values():
            total = total.changed(NOTHING, _line([holding], holding.now.mark, holding.before.mark))
        return total

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
            self._put(None, symbol, self._valued(symbol, list(owners.values())))
            for shard, holding in owners.items():
                self._put(shard, symbol, self._valued(symbol, [holding]))
            if not owners:
                del self._by_symbol[symbol], self._lines[None][symbol]

    def _put(self, shard: str | None, symbol: str, line: Line) -> None:
        lines = self._lines.setdefault(shard, {})
        before = self._totals.get(shard, Total())
        self._totals[shard] = before.changed(lines.get(symbol, NOTHING), line)
        lines[symbol] = line

    def _valued(self, symbol: str, holdings: list[Holding]) -> Line:
        """Of several shards: a symbol that was moved has one price, the latest of them."""
        if not holdings:
            return NOTHING
        latest = max((holding.now for holding in holdings), key=mark_key)
        opening = max((holding.before for holding in holdings), key=mark_key)
        return _line(
            holdings,
            _mark(latest, self.market.get(symbol)),
            _mark(opening, self.opening.get(symbol)),
        )


def _mark(latest: Position, market: Mark | None) -> int:
    """The price of the latest fill, or of the market if that is not older."""
    return market.price if market and market.at_ns >= (latest.since_ns or 0) else latest.mark


def _line(holdings: list[Holding], mark: int, opening: int) -> Line:
    costs = Costs()
    pnl = day_pnl = qty = 0
    for holding in holdings:
        qty += holding.now.qty
        profit = holding.now.unrealized(mark)
        pnl += profit
        day_pnl += profit - holding.before.unrealized(opening)
        costs = costs.plus(holding.now.costs)
    return Line(qty, mark, pnl, day_pnl, costs)
