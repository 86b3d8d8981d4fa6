"""The order store as a file: its lease, its write-ahead log, backups, damage."""

import fcntl
import os
from typing import Final

import apsw

from app.config.settings import Settings
from app.order_manager.store.schema import StoreError
from app.runtime.log import get_logger

log = get_logger()

WAL_BYTES: Final = 8 * 1024 * 1024
"""Size of the preallocated write-ahead log, at which it is also checkpointed.  A commit that
overwrites existing bytes does not change the file's length: measured 130 instead of 195 us."""
WAL_VOLUME_BYTES_MIN: Final = 16 * WAL_BYTES
"""With less free space on the volume the log is not preallocated."""


def store_path(settings: Settings) -> str:
    """The path of the order store."""
    return settings.order_store_path or os.path.join(settings.output_dir, "orders.sqlite3")


def mark_path(store_path: str) -> str:
    """Beside an order store, the file of what its shard has published."""
    return f"{store_path}.outbox"


def take_lease(path: str) -> int:
    """Lock the store for this process; the kernel releases the lock however the process ends.

    Raises:
        StoreError: another process has the lock.
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


def renewed_lease(path: str, lease: int) -> int:
    """The lease, or a new one in its place if its file was removed.

    Raises:
        StoreError: another process has taken it meanwhile.
    """
    if os.path.exists(path + ".lock"):
        return lease
    new = take_lease(path)
    os.close(lease)
    return new


def preallocate_wal(connection: apsw.Connection, path: str) -> None:
    """Preallocate the log, so that later commits overwrite existing bytes."""
    wal_path = path + "-wal"
    if os.path.exists(wal_path) and os.path.getsize(wal_path) >= WAL_BYTES:
        return
    volume = os.statvfs(os.path.dirname(os.path.abspath(path)))
    if volume.f_bavail * volume.f_frsize < WAL_VOLUME_BYTES_MIN:
        return
    try:
        with connection:
            connection.execute("CREATE TABLE scratch(filler)")
            connection.execute("INSERT INTO scratch VALUES(zeroblob(?))", (WAL_BYTES,))
            connection.execute("DROP TABLE scratch")
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    except (apsw.FullError, apsw.IOError) as error:
        # Preallocation is best effort.
        log.warning("wal_not_preallocated", path=path, reason=str(error))


def damaged_message(path: str, detail: str) -> str:
    """The error message for a damaged file, with the ways to recover."""
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
