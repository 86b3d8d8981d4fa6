"""Background work on the order store: positions and marks into tables, log pages into the file.

No order waits for either.  A failure loses nothing, since the log has the fills: it is counted,
logged, and tried again by a later call.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import apsw

from app.model.position import Position
from app.order_manager.store.files import WAL_BYTES
from app.order_manager.store.marks import NO_MARKET, Market, StoredMarket
from app.order_manager.store.positions import Key, PositionRow, position_rows, write_positions
from app.order_manager.store.schema import PAGE_BYTES
from app.runtime.log import get_logger

log = get_logger()

WAL_IDLE_BYTES: Final = WAL_BYTES // 4
"""Log size from which an idle moment is used for a checkpoint."""

POSITIONS_IDLE_S: Final = 0.25
"""Time without a batch after which positions are written."""

MARKS_INTERVAL_S: Final = 5.0
"""At most this often, marks are written without positions; not while orders come."""
MARKS_IDLE_S: Final = 1.0

WARNING_INTERVAL_S: Final = 10.0
"""The first failure of a kind is logged, then at most one per interval; all are counted."""


class Checkpointer:
    """The work that commits leave for later (positions, checkpoint), and when it is due.

    Its methods that take a connection must be called outside a transaction.
    """

    def __init__(self, path: str, run_id: str) -> None:
        self.read_marks: Callable[[], Market] = lambda: NO_MARKET
        self._stored = StoredMarket(run_id)
        self._marks_read_s = 0.0
        """When the marks were last looked at (CLOCK_MONOTONIC)."""
        self.wal_pages = 0
        """Pages written to the log since the last checkpoint."""
        self.unwritten: dict[Key, PositionRow] = {}
        """Positions that the table lacks, as they stood after the latest commit."""
        self._path = path
        self._last_batch_s = 0.0
        """When the latest batch ended (CLOCK_MONOTONIC)."""
        self._errors: Counter[str] = Counter()
        self._next_warning_s: dict[str, float] = {}

    def log_is_empty(self, connection: apsw.Connection) -> None:
        """The log starts over: count its pages from here."""
        connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE, True)
        self.wal_pages = 0

    def end_batch(self, changed: dict[Key, Position]) -> None:
        """Keep the positions that a committed batch has changed.

        Not by SQLite's hook after a commit, which would call Python before the answer is sent.
        """
        self.unwritten.update(position_rows(changed))
        self._last_batch_s = time.monotonic()

    def checkpoint_due(self, connection: apsw.Connection, idle: bool) -> bool:
        """Whether the log is long enough for a checkpoint; a shorter one suffices when idle."""
        self.wal_pages += connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE, True)[0]
        return self.wal_pages * PAGE_BYTES >= (WAL_IDLE_BYTES if idle else WAL_BYTES)

    def positions_due(self, idle: bool) -> bool:
        """Whether there are positions to write and no batch has come for POSITIONS_IDLE_S."""
        quiet = idle and time.monotonic() - self._last_batch_s >= POSITIONS_IDLE_S
        return quiet and bool(self.unwritten)

    def marks_due(self, idle: bool) -> bool:
        """Whether the stored marks are old, and no order has to wait for the write."""
        now = time.monotonic()
        quiet = idle and now - self._last_batch_s >= MARKS_IDLE_S
        if not quiet or now - self._marks_read_s < MARKS_INTERVAL_S:
            return False
        news = self._new_marks()
        return bool(news.prices or news.accrued)

    def _new_marks(self) -> Market:
        self._marks_read_s = time.monotonic()
        return self._stored.news(self.read_marks(), set(self.unwritten))

    def write_positions(self, connection: apsw.Connection) -> None:
        """Write the positions and marks that the tables lack, in a transaction of their own."""
        news = self._new_marks()
        if not (self.unwritten or news.prices or news.accrued):
            return
        try:
            cursor = connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            write_positions(cursor, self.unwritten.values())
            self._stored.write(cursor, news)
            cursor.execute("COMMIT")
        except BaseException as error:
            roll_back(connection)
            if not isinstance(error, apsw.Error):
                raise
            self._failed("position_write_errors", "positions_not_written", error)
        else:
            self.unwritten.clear()
            self._stored.written(news)

    def checkpoint(self, connection: apsw.Connection) -> None:
        """Copy the log's pages into the database, so that the log starts over."""
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            self._failed("checkpoint_errors", "checkpoint_failed", error)
        else:
            self.log_is_empty(connection)

    def _failed(self, counter: str, event: str, error: apsw.Error) -> None:
        self._errors[counter] += 1
        now = time.monotonic()
        if now >= self._next_warning_s.get(event, 0.0):
            self._next_warning_s[event] = now + WARNING_INTERVAL_S
            log.warning(event, path=self._path, reason=f"{type(error).__name__}: {error}")

    def take_errors(self) -> Counter[str]:
        """The failures since the last call, by the name of their counter in the metrics."""
        taken, self._errors = self._errors, Counter()
        return taken


def roll_back(connection: apsw.Connection) -> None:
    """Roll back the open transaction, if there is one."""
    # Ignore errors: SQLite rolls back by itself after most I/O errors, and then refuses a ROLLBACK.
    with contextlib.suppress(apsw.Error):
        connection.execute("ROLLBACK")
