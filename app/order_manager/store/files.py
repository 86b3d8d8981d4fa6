"""The order store as a file: who has it, its log, its copies, what to say when it is damaged."""

import contextlib
import fcntl
import os
from typing import Final

import apsw

from app.order_manager.store.schema import StoreError

WAL_BYTES: Final = 8 * 1024 * 1024
"""Size the write-ahead log is laid out with and checkpointed at.  A commit that overwrites bytes of
the file spares the file system the new length: 130 instead of 195 us where this was measured."""
WAL_VOLUME_BYTES_MIN: Final = 16 * WAL_BYTES
"""On a volume with less left it grows as it is needed."""


def take_lease(path: str) -> int:
    """Lock the store for this process; the kernel gives the lock back however the process ends.

    Raises:
        StoreError: another process has it.
    """
    lease = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lease)
        raise StoreError(
            f"{path}: another order manager has this store; stop it, or set another "
            "ORDER_STORE_PATH"
        ) from None
    return lease


def lay_out_wal(connection: apsw.Connection, path: str) -> None:
    """Write the log once in its full length, so that later commits find it there."""
    with contextlib.suppress(OSError):
        if os.path.getsize(path + "-wal") >= WAL_BYTES:
            return
    volume = os.statvfs(os.path.dirname(os.path.abspath(path)))
    if volume.f_bavail * volume.f_frsize < WAL_VOLUME_BYTES_MIN:
        return
    # A disk that fails right now is no reason not to start.
    with contextlib.suppress(apsw.FullError, apsw.IOError):
        with connection:
            connection.execute("CREATE TABLE scratch(filler)")
            connection.execute("INSERT INTO scratch VALUES(zeroblob(?))", (WAL_BYTES,))
            connection.execute("DROP TABLE scratch")
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


def damaged_message(path: str, detail: str) -> str:
    """What to say, and what leads out of it, when the file is damaged."""
    return (
        f"{path}: damaged ({detail}); the file is kept as it is. Put a backup in its place with: "
        "python -m app store restore BACKUP, or set another ORDER_STORE_PATH"
    )


def backup_connection(source: apsw.Connection, target_path: str) -> None:
    """Copy a live database to a new file with SQLite's online backup, consistent and complete."""
    target = apsw.Connection(target_path)
    try:
        with target.backup("main", source, "main") as backup:
            backup.step()
    finally:
        target.close()
