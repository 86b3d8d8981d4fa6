"""ZeroMQ: PUSH/PULL for ticks, REQ/REP for orders, as in its guide and its performance tools.

Its documentation recommends ``copy=True`` (the default) for small messages.
"""

import struct
import time

from tests.bench.model import Context, Figures, Placement
from tests.bench.peers.common import (
    ACK,
    FRAME,
    ORDER,
    chain_figures,
    need,
    round_trips,
    send_on_schedule,
    start_soon,
)
from tests.bench.subjects.processes import Link, Role, run_roles

TICKS = 1_500_000
RECV_NS = struct.Struct("=q")


def _pull(link: Link, count: int) -> float:
    import zmq

    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        link.meet(socket.bind_to_random_port("tcp://127.0.0.1"))
        recv = socket.recv
        recv()
        start = time.perf_counter()
        for _ in range(count - 1):
            recv()
        return (count - 1) / (time.perf_counter() - start)


def _push(link: Link, count: int) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(f"tcp://127.0.0.1:{link.meet()[0]}")
        send = socket.send
        for _ in range(count):
            send(FRAME)


def throughput(context: Context) -> Figures:
    """Single ticks over PUSH/PULL, received and discarded."""
    need("zmq")
    count = context.scaled(TICKS)
    rate, _ = run_roles([Role(_pull, (count,)), Role(_push, (count,))])
    return {"ticks_per_s": rate}


def _rep(link: Link) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        link.meet(socket.bind_to_random_port("tcp://127.0.0.1"))
        while socket.recv() != b"":
            socket.send(ACK)


def _req(link: Link, paced: int, free: int) -> Figures:
    import zmq

    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(f"tcp://127.0.0.1:{link.meet()[0]}")

        def ask() -> None:
            socket.send(ORDER)
            socket.recv()

        figures = round_trips(ask, paced, free)
        socket.send(b"")
        return figures


def orders(context: Context) -> Figures:
    """Order and answer over REQ/REP."""
    need("zmq")
    paced, free = context.latency_ticks, context.scaled(15_000)
    return run_roles([Role(_rep), Role(_req, (paced, free))])[1]


def _chain_gateway(link: Link, count: int) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        link.meet(socket.bind_to_random_port("tcp://127.0.0.1"))
        link.meet()
        start_ns = start_soon()
        link.meet(start_ns)
        send_on_schedule(lambda _: socket.send(FRAME), start_ns, count)


def _chain_orderbook(link: Link, count: int, path: str) -> None:
    import zmq

    with (
        zmq.Context() as context,
        context.socket(zmq.PULL) as source,
        context.socket(zmq.PUSH) as sink,
    ):
        sink.bind(path)
        source.connect(f"tcp://127.0.0.1:{link.meet()[0]}")
        link.meet()
        link.meet()
        for _ in range(count):
            tick = source.recv()
            sink.send(RECV_NS.pack(time.monotonic_ns()) + tick)


def _chain_strategy(link: Link, count: int, path: str) -> Figures:
    import zmq

    stamps = []
    with (
        zmq.Context() as context,
        context.socket(zmq.PULL) as source,
        context.socket(zmq.REQ) as orders_socket,
    ):
        orders_socket.connect(f"tcp://127.0.0.1:{link.meet()[3]}")
        source.connect(path)
        link.meet()
        start_ns = link.meet()[0]
        for i in range(count):
            tick = source.recv()
            orders_socket.send(ORDER)
            orders_socket.recv()
            stamps.append((i, RECV_NS.unpack_from(tick)[0], time.monotonic_ns()))
        orders_socket.send(b"")
    return chain_figures(start_ns, stamps)


def _chain_order_manager(link: Link) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        link.meet(socket.bind_to_random_port("tcp://127.0.0.1"))
        link.meet()
        link.meet()
        while socket.recv() != b"":
            socket.send(ACK)


def chain(context: Context, place: Placement) -> Figures:
    """The stack's four processes: PUSH/PULL over TCP, PUSH/PULL over ipc, REQ/REP over TCP."""
    need("zmq")
    count, path = context.latency_ticks, f"ipc://{context.work_dir}/zmq.sock"
    functions = (
        (_chain_gateway, (count,)),
        (_chain_orderbook, (count, path)),
        (_chain_strategy, (count, path)),
        (_chain_order_manager, ()),
    )
    roles = [Role(*what, cpus=cpus) for what, cpus in zip(functions, place.lists, strict=True)]
    return run_roles(roles)[2]
