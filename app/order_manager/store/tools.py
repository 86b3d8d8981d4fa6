"""Back up, restore, export, verify and rebuild an order store.

``backup``, ``export`` and ``verify`` read a consistent snapshot and may run beside a living order
manager; ``restore`` and ``rebuild`` need the store to themselves.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from app.config import settings_or_exit
from app.order_manager.store.export import FORMATS, export_store
from app.order_manager.store.files import backup_connection, damaged_message, take_lease
from app.order_manager.store.positions import (
    position_rows,
    read_positions,
    rebuild_positions,
    write_positions,
)
from app.order_manager.store.schema import VERSION, StoreError, schema_version

STREAM: Final = "-"
"""Instead of a file: standard output or input, so that a copy can leave or enter a container."""


@contextmanager
def reading(path: str) -> Iterator[apsw.Connection]:
    """A consistent snapshot of a store, even while an order manager writes to it.

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
                f"schema {version}, this program's is {VERSION}; start the order manager once"
            )
        yield connection
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from None
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StoreError(damaged_message(path, str(error))) from None
    finally:
        connection.close()


def backup(path: str, target: str) -> None:
    """Copy a store, in use or not, to ``target``, which appears complete or not at all.

    Raises:
        StoreError: the source is not a sound store, or the target exists.
    """
    if os.path.exists(target):
        raise StoreError(f"{target}: exists already")
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
        StoreError: it is not.
    """
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        schema_version(connection)
        problem = connection.execute("PRAGMA integrity_check(1)").get
        if problem != "ok":
            raise StoreError(f"{path}: damaged ({problem})")
        # Merges the write-ahead log into the file.
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
    """Replace the store by a backup; returns the path of the replaced file, or "".

    Raises:
        StoreError: the backup is not a sound store, or an order manager is running on the store.
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
    """All inconsistencies of a store; empty when it is sound.

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
        found += [f"fill {row[0]} exists twice" for row in twice]
        for order_no, qty, filled in connection.execute(
            "SELECT o.order_no, sum(f.qty), ifnull(s.filled_qty, o.filled_qty) FROM orders o "
            "LEFT JOIN order_state s USING(order_no) LEFT JOIN fills f USING(order_no) "
            "GROUP BY o.order_no HAVING ifnull(sum(f.qty), 0) != ifnull(s.filled_qty, o.filled_qty)"
            " LIMIT 5"
        ):
            found.append(f"order {order_no}: filled {filled}, its fills are {qty or 0}")
        positions, _ = read_positions(connection)
        stored, rebuilt = position_rows(positions), position_rows(rebuild_positions(connection))
        found += [
            f"position {key}: stored {stored.get(key)}, from fills {rebuilt.get(key)}"
            for key in stored.keys() | rebuilt.keys()
            if stored.get(key) != rebuilt.get(key)
        ]
    return found


def rebuild(path: str) -> int:
    """Recompute the positions from the fills; returns how many there are.

    Raises:
        StoreError: the store is damaged, or an order manager is running on it.
    """
    lease = take_lease(path)
    try:
        with reading(path) as connection:
            positions = rebuild_positions(connection)
            connection.execute("DELETE FROM positions")
            write_positions(connection.cursor(), position_rows(positions).values())
            connection.execute("COMMIT")
        return len(positions)
    finally:
        os.close(lease)


def main(argv: list[str] | None = None) -> int:
    """Run one of the tools; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m app.order_manager.store.tools", description=__doc__
    )
    parser.add_argument("--store", help="the store's file (default: as the settings say)")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("backup", help="copy a running store to a new file")
    command.add_argument("target", nargs="?", help="default: beside the store; - for stdout")
    command = commands.add_parser("restore", help="put a backup in the store's place")
    command.add_argument("source", help="a backup, or - for stdin")
    command = commands.add_parser("export", help="orders, fills and positions for pandas")
    command.add_argument("folder", nargs="?", help="default: beside the store")
    command.add_argument("--format", choices=FORMATS, default="csv")
    command.add_argument("--run-id", help="only this run (default: all)")
    commands.add_parser("verify", help="check that the store is sound: exit code 1 if not")
    commands.add_parser("rebuild", help="compute the positions from the fills")
    options = parser.parse_args(argv)
    path = options.store
    if path is None:
        settings = settings_or_exit("order_store")
        path = settings.order_store_path or os.path.join(settings.output_dir, "orders.sqlite3")
    try:
        return _run(options, path)
    except (StoreError, OSError, apsw.Error) as error:
        print(f"order_store: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, path: str) -> int:
    if options.command == "backup" and options.target == STREAM:
        aside = f"{path}.streamed-{os.getpid()}"
        backup(path, aside)
        try:
            with open(aside, "rb") as copy:
                shutil.copyfileobj(copy, sys.stdout.buffer)
        finally:
            os.unlink(aside)
    elif options.command == "backup":
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        target = options.target or f"{path}.backup-{stamp}"
        backup(path, target)
        print(target)
    elif options.command == "restore":
        kept = restore(options.source, path)
        print(f"{path} restored" + (f"; what was there is kept as {kept}" if kept else ""))
    elif options.command == "export":
        folder = Path(options.folder or Path(path).parent / "export")
        with reading(path) as connection:
            for file in export_store(connection, folder, options.format, options.run_id):
                print(file)
    elif options.command == "verify":
        problems = verify(path)
        print("\n".join(problems) or f"{path}: sound")
        return 1 if problems else 0
    else:
        print(f"{path}: {rebuild(path)} positions rebuilt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
