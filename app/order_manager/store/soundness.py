"""The check of a store: at the start at once, or of a large file beside the first orders."""

import os
import threading
from typing import Final

import apsw

from app.order_manager.store.files import damaged_message
from app.order_manager.store.schema import StoreError

CHECK_AT_ONCE_BYTES: Final = 384 * 1024 * 1024
"""Up to this size, about two seconds, the check is over before the first order."""
NICE: Final = 19


class SoundnessCheck:
    """SQLite's quick check of one file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._problem = ""
        self._thread: threading.Thread | None = None
        self._connection: apsw.Connection | None = None

    def run(self, connection: apsw.Connection) -> None:
        """Check a small file through the store's connection, a large one in a thread.

        Raises:
            apsw.CorruptError: the file is damaged.
        """
        if os.path.getsize(self._path) > CHECK_AT_ONCE_BYTES:
            self._connection = apsw.Connection(self._path, flags=apsw.SQLITE_OPEN_READONLY)
            self._thread = threading.Thread(target=self._check, args=(self._connection,))
            self._thread.daemon = True
            self._thread.start()
            return
        problem = connection.execute("PRAGMA quick_check(1)").get
        if problem != "ok":
            raise apsw.CorruptError(problem)

    def _check(self, connection: apsw.Connection) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        try:
            problem = connection.execute("PRAGMA quick_check(1)").get
            self._problem = "" if problem == "ok" else str(problem)
        except apsw.InterruptError:
            pass
        except apsw.Error as error:
            self._problem = str(error)

    def raise_problem(self) -> None:
        """Raise what the thread has found.

        Raises:
            StoreError: the file is damaged.
        """
        if self._problem:
            raise StoreError(damaged_message(self._path, self._problem))

    def close(self) -> None:
        """End a check that still runs."""
        if self._thread is not None and self._connection is not None:
            self._connection.interrupt()
            self._thread.join()
            self._connection.close()
            self._thread = None
