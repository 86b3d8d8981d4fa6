"""The order store's tables and their versions, and the migration of older files.

``orders`` is append-only: an order's row is its state when it was acknowledged, and a repeated
request is always answered from it.  ``order_state`` has what happened to the order later, and
``order_changes``, append-only, each step of that, one for a transaction: what other machines are
told (:mod:`app.bus.outbox`), who know the store by its ``identity``.
An order that was acknowledged with exactly one execution has it in its own row; all other
executions are rows of ``executions``.  The view ``fills`` has both; ``positions`` is a snapshot of
their sums (:mod:`app.order_manager.store.positions`).  ``marks`` has the market's latest price
of each symbol held, as of a fill, for those who look at the store when the price book is gone;
``accruals`` has what each short owes up to that price (:mod:`app.order_manager.store.marks`).

What an execution costs is stored with it, not computed again: a run may go on with other settings,
and those who only read the store have none.  ``event_ns`` is its time for the borrow, NULL if
shorts are free.

Money is an integer of 1e-9 units; a number beyond 64 bits is stored as decimal text, so these
columns have type ANY.  Times are nanoseconds since the epoch, UTC.

Quantities are integers of 10^-D units, where D is ``qty_decimals`` in ``scale``, which has one row;
then amounts (all that is a quantity times a price, and costs) are integers of 10^-(9+D).
"""

from typing import Any, Final

import apsw

from app.execution.pending_rows import PendingRows
from app.model.money import Scale
from app.model.orders import OPEN_STATES
from app.order_manager.store.positions import (
    position_rows,
    rebuild_positions,
    write_positions,
)

APPLICATION_ID: Final = 0x4F524442
"""``PRAGMA application_id`` of an order store, ASCII "ORDB"."""

PAGE_BYTES: Final = 1024
"""Small, because the commit of a single order writes a few pages, whatever their size."""

IS_OPEN: Final = "status < 3"
"""SQL condition for an open order, on a row of ``order_state``.  It is part of an index of existing
files, so it must not change."""
assert frozenset(range(3)) == OPEN_STATES

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

_V2: Final = f"""
CREATE TABLE order_state(
  order_no INTEGER PRIMARY KEY,
  status INTEGER NOT NULL,
  filled_qty INTEGER NOT NULL,
  filled_notional ANY NOT NULL,
  updated_ns INTEGER NOT NULL,
  reason TEXT
) STRICT;
CREATE INDEX order_state_open ON order_state(status) WHERE {IS_OPEN};

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

_V3: Final = """
CREATE TABLE marks(
  run_id TEXT NOT NULL,
  symbol TEXT NOT NULL,
  price INTEGER NOT NULL,
  fill_no INTEGER NOT NULL,
  PRIMARY KEY(run_id, symbol)
) STRICT, WITHOUT ROWID;
"""

_V4: Final = """
ALTER TABLE orders ADD COLUMN fee ANY NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN fee ANY NOT NULL DEFAULT 0;
ALTER TABLE positions ADD COLUMN fees ANY NOT NULL DEFAULT 0;

DROP VIEW fills;
CREATE VIEW fills(fill_no, order_no, at_ns, qty, price, fee) AS
  SELECT exec_first, order_no, at_ns, filled_qty, exec_price, fee FROM orders WHERE exec_count = 1
  UNION ALL SELECT fill_no, order_no, at_ns, qty, price, fee FROM executions;
"""

_V5: Final = """
ALTER TABLE orders ADD COLUMN slippage ANY NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN impact ANY NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN borrow ANY NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN event_ns INTEGER;
ALTER TABLE executions ADD COLUMN slippage ANY NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN impact ANY NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN borrow ANY NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN event_ns INTEGER;

ALTER TABLE positions ADD COLUMN slippage ANY NOT NULL DEFAULT 0;
ALTER TABLE positions ADD COLUMN impact ANY NOT NULL DEFAULT 0;
ALTER TABLE positions ADD COLUMN borrow ANY NOT NULL DEFAULT 0;
ALTER TABLE positions ADD COLUMN turnover ANY NOT NULL DEFAULT 0;
ALTER TABLE positions ADD COLUMN since_ns INTEGER;

CREATE TABLE accruals(
  client_no INTEGER NOT NULL,
  symbol TEXT NOT NULL,
  borrow ANY NOT NULL,
  fill_no INTEGER NOT NULL,
  PRIMARY KEY(client_no, symbol)
) STRICT, WITHOUT ROWID;

