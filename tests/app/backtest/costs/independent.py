"""Trades with all costs by pandas and decimals, from the ticks alone, with none of our code.

The rules are those of the protocol's page; every amount is rounded where that says so.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Any, NamedTuple

import pandas

from app.strategy import Strategy

PRICE_UNIT = Decimal("1e-9")
YEAR_NS = 365 * 24 * 3600 * 10**9
RISE = 1.0004
"""A move of this size since the symbol's tick before is a signal."""


class Swing(Strategy):
    """Buys what has risen and sells what has fallen since the symbol's last tick."""

    def on_start(self) -> None:
        self.last: dict[str, float] = {}

    def on_tick(self, tick: Any) -> str:
        before, self.last[tick.symbol] = self.last.get(tick.symbol, tick.price), tick.price
        return (
            "BUY"
            if tick.price > before * RISE
            else "SELL"
            if tick.price * RISE < before
            else "HOLD"
        )


class Told(Swing):
    """The same; it is told of each fill before its next tick."""

    def on_fill(self, fill: Any) -> None:
        self.fills = getattr(self, "fills", 0) + 1


def settings_of(**changes: float) -> dict[str, float]:
    """All costs of the paper exchange, and executions in part."""
    return {
        "paper_slippage_bps": 1.25,
        "paper_half_spread_bps": 0.5,
        "paper_impact_bps": 7.75,
        "paper_impact_qty": 12.5,
        "paper_fee_per_share": 0.0051,
        "paper_fee_bps": 0.3,
        "paper_fee_min": 0.35,
        "paper_borrow_bps_year": 123_456.7,
        "paper_fill_percent": 40,
        **changes,
    }


class Trade(NamedTuple):
    """One order and its execution; money in the currency."""

    seq: int
    symbol: str
    side: int
    qty: Decimal
    market: Decimal
    filled: Decimal
    price: Decimal
    fee: Decimal
    slippage: Decimal
    impact: Decimal
    borrow: Decimal
    nth: int = 0
    latency: Decimal = Decimal(0)


@dataclass
class Book:
    """What is held of one symbol, at average cost, and what it has cost.

    ``unit``: what an amount of money is rounded to.
    """

    unit: Decimal = PRICE_UNIT
    qty: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    realised: Decimal = Decimal(0)
    since_ns: int = 0
    costs: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    def owes(self, bps_a_year: Decimal, at_ns: int) -> Decimal:
        """What a short has cost since the last fill."""
        if self.qty >= 0:
            return Decimal(0)
        exact = -self.cost * bps_a_year / 10_000 * (at_ns - self.since_ns) / YEAR_NS
        return exact.quantize(self.unit)

    def trade(self, signed: Decimal, price: Decimal) -> None:
        """Close what there is of the other side, then open."""
        closed = min(abs(signed), abs(self.qty)) if signed * self.qty < 0 else Decimal(0)
        if closed:
            released = (self.cost * closed / abs(self.qty)).quantize(self.unit, ROUND_DOWN)
            self.realised += -closed * price * (1 if signed > 0 else -1) - released
            self.cost -= released
        opened = signed - closed * (1 if signed > 0 else -1)
        self.cost += opened * price
        self.qty += signed


class Outcome(NamedTuple):
    """All trades, what is held at the end, and what shorts owe at their last price."""

    trades: list[Trade]
    books: dict[str, Book]
    owed: dict[str, Decimal]
    profit: Decimal


def signals_of(ticks: pandas.DataFrame) -> pandas.DataFrame:
    """The ticks on which the strategy has an opinion, with their side."""
    before = ticks.groupby("symbol")["price"].shift(1)
    side = (ticks.price > before * RISE).astype(int) - (ticks.price * RISE < before).astype(int)
    return ticks.assign(side=side)[side != 0]


def trade(
    ticks: pandas.DataFrame, settings: dict[str, float], order_qty: str = "10", decimals: int = 0
) -> Outcome:
    """``ticks``: the columns seq, symbol, price, event_ns.  The draws have SEED's default.

    ``decimals``: of quantities; an amount of money then has so many more than nine.
    """
    wanted, lot = Decimal(order_qty), Decimal(1).scaleb(-decimals)
    with localcontext(prec=80):
        of = {name.removeprefix("paper_"): Decimal(str(v)) for name, v in settings.items()}
        books: dict[str, Book] = defaultdict(lambda: Book(PRICE_UNIT * lot))
        trades = []
        for tick in signals_of(ticks).itertuples():
            book, side = books[tick.symbol], int(tick.side)
            if book.qty * side > 0:
                continue
            qty = abs(side * wanted - book.qty)
            trades.append(_execute(book, tick, side, qty, lot, of))
        return _outcome(ticks, trades, books, of)


