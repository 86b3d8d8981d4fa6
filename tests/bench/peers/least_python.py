"""The minimum in Python: the chain over this stack's ring and nothing else.

Blocking sockets; the compiled kernel receives, parses, publishes and wakes as in the stack; the
strategy sends an order for each tick; the order manager decodes it, inserts one row without an
index, commits (WAL, ``synchronous=NORMAL``) and answers.  No checks, positions, duplicates,
metrics, log or second client: the difference from the stack is the cost of these.  Not ``stored``:
without row and commit.
"""

import gc
import os
import secrets
import socket
import tempfile
import time
from pathlib import Path

import apsw
import msgspec
import numpy as np

from app.kernel import _kernel
from app.model.tick import TICK_DTYPE
from app.model.wire.order_json import NewOrder
from app.runtime.metrics.layout import BUCKET_SLOTS
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.tick_ring import LOSSLESS, TickRing
from tests.bench.model import Context, Figures, Placement
from tests.bench.peers.common import chain_figures, one_client, open_store, tcp_gateway
from tests.bench.subjects.processes import Link, Role, run_roles

SYMBOLS = ["AAPL"]
RECV_BYTES = 1 << 16
FOREVER_NS = 1 << 62
WAIT_NS = 1_000_000_000
ORDER_FORM = (
    b'{"side":"BUY","symbol":"AAPL","qty":10,"price":187.25,"ts":"2025-10-01 09:30:00",'
    b'"id":%d,"client":"bench"}*'
)
ACK_FORM = (
    b'{"ok":true,"order":{"id":%d,"client":"bench","side":"BUY","symbol":"AAPL","qty":10,'
    b'"price":187.25,"status":"Filled"}}*'
)


def _connect(port: int) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", port))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def _settle() -> None:
    gc.collect()
    gc.freeze()


def _orderbook(link: Link, name: str) -> None:
    book = SharedPriceBook(SYMBOLS, f"{name}_book")
    ring = TickRing.open_writer(f"{name}_ring", 65_536, "lossless", fresh=True)
    try:
        writer = _kernel.TickWriter(ring.buffer, book.buffer, _kernel.FieldParser(SYMBOLS))
        buffer = np.zeros(2 * RECV_BYTES, np.uint8)
        buckets = np.zeros(BUCKET_SLOTS, np.uint64)
        with _connect(link.meet()[0]) as peer:
            link.meet()
            link.meet()
            _settle()
            fill, received = 0, 1
            while received > 0:
                received, _, _, fill, *_ = writer.receive(
                    peer.fileno(), buffer, fill, RECV_BYTES, FOREVER_NS, buckets
                )
        del writer
    finally:
        ring.unlink()
        book.unlink()


def _strategy(link: Link, name: str, count: int) -> Figures:
    ports = link.meet()
    ring = TickRing.attach(f"{name}_ring")
    reader = _kernel.TickReader(ring.buffer, ring.register("bench", LOSSLESS).slot)
    ticks, stamps = np.zeros(64, TICK_DTYPE), []
    with _connect(ports[3]) as peer:
        link.meet()
        start_ns = link.meet()[0]
        _settle()
        while len(stamps) < count:
            if not reader.wait(WAIT_NS):
                continue
            ready = reader.copy(ticks)
            for tick in ticks[:ready]:
                peer.sendall(ORDER_FORM % len(stamps))
                if not peer.recv(4096).startswith(b'{"ok":true'):
                    raise AssertionError("not acknowledged")
                now_ns = time.monotonic_ns()
                age_us = (now_ns // 1000 - int(tick["recv_us"])) & 0xFFFFFFFF
                stamps.append((len(stamps), now_ns - 1000 * age_us, now_ns))
            reader.advance(ready)
    return chain_figures(start_ns, stamps)


def _make_table(connection: apsw.Connection) -> None:
    connection.execute(
        "CREATE TABLE orders(order_no INTEGER PRIMARY KEY, id INTEGER, symbol TEXT, qty INTEGER, "
        "price INTEGER, at_ns INTEGER)"
    )


def _order_manager(link: Link, folder: str | None) -> None:
    """Answer each order; without a ``folder`` nothing is stored."""
    decode = msgspec.json.Decoder(NewOrder).decode
    execute = None
    if folder:
        path = os.path.join(folder, "orders.sqlite3")
        execute = open_store(path, "NORMAL", _make_table).cursor().execute
    with one_client(link) as peer:
        link.meet()
        link.meet()
        _settle()
        if execute:
            execute("BEGIN IMMEDIATE")
        number = 0
        while data := peer.recv(4096):
            order = decode(data[:-1])
            number += 1
            if execute:
                price = round((order.price or 0.0) * 1e9)
                row = (number, order.id, order.symbol, order.qty, price, time.time_ns())
                execute("INSERT INTO orders VALUES(?, ?, ?, ?, ?, ?)", row)
                execute("COMMIT")
            peer.send(ACK_FORM % order.id)
            if execute:
                execute("BEGIN IMMEDIATE")


def chain(context: Context, place: Placement, stored: bool = True) -> Figures:
    """All four processes at the fixed rate."""
    count, name = context.latency_ticks, f"least_{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(dir=Path(context.work_dir)) as folder:
        functions = (
            (tcp_gateway, (count,)),
            (_orderbook, (name,)),
            (_strategy, (name, count)),
            (_order_manager, (folder if stored else None,)),
        )
        roles = [Role(*what, cpus=cpus) for what, cpus in zip(functions, place.lists, strict=True)]
        try:
            figures: Figures = run_roles(roles)[2]
        finally:
            # An orderbook that was killed has not removed its segments.
            for segment in ("book", "ring"):
                Path("/dev/shm", f"{name}_{segment}").unlink(missing_ok=True)
        return figures
