"""Who sends orders to an order manager of a test, and looks at its trading mode."""

import apsw

from tests.support.orders.frames import ORDER
from tests.support.orders.process import OrderManagerProcess


def send_orders(manager: OrderManagerProcess, first: int, count: int) -> None:
    with manager.client() as client:
        for number in range(first, first + count):
            side = ("BUY", "SELL")[number % 2]
            assert client.ask({**ORDER, "side": side, "id": number, "client": "desk"})["ok"]


def mode(manager: OrderManagerProcess) -> str:
    with manager.client() as client:
        return str(client.ask({"op": "limits"})["mode"])


def controls(manager: OrderManagerProcess) -> list[tuple[int, str]]:
    """Modes of the whole stack that the order manager has stored, with their reasons."""
    connection = apsw.Connection(str(manager.store_path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return connection.execute(
            "SELECT mode, reason FROM controls WHERE client_no = 0 ORDER BY control_no"
        ).fetchall()
    finally:
        connection.close()
