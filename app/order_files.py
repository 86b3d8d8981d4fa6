"""The order store as a file: who may have it, what to say when it is damaged, how it is copied."""

import fcntl
import os

import apsw

from app.order_schema import StoreError


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


def damaged_message(path: str, detail: str) -> str:
    """What to say, and what leads out of it, when the file is damaged."""
    return (
        f"{path}: damaged ({detail}); the file is kept as it is. Put a backup in its place with: "
        f"python -m app.order_store restore BACKUP, or set another ORDER_STORE_PATH"
    )


def backup_connection(source: apsw.Connection, target_path: str) -> None:
    """Copy a live database to a new file with SQLite's online backup, consistent and complete."""
    target = apsw.Connection(target_path)
    try:
        with target.backup("main", source, "main") as backup:
            backup.step()
    finally:
        target.close()
