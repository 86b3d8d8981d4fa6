"""What open positions are worth at the market, for those who look at the store later.

They have no price book, and not the settings by which a short costs something.
"""

from typing import Final, NamedTuple

import apsw

from app.execution.order_core import OrderCore
from app.model.orders import db_int

Key = tuple[int, str]
"""Client number and symbol."""

_PUT_MARK: Final = "INSERT OR REPLACE INTO marks VALUES(?,?,?,?)"
_PUT_ACCRUAL: Final = "INSERT OR REPLACE INTO accruals VALUES(?,?,?,?)"


class Market(NamedTuple):
    """As of the fill ``fill_no``: the price of each symbol held, and what each short has accrued.

    In units of 1e-9; accrued is the borrow up to that price, which no fill has charged yet.
    """

    fill_no: int
    prices: dict[str, int]
    accrued: dict[Key, int]


NO_MARKET: Final = Market(0, {}, {})


def market_of(core: OrderCore, now_ns: int) -> Market:
    """The book's prices now, and the borrow up to them."""
    held = [row for row in core.positions() if row[2].qty]
    books = {symbol: core.gate.book(symbol) for _, symbol, _ in held}
    prices = {symbol: book.price for symbol, book in books.items() if book is not None}
    accrued = {}
    for name, symbol, position in held:
        book = books[symbol]
        mark_ns = None if book is None else book.event_ns
        if borrow := core.borrow.accrued(name, position, mark_ns, now_ns):
            accrued[core.clients[name].client_no, symbol] = borrow
    return Market(core.last_fill_no, prices, accrued)


class StoredMarket:
    """Which prices and accruals the tables have; ``run_id``: the run that they are of."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._prices: dict[str, int] = {}
        self._accrued: dict[Key, int] = {}

    def news(self, market: Market, filled: set[Key]) -> Market:
        """What differs from the tables, or is of a position that has changed (``filled``)."""
        symbols = {symbol for _, symbol in filled}
        return Market(
            market.fill_no,
            {
                symbol: price
                for symbol, price in market.prices.items()
                if self._prices.get(symbol) != price or symbol in symbols
            },
            {
                key: borrow
                for key, borrow in market.accrued.items()
                if self._accrued.get(key) != borrow or key in filled
            },
        )

    def write(self, cursor: apsw.Cursor, news: Market) -> None:
        """Write them, inside the caller's transaction; then :meth:`written`."""
        fill_no = news.fill_no
        prices = [(self._run_id, symbol, price, fill_no) for symbol, price in news.prices.items()]
        cursor.executemany(_PUT_MARK, prices)
        if news.accrued:
            rows = [(*key, db_int(borrow), fill_no) for key, borrow in news.accrued.items()]
            cursor.executemany(_PUT_ACCRUAL, rows)

    def written(self, news: Market) -> None:
        """They are durable."""
        self._prices.update(news.prices)
        self._accrued.update(news.accrued)
