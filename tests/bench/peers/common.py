"""Shared by the peers: messages, an open-loop gateway, the figures of a chain."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec

import apsw

from app.order_manager.store.files import preallocate_wal
from app.order_manager.store.schema import PAGE_BYTES
from tests.bench.model import RATE_PER_S, WARMUP_TICKS, Absent, Figures, percentiles_us
from tests.bench.subjects.processes import Link, sharp_timers, sleep_until

FRAME = b"2025-10-01 09:30:00*AAPL*187.25*"
ORDER = (
    json.dumps(
        {"side": "BUY", "symbol": "AAPL", "qty": 10, "price": 187.25, "id": 1234567, "client": "s"}
    ).encode()
    + b"*"
)
ACK = (
    json.dumps(
        {
            "ok": True,
            "order": {
                "side": "BUY", "symbol": "AAPL", "qty": 10, "price": 187.25, "id": 123456789,
                "status": "FILLED",
            },
        }
    ).encode()
    + b"*"
)  # fmt: skip
INTERVAL_NS = 1_000_000_000 // RATE_PER_S
START_DELAY_NS = 50_000_000


def open_store(
    path: str, synchronous: str, make_tables: Callable[[apsw.Connection], object]
) -> apsw.Connection:
    """A new SQLite file, written as the order store's is; the caller checkpoints it."""
    connection = apsw.Connection(path)
    connection.pragma("page_size", PAGE_BYTES)
    connection.pragma("journal_mode", "WAL")
    connection.pragma("synchronous", synchronous)
    connection.pragma("wal_autocheckpoint", 0)
    make_tables(connection)
    preallocate_wal(connection, path)
    return connection


def need(module: str) -> None:
    """Raise :class:`Absent` if the module is not installed."""
    if find_spec(module) is None:
        raise Absent(f"{module} is not installed")


def version_of(distribution: str) -> str:
    """A space and the version; empty if the distribution is not installed."""
    try:
        return f" {version(distribution)}"
    except ModuleNotFoundError:
        return ""


def start_soon() -> int:
    """The scheduled time of tick 0, late enough for every process to wait for it."""
    return time.monotonic_ns() + START_DELAY_NS


def send_on_schedule(send: Callable[[int], object], start_ns: int, count: int) -> None:
    """Call ``send(i)`` at its scheduled time, however long earlier calls took (open loop)."""
    sharp_timers()
    for i in range(count):
        sleep_until(start_ns + i * INTERVAL_NS)
        send(i)


@contextmanager
def one_client(link: Link) -> Iterator[socket.socket]:
    """A TCP server for one client; passes its port to :meth:`Link.meet`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        link.meet(server.getsockname()[1])
        peer, _ = server.accept()
        with peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield peer


def tcp_gateway(link: Link, count: int) -> None:
    """First process of a chain: one client, one send per tick.  Meets: port, ready, start."""
    with one_client(link) as peer:
        link.meet()
        start_ns = start_soon()
        link.meet(start_ns)
        send_on_schedule(lambda _: peer.sendall(FRAME), start_ns, count)


def chain_figures(start_ns: int, stamps: list[tuple[int, int, int]]) -> Figures:
    """Percentiles of a chain; a stamp is (tick number, received ns, acknowledged ns)."""
    kept = [stamp for stamp in stamps if stamp[0] >= WARMUP_TICKS]
    return {
        **percentiles_us("recv_to_ack", [ack - recv for _, recv, ack in kept]),
        **percentiles_us(
            "scheduled_to_ack", [ack - start_ns - i * INTERVAL_NS for i, _, ack in kept]
        ),
    }


def round_trips(ask: Callable[[], object], paced_count: int, free_count: int) -> Figures:
    """Round trips at the fixed rate (from the scheduled send), then back to back."""
    ends: list[int] = []

    def one(_: int) -> None:
        ask()
        ends.append(time.monotonic_ns())

    start_ns = start_soon()
    send_on_schedule(one, start_ns, paced_count)
    spans = [end - start_ns - i * INTERVAL_NS for i, end in enumerate(ends)]
    before = time.monotonic_ns()
    for _ in range(free_count):
        ask()
    seconds = (time.monotonic_ns() - before) / 1e9
    return {
        **percentiles_us("round_trip", spans[WARMUP_TICKS:]),
        "round_trips_per_s": free_count / seconds,
    }
