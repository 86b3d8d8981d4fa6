"""Removes old runs from an order store.

A run is removed as a whole, so that positions stay the sums of the fills.  The run with the latest
order, fill or change of an order stays: numbers continue from theirs.
"""

import os
import time
from typing import Final

import apsw

from app.model.timestamps import DAY_NS
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
_OF_CLIENTS: Final = "client_no IN (SELECT client_no FROM clients WHERE run_id = ?1)"
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


def prune(connection: apsw.Connection, before_ns: int, keep_run: str | None) -> list[str]:
    """Remove the runs whose last order is older than ``before_ns``; returns their ids.

    Each is a transaction of its own.  ``keep_run`` stays in any case.
    """
    latest = {run for (run,) in connection.execute(_LATEST)} | {keep_run}
    old = [run for (run,) in connection.execute(_OLD, (before_ns,)) if run not in latest]
    for run in old:
        with connection:
            for statement in _DELETES:
                connection.execute(statement, (run,))
    return old


def prune_file(path: str, before_ns: int, keep_run: str | None = None) -> list[str]:
    """Prune a store that no order manager has; returns the ids of the removed runs.

    Raises:
        StoreError: the store is missing, damaged or in use.
    """
    with owning(path) as connection:
        connection.execute("COMMIT")
        return prune(connection, before_ns, keep_run)


def give_back(path: str) -> None:
    """Give the space of removed runs back to the volume; it needs that much room meanwhile.

    Raises:
        StoreError: the store is missing, damaged or in use.
    """
    with owning(path) as connection:
        connection.execute("COMMIT")
        connection.execute("VACUUM")
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def prune_at_start(path: str, keep_days: int, run_id: str) -> None:
    """Remove runs older than ``keep_days``, except this one; 0 keeps all.

    Their space is used again by later orders; the file gets no smaller.
    """
    if not keep_days or not os.path.exists(path):
        return
    try:
        removed = prune_file(path, time.time_ns() - keep_days * DAY_NS, run_id)
    except (StoreError, apsw.Error, OSError) as error:
        # Opening the store says what is wrong with it.
        log.warning("store_not_pruned", path=path, reason=str(error))
        return
    if removed:
        log.info("store_pruned", path=path, runs=len(removed), keep_days=keep_days)
