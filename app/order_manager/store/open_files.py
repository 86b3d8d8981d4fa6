"""Whether the names of an open store still lead to its files.

A program that removes or replaces a file of a running store leaves this process with an orphan:
SQLite goes on writing, and everything is lost when the process ends.
"""

import contextlib
import os
import time
from os import fstat
from pathlib import Path
from typing import Final

import apsw

from app.order_manager.store.files import backup_connection, take_lease
from app.order_manager.store.schema import StoreError
from app.runtime.log import get_logger

log = get_logger()

TAILS: Final = ("", "-wal", "-shm", ".lock")
"""Of the database, its log, the log's index, and the lease."""
RESCUED: Final = ".rescued-"
LOOK_EVERY_NS: Final = 2_000_000


class OpenFiles:
    """The identities of the files behind a store's names."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._tails = () if path == ":memory:" else TAILS
        self._seen: dict[str, tuple[int, int]] = {}
        """Tail -> device and inode; a file that does not exist yet is noted when it appears."""

        self._handles: list[int] = []
        """O_PATH, of the files that have the orders: closing it releases none of SQLite's locks."""
        self._looked_ns = 0
        self._copy = ""
        """All orders, until they have the store's name."""
        self._kept = ""
        """Where all orders are, once another file has the store's name."""

    def forget(self) -> None:
        """The files are closed, or opened anew."""
        self._seen.clear()
        self._close_handles()

    def _close_handles(self) -> None:
        while self._handles:
            os.close(self._handles.pop())

    def intact(self) -> bool:
        """A quick look before a commit: whether the files that have the orders still have a name.

        By descriptor, which takes a tenth of the time that a look at the name takes; a file that
        was moved is found by :meth:`lost`.  Not before each commit, for the same reason.
        """
        now_ns = time.monotonic_ns()
        if now_ns - self._looked_ns < LOOK_EVERY_NS:
            return True
        self._looked_ns = now_ns
        return 0 not in [fstat(handle).st_nlink for handle in self._handles]

    def lost(self) -> list[str]:
        """The tails whose names lead to another file, or to none."""
        lost = []
        for tail in self._tails:
            identity = self._identity(tail)
            known = self._seen.get(tail)
            if known is None and identity is not None:
                self._seen[tail] = identity
            elif identity != known:
                lost.append(tail)
        if not lost:
            self._open_handles()
        return lost

    def _open_handles(self) -> None:
        names = [self._path + tail for tail in ("", "-wal") if tail in self._seen]
        if len(self._handles) == len(names):
            return
        self._close_handles()
        # Ignore: the names are looked at again a few times a second.
        with contextlib.suppress(OSError):
            self._handles += [os.open(name, os.O_PATH | os.O_CLOEXEC) for name in names]

    def _identity(self, tail: str) -> tuple[int, int] | None:
        with contextlib.suppress(OSError):
            found = os.stat(self._path + tail)
            return found.st_dev, found.st_ino
        return None

    def remove_log(self) -> None:
        """Remove what is left of the orphan: SQLite would apply its log to the file beside it."""
        for tail in ("-wal", "-shm"):
            if self._seen.get(tail) == self._identity(tail) is not None:
                os.unlink(self._path + tail)

    def rescue(self, connection: apsw.Connection, lost: list[str]) -> None:
        """Bring what the connection can still read to where its name leads.

        Then the caller closes the connection, calls :meth:`move_copy` and opens the store again.

        Raises:
            StoreError: another file has the store's name; what this process has stored is kept.
            apsw.Error, OSError: not possible at the moment.
        """
        names = ", ".join(self._path + tail for tail in lost)
        log.error("store_files_lost", path=self._path, files=names, action="saving all orders")
        if "" not in lost:
            # The log's orphan still has its pages: copy them into the database.
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_FULL)
            return
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        if self._kept:
            raise StoreError(self._kept)
        copy = f"{self._path}{RESCUED}{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(copy)
        try:
            backup_connection(connection, copy)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(copy)
            raise
        self._copy = copy
        self._refuse_other_file()

    def move_copy(self) -> None:
        """Move what :meth:`rescue` has copied to the store's name; again, if it failed before.

        Raises:
            StoreError: another file has the store's name.
            OSError: not possible at the moment; the copy is kept.
        """
        if not self._copy:
            return
        self._refuse_other_file()
        self.remove_log()
        os.replace(self._copy, self._path)
        self._copy = ""

    def _refuse_other_file(self) -> None:
        if not os.path.exists(self._path):
            return
        self.remove_log()
        self._kept = (
            f"{self._path}: replaced by another file while in use; all orders until now "
            f"are in {self._copy}. Start again to go on with the file that is there, or "
            f"after: python -m app store restore {self._copy}"
        )
        raise StoreError(self._kept)


def take_store(path: str) -> int:
    """The lease of the store at ``path``, whose folder is made if there is none.

    Raises:
        StoreError: another process has it, or its orders are in a copy that could not be moved.
    """
    folder, name = os.path.split(path)
    os.makedirs(folder or ".", exist_ok=True)
    lease = take_lease(path)
    if os.path.exists(path) and os.path.getsize(path):
        return lease
    copies = sorted(
        each
        for each in os.listdir(folder or ".")
        if each.startswith(name + RESCUED) and not each.endswith(("-journal", "-wal", "-shm"))
    )
    if not copies:
        return lease
    os.close(lease)
    copy = os.path.join(folder, copies[-1])
    raise StoreError(
        f"{path}: missing or empty, but {copy} has the orders that were saved when it was "
        f"removed; put them back with: python -m app store restore {copy}, or move that file "
        "away to begin without them"
    )
