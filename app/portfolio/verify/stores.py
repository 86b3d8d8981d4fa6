"""The books as the order stores of the shards have them, and in what the portfolio's differ."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import apsw

from app.model.money import QTY_DECIMALS_MAX
from app.order_manager.store.schema import scale_of
from app.order_manager.store.tools import reading
from app.portfolio.books import Books, Holding, Run, RunKey, Total
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
    store = str(connection.execute("SELECT store_id FROM identity").get)
    for run, no, at_ns, symbol, side, qty, price, *costs in connection.execute(_FILLS):
        fee, slippage, impact, borrow = (int(cost) * to_all for cost in costs)
        yield Fill(
            run, no, at_ns, symbol, side, qty * to_all, price, fee, slippage, impact, borrow, store
        )


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


def differences(found: Books, stores: Books, shards: list[str]) -> Iterator[Difference]:
    """In what the portfolio's books (``found``) differ from the stores', run by run."""
    for key in sorted(found.runs.keys() | stores.runs.keys()):
        if key.shard in shards and not _is_gone(found, stores, key):
            yield from _of_run(found, stores, key)
    for shard in sorted(found.current.keys() - set(shards)):
        fills = sum(len(run.numbers) for key, run in found.runs.items() if key.shard == shard)
        yield Difference(shard, "fills", str(fills), "not named")


def not_compared(found: Books, stores: Books, shards: list[str]) -> Iterator[str]:
    """A line for each older run of the portfolio that the stores do not have: it was pruned, or is
    in a store that was replaced."""
    for key in sorted(found.runs):
        if key.shard in shards and _is_gone(found, stores, key):
            fills = len(found.runs[key].numbers)
            yield (
                f"{key.shard}: older run {key.run}: {fills} fills, not compared: the store has no "
                "such run (pruned, or another store)"
            )


def _is_gone(found: Books, stores: Books, key: RunKey) -> bool:
    """Whether a run may rightly be missing in the stores: only one that another has followed."""
    return key not in stores.runs and key in found.runs and found.current[key.shard] != key


def _of_run(found: Books, stores: Books, key: RunKey) -> Iterator[Difference]:
    mine, theirs = (books.runs.get(key) or Run(0) for books in (found, stores))
    if list(mine.numbers) != list(theirs.numbers):
        what = f"fills of run {key.run}" + (f" of store {key.store}" if key.store else "")
        yield Difference(key.shard, what, _ranges(mine.numbers), _ranges(theirs.numbers))
    for symbol in sorted(mine.holdings.keys() | theirs.holdings.keys()):
        has, wants = (run.holdings.get(symbol, Holding()).now for run in (mine, theirs))
        for name in COMPARED:
            a, b = getattr(has, name), getattr(wants, name)
            if a != b:
                what = f"{symbol} {name} of run {key.run}"
                yield Difference(key.shard, what, _text(name, a), _text(name, b))


def _text(name: str, units: int) -> str:
    if name in MONEY:
        return ALL.amount_text(units)
    return ALL.qty_text(units)  # a price, too, is counted in units of 1e-9


def _ranges(numbers: Numbers) -> str:
    shown = [f"{first}-{last}" for first, last in numbers]
    text = ", ".join(shown[:4]) + (", ..." if len(shown) > 4 else "")
    return f"{len(numbers)} ({text})" if shown else "none"


def summary(books: Books) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Shard, run, fills, symbols held, exposure, PnL of each run, the latest of a shard first; the
    last row is the sum of the latest ones.

    At the prices of the last fills, which the stores have, too.
    """
    older = sorted(books.older_runs())
    for shard in books.shards():
        for key in (books.current[shard], *(each for each in older if each.shard == shard)):
            is_latest = key == books.current[shard]
            run = key.run if is_latest else f"{key.run} (older)"
            yield (shard, run, str(len(books.runs[key].numbers)), *_sums(books.run_total(key)))
    fills = sum(len(books.runs[key].numbers) for key in books.current.values())
    yield ("all", "latest", str(fills), *_sums(books.total()))


def _sums(total: Total) -> tuple[str, str, str]:
    return (str(total.held), ALL.amount_text(total.exposure), ALL.amount_text(total.pnl))
