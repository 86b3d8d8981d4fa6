"""What this shard remembers beside its order store: acknowledged marks, and controls it has taken.

Only a help.  The stream itself says what it has; without the file a control that was taken may be
taken once more, and nobody notices that a broker has lost what it had acknowledged.
"""

import fcntl
import json
import os
from typing import Any, Final

import apsw

from app.bus.outbox.rows import Marks
from app.runtime.lifecycle import FatalError

CONTROLS_KEPT: Final = 10_000

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS marks(
  stream TEXT PRIMARY KEY, created TEXT NOT NULL, seq INTEGER NOT NULL, marks TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS controls(
  no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, mode TEXT NOT NULL, at_ns INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS status(what TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


class MarkFile:
    """The open file; only one process has it, so a stack has only one publisher.

    The order manager reads ``marks``: it removes no old run that is not published.

    Raises:
        FatalError: another process has it, or it cannot be used.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._lease = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
            fcntl.flock(self._lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lease)
            raise FatalError(
                f"{path}: another process publishes this order store; stop it first"
            ) from None
        except OSError as error:
            raise FatalError(f"{path}: {error.strerror}; make its folder writable") from None
        try:
            self._db = apsw.Connection(path)
            self._db.pragma("journal_mode", "WAL")
            self._db.pragma("synchronous", "NORMAL")
            self._db.execute(_SCHEMA)
        except apsw.Error as error:
            os.close(self._lease)
            raise FatalError(
                f"{path}: {error}; it can be removed: the stream knows what it has"
            ) from None

    def marks(self, stream: str, created: str) -> tuple[int, Marks]:
        """Sequence number and marks that were acknowledged last, by the stream made at ``created``.

        Zero if that was another stream of this name.
        """
        row = self._db.execute(
            "SELECT seq, marks FROM marks WHERE stream = ? AND created = ?", (stream, created)
        ).fetchone()
        return (0, Marks()) if row is None else (row[0], Marks.parse(row[1]))

    def last_marks(self, stream: str) -> Marks:
        """The marks that were acknowledged last, whenever the stream was made."""
        row = self._db.execute("SELECT marks FROM marks WHERE stream = ?", (stream,)).fetchone()
        return Marks() if row is None else Marks.parse(row[0])

    def acknowledged(self, stream: str, created: str, seq: int, marks: Marks) -> None:
        """The broker has all up to here."""
        row = (stream, created, seq, marks.text())
        self._db.execute("INSERT OR REPLACE INTO marks VALUES(?,?,?,?)", row)

    def took(self, control_id: str) -> bool:
        """Whether a control has been taken before."""
        query = "SELECT 1 FROM controls WHERE id = ?"
        return self._db.execute(query, (control_id,)).fetchone() is not None

    def take(self, control_id: str, mode: str, at_ns: int) -> None:
        """A control is done; the oldest are forgotten."""
        with self._db:
            self._db.execute(
                "INSERT OR IGNORE INTO controls(id, mode, at_ns) VALUES(?,?,?)",
                (control_id, mode, at_ns),
            )
            self._db.execute(
                "DELETE FROM controls WHERE no <= (SELECT max(no) FROM controls) - ?",
                (CONTROLS_KEPT,),
            )

    def write_status(self, status: dict[str, Any]) -> None:
        """For :func:`read_status`."""
        row = ("outbox", json.dumps(status))
        self._db.execute("INSERT OR REPLACE INTO status VALUES(?,?)", row)

    def close(self) -> None:
        """Close it, and let another process have it."""
        self._db.close()
        os.close(self._lease)


def read_status(path: str) -> dict[str, Any] | None:
    """What the publisher last wrote; None if there was none."""
    if not os.path.exists(path):
        return None
    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        db.set_busy_timeout(2000)
        row = db.execute("SELECT value FROM status WHERE what = 'outbox'").fetchone()
    except apsw.SQLError:
        return None
    finally:
        db.close()
    found: dict[str, Any] | None = None if row is None else json.loads(row[0])
    return found