DROP VIEW fills;
CREATE VIEW fills(
  fill_no, order_no, at_ns, qty, price, fee, slippage, impact, borrow, event_ns
) AS
  SELECT exec_first, order_no, at_ns, filled_qty, exec_price, fee, slippage, impact, borrow,
    event_ns FROM orders WHERE exec_count = 1
  UNION ALL SELECT fill_no, order_no, at_ns, qty, price, fee, slippage, impact, borrow,
    event_ns FROM executions;
"""

_V6: Final = """
CREATE TABLE scale(qty_decimals INTEGER NOT NULL) STRICT;
INSERT INTO scale VALUES(0);
"""

_V7: Final = """
CREATE TABLE order_changes(
  change_no INTEGER PRIMARY KEY,
  order_no INTEGER NOT NULL,
  status INTEGER NOT NULL,
  filled_qty INTEGER NOT NULL,
  filled_notional ANY NOT NULL,
  at_ns INTEGER NOT NULL,
  reason TEXT
) STRICT;
INSERT INTO order_changes(order_no, status, filled_qty, filled_notional, at_ns, reason)
  SELECT s.order_no, s.status, s.filled_qty, s.filled_notional, s.updated_ns, s.reason
  FROM order_state s JOIN orders o USING(order_no)
  WHERE s.status != o.status OR s.filled_qty != o.filled_qty
  ORDER BY s.updated_ns, s.order_no;

CREATE TABLE identity(store_id TEXT NOT NULL) STRICT;
INSERT INTO identity VALUES(lower(hex(randomblob(8))));
"""

_TURNOVER_SINCE: Final = 5
"""In positions of an earlier version it is missing: they are made again, from all fills."""

MIGRATIONS: Final = (_V1, _V2, _V3, _V4, _V5, _V6, _V7)
"""Entry n migrates schema version n to n + 1."""

VERSION: Final = len(MIGRATIONS)


class StoreError(Exception):
    """The store cannot be used; the message names the problem and a way to solve it."""


class OtherScaleError(StoreError):
    """The store's quantities have other decimals than the settings say."""


def scale_of(connection: apsw.Connection) -> Scale:
    """How the quantities of an open, migrated file are counted."""
    return Scale(connection.execute("SELECT qty_decimals FROM scale").get)


def take_scale(connection: apsw.Connection, decimals: int) -> None:
    """Count quantities with so many decimals, which a store without clients does at once.

    Raises:
        OtherScaleError: it has quantities with others.
    """
    found = scale_of(connection).decimals
    if found == decimals:
        return
    with connection:
        connection.execute(
            "UPDATE scale SET qty_decimals = ? WHERE NOT EXISTS (SELECT 1 FROM clients)",
            (decimals,),
        )
    if scale_of(connection).decimals != decimals:
        raise OtherScaleError(
            f"its quantities have {found} decimals, and QTY_DECIMALS={decimals}: set "
            f"QTY_DECIMALS={found} to go on with it, or another ORDER_STORE_PATH"
        )


def later_changes(pending: PendingRows, states: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Those of the rows for ``order_state`` that differ from the order's own row of this batch.

    An order that begins to rest has a state, which is the one it is acknowledged with.
    """
    acknowledged = {
        order.order_no: (order.status, order.filled_qty)
        for order in pending.orders
        if order.order_no in pending.states
    }
    return [row for row in states if acknowledged.get(row[0]) != row[1:3]]


def schema_version(connection: apsw.Connection) -> int:
    """The version of an open file; 0 for an empty one.

    Raises:
        StoreError: a database of another program, or of a later version of this one.
    """
    with connection:  # one snapshot: it may be made at this moment
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
    """Migrate an open file to :data:`VERSION` in one transaction; returns its version before.

    Raises:
        StoreError: as :func:`schema_version`.
    """
    before = schema_version(connection)
    if before == VERSION:
        return before
    with connection:
        for script in MIGRATIONS[before:]:
            connection.execute(script)
        if 0 < before < _TURNOVER_SINCE:
            positions = position_rows(rebuild_positions(connection))
            write_positions(connection.cursor(), positions.values())
        connection.pragma("user_version", VERSION)
        connection.pragma("application_id", APPLICATION_ID)
    return before