def trade_late(ticks: pandas.DataFrame, settings: dict[str, float], order_qty: int = 10) -> Outcome:
    """The same, with orders that need ``paper_latency_ms`` to the market.

    Symbol by symbol, since an order meets a tick of its own.  A signal is judged by where the last
    order on its way is to lead.  An order is for what leads there when it arrives; if that is
    nothing, or a trade of the other side, there is none.
    """
    with localcontext(prec=80):
        of = {name.removeprefix("paper_"): Decimal(str(v)) for name, v in settings.items()}
        latency_ns = int(of["latency_ms"] * 10**6)
        sides = signals_of(ticks).side
        books: dict[str, Book] = {}
        trades = []
        for symbol, own in ticks.groupby("symbol"):
            book, waiting = Book(), list[tuple[int, int, Decimal]]()
            for tick in own.itertuples():
                nth = 0
                while waiting and waiting[0][0] <= tick.event_ns:
                    _, side, decided = waiting.pop(0)
                    qty = side * (side * order_qty - book.qty)
                    if qty <= 0:
                        continue
                    done = _execute(book, tick, side, qty, Decimal(1), of, nth)
                    moved = side * (done.market - decided)
                    trades.append(done._replace(latency=moved * done.filled))
                    books[str(symbol)] = book
                    nth += 1
                side = int(sides.get(tick.Index, 0))
                coming = Decimal(waiting[-1][1]) if waiting else book.qty
                if side and coming * side <= 0:
                    market = Decimal(str(tick.price))
                    waiting.append((tick.event_ns + latency_ns, side, market))
        trades.sort(key=lambda done: (done.seq, done.nth))
        return _outcome(ticks, trades, books, of)


def _outcome(
    ticks: pandas.DataFrame, trades: list[Trade], books: dict[str, Book], of: dict[str, Decimal]
) -> Outcome:
    """What is held and owed after these trades; money with many digits."""
    last = ticks.groupby("symbol").last()
    owed = {s: b.owes(of["borrow_bps_year"], last.event_ns[s]) for s, b in books.items()}
    profit = sum(
        b.realised + b.qty * Decimal(str(last.price[s])) - b.cost - owed[s]
        for s, b in books.items()
    )
    return Outcome(trades, dict(books), owed, Decimal(profit))


def _execute(
    book: Book,
    tick: Any,
    side: int,
    qty: Decimal,
    lot: Decimal,
    of: dict[str, Decimal],
    nth: int = 0,
) -> Trade:
    """``lot``: the least quantity; ``nth``: of its tick's orders, which have ids of their own."""
    market = Decimal(str(tick.price))
    order_id = tick.seq + 1 + nth * 2**40
    draw = random.Random(f"42/{order_id}/{tick.symbol}/0").randint(int(of["fill_percent"]), 100)
    filled = max(qty * draw / 100 // lot * lot, lot)
    flat = market * (of["slippage_bps"] + of["half_spread_bps"]) / 10_000
    impact = market * of["impact_bps"] / 10_000 * (qty / of["impact_qty"]).sqrt()
    worse, flat = (flat + impact).quantize(PRICE_UNIT), flat.quantize(PRICE_UNIT)
    price = market + side * worse
    notional = filled * price
    fee = (filled * of["fee_per_share"] + notional * of["fee_bps"] / 10_000).quantize(book.unit)
    fee = max(fee, of["fee_min"])
    borrow = book.owes(of["borrow_bps_year"], tick.event_ns)
    book.trade(side * filled, price)
    book.realised -= fee + borrow
    book.since_ns = tick.event_ns
    done = Trade(
        tick.seq, tick.symbol, side, qty, market, filled, price, fee, filled * flat,
        filled * (worse - flat), borrow, nth,
    )  # fmt: skip
    for name in ("fee", "slippage", "impact", "borrow"):
        book.costs[name] += getattr(done, name)
    book.costs["turnover"] += notional
    return done
