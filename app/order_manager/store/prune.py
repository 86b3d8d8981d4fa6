"""Removes old runs from an order store.

A run is removed as a whole, so that positions stay the sums of the fills.  The run with the latest
order, fill or change of an order stays: numbers continue from theirs.  With a shard, a run stays
until all of it and a row of a later run are published: its publisher has nothing but the store, and
by the last published rows it knows that the store is the one whose rows the stream has.
"""

import contextlib
import os
import time
from typing import Final, NamedTuple

import apsw

from app.model.timestamps import DAY_NS
from app.order_manager.store.files import mark_path
from app.order_manager.store.schema import StoreError
from app.order_manager.store.tools import owning
from app.runtime.log import get_logger

log = get_logger()

_OLD: Final = (
    "SELECT run_id FROM clients JOIN orders USING(client_no) GROUP BY run_id "
    "HAVING max(at_ns) < ?1 ORDER BY max(at_ns)"
)
_LATEST: Final = (
    "SELECT run_id FROM clients WHERE client_no IN ("
    "(SELECT client_no FROM orders ORDER BY order_no DESC LIMIT 1), "
    "(SELECT client_no FROM positions ORDER BY fill_no DESC LIMIT 1), "
    "(SELECT client_no FROM orders WHERE exec_count > 0 ORDER BY order_no DESC LIMIT 1), "
    "(SELECT client_no FROM order_changes JOIN orders USING(order_no) "
    "ORDER BY change_no DESC LIMIT 1))"
)
_UNPUBLISHED: Final = (
    "SELECT run_id FROM clients WHERE client_no IN ("
    "SELECT client_no FROM orders WHERE order_no >= :orders "
    "UNION SELECT client_no FROM orders WHERE exec_count > 0 "
    "AND exec_first + exec_count - 1 >= :fills "
    "UNION SELECT client_no FROM executions JOIN orders USING(order_no) WHERE fill_no >= :fills "
    "UNION SELECT client_no FROM order_changes JOIN orders USING(order_no) "
    "WHERE change_no >= :changes)"
)
_OF_CLIENTS: Final = "client_no IN (SELECT client_no FROM clients WHERE run_id = ?1)"
_MARKS: Final = "SELECT marks FROM marks WHERE stream = ?"
_OF_ORDERS: Final = f"order_no IN (SELECT order_no FROM orders WHERE {_OF_CLIENTS})"
_DELETES: Final = (
    f"DELETE FROM executions WHERE {_OF_ORDERS}",
    f"DELETE FROM order_state WHERE {_OF_ORDERS}",
    f"DELETE FROM order_changes WHERE {_OF_ORDERS}",
    f"DELETE FROM orders WHERE {_OF_CLIENTS}",
    f"DELETE FROM positions WHERE {_OF_CLIENTS}",
    f"DELETE FROM accruals WHERE {_OF_CLIENTS}",
    f"DELETE FROM controls WHERE {_OF_CLIENTS}",
    "DELETE FROM days WHERE run_id = ?1",
    "DELETE FROM marks WHERE run_id = ?1",
    "DELETE FROM clients WHERE run_id = ?1",
)


class Pruned(NamedTuple):
    """Ids of the runs that are removed, and of those that are old and not published far enough.

    ``published``: the last order, fill and change of which the bus is known to have all before.
    """

    removed: list[str]
    unpublished: list[str]
    published: dict[str, int]


def prune(
    connection: apsw.Connection,
    before_ns: int,
    keep_run: str | None,
    published: dict[str, int] | None = None,
) -> Pruned:
    """Remove the runs whose last order is older than ``before_ns``.

    Each is a transaction of its own.  ``keep_run`` stays in any case.  ``published``: the last
    order, fill and change that may be removed; None: all.
    """
    latest = {run for (run,) in connection.execute(_LATEST)} | {keep_run}
    old = [run for (run,) in connection.execute(_OLD, (before_ns,)) if run not in latest]
    waiting: set[str] = set()
    if published is not None:
        waiting = {run for (run,) in connection.execute(_UNPUBLISHED, published)}
    removed = [run for run in old if run not in waiting]
    for run in removed:
        with connection:
            for statement in _DELETES:
                connection.execute(statement, (run,))
    return Pruned(removed, [run for run in old if run in waiting], published or {})


def _published(path: str, shard: str, store_id: str) -> dict[str, int]:
    """The last order, fill and change that the bus has acknowledged to the publisher of this store.

    Zero if the mark file is missing, damaged or of another store.
    """
    published = dict.fromkeys(("orders", "fills", "changes"), 0)
    with (
        contextlib.suppress(apsw.Error, ValueError),
        contextlib.closing(
            apsw.Connection(mark_path(path), flags=apsw.SQLITE_OPEN_READWRITE)
        ) as file,
    ):
        file.set_busy_timeout(5000)
        file.pragma("query_only", True)
        for (marks,) in file.execute(_MARKS, (f"OUT_{shard}",)):
            of, *numbers = marks.split(":")
            if of == store_id:
                published = dict(zip(published, map(int, numbers), strict=True))
    return published


def prune_file(path: str, before_ns: int, keep_run: str | None = None, shard: str = "") -> Pruned:
    """Prune a store that no order manager has; with a ``shard``, only what it has published.

    Raises:
        StoreError: the store is missing, damaged or in use.
    """
    with owning(path) as connection:
        connection.execute("COMMIT")
        published = None
        if shard:
            ((store_id,),) = connection.execute("SELECT store_id FROM identity")
            published = _published(path, shard, store_id)
        return prune(connection, before_ns, keep_run, published)


def give_back(path: str) -> None:
    """Give the space of removed runs back to the volume; it needs that much room meanwhile.

    Raises:
        StoreError: the store is missing, damaged or in use.
    """
    with owning(path) as connection:
        connection.execute("COMMIT")
        connection.execute("VACUUM")
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def prune_at_start(path: str, keep_days: int, run_id: str, shard: str = "") -> None:
    """Remove runs older than ``keep_days``, except this one; 0 keeps all.

    With a ``shard``, those that it has not published stay until a later start.  The space of the
    others is used again by later orders; the file gets no smaller.
    """
    if not keep_days or not os.path.exists(path):
        return
    try:
        done = prune_file(path, time.time_ns() - keep_days * DAY_NS, run_id, shard)
    except (StoreError, apsw.Error, OSError) as error:
        # Opening the store says what is wrong with it.
        log.warning("store_not_pruned", path=path, reason=str(error))
        return
    if done.removed:
        log.info("store_pruned", path=path, runs=len(done.removed), keep_days=keep_days)
    if done.unpublished:
        log.warning(
            "store_keeps_unpublished",
            path=path,
            runs=len(done.unpublished),
            shard=shard,
            published=":".join(map(str, done.published.values())),
        )
