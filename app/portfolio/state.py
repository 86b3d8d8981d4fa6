"""The portfolio's own file: books, how far each shard's stream is in them, breaches and controls.

One SQLite file.  What a batch of messages changes is one transaction, the stream's sequence
included: whenever the process dies, the file has all of a batch or nothing of it, and the next
start asks the stream for what comes after.  Breaches and controls are never changed or removed,
but for when they ended or arrived: they are the audit.

Quantities and amounts are integers as text, since amounts in units of 1e-18 pass 64 bits.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from typing import Final, NamedTuple

import apsw

from app.config.settings import Settings
from app.portfolio import books_file
from app.portfolio.books import Books
from app.portfolio.books_file import APPLICATION_ID, VERSION, StateError
from app.portfolio.limits import Breach
from app.runtime.log import get_logger

log = get_logger()

_SCHEMA: Final = """
CREATE TABLE facts(name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE shards(
  shard TEXT PRIMARY KEY,
  stream TEXT NOT NULL,
  seq INTEGER NOT NULL,
  fills INTEGER NOT NULL,
  repeats INTEGER NOT NULL,
  refused INTEGER NOT NULL,
  lost INTEGER NOT NULL,
  last_fill_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE breaches(
  number INTEGER PRIMARY KEY,
  "limit" TEXT NOT NULL,
  mode TEXT NOT NULL,
  value TEXT NOT NULL,
  most TEXT NOT NULL,
  began_ns INTEGER NOT NULL,
  ended_ns INTEGER
) STRICT;

CREATE TABLE controls(
  id TEXT PRIMARY KEY,
  breach INTEGER NOT NULL,
  shard TEXT NOT NULL,
  mode TEXT NOT NULL,
  reason TEXT NOT NULL,
  at_ns INTEGER NOT NULL,
  arrived_seq INTEGER,
  arrived_ns INTEGER
) STRICT;
CREATE INDEX controls_unsent ON controls(at_ns) WHERE arrived_ns IS NULL;
"""


class ShardState(NamedTuple):
    """How far a shard's stream is in the books.

    ``stream``: which stream the sequence is of, as the broker tells its birth; another one starts
    over at 1.  ``repeats``: messages whose fill the books had; ``refused``: that were no fills;
    ``lost``: that the stream no longer had when their turn came.
    """

    shard: str
    stream: str = ""
    seq: int = 0
    fills: int = 0
    repeats: int = 0
    refused: int = 0
    lost: int = 0
    last_fill_ns: int = 0


class Control(NamedTuple):
    """What a shard is told because of a breach; ``arrived_seq`` is None until its stream has it."""

    id: str
    breach: int
    shard: str
    mode: str
    reason: str
    at_ns: int
    arrived_seq: int | None = None
    arrived_ns: int | None = None


def state_path(settings: Settings) -> str:
    """The file's path."""
    return settings.portfolio_store_path or os.path.join(settings.output_dir, "portfolio.sqlite3")


class State:
    """The open file; one process has it.

    Raises:
        StateError: another process has it, or it is no such file, or damaged.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            self._lease = _take_lease(path)
        except OSError as error:
            raise StateError(
                f"{path}: {error.strerror}; set PORTFOLIO_STORE_PATH or OUTPUT_DIR to a place that "
                "can be written"
            ) from None
        try:
            self._db = apsw.Connection(path)
            self._open()
        except BaseException:
            os.close(self._lease)
            raise

    def _open(self) -> None:
        db, path = self._db, self.path
        try:
            application = int(db.pragma("application_id"))
            tables = db.execute("SELECT count(*) FROM sqlite_schema").get
            if application != APPLICATION_ID and (tables or application):
                raise StateError(
                    f"{path}: another program's SQLite database; set another PORTFOLIO_STORE_PATH"
                )
            version = int(db.pragma("user_version"))
            if version > VERSION:
                raise StateError(
                    f"{path}: of a later version ({version}, this program knows {VERSION}); "
                    "start that one, or set another PORTFOLIO_STORE_PATH"
                )
            db.pragma("journal_mode", "WAL")
            db.pragma("synchronous", "FULL")
            if version == 0:
                self._create()
            elif version < VERSION:
                self._read_again(version)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise StateError(
                f"{path}: damaged ({error}); move it away, and the portfolio reads the streams "
                "from their beginning again"
            ) from None

    def _create(self) -> None:
        with self._db:
            self._db.execute(_SCHEMA)
            self._db.execute(books_file.SCHEMA)
            self._db.execute(
                "INSERT INTO facts VALUES('name', ?), ('day', 0)", (secrets.token_hex(4),)
            )
            self._db.pragma("application_id", APPLICATION_ID)
            self._db.pragma("user_version", VERSION)

    def _read_again(self, version: int) -> None:
        """Books of version 1 have all runs in one sum: they are made from the streams again."""
        log.warning("books_read_again", path=self.path, version=version, now=VERSION)
        with self._db:
            self._db.execute("DROP TABLE holdings; DROP TABLE seen")
            self._db.execute(books_file.SCHEMA)
            self._db.execute(
                "UPDATE shards SET seq = 0, fills = 0, repeats = 0, refused = 0, lost = 0"
            )
            self._db.pragma("user_version", VERSION)

    def close(self) -> None:
        """Give the file free."""
        self._db.close()
        os.close(self._lease)

    @property
    def name(self) -> str:
        """Of this file: ids of its controls begin with it, so two files never share one."""
        return str(self._db.execute("SELECT value FROM facts WHERE name = 'name'").get)

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """One transaction: all that is written inside it, or nothing."""
        with self._db:
            yield

    # ---- Books

    def load_books(self) -> Books:
        """The books as of the last transaction."""
        return books_file.load(self._db)

    def write_books(self, books: Books) -> None:
        """Write what is newer than the file; part of a transaction."""
        books_file.save(self._db, books)

    def load_shards(self) -> dict[str, ShardState]:
        """By name."""
        rows = self._db.execute(f"SELECT {', '.join(ShardState._fields)} FROM shards")
        return {row[0]: ShardState(*row) for row in rows}

    def write_shard(self, shard: ShardState) -> None:
        """Insert or update one."""
        self._db.execute(f"INSERT OR REPLACE INTO shards VALUES({','.join('?' * 8)})", shard)

    # ---- Breaches and controls

    def active_breaches(self) -> dict[str, Breach]:
        """By limit."""
        return {breach.limit: breach for breach, _ in self._breaches("WHERE ended_ns IS NULL")}

    def last_breaches(self, count: int) -> list[tuple[Breach, int | None]]:
        """The latest first, with when they ended."""
        return self._breaches(f"ORDER BY number DESC LIMIT {count:d}")

    def _breaches(self, where: str) -> list[tuple[Breach, int | None]]:
        rows = self._db.execute(
            f'SELECT number, "limit", mode, value, most, began_ns, ended_ns FROM breaches {where}'
        )
        return [
            (Breach(number, limit, mode, int(value), int(most), began_ns), ended_ns)
            for number, limit, mode, value, most, began_ns, ended_ns in rows
        ]

    def last_breach_number(self) -> int:
        """0 if there was none."""
        return int(self._db.execute("SELECT ifnull(max(number), 0) FROM breaches").get)

    def begin_breach(self, breach: Breach) -> None:
        """A limit is passed."""
        row = (breach.number, breach.limit, breach.mode, str(breach.value), str(breach.most))
        self._db.execute(
            "INSERT INTO breaches VALUES(?, ?, ?, ?, ?, ?, NULL)", (*row, breach.began_ns)
        )

    def end_breach(self, number: int, now_ns: int) -> None:
        """It is kept again."""
        self._db.execute("UPDATE breaches SET ended_ns = ? WHERE number = ?", (now_ns, number))

    def add_control(self, control: Control) -> bool:
        """A control that is to be sent; False if there is one of this id."""
        self._db.execute(f"INSERT OR IGNORE INTO controls VALUES({','.join('?' * 8)})", control)
        return self._db.changes() > 0

    def unsent_controls(self) -> list[Control]:
        """Those that their shard's stream does not have, the oldest first."""
        return self._controls("WHERE arrived_ns IS NULL ORDER BY at_ns, id")

    def last_controls(self, count: int) -> list[Control]:
        """The latest first."""
        return self._controls(f"ORDER BY at_ns DESC, id LIMIT {count:d}")

    def _controls(self, where: str) -> list[Control]:
        rows = self._db.execute(f"SELECT {', '.join(Control._fields)} FROM controls {where}")
        return [Control(*row) for row in rows]

    def control_arrived(self, control_id: str, seq: int, now_ns: int) -> None:
        """The shard's stream has it."""
        self._db.execute(
            "UPDATE controls SET arrived_seq = ?, arrived_ns = ? WHERE id = ?",
            (seq, now_ns, control_id),
        )


def _take_lease(path: str) -> int:
    lease = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lease)
        raise StateError(
            f"{path}: another portfolio has this file; stop it, or set another PORTFOLIO_STORE_PATH"
        ) from None
    return lease
