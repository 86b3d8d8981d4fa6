"""Back up, restore, verify and rebuild an order store.

``backup`` and ``verify`` read a consistent snapshot while an order manager may be running;
``restore`` and ``rebuild`` need the store to themselves.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from app.order_manager.store.files import backup_connection, damaged_message, take_lease
from app.order_manager.store.positions import (
    position_rows,
    read_positions,
    rebuild_positions,
    write_positions,
)
from app.order_manager.store.schema import VERSION, StoreError, schema_version

STREAM: Final = "-"
"""Instead of a file: standard output or input, to copy a store out of or into a container."""


@contextmanager
def reading(path: str) -> Iterator[apsw.Connection]:
    """A snapshot of a store that another process may be writing to.

    Raises:
        StoreError: no such file, not an order store, or damaged.
    """
    if not os.path.exists(path):
        raise StoreError(f"{path}: no such order store")
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(5000)
        connection.execute("BEGIN")
        version = schema_version(connection)
        if version < VERSION:
            raise StoreError(
                f"schema {version}, this program's is {VERSION}; start the order manager once to "
                "migrate it"
            )
        yield connection
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from None
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StoreError(damaged_message(path, str(error))) from None
    finally:
        connection.close()


@contextmanager
def owning(path: str) -> Iterator[apsw.Connection]:
    """As :func:`reading`, of a store that no other process has; for changes.

    Raises:
        StoreError: as there, or the store is in use.
    """
    lease = take_lease(path)
    try:
        with reading(path) as connection:
            yield connection
    finally:
        os.close(lease)


def backup(path: str, target: str) -> None:
    """Copy a store, in use or not, to ``target``, which appears complete or not at all.

    Raises:
        StoreError: the source is missing, damaged or no order store, or the target exists.
    """
    if os.path.exists(target):
        raise StoreError(f"{target}: already exists")
    partial = f"{target}.partial"
    Path(partial).unlink(missing_ok=True)
    try:
        with reading(path) as source:
            backup_connection(source, partial)
        check_whole(partial)
        os.replace(partial, target)
    finally:
        Path(partial).unlink(missing_ok=True)


def check_whole(path: str) -> None:
    """Check that a file is an undamaged order store, and make it a single file.

    Raises:
        StoreError: it is damaged or no order store.
    """
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        schema_version(connection)
        problem = connection.execute("PRAGMA integrity_check(1)").get
        if problem != "ok":
            raise StoreError(f"{path}: damaged ({problem})")
        # DELETE: the copy is one file, without a write-ahead log.
        connection.pragma("journal_mode", "DELETE")
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from None
    except apsw.Error as error:
        raise StoreError(f"{path}: not an order store ({error})") from None
    finally:
        connection.close()
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def restore(source: str, path: str) -> str:
    """Replace the store with a backup; returns where the replaced file is kept, or "".

    Raises:
        StoreError: the backup is missing, damaged or no order store, or the store is in use.
    """
    if source != STREAM and not os.path.exists(source):
        raise StoreError(f"{source}: no such backup")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lease = take_lease(path)
    partial = f"{path}.partial"
    try:
        with open(partial, "wb") as copy:
            if source == STREAM:
                shutil.copyfileobj(sys.stdin.buffer, copy)
            else:
                with open(source, "rb") as backup_file:
                    shutil.copyfileobj(backup_file, copy)
        check_whole(partial)
        kept = ""
        if os.path.exists(path):
            kept = f"{path}.replaced-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
            for tail in ("", "-wal"):
                if os.path.exists(path + tail):
                    os.replace(path + tail, kept + tail)
            Path(path + "-shm").unlink(missing_ok=True)
        os.replace(partial, path)
        return kept
    finally:
        Path(partial).unlink(missing_ok=True)
        os.close(lease)


def verify(path: str) -> list[str]:
    """Contradictions in a store; empty when it is sound.

    Raises:
        StoreError: it cannot be read.
    """
    with reading(path) as connection:
        found = [
            str(row[0])
            for row in connection.execute("PRAGMA integrity_check(20)")
            if row[0] != "ok"
        ]
        twice = connection.execute(
            "SELECT fill_no FROM fills GROUP BY fill_no HAVING count(*) > 1 LIMIT 5"
        ).fetchall()
        found += [f"fill {row[0]} is stored twice" for row in twice]
        for order_no, qty, filled in connection.execute(
            "SELECT o.order_no, sum(f.qty), ifnull(s.filled_qty, o.filled_qty) FROM orders o "
            "LEFT JOIN order_state s USING(order_no) LEFT JOIN fills f USING(order_no) "
            "GROUP BY o.order_no HAVING ifnull(sum(f.qty), 0) != ifnull(s.filled_qty, o.filled_qty)"
            " LIMIT 5"
        ):
            found.append(f"order {order_no}: filled {filled}, its fills are {qty or 0}")
        positions, _ = read_positions(connection)
        stored, played = position_rows(positions), position_rows(rebuild_positions(connection))
        found += [
            f"position {key}: stored {stored.get(key)}, replayed {played.get(key)}"
            for key in stored.keys() | played.keys()
            if stored.get(key) != played.get(key)
        ]
    return found


def rebuild(path: str) -> int:
    """Recompute and store the positions from the fills; returns how many there are.

    Raises:
        StoreError: the store is damaged or in use.
    """
    with owning(path) as connection:
        positions = rebuild_positions(connection)
        connection.execute("DELETE FROM positions")
        write_positions(connection.cursor(), position_rows(positions).values())
        connection.execute("COMMIT")
    return len(positions)
