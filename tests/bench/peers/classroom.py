"""The classroom design: a price book under ``multiprocessing.Lock``, one connection per order.

The gateway sends ticks over TCP.  The orderbook writes a NumPy array in ``SharedMemory`` under the
lock; the strategy reads it under the lock in a loop and opens a TCP connection to a threading
``socketserver`` for each order.  Each part is written as its module's documentation shows.  The
strategy polls without a pause: best latency, at the cost of one core.  Ticks between two polls are
lost.
"""

import json
import socket
import socketserver
import threading
import time
from multiprocessing.shared_memory import SharedMemory
from typing import Any, TextIO

import numpy as np

from tests.bench.model import Context, Figures, Placement
from tests.bench.peers.common import ORDER, chain_figures, tcp_gateway
from tests.bench.subjects.processes import CONTEXT, Link, Role, run_roles
from tests.bench.subjects.ticks import symbol_names

SLOT = np.dtype([("symbol", "S10"), ("price", "f8"), ("seq", "i8"), ("recv_ns", "i8")])
SYMBOLS = 10


class LockBook:
    """Prices in shared memory, every access under one lock shared by inheritance."""

    def __init__(self, memory: SharedMemory, lock: Any, symbols: list[str]) -> None:
        self.slots = np.ndarray((len(symbols),), SLOT, memory.buf)
        self.index = {symbol: i for i, symbol in enumerate(symbols)}
        self._lock = lock

    def update(self, symbol: str, price: float, seq: int, recv_ns: int) -> None:
        """Store one tick."""
        with self._lock:
            slot = self.slots[self.index[symbol]]
            slot["price"] = price
            slot["seq"] = seq
            slot["recv_ns"] = recv_ns

    def read(self, symbol: str) -> tuple[float, int, int]:
        """Price, sequence and receive time, consistent with each other."""
        with self._lock:
            slot = self.slots[self.index[symbol]]
            return float(slot["price"]), int(slot["seq"]), int(slot["recv_ns"])


def _book_memory() -> SharedMemory:
    return SharedMemory(create=True, size=SLOT.itemsize * SYMBOLS)


def _orderbook(link: Link, memory: SharedMemory, lock: Any) -> None:
    book = LockBook(memory, lock, symbol_names(SYMBOLS))
    with socket.create_connection(("127.0.0.1", link.meet()[0])) as peer:
        link.meet()
        link.meet()
        seq, rest = 0, b""
        while data := peer.recv(4096):
            recv_ns = time.monotonic_ns()
            *fields, rest = (rest + data).split(b"*")
            whole = len(fields) // 3 * 3
            rest = b"*".join([*fields[whole:], rest])
            for at in range(0, whole, 3):
                seq += 1
                book.update(fields[at + 1].decode(), float(fields[at + 2]), seq, recv_ns)


def _strategy(link: Link, memory: SharedMemory, lock: Any, count: int) -> tuple[Figures, int]:
    book = LockBook(memory, lock, symbol_names(SYMBOLS))
    port = link.meet()[3]
    link.meet()
    start_ns = link.meet()[0]
    stamps, last = [], 0
    while last < count:
        _, seq, recv_ns = book.read("AAPL")
        if seq == last:
            continue
        last = seq
        with socket.create_connection(("127.0.0.1", port)) as peer:
            peer.sendall(ORDER)
            answer = b""
            while not answer.endswith(b"*"):
                answer += peer.recv(4096)
        if not json.loads(answer[:-1])["ok"]:
            raise AssertionError(answer)
        stamps.append((seq - 1, recv_ns, time.monotonic_ns()))
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(b"*")
    return chain_figures(start_ns, stamps), len(stamps)


class _Handler(socketserver.StreamRequestHandler):
    server: "OrderServer"

    def handle(self) -> None:
        """Answer one order; an empty one stops the server."""
        text = b""
        while not text.endswith(b"*"):
            text += self.request.recv(4096)
        if text == b"*":
            threading.Thread(target=self.server.shutdown).start()
            return
        order = json.loads(text[:-1])
        if self.server.log is not None:
            what = f"{order['side']} {order['qty']} {order['symbol']} @ {order['price']:.2f}"
            print(f"Received Order {order['id']}: {what}", file=self.server.log, flush=True)
        self.wfile.write(json.dumps({"ok": True, "order": order}).encode() + b"*")


class OrderServer(socketserver.ThreadingTCPServer):
    """Answers orders, one a connection, on a free port; stores nothing."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, log: TextIO | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.log = log


def _order_manager(link: Link) -> None:
    with OrderServer() as server:
        link.meet(server.server_address[1])
        link.meet()
        link.meet()
        server.serve_forever()


def chain(context: Context, place: Placement) -> Figures:
    """All four processes at the fixed rate; ``lost_percent``: ticks that no poll saw."""
    count, lock, memory = context.latency_ticks, CONTEXT.Lock(), _book_memory()
    try:
        functions = (
            (tcp_gateway, (count,)),
            (_orderbook, (memory, lock)),
            (_strategy, (memory, lock, count)),
            (_order_manager, ()),
        )
        roles = [Role(*what, cpus=cpus) for what, cpus in zip(functions, place.lists, strict=True)]
        figures, seen = run_roles(roles)[2]
        return {**figures, "lost_percent": 100 * (1 - seen / count)}
    finally:
        memory.close()
        memory.unlink()


def _update_for(link: Link, memory: SharedMemory, lock: Any, seconds: float) -> float:
    symbols = symbol_names(SYMBOLS)
    book = LockBook(memory, lock, symbols)
    link.meet()
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        for symbol in symbols:
            count += 1
            book.update(symbol, 187.25, count, count)
    return count / spent


def _read_for(link: Link, memory: SharedMemory, lock: Any, seconds: float) -> tuple[float, float]:
    symbols = symbol_names(SYMBOLS)
    book = LockBook(memory, lock, symbols)
    link.meet()
    count, start, worst = 0, time.perf_counter(), 0.0
    before = start
    while (spent := before - start) < seconds:
        for symbol in symbols:
            book.read(symbol)
            now = time.perf_counter()
            worst = max(worst, now - before)
            before = now
        count += len(symbols)
    return count / spent, worst


def book(context: Context) -> Figures:
    """Updates alone, reads alone, then both concurrently."""
    lock, memory, seconds = CONTEXT.Lock(), _book_memory(), context.seconds / 2
    update = Role(_update_for, (memory, lock, seconds))
    read = Role(_read_for, (memory, lock, seconds))
    try:
        ((reads, _),) = run_roles([read])
        (updates,) = run_roles([update])
        busy_updates, (busy_reads, worst) = run_roles([update, read])
        return {
            "updates_per_s": updates,
            "reads_per_s": reads,
            "busy_updates_per_s": busy_updates,
            "busy_reads_per_s": busy_reads,
            "read_us_max": worst * 1e6,
        }
    finally:
        memory.close()
        memory.unlink()
