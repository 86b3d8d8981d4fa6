"""The books in the portfolio's file: its tables, what is written in a transaction, how it is read.

Quantities and amounts are integers as text, since amounts in units of 1e-18 pass 64 bits.
"""

from typing import Final

import apsw

from app.model.position import Position
from app.portfolio.books import Books, Holding, Mark, Run, RunKey, Unsaved
from app.portfolio.numbers import Numbers

APPLICATION_ID: Final = 0x50465442
"""``PRAGMA application_id``, ASCII "PFTB"."""
VERSION: Final = 2

SCHEMA: Final = """
CREATE TABLE runs(
  no INTEGER PRIMARY KEY,
  shard TEXT NOT NULL,
  store TEXT NOT NULL,
  run TEXT NOT NULL,
  day INTEGER NOT NULL,
  turn INTEGER NOT NULL,
  UNIQUE(shard, store, run)
) STRICT;

CREATE TABLE seen(
  run_no INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  PRIMARY KEY(run_no, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE holdings(
  run_no INTEGER NOT NULL,
  symbol TEXT NOT NULL,
  before INTEGER NOT NULL,
  qty TEXT NOT NULL,
  cost TEXT NOT NULL,
  mark INTEGER NOT NULL,
  fill_no INTEGER NOT NULL,
  fees TEXT NOT NULL,
  slippage TEXT NOT NULL,
  impact TEXT NOT NULL,
  borrow TEXT NOT NULL,
  turnover TEXT NOT NULL,
  since_ns INTEGER,
  PRIMARY KEY(run_no, symbol, before)
) STRICT, WITHOUT ROWID;

CREATE TABLE marks(
  opening INTEGER NOT NULL,
  symbol TEXT NOT NULL,
  at_ns INTEGER NOT NULL,
  price INTEGER NOT NULL,
  PRIMARY KEY(opening, symbol)
) STRICT, WITHOUT ROWID;
"""
_MARK: Final = "INSERT OR REPLACE INTO marks VALUES(?, ?, ?, ?)"


class StateError(Exception):
    """The file cannot be used; the message names it and a way out."""


def save(db: apsw.Connection, books: Books) -> None:
    """Write what of the books is newer than the file; inside a transaction.

    If that fails, the books have to be read again.
    """
    unsaved, books.unsaved = books.unsaved, Unsaved()
    if unsaved.day:
        db.execute("UPDATE facts SET value = ? WHERE name = 'day'", (books.day,))
        db.execute("DELETE FROM marks WHERE opening")
        db.executemany(_MARK, [(1, symbol, *mark) for symbol, mark in books.opening.items()])
    db.executemany(_MARK, [(0, symbol, *books.market[symbol]) for symbol in unsaved.marks])
    numbers = {key: _save_run(db, key, books.runs[key]) for key in unsaved.runs}
    db.executemany(
        f"INSERT OR REPLACE INTO holdings VALUES({','.join('?' * 13)})",
        [
            _row(numbers[key], symbol, before, position)
            for key, symbol in unsaved.holdings
            for holding in [books.runs[key].holdings[symbol]]
            for before, position in enumerate((holding.now, holding.before))
        ],
    )


def _save_run(db: apsw.Connection, key: RunKey, run: Run) -> int:
    """Write a run and which fills it has; returns its number in the file."""
    number = db.execute(
        "INSERT INTO runs(shard, store, run, day, turn) VALUES(?, ?, ?, ?, ?) "
        "ON CONFLICT(shard, store, run) DO UPDATE SET day = excluded.day, turn = excluded.turn "
        "RETURNING no",
        (*key, run.day, run.turn),
    ).get
    db.execute("DELETE FROM seen WHERE run_no = ?", (number,))
    db.executemany("INSERT INTO seen VALUES(?, ?, ?)", [(number, *each) for each in run.numbers])
    return int(number)


def _row(number: int, symbol: str, before: int, position: Position) -> tuple[object, ...]:
    return (
        number,
        symbol,
        before,
        str(position.qty),
        str(position.cost),
        position.mark,
        position.fill_no,
        str(position.fees),
        str(position.slippage),
        str(position.impact),
        str(position.borrow),
        str(position.turnover),
        position.since_ns,
    )


def load(db: apsw.Connection) -> Books:
    """The books as of the last transaction."""
    books = Books()
    books.day = int(db.execute("SELECT value FROM facts WHERE name = 'day'").get)
    runs: dict[int, Run] = {}
    for number, shard, store, name, day, turn in db.execute(
        "SELECT no, shard, store, run, day, turn FROM runs ORDER BY no"
    ):
        runs[number] = books.runs[RunKey(shard, store, name)] = Run(day, turn)
    ranges: dict[int, list[tuple[int, int]]] = {}
    for number, first, last in db.execute("SELECT run_no, first, last FROM seen ORDER BY 1, 2"):
        ranges.setdefault(number, []).append((first, last))
    for number, each in ranges.items():
        runs[number].numbers = Numbers(each)
    rows = db.execute(
        "SELECT run_no, symbol, before, qty, cost, mark, fill_no, fees, slippage, impact, borrow, "
        "turnover, since_ns FROM holdings"
    )
    for number, symbol, before, qty, cost, price, fill_no, *costs, since_ns in rows:
        position = Position(int(qty), int(cost), 0, price, fill_no, *map(int, costs))
        position.since_ns = since_ns
        holding = runs[number].holdings.setdefault(symbol, Holding())
        if before:
            holding.before = position
        else:
            holding.now = position
    for opening, symbol, at_ns, price in db.execute("SELECT * FROM marks"):
        (books.opening if opening else books.market)[symbol] = Mark(at_ns, price)
    books.settle()
    return books


def read_books(path: str) -> Books:
    """The books of a file that a portfolio may have open.

    Raises:
        StateError: it is no file of a portfolio, or of another version.
    """
    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        db.set_busy_timeout(5000)
        if int(db.pragma("application_id")) != APPLICATION_ID:
            raise StateError(f"{path}: not the file of a portfolio")
        if (version := int(db.pragma("user_version"))) != VERSION:
            raise StateError(f"{path}: of version {version}, this program knows {VERSION}")
        with db:  # one snapshot for all tables
            books = load(db)
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StateError(f"{path}: damaged ({error})") from None
    finally:
        db.close()
    return books
