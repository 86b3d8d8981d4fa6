"""The order store: SQLite with one writer; an order is acknowledged only after its commit.

``python -m app store`` has its tools: backup, restore, export, verify, rebuild.
"""

import contextlib
import os
from typing import Any, Final, Self

import apsw

from app.execution.pending_rows import PendingRows, Recovered
from app.model.orders import Order, db_int
from app.order_manager.store.checkpoint import Checkpointer, roll_back
from app.order_manager.store.files import (
    backup_connection,
    damaged_message,
    preallocate_wal,
    renewed_lease,
)
from app.order_manager.store.loading import insert_orders, load_state, order_of, read_orders
from app.order_manager.store.open_files import OpenFiles, take_store
from app.order_manager.store.positions import position_rows
from app.order_manager.store.schema import (
    PAGE_BYTES,
    VERSION,
    OtherScaleError,
    StoreError,
    later_changes,
    migrate,
    schema_version,
    take_scale,
)
from app.order_manager.store.soundness import SoundnessCheck
from app.runtime.log import get_logger

log = get_logger()

SCAN_ORDERS: Final = 10_000
"""Orders of all clients that a page of one client's orders looks through: about 5 ms."""
FEW_ORDERS: Final = 500
"""A client with up to this many gets exact pages: all its orders are sorted."""

_INSERT_FILL: Final = "INSERT INTO executions VALUES(?,?,?,?,?,?,?,?,?,?)"
_PUT_STATE: Final = "INSERT OR REPLACE INTO order_state VALUES(?,?,?,?,?,?)"
_INSERT_CHANGE: Final = "INSERT INTO order_changes VALUES(NULL,?,?,?,?,?,?)"
_PUT_DAY: Final = "INSERT OR REPLACE INTO days VALUES(?,?,?,?)"
_INSERT_CLIENT: Final = "INSERT INTO clients VALUES(?,?,?)"
_INSERT_CONTROL: Final = "INSERT INTO controls(client_no, mode, reason, at_ns) VALUES(?,?,?,?)"


class StoreUnavailableError(Exception):
    """An I/O error or a full disk: nothing of the batch is stored; a later attempt may succeed."""


