"""The books as the order stores of the shards have them, and in what the portfolio's differ."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import apsw

from app.model.money import QTY_DECIMALS_MAX
from app.model.position import Position
from app.order_manager.store.schema import scale_of
from app.order_manager.store.tools import reading
from app.portfolio.books import Books
from app.portfolio.fills import ALL, Fill
from app.portfolio.numbers import Numbers

_FILLS: Final = (
    "SELECT c.run_id, f.fill_no, f.at_ns, o.symbol, o.side, f.qty, f.price, f.fee, f.slippage, "
    "f.impact, f.borrow FROM fills f JOIN orders o USING(order_no) JOIN clients c USING(client_no)"
)
COMPARED: Final = ("qty", "cost", "fees", "slippage", "impact", "borrow", "turnover", "mark")
MONEY: Final = frozenset(COMPARED) - {"qty", "mark"}


class Difference(NamedTuple):
    """One line: what differs, in the portfolio and in the store."""

    shard: str
    what: str
    portfolio: str
    store: str

    def __str__(self) -> str:
        return f"{self.shard}: {self.what}: portfolio {self.portfolio}, store {self.store}"


def store_fills(connection: apsw.Connection) -> Iterator[Fill]:
    """All fills of an order store, in the units of the portfolio."""
    to_all = 10 ** (QTY_DECIMALS_MAX - scale_of(connection).decimals)
    for run, no, at_ns, symbol, side, qty, price, *costs in connection.execute(_FILLS):
        fee, slippage, impact, borrow = (int(cost) * to_all for cost in costs)
        yield Fill(run, no, at_ns, symbol, side, qty * to_all, price, fee, slippage, impact, borrow)


def books_of_stores(stores: Mapping[str, str]) -> Books:
    """The books that the order stores add up to; ``stores``: shard -> path.

    Raises:
        StoreError: one cannot be read; the message names it.
    """
    books = Books()
    for shard, path in stores.items():
        with reading(path) as connection:
            for fill in store_fills(connection):
                books.apply(shard, fill)
    return books


def count(books: Books, shard: str) -> int:
    """Fills of a shard."""
    return sum(len(numbers) for (owner, _), numbers in books.seen.items() if owner == shard)


def differences(found: Books, stores: Books, shards: list[str]) -> Iterator[Difference]:
    """In what the portfolio's books (``found``) differ from the stores'."""
    for shard in shards:
        runs = {run for owner, run in (*found.seen, *stores.seen) if owner == shard}
        for run in sorted(runs):
            has, wants = (books.seen.get((shard, run), Numbers()) for books in (found, stores))
            if list(has) != list(wants):
                yield Difference(shard, f"fills of run {run}", _ranges(has), _ranges(wants))
        symbols = {s for owner, s in (*found.holdings, *stores.holdings) if owner == shard}
        for symbol in sorted(symbols):
            yield from _of_symbol(found, stores, shard, symbol)
    unknown = {owner for owner, _ in found.seen} - set(shards)
    for shard in sorted(unknown):
        yield Difference(shard, "fills", str(count(found, shard)), "not named")


def _of_symbol(found: Books, stores: Books, shard: str, symbol: str) -> Iterator[Difference]:
    has, wants = (_position(books, shard, symbol) for books in (found, stores))
    for name in COMPARED:
        mine, theirs = getattr(has, name), getattr(wants, name)
        if mine != theirs:
            yield Difference(shard, f"{symbol} {name}", _text(name, mine), _text(name, theirs))


def _position(books: Books, shard: str, symbol: str) -> Position:
    holding = books.holdings.get((shard, symbol))
    return holding.now if holding else Position()


def _text(name: str, units: int) -> str:
    if name in MONEY:
        return ALL.amount_text(units)
    return ALL.qty_text(units)  # a price, too, is counted in units of 1e-9


def _ranges(numbers: Numbers) -> str:
    shown = [f"{first}-{last}" for first, last in numbers]
    text = ", ".join(shown[:4]) + (", ..." if len(shown) > 4 else "")
    return f"{len(numbers)} ({text})" if shown else "none"


def summary(books: Books, shards: list[str]) -> Iterator[tuple[str, str, str, str, str]]:
    """Shard, fills, symbols held, exposure, PnL; the last row is the sum over all.

    At the prices of the last fills, which the stores have, too.
    """
    for shard in (*shards, None):
        total = books.total(shard)
        fills = sum(count(books, each) for each in (shards if shard is None else [shard]))
        gross, pnl = ALL.amount_text(total.exposure), ALL.amount_text(total.pnl)
        yield (shard or "all", str(fills), str(total.held), gross, pnl)
