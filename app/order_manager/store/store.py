"""The order store: SQLite with one writer, an ACK only after the commit that holds it.

``python -m app store`` has its tools: backup, restore, export, verify, rebuild.
"""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Self

import apsw

from app.execution.accounts import STACK_NO
from app.execution.pending_rows import PendingRows, Recovered
from app.model.orders import Order, db_int
from app.order_manager.store.files import (
    WAL_BYTES,
    backup_connection,
    damaged_message,
    lay_out_wal,
    take_lease,
)
from app.order_manager.store.positions import (
    Key,
    PositionRow,
    position_rows,
    read_positions,
    write_positions,
)
from app.order_manager.store.schema import PAGE_BYTES, VERSION, StoreError, migrate, schema_version
from app.runtime.log import get_logger

log = get_logger()

WAL_IDLE_BYTES: Final = WAL_BYTES // 4
"""From here on an idle moment is used for a checkpoint."""

POSITIONS_IDLE_S: Final = 0.25
"""After so long without a turn positions are written down."""

_INSERT_ORDER: Final = f"INSERT INTO orders VALUES({','.join('?' * len(Order.__struct_fields__))})"
_INSERT_FILL: Final = "INSERT INTO executions VALUES(?,?,?,?,?)"
_PUT_STATE: Final = "INSERT OR REPLACE INTO order_state VALUES(?,?,?,?,?,?)"
_PUT_DAY: Final = "INSERT OR REPLACE INTO days VALUES(?,?,?,?)"
_INSERT_CLIENT: Final = "INSERT INTO clients VALUES(?,?,?)"
_INSERT_CONTROL: Final = "INSERT INTO controls(client_no, mode, reason, at_ns) VALUES(?,?,?,?)"


class StoreUnavailableError(Exception):
    """The file system refuses: nothing of the turn is kept, and it may work again later."""


