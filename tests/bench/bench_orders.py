"""The order manager alone: durable ACKs per second, latency against its floor, many connections.

``python -m tests.bench.bench_orders [name ...]`` runs all parts or the named ones and prints a
table.  The server runs on CPU 0, the client on CPU 1.  The store is in ``--folder`` (default: the
run output folder): a commit costs what ``fdatasync`` costs on that file system.
"""

import argparse
import contextlib
import os
import selectors
import signal
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.peers import classroom as classroom_peer
from tests.bench.peers import least_store
from tests.bench.subjects import floor
from tests.support.orders.process import OrderManagerProcess
from tests.support.paths import ROOT

SERVER_CPU, CLIENT_CPU = 0, 1
Figures = dict[str, float]


def order_frame(number: int, client: str) -> bytes:
    """An order frame."""
    return (
        f'{{"side":"{"BUY" if number % 2 else "SELL"}","symbol":"AAPL","qty":10,"price":173.2,'
        f'"ts":"2025-10-01 09:30:00","id":{number},"client":"{client}"}}*'
    ).encode()


@contextmanager
def on_client_cpu() -> Iterator[bool]:
    """Pin this thread to the client's CPU if there are two CPUs; yields whether there are."""
    before = os.sched_getaffinity(0)
    two = {SERVER_CPU, CLIENT_CPU} <= before
    if two:
        os.sched_setaffinity(0, {CLIENT_CPU})
    try:
        yield two
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def server(folder: Path, **settings: object) -> Iterator[OrderManagerProcess]:
    """A new order manager on its CPU, with this thread on the other."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch, on_client_cpu() as two:
        cpus = str(SERVER_CPU) if two else ""
        with OrderManagerProcess(Path(scratch), cpus, **settings) as manager:
            yield manager


def _percentiles(times_ns: list[int], name: str) -> Figures:
    ordered = sorted(times_ns)
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
    figures = {f"{name}_us_{p}": ordered[int(q * (len(ordered) - 1))] / 1e3 for p, q in at.items()}
    return figures | {f"{name}_us_max": ordered[-1] / 1e3}


@contextmanager
def least_server(folder: Path, synchronous: str = "FULL") -> Iterator[tuple[int, int]]:
    """The minimum with the same store, on the server's CPU; yields its port and process id."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        # Before this thread has the client's CPU, which the child would inherit.
        child = _fork(lambda: least_store.serve(listener, Path(scratch), synchronous))
        listener.close()
        try:
            with on_client_cpu():
                yield port, child
        finally:
            os.kill(child, signal.SIGKILL)  # still there if no client came
            os.waitpid(child, 0)


def pipelined(folder: Path, clients: int, orders: int) -> Figures:
    """Durable ACKs per second, over ``clients`` connections."""
    with server(folder) as manager:
        return _pipelined(manager.port, clients, orders)


def least_pipelined(folder: Path, orders: int) -> Figures:
    """The same from the least server, of one client."""
    with least_server(folder) as (port, _):
        return _pipelined(port, 1, orders)