class OrderStore:
    """One open store.  Not thread-safe; :meth:`open` ensures that only one process has it."""

    def __init__(self, path: str, synchronous: str, run_id: str, qty_decimals: int = 0) -> None:
        self.path, self.run_id = path, run_id
        self.pending, self.checkpointer = PendingRows(), Checkpointer(path, run_id)
        self._synchronous, self._qty_decimals = synchronous, qty_decimals
        self._soundness, self._files = SoundnessCheck(path), OpenFiles(path)
        self._closed = False  # whether the files have to be opened again
        self._lease = -1
        self._transaction_open = self._rows_written = False
        """Whether a transaction is open, which may still be empty; and whether it has rows."""
        self._connection: apsw.Connection
        self._cursor: apsw.Cursor

    @classmethod
    def open(
        cls, path: str, synchronous: str = "FULL", run_id: str = "", qty_decimals: int = 0
    ) -> Self:
        """Open or create the store at ``path``; ``":memory:"`` keeps it in this process only.

        Raises:
            StoreError: another process has it; it is damaged, foreign, of a later version or scale.
            StoreUnavailableError: it cannot be written at the moment.
        """
        store = cls(path, synchronous, run_id, qty_decimals)
        try:
            if path != ":memory:":
                store._lease = take_store(path)
            store._connect()
        except OSError as error:
            store.close()
            raise StoreUnavailableError(f"{path}: {error.strerror}") from None
        except BaseException:
            store.close()
            raise
        return store

    def _connect(self) -> None:
        self._files.forget()
        try:
            self._connection = connection = apsw.Connection(self.path)
            connection.set_busy_timeout(2000)
            if connection.pragma("user_version") == 0:
                connection.pragma("page_size", PAGE_BYTES)
            schema_version(connection)
            connection.pragma("journal_mode", "WAL")
            connection.pragma("synchronous", self._synchronous)
            connection.pragma("wal_autocheckpoint", 0)
            if self.path != ":memory:":
                self._soundness.run(connection)
            before = schema_version(connection)
            if 0 < before < VERSION:
                backup_connection(connection, f"{self.path}.schema{before}")
            migrate(connection)
            take_scale(connection, self._qty_decimals)
            self._cursor = connection.cursor()
            if self.path != ":memory:":
                preallocate_wal(connection, self.path)
                self.checkpointer.log_is_empty(connection)
                self._files.lost()
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise StoreError(damaged_message(self.path, str(error))) from None
        except OtherScaleError as error:
            raise OtherScaleError(f"{self.path}: {error}") from None
        except StoreError as error:
            raise StoreError(f"{self.path}: {error}; set another ORDER_STORE_PATH") from None
        except apsw.Error as error:
            raise StoreUnavailableError(f"{self.path}: {error}") from None

    def load(self) -> Recovered:
        """The state that the core starts from: clients of this run, positions, open orders, modes.

        Raises:
            StoreError: the file contradicts itself.
            StoreUnavailableError: it cannot be read at the moment.
        """
        try:
            found, changed = load_state(self._connection, self.run_id, self.path)
            self.checkpointer.unwritten = position_rows(changed)
            return found
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise StoreError(damaged_message(self.path, str(error))) from None
        except apsw.Error as error:
            raise StoreUnavailableError(f"{self.path}: {error}") from None

    def find(self, client_no: int, order_id: int) -> Order | None:
        """The order as it was acknowledged (in this batch, too), or None."""
        rows = self._fetch(
            "SELECT * FROM orders WHERE client_no = ? AND id = ?", (client_no, order_id)
        )
        return order_of(rows[0]) if rows else None

    def current(self, order: Order) -> Order:
        """The same order in its current state."""
        for found in self.query("WHERE o.order_no = ?", (order.order_no,)):
            return found
        return order

    def query(self, where: str, values: tuple[object, ...]) -> list[Order]:
        """Orders in their current state, those of this batch included.

        In ``where``, ``o`` is ``orders`` and ``s`` is ``order_state``.
        """
        self.flush()
        try:
            return list(read_orders(self._connection, where, values))
        except apsw.Error as error:
            raise StoreUnavailableError(str(error)) from None

    def orders_page(
        self, client_no: int | None, before: int, limit: int
    ) -> tuple[list[Order], int]:
        """Orders numbered below ``before``, newest first, and the ``before`` of the next page.

        That is 0 at the end.  The time is bounded: orders of a client with many are looked for
        among the next SCAN_ORDERS of all, so a page may be short, or empty, and not the last.
        """
        floor = 0
        where = "WHERE o.order_no < ? "
        values: tuple[object, ...] = (before,)
        if client_no is not None:
            if self._has_few_orders(client_no):
                where += "AND o.client_no = ? "
                values = before, client_no
            else:
                newest = self._fetch("SELECT max(order_no) FROM orders", ())[0][0]
                before = min(before, newest + 1)
                floor = max(before - SCAN_ORDERS, 0)
                # "+": not by the index, of which all the client's orders would have to be sorted.
                where += "AND o.order_no >= ? AND +o.client_no = ? "
                values = before, floor, client_no
        found = self.query(f"{where}ORDER BY o.order_no DESC LIMIT ?", (*values, limit))
        return found, found[-1].order_no if len(found) == limit else floor

    def _has_few_orders(self, client_no: int) -> bool:
        counted = "SELECT count(*) FROM (SELECT 1 FROM orders WHERE client_no = ? LIMIT ?)"
        count: int = self._fetch(counted, (client_no, FEW_ORDERS + 1))[0][0]
        return count <= FEW_ORDERS

    def _fetch(self, query: str, values: tuple[object, ...]) -> list[Any]:
        """All rows of a query, the pending ones written before it.

        A query that is not read to its end stays open, and no checkpoint is possible meanwhile.
        """
        self.flush()
        try:
            rows: list[Any] = self._cursor.execute(query, values).fetchall()
        except apsw.Error as error:
            raise StoreUnavailableError(str(error)) from None
        return rows

    def fills_of(self, order: Order, limit: int) -> list[tuple[int, int, int, int]]:
        """The first executions of an order: fill number, time, quantity, price."""
        return self._fetch(
            "SELECT fill_no, at_ns, qty, price FROM fills WHERE order_no = ? "
            "ORDER BY fill_no LIMIT ?",
            (order.order_no, limit),
        )

    def flush(self) -> None:
        """Write the pending rows into the open transaction.

        Raises:
            StoreUnavailableError: the transaction was rolled back.
        """
        pending = self.pending
        if pending.empty:
            return
        cursor = self._cursor
        try:
            if not self._transaction_open:
                cursor.execute("BEGIN IMMEDIATE")
                self._transaction_open = True
            self._rows_written = True
            if pending.clients:
                rows = [(number, self.run_id, name) for number, name in pending.clients]
                cursor.executemany(_INSERT_CLIENT, rows)
            if pending.orders:
                insert_orders(cursor, pending.orders)
            if pending.fills or pending.states or pending.controls or pending.days:
                self._flush_rare(cursor)
        except apsw.Error as error:
            self.rollback()
            raise StoreUnavailableError(str(error)) from None
        pending.clear()

    def _flush_rare(self, cursor: apsw.Cursor) -> None:
        pending = self.pending
        cursor.executemany(_INSERT_FILL, pending.fills)
        states = [
            (no, order.status, order.filled_qty, db_int(order.filled_notional), at_ns, reason)
            for no, (order, at_ns, reason) in pending.states.items()
        ]
        cursor.executemany(_PUT_STATE, states)
        cursor.executemany(_INSERT_CHANGE, later_changes(pending, states))
        cursor.executemany(_INSERT_CONTROL, pending.controls)
        cursor.executemany(
            _PUT_DAY,
            [
                (self.run_id, client_no, account.day, db_int(account.day_base))
                for client_no, account in pending.days.items()
            ],
        )

    def commit(self) -> bool:
        """Make the batch durable; returns False when there was nothing to write.

        Raises:
            StoreUnavailableError: nothing of the batch was stored.
        """
        self.flush()
        if not self._rows_written:
            return False
        if not self._files.intact() and (lost := self._files.lost()):
            self.rollback()
            names = [self.path + tail for tail in lost]
            raise StoreUnavailableError(f"removed or replaced while in use: {', '.join(names)}")
        try:
            self._cursor.execute("COMMIT")
        except apsw.Error as error:
            self.rollback()
            raise StoreUnavailableError(str(error)) from None
        self._transaction_open = self._rows_written = False
        return True

    def end_batch(self) -> None:
        """After a batch: keep its positions, and begin the next one's transaction early.

        So the next batch does not wait for BEGIN.  Holding the write lock in the meantime is
        harmless, because this process is the only writer.
        """
        self.checkpointer.end_batch(self.pending.positions)
        self.pending.positions.clear()
        self._begin_early()

    def _begin_early(self) -> None:
        if not self._transaction_open:
            try:
                self._cursor.execute("BEGIN IMMEDIATE")
                self._transaction_open = True
            except apsw.Error:
                # Ignore: the next flush reports the error.
                pass

    def rollback(self) -> None:
        """Discard the batch; the core must reload its state afterwards."""
        self.pending.discard()
        self._end_transaction()

    def _end_transaction(self) -> None:
        self._transaction_open = self._rows_written = False
        roll_back(self._connection)

    def maintain(self, idle: bool) -> None:
        """Write positions and checkpoint the log, if they are due; earlier when ``idle``.

        Positions are written before a checkpoint, so that a start has few fills to apply to them,
        and when idle, for readers of the file.

        Raises:
            StoreError: the file is damaged.
        """
        self._soundness.raise_problem()
        # If it fails, the next commit fails, too, and probe() tries again.
        with contextlib.suppress(StoreUnavailableError):
            if self._closed:
                self._reopen()
            elif not self._rows_written and (lost := self._files.lost()):
                self._open_again(lost)
        if self._closed:
            return
        checkpointer = self.checkpointer
        checkpoint_due = checkpointer.checkpoint_due(self._connection, idle)
        positions_due = checkpointer.positions_due(idle) or checkpointer.marks_due(idle)
        if self._rows_written or not (checkpoint_due or positions_due):
            return
        was_open = self._transaction_open
        self._end_transaction()
        checkpointer.write_positions(self._connection)
        if checkpoint_due:
            checkpointer.checkpoint(self._connection)
        if was_open:
            self._begin_early()

    def probe(self) -> None:
        """Check with an empty commit whether the store works again.

        It must use this connection: a failed commit may have left frames in the log that a new
        connection would take for committed, and this commit overwrites them.

        Raises:
            StoreUnavailableError: it still fails; a later call may succeed.
            StoreError: another file has the store's name.
        """
        self.rollback()
        if self._closed:
            self._reopen()
        elif lost := self._files.lost():
            self._open_again(lost)
        try:
            with self._connection:
                self._connection.pragma("user_version", VERSION)
        except apsw.Error as error:
            raise StoreUnavailableError(str(error)) from None

    def _open_again(self, lost: list[str]) -> None:
        """Save what an orphaned store holds, and open the files that its names lead to."""
        self._end_transaction()
        self._soundness.close()
        try:
            self.checkpointer.write_positions(self._connection)
            self._files.rescue(self._connection, lost)
            self._closed = True
            self._connection.close()
        except (apsw.Error, OSError) as error:
            raise StoreUnavailableError(f"{self.path}: {error}") from None
        self._reopen()

    def _reopen(self) -> None:
        try:
            self._lease = renewed_lease(self.path, self._lease)
            self._files.move_copy()
        except OSError as error:
            raise StoreUnavailableError(f"{self.path}: {error}") from None
        self._connect()
        self._closed = False
        log.warning("store_files_restored", path=self.path)

    def close(self) -> None:
        """Roll back an open batch, write the positions, close the file and release the lease."""
        self._soundness.close()
        connection = getattr(self, "_connection", None)
        if connection is not None:
            self._end_transaction()
            self.checkpointer.write_positions(connection)
            try:
                connection.close()
            except apsw.Error as error:
                log.warning("store_not_closed", path=self.path, reason=str(error))
        self._files.forget()
        if self._lease >= 0:
            os.close(self._lease)
            self._lease = -1
