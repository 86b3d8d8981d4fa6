"""The minimum in Python of an order manager with this store: its row, its commit, nothing else.

It receives, counts frames, inserts the row of an order without looking at it, commits, and sends a
constant answer.  The difference from the order manager is what orders cost: decoding, duplicates,
checks, positions, answers, log, metrics.
"""

import os
import select
import socket
from pathlib import Path

import apsw

from app.model.orders import FILLED, IOC, PLAIN
from app.order_manager.store.loading import insert_rows
from app.order_manager.store.schema import migrate
from tests.bench.peers.common import open_store

RECV_BYTES = 1 << 18
ACK = (
    b'{"ok":true,"order":{"id":1000,"client":"c","side":"BUY","symbol":"AAPL","qty":10,'
    b'"price":173.20,"status":"Filled","filled_qty":10,"avg_price":173.20,"exec_ids":[1000]}}*'
)
PRICE = 173_200_000_000
CHECKPOINT_ORDERS = 3000
"""One at a time, as many as fill the log that the order manager starts over."""


def _row(number: int) -> tuple[object, ...]:
    at_ns = 1_790_000_000_000_000_000 + number
    executed = (FILLED, 10, 10 * PRICE, number, 1, PRICE, 0, None, 0, 0, 0, 0, None)
    asked = (1, "AAPL", 10, PRICE, PLAIN, IOC, "2025-10-01 09:30:00")
    return number, 1, number, at_ns, *asked, *executed


def serve(listener: socket.socket, folder: Path, synchronous: str) -> None:
    """Answer the first client until it leaves; an epoll loop, because the order manager has one."""
    connection = open_store(os.path.join(folder, "least.sqlite3"), synchronous, migrate)
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    peer, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    epoll = select.epoll()
    epoll.register(peer.fileno(), select.EPOLLIN)
    number = at_checkpoint = 0
    while True:
        epoll.poll()
        data = peer.recv(RECV_BYTES)
        if not data:
            return
        count = data.count(b"*")
        insert_rows(cursor, [_row(number + 1 + i) for i in range(count)])
        number += count
        cursor.execute("COMMIT")
        peer.sendall(ACK * count)
        if number - at_checkpoint >= CHECKPOINT_ORDERS:
            at_checkpoint = number
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        cursor.execute("BEGIN IMMEDIATE")