def _pipelined(port: int, clients: int, orders: int, window: int = 4096) -> Figures:
    """With ``window`` orders in flight."""
    per_client, in_flight = orders // clients, max(window // clients, 16)
    with contextlib.ExitStack() as opened:
        selector = selectors.DefaultSelector()
        states = []
        for index in range(clients):
            frames = [order_frame(number, f"c{index}") for number in range(per_client)]
            chunks = [
                b"".join(frames[start : start + in_flight // 2])
                for start in range(0, per_client, in_flight // 2)
            ]
            sock = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            states.append(_Pipe(sock, chunks, in_flight // 2, per_client))
            selector.register(sock, selectors.EVENT_READ, states[-1])
        open_pipes = clients
        start_ns = time.perf_counter_ns()
        for pipe in states:
            pipe.send()
            pipe.send()
        while open_pipes:
            for key, _ in selector.select():
                pipe = key.data
                if pipe.receive():
                    open_pipes -= 1
                    selector.unregister(pipe.sock)
        seconds = (time.perf_counter_ns() - start_ns) / 1e9
        for pipe in states:
            assert pipe.rejected == 0, f"{pipe.rejected} orders were not acknowledged"
        selector.close()
    return {"acks_per_s": clients * per_client / seconds, "seconds": seconds}


class _Pipe:
    """One connection that keeps two half windows in flight."""

    def __init__(self, sock: socket.socket, chunks: list[bytes], half: int, total: int) -> None:
        self.sock = sock
        self.rejected = 0
        self._chunks = chunks
        self._next = 0
        self._half = half
        self._total = total
        self._acked = 0

    def send(self) -> None:
        """Send the next half window, if any is left."""
        if self._next < len(self._chunks):
            self.sock.sendall(self._chunks[self._next])
            self._next += 1

    def receive(self) -> bool:
        """Count answers and send the next orders; True when every answer has arrived."""
        data = self.sock.recv(1 << 20)
        assert data, "connection closed by the server"
        before = self._acked // self._half
        self._acked += data.count(b"*")
        self.rejected += data.count(b'"ok":false')
        for _ in range(self._acked // self._half - before):
            self.send()
        return self._acked >= self._total


def latency(folder: Path, orders: int, synchronous: str = "FULL") -> Figures:
    """Send to ACK, one order at a time over one connection."""
    with (
        server(folder, order_store_synchronous=synchronous) as manager,
        manager.client() as client,
    ):
        times_ns = [_ask_ns(client.sock, order_frame(n, "c")) for n in range(orders)]
    return _percentiles(times_ns[orders // 10 :], "order_to_ack")


def cpu_one_at_a_time(port: int, pid: int, orders: int) -> float:
    """Microseconds of the server's processor for an order, one in flight."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(orders):
            if number == orders // 10:
                before_ns = _cpu_ns(pid)
            _ask_ns(sock, order_frame(number, "c"))
        return (_cpu_ns(pid) - before_ns) / (orders - orders // 10) / 1e3


def _cpu_ns(pid: int) -> int:
    """Of all its threads, from the scheduler."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def _ask_ns(sock: socket.socket, frame: bytes) -> int:
    start_ns = time.perf_counter_ns()
    sock.sendall(frame)
    answer = sock.recv(65536)
    end_ns = time.perf_counter_ns()
    assert answer.endswith(b"*"), answer
    assert answer.startswith(b'{"ok":true'), answer
    return end_ns - start_ns


def file_sync(folder: Path, rounds: int = 2000) -> Figures:
    """The cost of a commit to the file system: overwrite 4 KiB in place, then fdatasync."""
    with tempfile.TemporaryFile(dir=folder) as file:
        descriptor, block = file.fileno(), b"x" * 4096
        os.pwrite(descriptor, b"\0" * (8 << 20), 0)
        os.fsync(descriptor)
        times_ns = []
        for index in range(rounds):
            start_ns = time.perf_counter_ns()
            os.pwrite(descriptor, block, (index * 4096) % (8 << 20))
            os.fdatasync(descriptor)
            times_ns.append(time.perf_counter_ns() - start_ns)
    return _percentiles(times_ns, "fdatasync")


def python_echo(rounds: int = 4000) -> Figures:
    """A round trip to a blocking Python server that sends a constant answer."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listener.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while peer.recv(65536):
            peer.send(b'{"ok":true' + b" " * 200 + b"}*")
        peer.close()

    child = _fork(serve)
    port = listener.getsockname()[1]
    listener.close()
    with on_client_cpu(), socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times_ns = [_ask_ns(sock, order_frame(n, "c")) for n in range(rounds)]
    os.waitpid(child, 0)
    return _percentiles(times_ns[rounds // 10 :], "python_echo")


def _fork(body: Callable[[], None]) -> int:
    """Run ``body`` in a child on the server's CPU."""
    child = os.fork()
    if child == 0:
        try:
            os.sched_setaffinity(0, {SERVER_CPU} & os.sched_getaffinity(0) or {CLIENT_CPU})
            body()
        finally:
            os._exit(0)
    return child


def classroom(folder: Path, orders: int = 2000) -> Figures:
    """The classroom design: a threading ``socketserver``, one connection per order, no store."""
    with (
        tempfile.TemporaryFile("w", dir=folder) as log,
        classroom_peer.OrderServer(log) as listener,
    ):

        def serve() -> None:
            for _ in range(orders):
                listener.handle_request()
            listener.server_close()

        child = _fork(serve)
        port = listener.server_address[1]
        seconds = _one_connection_per_order(port, orders)
        os.waitpid(child, 0)
    return {"acks_per_s": orders / seconds}


def connection_per_order(folder: Path, orders: int = 2000) -> Figures:
    """The same client against this order manager: durable, one connection and commit per order."""
    with server(folder) as manager:
        seconds = _one_connection_per_order(manager.port, orders)
    return {"acks_per_s": orders / seconds}


def _one_connection_per_order(port: int, orders: int) -> float:
    with on_client_cpu():
        start_ns = time.perf_counter_ns()
        for number in range(orders):
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.sendall(order_frame(number, "c"))
                while not sock.recv(65536).endswith(b"*"):
                    pass
        return (time.perf_counter_ns() - start_ns) / 1e9


def idle_connections(folder: Path, total: int, busy: int, orders: int) -> Figures:
    """Latency of ``busy`` connections used in turn with ``total`` open, and the server's memory."""
    with server(folder, order_connections_max=total + 64) as manager:
        socks = [socket.create_connection(("127.0.0.1", manager.port)) for _ in range(total)]
        for sock in socks[:busy]:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times_ns = [_ask_ns(socks[n % busy], order_frame(n, "c")) for n in range(orders)]
        memory = manager.resident_bytes()
        for sock in socks:
            sock.close()
    return _percentiles(times_ns[orders // 10 :], "order_to_ack") | {"memory_mib": memory / 2**20}


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    every = {"pipelined", "latency", "cpu", "connections"}
    parser.add_argument("parts", nargs="*", help=f"{', '.join(sorted(every))}; default: all")
    parser.add_argument("--folder", type=Path, default=ROOT / "data" / "out")
    parser.add_argument("--orders", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    options.folder.mkdir(parents=True, exist_ok=True)
    parts = set(options.parts) or every
    if "pipelined" in parts:
        _print_pipelined(options.folder, options.orders, options.rounds)
    if "latency" in parts:
        _print_latency(options.folder, options.rounds)
    if "cpu" in parts:
        _print_cpu(options.folder, options.rounds)
    if "connections" in parts:
        _print_connections(options.folder)
    return 0


def _print_pipelined(folder: Path, orders: int, rounds: int) -> None:
    subjects: dict[str, Callable[[], Figures]] = {
        "1 client": lambda: pipelined(folder, 1, orders),
        "100 clients": lambda: pipelined(folder, 100, orders),
        "least with this store": lambda: least_pipelined(folder, orders),
        "one connection per order": lambda: connection_per_order(folder),
        "classroom, not durable": lambda: classroom(folder),
    }
    rows: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, run in subjects.items():
            rows[name].append(run()["acks_per_s"])
    base = rows["classroom, not durable"]
    for name, values in rows.items():
        ratio = statistics.median(v / c for v, c in zip(values, base, strict=True))
        print(
            f"{name:24} {statistics.median(values):10,.0f} ACKs/s  "
            f"({min(values):,.0f} to {max(values):,.0f})  {ratio:6.1f} x classroom"
        )


def _print_latency(folder: Path, rounds: int) -> None:
    for synchronous in ("FULL", "NORMAL"):
        ratios, medians = [], []
        for _ in range(rounds):
            sync_us = file_sync(folder)["fdatasync_us_p50"] if synchronous == "FULL" else 0.0
            c_floor = floor.run(folder, "echo", rate=0, count=6000, cpus="//1/0")
            echo_us = next(v for k, v in c_floor.items() if k.endswith("_us_p50"))
            figures = latency(folder, 6000, synchronous)
            medians.append(figures["order_to_ack_us_p50"])
            ratios.append(medians[-1] / (echo_us + sync_us))
            print(
                f"{synchronous:6} order to ACK us: p50 {figures['order_to_ack_us_p50']:.1f} "
                f"p99 {figures['order_to_ack_us_p99']:.1f} p99.9 "
                f"{figures['order_to_ack_us_p999']:.1f}; C echo {echo_us:.1f} + fdatasync "
                f"{sync_us:.1f}; {ratios[-1]:.2f} x the floor"
            )
        print(f"{synchronous:6} median {statistics.median(ratios):.2f} x the floor")
    print(f"Python echo p50 {python_echo()['python_echo_us_p50']:.1f} us")


def _print_cpu(folder: Path, rounds: int) -> None:
    for synchronous in ("FULL", "NORMAL"):
        ours, least = [], []
        for _ in range(rounds):
            with server(folder, order_store_synchronous=synchronous) as manager:
                ours.append(cpu_one_at_a_time(manager.port, manager.process.pid, 6000))
            with least_server(folder, synchronous) as (port, pid):
                least.append(cpu_one_at_a_time(port, pid, 6000))
        ratio = statistics.median(a / b for a, b in zip(ours, least, strict=True))
        print(
            f"{synchronous:6} CPU an order, one at a time: {statistics.median(ours):.0f} us; least "
            f"with this store {statistics.median(least):.0f} us; {ratio:.2f} x"
        )


def _print_connections(folder: Path) -> None:
    few = idle_connections(folder, 10, 10, 5000)
    many = idle_connections(folder, 10_000, 1000, 5000)
    for name, figures in (("10", few), ("10,000", many)):
        print(
            f"{name:>6} connections: p50 {figures['order_to_ack_us_p50']:.1f} us, "
            f"p99 {figures['order_to_ack_us_p99']:.1f} us, {figures['memory_mib']:.0f} MiB"
        )
    ratio = many["order_to_ack_us_p99"] / few["order_to_ack_us_p99"]
    print(f"p99 with 10,000 connections: {ratio:.2f} x that with 10")


if __name__ == "__main__":
    raise SystemExit(main())
