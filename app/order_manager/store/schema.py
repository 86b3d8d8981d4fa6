"""The order store's tables, versioned: what a file must hold, and how an older one gets there.

``orders`` is append-only: an order's row is its state when it was acknowledged, so a repeated
request is answered from it for ever; what happens to the order later stands in ``order_state``.
An order that was acknowledged with exactly one execution carries it in its row; all other
executions are rows of ``executions``.  The view ``fills`` has them all; ``positions`` is their sum
as it stood when it was last written down (:mod:`app.order_manager.store.positions`).

Money is an integer of 1e-9 units; a number beyond 64 bits is kept as decimal text, which is why
such columns have no type.  Times are nanoseconds since the epoch, UTC.
"""

from typing import Final

import apsw

APPLICATION_ID: Final = 0x4F524442
"""``PRAGMA application_id`` of an order store, ASCII "ORDB"."""

PAGE_BYTES: Final = 1024
"""Small, because a single order's commit writes a handful of pages whatever their size."""

_V1: Final = """
CREATE TABLE clients(
  client_no INTEGER PRIMARY KEY,
  run_id TEXT NOT NULL,
  name TEXT NOT NULL,
  UNIQUE(run_id, name)
) STRICT;

CREATE TABLE orders(
  order_no INTEGER PRIMARY KEY,
  client_no INTEGER NOT NULL,
  id INTEGER NOT NULL,
  at_ns INTEGER NOT NULL,
  side INTEGER NOT NULL,
  symbol TEXT NOT NULL,
  qty INTEGER NOT NULL,
  price INTEGER,
  type INTEGER NOT NULL,
  tif INTEGER NOT NULL,
  ts TEXT,
  status INTEGER NOT NULL,
  filled_qty INTEGER NOT NULL,
  filled_notional ANY NOT NULL,
  exec_first INTEGER NOT NULL,
  exec_count INTEGER NOT NULL,
  exec_price INTEGER NOT NULL,
  code INTEGER NOT NULL,
  msg TEXT
) STRICT;
CREATE UNIQUE INDEX orders_by_client_id ON orders(client_no, id);

CREATE TABLE executions(
  fill_no INTEGER PRIMARY KEY,
  order_no INTEGER NOT NULL,
  at_ns INTEGER NOT NULL,
  qty INTEGER NOT NULL,
  price INTEGER NOT NULL
) STRICT;
CREATE INDEX executions_by_order ON executions(order_no);

CREATE VIEW fills(fill_no, order_no, at_ns, qty, price) AS
  SELECT exec_first, order_no, at_ns, filled_qty, exec_price FROM orders WHERE exec_count = 1
  UNION ALL SELECT fill_no, order_no, at_ns, qty, price FROM executions;

CREATE TABLE positions(
  client_no INTEGER NOT NULL,
  symbol TEXT NOT NULL,
  qty ANY NOT NULL,
  cost ANY NOT NULL,
  realised ANY NOT NULL,
  mark INTEGER NOT NULL,
  fill_no INTEGER NOT NULL,
  PRIMARY KEY(client_no, symbol)
) STRICT, WITHOUT ROWID;
"""

_V2: Final = """
CREATE TABLE order_state(
  order_no INTEGER PRIMARY KEY,
  status INTEGER NOT NULL,
  filled_qty INTEGER NOT NULL,
  filled_notional ANY NOT NULL,
  updated_ns INTEGER NOT NULL,
  reason TEXT
) STRICT;
CREATE INDEX order_state_open ON order_state(status) WHERE status < 3;

CREATE TABLE controls(
  control_no INTEGER PRIMARY KEY,
  client_no INTEGER NOT NULL,
  mode INTEGER NOT NULL,
  reason TEXT NOT NULL,
  at_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE days(
  run_id TEXT NOT NULL,
  client_no INTEGER NOT NULL,
  day INTEGER NOT NULL,
  base ANY NOT NULL,
  PRIMARY KEY(run_id, client_no)
) STRICT, WITHOUT ROWID;
"""

MIGRATIONS: Final = (_V1, _V2)
"""Entry n leads from schema version n to n + 1."""

VERSION: Final = len(MIGRATIONS)


class StoreError(Exception):
    """The store cannot be used; the message says what is wrong and what leads out of it."""


def schema_version(connection: apsw.Connection) -> int:
    """The version of an open file; 0 for an empty one.

    Raises:
        StoreError: another program's database, or one of a later version of this program.
    """
    version = int(connection.pragma("user_version"))
    application = int(connection.pragma("application_id"))
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    if application != APPLICATION_ID and (tables or application):
        raise StoreError("not an order store, but another program's SQLite database")
    if version > VERSION:
        raise StoreError(
            f"written by a later version (schema {version}, this program knows {VERSION})"
        )
    return version


def migrate(connection: apsw.Connection) -> int:
    """Bring an open file to :data:`VERSION` in one transaction; returns the version it had.

    Raises:
        StoreError: as :func:`schema_version`.
    """
    before = schema_version(connection)
    if before == VERSION:
        return before
    with connection:
        for script in MIGRATIONS[before:]:
            connection.execute(script)
        connection.pragma("user_version", VERSION)
        connection.pragma("application_id", APPLICATION_ID)
    return before