class OrderStore:
    """One open store.  Not thread-safe; one process at a time, which :meth:`open` makes sure of."""

    def __init__(self, path: str, synchronous: str, run_id: str) -> None:
        self.path = path
        self.run_id = run_id
        self.pending = PendingRows()
        self.wal_pages = 0
        self._synchronous = synchronous
        self._lease = -1
        self._unwritten: dict[Key, PositionRow] = {}
        """Positions that changed since the last were written down, as they stood after a commit."""
        self._turn_s = 0.0
        """When the last turn was over (CLOCK_MONOTONIC)."""
        self._begun = False
        """Whether a transaction is open."""
        self._written = False
        """Whether there is anything in it."""
        self._connection: apsw.Connection
        self._cursor: apsw.Cursor

    @classmethod
    def open(cls, path: str, synchronous: str = "FULL", run_id: str = "") -> Self:
        """Open or make the store at ``path`` (``":memory:"`` keeps it in this process only).

        Raises:
            StoreError: another process has it, the file is damaged, foreign or of a later version.
            StoreUnavailableError: it cannot be written now.
        """
        store = cls(path, synchronous, run_id)
        try:
            if path != ":memory:":
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                store._lease = take_lease(path)
            store._connect()
        except OSError as error:
            store.close()
            raise StoreUnavailableError(f"{path}: {error.strerror}") from None
        except BaseException:
            store.close()
            raise
        return store

    def _connect(self) -> None:
        try:
            self._connection = connection = apsw.Connection(self.path)
            if connection.pragma("user_version") == 0:
                connection.pragma("page_size", PAGE_BYTES)
            schema_version(connection)
            connection.pragma("journal_mode", "WAL")
            connection.pragma("synchronous", self._synchronous)
            connection.pragma("wal_autocheckpoint", 0)
            connection.set_wal_hook(self._note_wal)
            connection.set_busy_timeout(2000)
            if self.path != ":memory:":
                problem = connection.execute("PRAGMA quick_check(1)").get
                if problem != "ok":
                    raise apsw.CorruptError(problem)
            before = schema_version(connection)
            if 0 < before < VERSION:
                backup_connection(connection, f"{self.path}.schema{before}")
            migrate(connection)
            self._cursor = connection.cursor()
            if self.path != ":memory:":
                lay_out_wal(connection, self.path)
                self.wal_pages = 0
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise StoreError(damaged_message(self.path, str(error))) from None
        except StoreError as error:
            raise StoreError(f"{self.path}: {error}; set another ORDER_STORE_PATH") from None
        except apsw.Error as error:
            raise StoreUnavailableError(f"{self.path}: {error}") from None

    def _note_wal(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self.wal_pages = pages
        return apsw.SQLITE_OK

    def load(self) -> Recovered:
        """What the core starts from: the clients of this run, what they hold and have open.

        Raises:
            StoreError: the file contradicts itself.
            StoreUnavailableError: it cannot be read now.
        """
        try:
            return self._load()
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise StoreError(damaged_message(self.path, str(error))) from None
        except apsw.Error as error:
            raise StoreUnavailableError(f"{self.path}: {error}") from None

    def _load(self) -> Recovered:
        execute = self._connection.execute
        found = Recovered(clients={}, positions={}, open_orders=[], modes={}, days={})
        rows: list[Any] = execute(
            "SELECT client_no, name FROM clients WHERE run_id = ?", (self.run_id,)
        ).fetchall()
        for client_no, name in rows:
            high = execute("SELECT max(id) FROM orders WHERE client_no = ?", (client_no,)).get
            found.clients[client_no] = (name, -1 if high is None else high)
        positions, changed = read_positions(self._connection)
        applied = max((position.fill_no for position in positions.values()), default=0)
        found.positions = {
            key: position for key, position in positions.items() if key[0] in found.clients
        }
        found.open_orders = [
            order
            for order in self._orders("WHERE s.status < 3 ORDER BY o.order_no")
            if order.client_no in found.clients
        ]
        run = {*found.clients, STACK_NO}
        # SQLite takes the other columns from the row that has the maximum.
        for client_no, mode, _ in execute(
            "SELECT client_no, mode, max(control_no) FROM controls GROUP BY client_no"
        ):
            if client_no in run:
                found.modes[client_no] = mode
        for client_no, day, base in execute(
            "SELECT client_no, day, base FROM days WHERE run_id = ?", (self.run_id,)
        ):
            found.days[client_no] = (day, int(base))
        found.last_order_no, found.last_at_ns = execute(
            "SELECT order_no, at_ns FROM orders ORDER BY order_no DESC LIMIT 1"
        ).get or (0, 0)
        found.last_fill_no = max(
            execute("SELECT ifnull(max(fill_no), 0) FROM executions").get,
            execute(
                "SELECT exec_first FROM orders WHERE exec_count = 1 ORDER BY order_no DESC LIMIT 1"
            ).get
            or 0,
        )
        found.last_client_no = execute("SELECT ifnull(max(client_no), 0) FROM clients").get
        if applied != found.last_fill_no:
            raise StoreError(
                f"{self.path}: positions hold fills up to {applied}, the log has them up to "
                f"{found.last_fill_no}; rebuild them with: "
                "python -m app store rebuild"
            )
        self._unwritten = position_rows(changed)
        return found

    def _orders(self, where: str, values: tuple[object, ...] = ()) -> Iterable[Order]:
        """Orders as they stand now: their row, and over it what happened later."""
        columns = ", ".join(f"o.{name}" for name in Order.__struct_fields__)
        query = (
            f"SELECT {columns}, s.status, s.filled_qty, s.filled_notional "
            f"FROM orders o LEFT JOIN order_state s USING(order_no) {where}"
        )
        for *row, status, filled_qty, filled_notional in self._connection.execute(query, values):
            order = _order(row)
            if status is not None:
                order.status = status
                order.filled_qty = filled_qty
                order.filled_notional = int(filled_notional)
            yield order

    def find(self, client_no: int, order_id: int) -> Order | None:
        """The order as it was acknowledged, this turn's included, or None."""
        self.flush()
        try:
            row = self._cursor.execute(
                "SELECT * FROM orders WHERE client_no = ? AND id = ?", (client_no, order_id)
            ).fetchone()
        except apsw.Error as error:
            raise StoreUnavailableError(str(error)) from None
        return None if row is None else _order(row)

    def current(self, order: Order) -> Order:
        """The same order as it stands now."""
        for found in self.query("WHERE o.order_no = ?", (order.order_no,)):
            return found
        return order

    def query(self, where: str, values: tuple[object, ...]) -> list[Order]:
        """Orders as they stand now, this turn's included; ``o`` is ``orders``, ``s`` its state."""
        self.flush()
        try:
            return list(self._orders(where, values))
        except apsw.Error as error:
            raise StoreUnavailableError(str(error)) from None

    def fills_of(self, order: Order) -> list[tuple[int, int, int, int]]:
        """All executions of an order: fill number, time, quantity, price."""
        self.flush()
        try:
            rows: list[Any] = self._cursor.execute(
                "SELECT fill_no, at_ns, qty, price FROM fills WHERE order_no = ? ORDER BY fill_no",
                (order.order_no,),
            ).fetchall()
        except apsw.Error as error:
            raise StoreUnavailableError(str(error)) from None
        return rows

    def flush(self) -> None:
        """Write the journal's rows into the open transaction.

        Raises:
            StoreUnavailableError: and the transaction is gone, with all it held.
        """
        pending = self.pending
        if pending.empty:
            return
        cursor = self._cursor
        try:
            if not self._begun:
                cursor.execute("BEGIN IMMEDIATE")
                self._begun = True
            self._written = True
            if pending.clients:
                rows = [(number, self.run_id, name) for number, name in pending.clients]
                cursor.executemany(_INSERT_CLIENT, rows)
            if len(pending.orders) == 1:
                cursor.execute(_INSERT_ORDER, pending.orders[0])
            elif pending.orders:
                cursor.executemany(_INSERT_ORDER, pending.orders)
            if pending.fills or pending.states or pending.controls or pending.days:
                self._flush_rare(cursor)
        except apsw.Error as error:
            self.rollback()
            raise StoreUnavailableError(str(error)) from None
        pending.clear()

    def _flush_rare(self, cursor: apsw.Cursor) -> None:
        pending = self.pending
        cursor.executemany(_INSERT_FILL, pending.fills)
        cursor.executemany(
            _PUT_STATE,
            [
                (no, order.status, order.filled_qty, db_int(order.filled_notional), at_ns, reason)
                for no, (order, at_ns, reason) in pending.states.items()
            ],
        )
        cursor.executemany(_INSERT_CONTROL, pending.controls)
        cursor.executemany(
            _PUT_DAY,
            [
                (self.run_id, client_no, account.day, db_int(account.day_base))
                for client_no, account in pending.days.items()
            ],
        )

    def commit(self) -> bool:
        """Make the turn durable; returns False when there was nothing to write.

        Raises:
            StoreUnavailableError: nothing of the turn was kept.
        """
        self.flush()
        if not self._written:
            return False
        try:
            self._cursor.execute("COMMIT")
        except apsw.Error as error:
            self.rollback()
            raise StoreUnavailableError(str(error)) from None
        self._begun = self._written = False
        return True

    def prepare(self) -> None:
        """After a turn: note its positions, and open the next one's transaction while nobody waits.

        This is the only writer, so the lock that it holds meanwhile is in nobody's way.
        """
        self._unwritten.update(position_rows(self.pending.positions))
        self.pending.positions.clear()
        self._turn_s = time.monotonic()
        self._begin_ahead()

    def _begin_ahead(self) -> None:
        if not self._begun:
            # What is wrong here is said when there is something to write.
            with contextlib.suppress(apsw.Error):
                self._cursor.execute("BEGIN IMMEDIATE")
                self._begun = True

    def rollback(self) -> None:
        """Give up the turn; what the core holds is to be loaded anew."""
        self.pending.discard()
        self._end_transaction()

    def _end_transaction(self) -> None:
        self._begun = self._written = False
        # SQLite has rolled back by itself after most I/O errors, and then refuses a second one.
        with contextlib.suppress(apsw.Error):
            self._cursor.execute("ROLLBACK")

    def tend(self, idle: bool) -> None:
        """Checkpoint when the log has grown enough: earlier when there is nothing else to do.

        Positions are written down before it, so that a start has few fills to apply to them, and
        when there is nothing else to do, for whoever reads the file.
        """
        if self._written:
            return
        begun = self._begun
        full = self.wal_pages * PAGE_BYTES >= (WAL_IDLE_BYTES if idle else WAL_BYTES)
        quiet = idle and time.monotonic() - self._turn_s >= POSITIONS_IDLE_S
        # A disk that is full stays a matter of the next commit.
        if self._unwritten and (full or quiet):
            with contextlib.suppress(apsw.Error):
                self._write_positions()
        if full:
            with contextlib.suppress(apsw.Error):
                self._end_transaction()
                self.checkpoint()
        if begun:
            self._begin_ahead()

    def _write_positions(self) -> None:
        try:
            if not self._begun:
                self._cursor.execute("BEGIN IMMEDIATE")
                self._begun = True
            write_positions(self._cursor, self._unwritten.values())
            self._cursor.execute("COMMIT")
        except BaseException:
            self._end_transaction()
            raise
        self._begun = False
        self._unwritten.clear()

    def checkpoint(self) -> None:
        """Move the log's pages into the database, so that the log starts over."""
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        self.wal_pages = 0

    def try_again(self) -> None:
        """See whether a commit works by now.

        It is an empty one of our own, and it goes through this same connection: that is how it
        overwrites in the log what a failed commit may have left there, which a new connection would
        take for committed.

        Raises:
            StoreUnavailableError: it still fails; a later call may succeed.
        """
        self.rollback()
        try:
            with self._connection:
                self._connection.pragma("user_version", VERSION)
        except apsw.Error as error:
            raise StoreUnavailableError(str(error)) from None

    def close(self) -> None:
        """Write positions down, close the file and give up the lease; an open turn is given up."""
        connection = getattr(self, "_connection", None)
        if connection is not None:
            with contextlib.suppress(apsw.Error):
                if self._written:
                    self._end_transaction()
                if self._unwritten:
                    self._write_positions()
            with contextlib.suppress(apsw.Error):
                connection.close()
        if self._lease >= 0:
            os.close(self._lease)
            self._lease = -1


def _order(row: Iterable[Any]) -> Order:
    order = Order(*row)
    order.filled_notional = int(order.filled_notional)
    return order
