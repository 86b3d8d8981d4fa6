"""``python -m app.order_store``: back up, restore, export, verify and rebuild an order store.

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
from typing import Final, NamedTuple

import apsw

from app.config import settings_or_exit
from app.order_export import FORMATS, export_store
from app.order_files import backup_connection, damaged_message, take_lease
from app.order_schema import VERSION, StoreError, schema_version
from app.orders import NO_POSITION, Position, PositionColumns

_SET_POSITION: Final = "SET position_qty = ?, position_cost = ?, position_realised = ?"
_SET_EXECUTION: Final = f"UPDATE executions {_SET_POSITION} WHERE fill_no = ?"
_SET_ORDER: Final = f"UPDATE orders {_SET_POSITION} WHERE order_no = ?"
"""Where an execution is not a row of its own."""

POSITIONS_SHOWN: Final = 20
"""So many wrong positions are told one by one: an early one may make all later ones wrong."""

STREAM: Final = "-"
"""Instead of a file: standard output or input, so that a copy can leave or enter a container."""


@contextmanager
def reading(path: str) -> Iterator[apsw.Connection]:
    """A snapshot of a store, whoever is writing to it.

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
    """Copy a store, running or not, to ``target``, which appears complete or not at all.

    Raises:
        StoreError: the source is no good, or the target exists.
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
    """Make sure that a file is an undamaged order store in one piece.

    Raises:
        StoreError: it is not.
    """
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        schema_version(connection)
        problem = connection.execute("PRAGMA integrity_check(1)").get
        if problem != "ok":
            raise StoreError(f"{path}: damaged ({problem})")
        # So that the copy is one file, without a log beside it.
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
    """Put a backup in the store's place; returns where the replaced file is kept, or "".

    Raises:
        StoreError: the backup is no good, or an order manager is running on the store.
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


class ReplayedFill(NamedTuple):
    """An execution with the position that the store says it made, and that it made by replay."""

    fill_no: int
    order_no: int
    client_no: int
    symbol: str
    stored: PositionColumns
    replayed: PositionColumns


def replay(connection: apsw.Connection) -> Iterator[ReplayedFill]:
    """The log of fills from the first on, with the positions computed anew."""
    positions: dict[tuple[int, str], Position] = {}
    for fill_no, order_no, client_no, symbol, side, qty, price, *stored in connection.execute(
        "SELECT fill_no, order_no, client_no, symbol, side, qty, price, "
        "position_qty, position_cost, position_realised FROM fills ORDER BY fill_no"
    ):
        position = positions.setdefault((client_no, symbol), Position())
        position.apply(side, qty, price)
        columns = (stored[0], stored[1], stored[2])
        yield ReplayedFill(fill_no, order_no, client_no, symbol, columns, position.columns())


def verify(path: str) -> list[str]:
    """Everything in a store that contradicts itself; empty when it is sound.

    Raises:
        StoreError: it cannot be read at all.
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
        found += [f"fill {row[0]} is there twice" for row in twice]
        for order_no, qty, filled in connection.execute(
            "SELECT o.order_no, sum(f.qty), ifnull(s.filled_qty, o.filled_qty) FROM orders o "
            "LEFT JOIN order_state s USING(order_no) LEFT JOIN fills f USING(order_no) "
            "GROUP BY o.order_no HAVING ifnull(sum(f.qty), 0) != ifnull(s.filled_qty, o.filled_qty)"
            " LIMIT 5"
        ):
            found.append(f"order {order_no}: filled {filled}, its fills are {qty or 0}")
        wrong: list[ReplayedFill] = []
        last: dict[tuple[int, str], ReplayedFill] = {}
        for fill in replay(connection):
            last[fill.client_no, fill.symbol] = fill
            # A store of schema 2 kept the last position only.
            if fill.stored not in (fill.replayed, NO_POSITION):
                wrong.append(fill)
        wrong += [fill for fill in last.values() if fill.stored == NO_POSITION]
        found += [
            f"fill {fill.fill_no}: position of client {fill.client_no} in {fill.symbol} (quantity, "
            f"cost, realised): stored {fill.stored}, replayed {fill.replayed}"
            for fill in wrong[:POSITIONS_SHOWN]
        ]
    return found


def rebuild(path: str) -> int:
    """Replace the positions by what the fills give; returns how many were wrong.

    Raises:
        StoreError: the store is damaged, or an order manager is running on it.
    """
    lease = take_lease(path)
    try:
        with reading(path) as connection:
            wrong = [fill for fill in replay(connection) if fill.stored != fill.replayed]
            for fill in wrong:
                connection.execute(_SET_EXECUTION, (*fill.replayed, fill.fill_no))
                if not connection.changes():
                    connection.execute(_SET_ORDER, (*fill.replayed, fill.order_no))
            connection.execute("COMMIT")
        return len(wrong)
    finally:
        os.close(lease)


def main(argv: list[str] | None = None) -> int:
    """Run one of the tools; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.order_store", description=__doc__)
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
