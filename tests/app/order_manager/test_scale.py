"""Ten thousand open connections: all are answered, and memory stays small.

The test prints their effect on latency; ``python -m tests.bench.bench_orders connections`` measures
it.
"""

import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.orders.process import OrderManagerProcess

TOTAL = 10_000
BUSY = 10
ORDERS = 2000
MEMORY_BYTES_MAX = 150 * 2**20
ROUNDS = 5


@pytest.fixture
def descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = TOTAL + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this user may open {hard} files, {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _p99_us(socks: list[socket.socket], first_id: int) -> float:
    """Send one order at a time, round robin over the connections."""
    times_ns = []
    for n in range(first_id, first_id + ORDERS):
        sock = socks[n % len(socks)]
        order = b'{"side":"BUY","symbol":"AAPL","qty":1,"price":173.2,"id":%d,"client":"c"}*' % n
        begin = time.perf_counter_ns()
        sock.sendall(order)
        answer = sock.recv(65536)
        times_ns.append(time.perf_counter_ns() - begin)
        assert answer.startswith(b'{"ok":true'), answer
    return sorted(times_ns)[ORDERS * 99 // 100] / 1e3


@pytest.mark.medium
@pytest.mark.usefixtures("descriptors")
def test_ten_thousand_connections(tmp_path: Path) -> None:
    settings = {"order_connections_max": TOTAL + 100, "order_store_synchronous": "NORMAL"}
    with OrderManagerProcess(tmp_path, **settings) as manager:

        def connect() -> socket.socket:
            sock = socket.create_connection(("127.0.0.1", manager.port), 10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock

        busy = [connect() for _ in range(BUSY)]
        _p99_us(busy, 0)
        # Every round includes noise of the machine; the fastest round shows the server.
        few = min(_p99_us(busy, (1 + n) * ORDERS) for n in range(ROUNDS))
        crowd = [connect() for _ in range(TOTAL - BUSY)]
        for sock in crowd:
            sock.sendall(b'{"op":"ping"}*')
        assert all(sock.recv(100) == b'{"ok":true}*' for sock in crowd)
        active = busy + crowd[:990]
        many = min(_p99_us(active, (1 + ROUNDS + n) * ORDERS) for n in range(ROUNDS))
        memory = manager.resident_bytes()
        lazy = crowd[-1]
        lazy.setblocking(False)
        flood = b'{"op":"limits"}*' * 4000
        harmed = []
        for n in range(50):
            try:
                lazy.send(flood)
            except BlockingIOError:
                pass
            except OSError:
                break
            begin = time.perf_counter()
            busy[0].sendall(b'{"op":"ping"}*')
            assert busy[0].recv(100) == b'{"ok":true}*', n
            harmed.append(time.perf_counter() - begin)
        for sock in (*busy, *crowd):
            sock.close()
    print(
        f"p99 {few:.0f} us with {BUSY} connections, {many:.0f} us with {TOTAL} "
        f"({many / few:.2f} x); {memory / 2**20:.0f} MiB; beside a client that never reads: "
        f"worst {max(harmed) * 1e3:.1f} ms"
    )
    assert memory < MEMORY_BYTES_MAX
